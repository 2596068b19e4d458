// What windows side by side gather, and how their results are stored. As in torch, the first of the
// largest wins, and NaN is larger than all: the last one of a window.
#pragma once
#include "loops.h"

namespace fastnn {
namespace {

// Whether v takes the place of the maximum so far.
FASTNN_FN bool replaces(float v, float best) { return (v > best) | (v != v); }

// On vector types: the compiler does not vectorise two selections by one comparison.
template <int kLanes>
struct Vectors {
  using Floats [[gnu::vector_size(4 * kLanes)]] = float;
  using Ints [[gnu::vector_size(4 * kLanes)]] = int32_t;
};
template <>
struct Vectors<1> {
  using Floats = float;
  using Ints = int32_t;
};

// Of bytes, which GCC's conversion of vectors takes one by one.
template <int kLanes>
FASTNN_FN typename Vectors<kLanes>::Ints widen(const uint8_t* bytes) {
  using Ints = typename Vectors<kLanes>::Ints;
#if defined(__AVX512F__)
  if constexpr (kLanes == 16)
    return Ints(_mm512_cvtepu8_epi32(_mm_loadu_si128(reinterpret_cast<const __m128i*>(bytes))));
#endif
#if defined(__AVX2__)
  if constexpr (kLanes == 8)
    return Ints(_mm256_cvtepu8_epi32(_mm_loadl_epi64(reinterpret_cast<const __m128i*>(bytes))));
#endif
  int32_t values[kLanes];
  for (int l = 0; l < kLanes; ++l) values[l] = bytes[l];
  Ints v;
  __builtin_memcpy(&v, values, sizeof v);
  return v;
}

// Straight to memory where nothing is converted: a store through an array would be read back in
// other pieces than it was written, which stalls.
template <int kLanes, class T>
FASTNN_FN void store_vector(T* y, typename Vectors<kLanes>::Floats v) {
  if constexpr (sizeof(T) == sizeof(float)) {
    __builtin_memcpy(y, &v, sizeof v);
  } else {
    float values[kLanes];
    __builtin_memcpy(values, &v, sizeof v);
    FASTNN_FOR_EACH(l, kLanes) y[l] = from_float<T>(values[l]);
  }
}

// Offsets as bytes, which GCC takes out of a register one by one.
template <int kLanes>
FASTNN_FN void store_bytes(uint8_t* bytes, typename Vectors<kLanes>::Ints v) {
#if defined(__AVX512F__)
  if constexpr (kLanes == 16)  // all lanes by mask, as in load_wide()
    return _mm_storeu_si128(reinterpret_cast<__m128i*>(bytes),
                            _mm512_maskz_cvtepi32_epi8(0xffff, __m512i(v)));
#endif
#if defined(__AVX2__)
  if constexpr (kLanes == 8) {
    const auto all = __m256i(v);
    const __m128i words =
        _mm_packs_epi32(_mm256_castsi256_si128(all), _mm256_extracti128_si256(all, 1));
    return _mm_storel_epi64(reinterpret_cast<__m128i*>(bytes), _mm_packus_epi16(words, words));
  }
#endif
  int32_t values[kLanes];
  __builtin_memcpy(values, &v, sizeof values);
  for (int l = 0; l < kLanes; ++l) bytes[l] = static_cast<uint8_t>(values[l]);
}

template <int kLanes>
struct MaxWindows {
  using Floats = typename Vectors<kLanes>::Floats;
  using Ints = typename Vectors<kLanes>::Ints;
  Floats value;
  Ints at;
  FASTNN_FN explicit MaxWindows(int64_t first)
      : value(Floats{} - kInf), at(Ints{} + static_cast<int32_t>(first)) {}
  // Of windows whose first element is v: nothing before it is compared with.
  FASTNN_FN explicit MaxWindows(Floats v) : value(v), at{} {}
  FASTNN_FN void add(const float (&x)[kLanes], int64_t k) {
    Floats v;
    __builtin_memcpy(&v, x, sizeof v);
    add(v, k);
  }
  FASTNN_FN void add(Floats v, int64_t k) {
#if defined(__AVX512F__)
    if constexpr (kLanes == 16) {  // what stays, by two comparisons: GCC puts masks together
      const __mmask16 number = _mm512_cmp_ps_mask(__m512(v), __m512(v), _CMP_ORD_Q);
      const __mmask16 stays =
          _mm512_mask_cmp_ps_mask(number, __m512(v), __m512(value), _CMP_NGT_UQ);
      value = Floats(_mm512_mask_mov_ps(__m512(v), stays, __m512(value)));
      at = Ints(
          _mm512_mask_mov_epi32(_mm512_set1_epi32(static_cast<int32_t>(k)), stays, __m512i(at)));
      return;
    }
#endif
    const Ints larger = (v > value) | (v != v);
    value = larger ? v : value;
    at = larger ? Ints{} + static_cast<int32_t>(k) : at;
  }
};

template <bool kOffsets, class T>
struct MaxRow {
  T* y;
  uint8_t* offsets;
  template <int kLanes>
  FASTNN_FN void store(int64_t ow, const MaxWindows<kLanes>& windows) const {
    store_vector<kLanes>(y + ow, windows.value);
    if constexpr (kOffsets) store_bytes<kLanes>(offsets + ow, windows.at);
  }
};

template <int kLanes>
struct SumWindows {
  double sum[kLanes] = {};
  FASTNN_FN explicit SumWindows(int64_t) {}
  FASTNN_FN void add(const float (&v)[kLanes], int64_t) {
    FASTNN_FOR_EACH(l, kLanes) sum[l] += static_cast<double>(v[l]);
  }
};

template <class T>
struct MeanRow {
  T* y;
  float row_divisor;
  const float* col_divisors;
  template <int kLanes>
  FASTNN_FN void store(int64_t ow, const SumWindows<kLanes>& windows) const {
    FASTNN_FOR_EACH(l, kLanes)
      y[ow + l] = from_float<T>(static_cast<float>(
          windows.sum[l] / static_cast<double>(row_divisor * col_divisors[ow + l])));
  }
};

template <class T>
struct MeanPlace {
  T* y;
  double divisor;
  template <int kLanes>
  FASTNN_FN void store(int64_t c, const SumWindows<kLanes>& windows) const {
    FASTNN_FOR_EACH(l, kLanes)
      y[c + l] = from_float<T>(static_cast<float>(windows.sum[l] / divisor));
  }
};

}  // namespace
}  // namespace fastnn
