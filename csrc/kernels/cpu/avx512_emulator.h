// What the kernels use of AVX-512, its products of bfloat16 and AMX, lane by lane, after Intel's
// Intrinsics Guide: their text for these instruction sets runs as it is on any x86-64-v3, where its
// bits, bounds and accesses are tested. Included before all else (CMake: FASTNN_AVX512_EMULATOR).
// Slow: the compiler lowers vectors of 64 bytes to what there is.
#pragma once
#include <immintrin.h>

#include <cstdint>

// From here on: with them, immintrin.h would want the compiler's own.
#define __AVX512F__ 1
#if defined(FASTNN_EMULATES_BF16)
#define __AVX512BF16__ 1
#endif
#if defined(FASTNN_EMULATES_AMX)
#define __AMX_BF16__ 1
#endif

// In the kernels' namespace, functions of the same names hide the compiler's; these are macros.
#undef _tile_dpbf16ps
#undef _tile_loadd
#undef _tile_stored
#undef _tile_stream_loadd
#undef _tile_zero

#define FASTNN_EMULATED inline __attribute__((always_inline))

namespace fastnn {
namespace {

// ---- lanes -------------------------------------------------------------------------------------

typedef float FloatLanes __attribute__((vector_size(64), may_alias));
typedef int16_t ShortLanes __attribute__((vector_size(64), may_alias));
typedef int32_t IntLanes __attribute__((vector_size(64), may_alias));
typedef int64_t LongLanes __attribute__((vector_size(64), may_alias));
typedef uint8_t ByteLanes __attribute__((vector_size(16), may_alias));

// f(lane) of each lane.
template <class V, class F>
FASTNN_EMULATED V lanes_of(F f) {
  V v{};
  for (unsigned l = 0; l < sizeof v / sizeof v[0]; ++l) v[l] = f(l);
  return v;
}
// The same, and 0 where the mask has none.
template <class V, class F>
FASTNN_EMULATED V masked_lanes_of(uint32_t mask, F f) {
  return lanes_of<V>([&](unsigned l) { return mask >> l & 1 ? f(l) : 0; });
}

template <class V>
FASTNN_EMULATED V load_lanes(const void* from) {
  V v;
  __builtin_memcpy(&v, from, sizeof v);
  return v;
}
template <class V>
FASTNN_EMULATED void store_lanes(void* to, V v) {
  __builtin_memcpy(to, &v, sizeof v);
}
// As the processor does to what is not at a multiple of 64 bytes.
FASTNN_EMULATED void fault_unless_aligned(const void* at) {
  if (reinterpret_cast<uintptr_t>(at) % 64 != 0) __builtin_trap();
}

template <class V, class T>
FASTNN_EMULATED V compressed(uint32_t mask, T from) {
  const V lanes = V(from);
  V v{};
  unsigned n = 0;
  for (unsigned l = 0; l < sizeof v / sizeof v[0]; ++l)
    if (mask >> l & 1) v[n++] = lanes[l];
  return v;
}

// ---- floats ------------------------------------------------------------------------------------

FASTNN_EMULATED __m512 _mm512_setzero_ps() { return __m512{}; }
FASTNN_EMULATED __m512 _mm512_set1_ps(float x) { return FloatLanes{} + x; }
FASTNN_EMULATED __m512 _mm512_loadu_ps(const void* from) { return load_lanes<__m512>(from); }
FASTNN_EMULATED __m512 _mm512_load_ps(const void* from) {
  fault_unless_aligned(from);
  return load_lanes<__m512>(from);
}
FASTNN_EMULATED void _mm512_storeu_ps(void* to, __m512 v) { store_lanes(to, v); }
FASTNN_EMULATED __m512 _mm512_maskz_loadu_ps(__mmask16 mask, const void* from) {
  const auto* floats = static_cast<const float*>(from);
  return masked_lanes_of<__m512>(mask, [&](unsigned l) { return floats[l]; });
}
FASTNN_EMULATED __m512 _mm512_mask_mov_ps(__m512 otherwise, __mmask16 mask, __m512 v) {
  return lanes_of<__m512>([&](unsigned l) { return mask >> l & 1 ? v[l] : otherwise[l]; });
}
FASTNN_EMULATED __m512 _mm512_mask_broadcast_f32x4(__m512 otherwise, __mmask16 mask, __m128 v) {
  return lanes_of<__m512>([&](unsigned l) { return mask >> l & 1 ? v[l % 4] : otherwise[l]; });
}
FASTNN_EMULATED __m512 _mm512_maskz_broadcast_f32x4(__mmask16 mask, __m128 v) {
  return _mm512_mask_broadcast_f32x4(__m512{}, mask, v);
}
FASTNN_EMULATED __m512 _mm512_castps256_ps512(__m256 v) {  // the other half is undefined
  return lanes_of<__m512>([&](unsigned l) { return l < 8 ? v[l] : __builtin_nanf(""); });
}
FASTNN_EMULATED __m512 _mm512_insertf32x8(__m512 v, __m256 half, int which) {
  for (int l = 0; l < 8; ++l) v[8 * which + l] = half[l];
  return v;
}
FASTNN_EMULATED __m512 _mm512_permutex2var_ps(__m512 a, __m512i from, __m512 b) {
  const IntLanes at = IntLanes(from);
  return lanes_of<__m512>([&](unsigned l) { return (at[l] & 16 ? b : a)[at[l] & 15]; });
}
FASTNN_EMULATED __m512 _mm512_maskz_compress_ps(__mmask16 mask, __m512 v) {
  return compressed<FloatLanes>(mask, v);
}
FASTNN_EMULATED __m512d _mm512_maskz_cvtps_pd(__mmask8 mask, __m256 v) {
  return masked_lanes_of<__m512d>(mask, [&](unsigned l) { return static_cast<double>(v[l]); });
}

FASTNN_EMULATED bool compare(float a, float b, int how) {
  switch (how) {
    case _CMP_ORD_Q:
      return a == a && b == b;
    case _CMP_NEQ_UQ:
      return !(a == b);
    case _CMP_NGT_UQ:
      return !(a > b);
    default:
      __builtin_trap();
  }
}
FASTNN_EMULATED __mmask16 _mm512_mask_cmp_ps_mask(__mmask16 of, __m512 a, __m512 b, int how) {
  uint32_t mask = 0;
  for (unsigned l = 0; l < 16; ++l) mask |= static_cast<uint32_t>(compare(a[l], b[l], how)) << l;
  return static_cast<__mmask16>(mask & of);
}
FASTNN_EMULATED __mmask16 _mm512_cmp_ps_mask(__m512 a, __m512 b, int how) {
  return _mm512_mask_cmp_ps_mask(0xffff, a, b, how);
}
FASTNN_EMULATED __mmask16 _mm512_fpclass_ps_mask(__m512 v, int classes) {
  constexpr int kSubnormal = 0x20;
  if (classes != kSubnormal) __builtin_trap();
  const IntLanes bits = IntLanes(v);
  uint32_t mask = 0;
  for (unsigned l = 0; l < 16; ++l) {
    const bool subnormal = (bits[l] & 0x7f800000) == 0 && (bits[l] & 0x7fffff) != 0;
    mask |= static_cast<uint32_t>(subnormal) << l;
  }
  return static_cast<__mmask16>(mask);
}

// ---- integers ----------------------------------------------------------------------------------

FASTNN_EMULATED __m512i _mm512_set1_epi32(int x) { return __m512i(IntLanes{} + x); }
FASTNN_EMULATED __m512i _mm512_set1_epi16(int16_t x) { return __m512i(ShortLanes{} + x); }
template <class... I>
FASTNN_EMULATED __m512i _mm512_set_epi32(I... highest_first) {
  static_assert(sizeof...(I) == 16);
  const int32_t x[16] = {highest_first...};
  return __m512i(lanes_of<IntLanes>([&](unsigned l) { return x[15 - l]; }));
}
FASTNN_EMULATED __m512i _mm512_loadu_si512(const void* from) { return load_lanes<__m512i>(from); }
FASTNN_EMULATED void _mm512_storeu_si512(void* to, __m512i v) { store_lanes(to, v); }
FASTNN_EMULATED void _mm512_store_si512(void* to, __m512i v) {
  fault_unless_aligned(to);
  store_lanes(to, v);
}
FASTNN_EMULATED void _mm512_stream_si512(__m512i* to, __m512i v) { _mm512_store_si512(to, v); }
FASTNN_EMULATED __m512i _mm512_maskz_loadu_epi32(__mmask16 mask, const void* from) {
  const auto* x = static_cast<const char*>(from);
  return __m512i(masked_lanes_of<IntLanes>(mask, [&](unsigned l) {
    int32_t lane;
    __builtin_memcpy(&lane, x + 4 * l, sizeof lane);
    return lane;
  }));
}
FASTNN_EMULATED __m512i _mm512_maskz_loadu_epi16(__mmask32 mask, const void* from) {
  const auto* x = static_cast<const char*>(from);
  return __m512i(masked_lanes_of<ShortLanes>(mask, [&](unsigned l) {
    int16_t lane;
    __builtin_memcpy(&lane, x + 2 * l, sizeof lane);
    return lane;
  }));
}
FASTNN_EMULATED __m128i _mm_maskz_loadu_epi8(__mmask16 mask, const void* from) {
  const auto* x = static_cast<const uint8_t*>(from);
  return __m128i(masked_lanes_of<ByteLanes>(mask, [&](unsigned l) { return x[l]; }));
}
FASTNN_EMULATED __m512i _mm512_add_epi32(__m512i a, __m512i b) {
  return __m512i(IntLanes(a) + IntLanes(b));
}
FASTNN_EMULATED __m512i _mm512_add_epi16(__m512i a, __m512i b) {
  return __m512i(ShortLanes(a) + ShortLanes(b));
}
FASTNN_EMULATED __m512i _mm512_mullo_epi32(__m512i a, __m512i b) {
  return __m512i(IntLanes(a) * IntLanes(b));
}
FASTNN_EMULATED __m512i _mm512_maskz_mul_epu32(__mmask8 mask, __m512i a, __m512i b) {
  const LongLanes x = LongLanes(a), y = LongLanes(b);
  return __m512i(masked_lanes_of<LongLanes>(mask, [&](unsigned l) {
    return static_cast<int64_t>((x[l] & UINT32_MAX) * static_cast<uint64_t>(y[l] & UINT32_MAX));
  }));
}
FASTNN_EMULATED __m512i _mm512_mask_mov_epi32(__m512i otherwise, __mmask16 mask, __m512i v) {
  const IntLanes a = IntLanes(otherwise), b = IntLanes(v);
  return __m512i(lanes_of<IntLanes>([&](unsigned l) { return mask >> l & 1 ? b[l] : a[l]; }));
}
FASTNN_EMULATED __m512i _mm512_broadcast_i32x4(__m128i v) {
  return __m512i(LongLanes{v[0], v[1], v[0], v[1], v[0], v[1], v[0], v[1]});
}
FASTNN_EMULATED __m512i _mm512_maskz_cvtepu8_epi32(__mmask16 mask, __m128i v) {
  const ByteLanes bytes = ByteLanes(v);
  return __m512i(masked_lanes_of<IntLanes>(mask, [&](unsigned l) { return int32_t{bytes[l]}; }));
}
FASTNN_EMULATED __m512i _mm512_cvtepu8_epi32(__m128i v) {
  return _mm512_maskz_cvtepu8_epi32(0xffff, v);
}
FASTNN_EMULATED __m128i _mm512_maskz_cvtepi32_epi8(__mmask16 mask, __m512i v) {
  const IntLanes x = IntLanes(v);
  return __m128i(
      masked_lanes_of<ByteLanes>(mask, [&](unsigned l) { return static_cast<uint8_t>(x[l]); }));
}
FASTNN_EMULATED __m512i _mm512_maskz_permutexvar_epi32(__mmask16 mask, __m512i from, __m512i v) {
  const IntLanes at = IntLanes(from), x = IntLanes(v);
  return __m512i(masked_lanes_of<IntLanes>(mask, [&](unsigned l) { return x[at[l] & 15]; }));
}
FASTNN_EMULATED __m512i _mm512_permutex2var_epi16(__m512i a, __m512i from, __m512i b) {
  const ShortLanes at = ShortLanes(from), x = ShortLanes(a), y = ShortLanes(b);
  return __m512i(
      lanes_of<ShortLanes>([&](unsigned l) { return (at[l] & 32 ? y : x)[at[l] & 31]; }));
}
FASTNN_EMULATED __m512i _mm512_maskz_compress_epi32(__mmask16 mask, __m512i v) {
  return __m512i(compressed<IntLanes>(mask, v));
}

// Of each 16 bytes of both, the elements of the low (0) or high (1) half, in turns.
template <class V>
FASTNN_EMULATED __m512i unpacked(__m512i a, __m512i b, unsigned high) {
  constexpr unsigned kEach = 16 / sizeof(V{}[0]);
  const V x = V(a), y = V(b);
  return __m512i(lanes_of<V>([&](unsigned l) {
    const unsigned at = l / kEach * kEach + high * kEach / 2 + l % kEach / 2;
    return l % 2 ? y[at] : x[at];
  }));
}
FASTNN_EMULATED __m512i _mm512_unpacklo_epi32(__m512i a, __m512i b) {
  return unpacked<IntLanes>(a, b, 0);
}
FASTNN_EMULATED __m512i _mm512_unpackhi_epi32(__m512i a, __m512i b) {
  return unpacked<IntLanes>(a, b, 1);
}
FASTNN_EMULATED __m512i _mm512_unpacklo_epi64(__m512i a, __m512i b) {
  return unpacked<LongLanes>(a, b, 0);
}
FASTNN_EMULATED __m512i _mm512_unpackhi_epi64(__m512i a, __m512i b) {
  return unpacked<LongLanes>(a, b, 1);
}
// Quarters of a, then of b: two bits of `which` for each.
FASTNN_EMULATED __m512i _mm512_shuffle_i32x4(__m512i a, __m512i b, int which) {
  return __m512i(lanes_of<LongLanes>(
      [&](unsigned l) { return (l < 4 ? a : b)[(which >> l / 2 * 2 & 3) * 2 + l % 2]; }));
}

}  // namespace
}  // namespace fastnn

#if defined(FASTNN_EMULATES_BF16)
#include "bf16_emulator.h"
#endif
