// Registers: their width in this instruction set, and how loops over arrays that stay in them are
// written. GCC/Clang vectors; those that are wider than a register are lowered lane by lane,
// through memory, so what has more lanes is an array of these.
#pragma once
#if defined(__AVX__)
#include <immintrin.h>
#endif

namespace fastnn {
namespace {

#if defined(__AVX512F__)
inline constexpr int kVectorBytes = 64;
#elif defined(__AVX__)
inline constexpr int kVectorBytes = 32;
#else
inline constexpr int kVectorBytes = 16;
#endif
inline constexpr int kLanes = kVectorBytes / 4;

// Registers are only used for arrays whose loops are unrolled completely.
#define FASTNN_UNROLL _Pragma("GCC unroll 16")
#define FASTNN_INLINE inline __attribute__((always_inline))

typedef float Vec __attribute__((vector_size(kVectorBytes)));
typedef float VecU __attribute__((vector_size(kVectorBytes), aligned(4), may_alias));
typedef double DoubleVec __attribute__((vector_size(kVectorBytes)));
typedef double DoubleVecU __attribute__((vector_size(kVectorBytes), aligned(8), may_alias));

FASTNN_INLINE Vec load(const float* p) { return *reinterpret_cast<const VecU*>(p); }
FASTNN_INLINE void store(float* p, Vec v) { *reinterpret_cast<VecU*>(p) = v; }
FASTNN_INLINE DoubleVec load(const double* p) { return *reinterpret_cast<const DoubleVecU*>(p); }
FASTNN_INLINE void store(double* p, DoubleVec v) { *reinterpret_cast<DoubleVecU*>(p) = v; }

// Lanes [begin, end) of 0 to kLanes: memory of the others is not read, they are zeros.
struct SomeLanes {
#if defined(__AVX512F__)
  __mmask16 lanes;
  static FASTNN_INLINE SomeLanes from(int64_t begin, int64_t end) {
    return {static_cast<__mmask16>(begin < end ? (1u << end) - (1u << begin) : 0)};
  }
#else
  typedef int32_t Lanes __attribute__((vector_size(kVectorBytes)));
  Lanes lanes;  // -1, or 0
  static FASTNN_INLINE SomeLanes from(int64_t begin, int64_t end) {
    constexpr int32_t kNumbers[] = {0, 1, 2, 3, 4, 5, 6, 7};
    Lanes lane;
    __builtin_memcpy(&lane, kNumbers, sizeof lane);
    return {(lane >= static_cast<int32_t>(begin)) & (lane < static_cast<int32_t>(end))};
  }
#endif
  FASTNN_INLINE Vec load(const float* p) const {
#if defined(__AVX512F__)
    return Vec(_mm512_maskz_loadu_ps(lanes, p));
#elif defined(__AVX__)
    return Vec(_mm256_maskload_ps(p, __m256i(lanes)));
#else
    Vec v = {};
    for (int l = 0; l < kLanes; ++l) {
      if (lanes[l]) v[l] = p[l];
    }
    return v;
#endif
  }
};

// The first n floats, as far as they fit, and zeros. Nothing behind them is read.
FASTNN_INLINE Vec load_first(const float* p, int64_t n) {
  return n >= kLanes ? load(p) : SomeLanes::from(0, n).load(p);
}

// What several instructions use is loaded once: the compiler would fold a load into each of them.
#if defined(FASTNN_EMULATED)  // no register is as wide
#define FASTNN_LOAD_ONCE(x)
#elif defined(__AVX512F__)
#define FASTNN_LOAD_ONCE(x) asm("" : "+v"(x))
#elif defined(__x86_64__)
#define FASTNN_LOAD_ONCE(x) asm("" : "+x"(x))
#else
#define FASTNN_LOAD_ONCE(x) asm("" : "+w"(x))
#endif

// Floats as float64. Of __builtin_convertvector GCC makes two conversions of half a register, and
// puts them together.
FASTNN_INLINE DoubleVec load_wide(const float* p) {
#if defined(__AVX512F__)
  // All lanes by mask: GCC warns of what the form without one leaves undefined.
  return DoubleVec(_mm512_maskz_cvtps_pd(0xff, _mm256_loadu_ps(p)));
#elif defined(__AVX__)
  return DoubleVec(_mm256_cvtps_pd(_mm_loadu_ps(p)));
#else
  typedef float Half __attribute__((vector_size(kVectorBytes / 2), aligned(4), may_alias));
  return __builtin_convertvector(*reinterpret_cast<const Half*>(p), DoubleVec);
#endif
}

}  // namespace
}  // namespace fastnn
