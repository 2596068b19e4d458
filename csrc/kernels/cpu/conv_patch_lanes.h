// Lists where the patches of windows begin, a vector of windows at a time: those whose gradients
// are not 0, without a branch (conv_weight_windows.h).
#pragma once
#include "../slice.h"
#include "vectors.h"

namespace fastnn {
namespace {

// append() takes the gradients of some windows, the places of their largest elements, and where the
// patches of their first elements begin; of a place, the patch begins at `of_place` from there. It
// writes a vector to `at` and `values`, and returns how many of its elements are in the list.
#if defined(__AVX512F__)
struct PatchLanes {
  __m512i of_place;

  PatchLanes(int32_t first, int32_t row, int32_t col)
      : of_place(_mm512_add_epi32(_mm512_set1_epi32(first),
                                  _mm512_broadcast_i32x4(_mm_set_epi32(row + col, row, col, 0)))) {}
  bool can_append(int64_t windows) const { return windows > 0; }
  int append(const float* dz, const uint8_t* places, const int32_t* base, int64_t windows,
             int32_t* at, float* values) const {
    const auto lanes = static_cast<__mmask16>((1u << least(kLanes, windows)) - 1);
    const __m512 value = _mm512_maskz_loadu_ps(lanes, dz);
    const __m512i place = _mm512_maskz_cvtepu8_epi32(0xffff, _mm_maskz_loadu_epi8(lanes, places));
    const __m512i from = _mm512_add_epi32(_mm512_maskz_loadu_epi32(lanes, base),
                                          _mm512_maskz_permutexvar_epi32(0xffff, place, of_place));
    const __mmask16 some = _mm512_cmp_ps_mask(value, _mm512_setzero_ps(), _CMP_NEQ_UQ);
    _mm512_storeu_ps(values, _mm512_maskz_compress_ps(some, value));
    _mm512_storeu_si512(at, _mm512_maskz_compress_epi32(some, from));
    return __builtin_popcount(some);
  }
};
#elif defined(__AVX2__)
// A byte for each of a mask's lanes, in order: which one it is.
struct LaneLists {
  uint64_t of_mask[1 << kLanes];
};
constexpr LaneLists lane_lists() {
  LaneLists lists{};
  for (int mask = 0; mask < 1 << kLanes; ++mask)
    for (int lane = 0, n = 0; lane < kLanes; ++lane)
      if (mask >> lane & 1) lists.of_mask[mask] |= static_cast<uint64_t>(lane) << 8 * n++;
  return lists;
}
inline constexpr LaneLists kLaneLists = lane_lists();

struct PatchLanes {
  __m256i of_place;

  PatchLanes(int32_t first, int32_t row, int32_t col)
      : of_place(
            _mm256_add_epi32(_mm256_set1_epi32(first),
                             _mm256_broadcastsi128_si256(_mm_set_epi32(row + col, row, col, 0)))) {}
  bool can_append(int64_t windows) const { return windows >= kLanes; }
  int append(const float* dz, const uint8_t* places, const int32_t* base, int64_t, int32_t* at,
             float* values) const {
    const __m256 value = _mm256_loadu_ps(dz);
    const __m256i place = _mm256_cvtepu8_epi32(_mm_loadu_si64(places));
    const __m256i from =
        _mm256_add_epi32(_mm256_loadu_si256(reinterpret_cast<const __m256i*>(base)),
                         _mm256_permutevar8x32_epi32(of_place, place));
    const int some = _mm256_movemask_ps(_mm256_cmp_ps(value, _mm256_setzero_ps(), _CMP_NEQ_UQ));
    const __m256i order = _mm256_cvtepu8_epi32(_mm_loadu_si64(kLaneLists.of_mask + some));
    _mm256_storeu_ps(values, _mm256_permutevar8x32_ps(value, order));
    _mm256_storeu_si256(reinterpret_cast<__m256i*>(at), _mm256_permutevar8x32_epi32(from, order));
    return __builtin_popcount(static_cast<unsigned>(some));
  }
};
#endif

}  // namespace
}  // namespace fastnn
