// Loops that give each element its own random bits, which are a function of (seed, offset,
// element): any split over threads draws the same, and drawing again gives the same.
#pragma once
#if defined(__SSE2__)
#include <immintrin.h>
#endif

#include "../families/random.h"
#include "../philox.h"
#include "loops.h"

namespace fastnn {
namespace {

// A word of many blocks, each in the low half of 64 bits: that is where the widening multiplication
// takes its factors from, whatever the other half holds. The compiler does not find it by itself.
#if defined(__AVX512F__)
typedef uint64_t PhiloxWords __attribute__((vector_size(64)));
constexpr PhiloxWords kCount{0, 1, 2, 3, 4, 5, 6, 7};
FASTNN_FN PhiloxWords multiply_low(PhiloxWords a, PhiloxWords b) {
  // All lanes by mask: GCC warns of what the form without one leaves undefined.
  return reinterpret_cast<PhiloxWords>(
      _mm512_maskz_mul_epu32(0xff, reinterpret_cast<__m512i>(a), reinterpret_cast<__m512i>(b)));
}
#elif defined(__AVX2__)
typedef uint64_t PhiloxWords __attribute__((vector_size(32)));
constexpr PhiloxWords kCount{0, 1, 2, 3};
FASTNN_FN PhiloxWords multiply_low(PhiloxWords a, PhiloxWords b) {
  return reinterpret_cast<PhiloxWords>(
      _mm256_mul_epu32(reinterpret_cast<__m256i>(a), reinterpret_cast<__m256i>(b)));
}
#else
typedef uint64_t PhiloxWords __attribute__((vector_size(16)));
constexpr PhiloxWords kCount{0, 1};
FASTNN_FN PhiloxWords multiply_low(PhiloxWords a, PhiloxWords b) {
#if defined(__SSE2__)
  return reinterpret_cast<PhiloxWords>(
      _mm_mul_epu32(reinterpret_cast<__m128i>(a), reinterpret_cast<__m128i>(b)));
#else
  return (a & UINT32_MAX) * (b & UINT32_MAX);
#endif
}
#endif

// a[0], b[0], a[1], b[1], ... by vectors.
struct PhiloxPairs {
  PhiloxWords low, high;
};
FASTNN_FN PhiloxPairs pairs_of(PhiloxWords a, PhiloxWords b) {
#if defined(__AVX512F__)
  return {__builtin_shufflevector(a, b, 0, 8, 1, 9, 2, 10, 3, 11),
          __builtin_shufflevector(a, b, 4, 12, 5, 13, 6, 14, 7, 15)};
#elif defined(__AVX2__)
  return {__builtin_shufflevector(a, b, 0, 4, 1, 5), __builtin_shufflevector(a, b, 2, 6, 3, 7)};
#else
  return {__builtin_shufflevector(a, b, 0, 2), __builtin_shufflevector(a, b, 1, 3)};
#endif
}

struct PhiloxMultiplyWords {
  struct Product {
    PhiloxWords high, low;
  };
  FASTNN_FN Product operator()(PhiloxWords words, uint32_t factor) const {
    const PhiloxWords p = multiply_low(words, PhiloxWords{} + factor);
    return {p >> 32, p};
  }
};

// Sixteen Philox blocks side by side; their 64 words, block by block, are 128 16-bit lanes in
// memory order (little endian).
struct PhiloxBatch {
  static constexpr int kBlocks = 16, kSide = sizeof(PhiloxWords) / sizeof(uint64_t);
  alignas(64) uint32_t words[kBlocks * 4];
  // The first `count` blocks, and no less.
  FASTNN_FN PhiloxBatch(uint64_t first_block, RngDraw draw, int64_t count = kBlocks) {
    const PhiloxWords offset = PhiloxWords{} + draw.offset;
    for (int i = 0; i < kBlocks && i < count; i += kSide) {
      const PhiloxWords block = kCount + (first_block + static_cast<uint64_t>(i));
      PhiloxWords c[4] = {block, block >> 32, offset, offset >> 32};
      philox_rounds(c, draw.seed, PhiloxMultiplyWords{});
      const PhiloxWords first = (c[0] & UINT32_MAX) | (c[1] << 32),
                        last = (c[2] & UINT32_MAX) | (c[3] << 32);
      const PhiloxPairs in_order = pairs_of(first, last);
      __builtin_memcpy(words + 4 * i, &in_order, sizeof in_order);
    }
  }
};

// f(first + l, values[l]) for l < count, at most kSize, most often for all.
template <int kSize, class Value, class F>
FASTNN_FN void for_values(int64_t first, const Value* values, int64_t count, F f) {
  if (count >= kSize) {
#pragma GCC ivdep
    for (int l = 0; l < kSize; ++l) f(first + l, values[l]);
  } else {
#pragma GCC ivdep
    for (int l = 0; l < count; ++l) f(first + l, values[l]);
  }
}

// Calls f(i, word) for the elements of a range that starts at a multiple of 64: element i has the
// 32-bit word i & 3 of block i >> 2. The calls are independent of each other.
template <class F>
FASTNN_FN void for_words(Range r, RngDraw draw, F f) {
  constexpr int kBatch = PhiloxBatch::kBlocks * 4;
  for (int64_t i = r.begin; i < r.end; i += kBatch) {
    const PhiloxBatch batch(static_cast<uint64_t>(i / 4), draw);
    for_values<kBatch>(i, batch.words, r.end - i, f);
  }
}

// The same for a range that starts at a multiple of 128 and elements that take 16 bits: lane i & 7
// of block i >> 3.
template <class F>
FASTNN_FN void for_lanes(Range r, RngDraw draw, F f) {
  constexpr int kBatch = PhiloxBatch::kBlocks * kLanesPerBlock;
  for (int64_t i = r.begin; i < r.end; i += kBatch) {
    const PhiloxBatch batch(static_cast<uint64_t>(i / kLanesPerBlock), draw);
    uint16_t lanes[kBatch];
    __builtin_memcpy(lanes, batch.words, sizeof lanes);
    for_values<kBatch>(i, lanes, r.end - i, f);
  }
}

// The lanes of the n elements from any element `at` on: f(i, lane) for i = 0, ..., n - 1.
template <class F>
FASTNN_FN void for_lanes_at(int64_t at, int64_t n, RngDraw draw, F f) {
  constexpr int kBatch = PhiloxBatch::kBlocks * kLanesPerBlock;
  for (int64_t i = 0; i < n;) {
    const int64_t skew = (at + i) % kLanesPerBlock, count = least(n - i, kBatch - skew);
    const PhiloxBatch batch(static_cast<uint64_t>((at + i) / kLanesPerBlock), draw,
                            ceil_div(skew + count, kLanesPerBlock));
    uint16_t lanes[kBatch];
    __builtin_memcpy(lanes, batch.words, sizeof lanes);
    for_values<kBatch>(i, lanes + skew, count, f);
    i += count;
  }
}

}  // namespace
}  // namespace fastnn
