// The engine of convolution: an implicit product, of which neither factor is ever written out. A
// block has a tile of the result; strips of both factors go through registers into shared memory,
// the next one while the last is multiplied. Invariant: a sum is chains of kGemmChain fma, added in
// order, whatever the tile; in the order of the CPU, whose bits the results then have.
#pragma once
#include "../conv_plan.h"
#include "../families/conv.h"
#include "engine.cuh"

namespace fastnn {
namespace {

inline constexpr int kConvSide = 16;  // threads along each side of a tile
inline constexpr int kConvThreads = kConvSide * kConvSide;
inline constexpr int kConvDepth = 16;  // of the sum in shared memory at a time
static_assert(kGemmChain % kConvDepth == 0 && kConvThreads / kConvDepth == kConvSide);

// Of the kMine rows, or columns, of a tile that a thread has: vectors of 16 bytes, which those of
// its neighbours lie between.
template <int kMine>
struct ConvLine {
  static constexpr int kSize = kMine * kConvSide, kCount = kMine < 4 ? kMine : 4;
  static constexpr int kPitch = kSize + 4;  // rows of a strip stay aligned, and start elsewhere
  static __device__ __forceinline__ int place(int own, int i) {
    return i / kCount * (kCount * kConvSide) + own * kCount + i % kCount;
  }
  // The thread's part of row p of a strip.
  static __device__ __forceinline__ void read(const float* strip, int p, int own,
                                              float (&x)[kMine]) {
    FASTNN_UNROLL
    for (int i = 0; i < kMine; i += kCount) {
      const auto v =
          *reinterpret_cast<const Vec<float, kCount>*>(strip + p * kPitch + place(own, i));
      FASTNN_UNROLL
      for (int j = 0; j < kCount; ++j) x[i + j] = v.v[j];
    }
  }
};

// What a thread has of a tile of kRows x kCols times kConvSide. Chains are in registers, sums in
// shared memory, where each thread has its own: together they would be more than there are.
template <int kOfRows, int kOfCols, class Sum>
struct ConvPart {
  static constexpr int kRows = kOfRows, kCols = kOfCols;
  using Rows = ConvLine<kRows>;
  using Cols = ConvLine<kCols>;
  static constexpr int kSums = kRows * kCols * kConvThreads;
  float chain[kRows][kCols];
  Sum* sums;  // of this thread: kConvThreads apart

  __device__ __forceinline__ explicit ConvPart(Sum* shared) : sums(shared + threadIdx.x) {}
  __device__ __forceinline__ Sum& sum(int i, int j) const {
    return sums[(i * kCols + j) * kConvThreads];
  }

  static __device__ __forceinline__ int row(int i) {
    return Rows::place(static_cast<int>(threadIdx.x) / kConvSide, i);
  }
  static __device__ __forceinline__ int col(int j) {
    return Cols::place(static_cast<int>(threadIdx.x) % kConvSide, j);
  }
  template <class F>
  static __device__ __forceinline__ void each(F f) {
    FASTNN_UNROLL
    for (int i = 0; i < kRows; ++i) {
      FASTNN_UNROLL
      for (int j = 0; j < kCols; ++j) f(i, j);
    }
  }
  __device__ __forceinline__ void multiply(const float* a, const float* b) {
    const int own = static_cast<int>(threadIdx.x);
    FASTNN_NO_UNROLL
    for (int p = 0; p < kConvDepth; p += 4) {  // all at once take more registers than there are
      FASTNN_UNROLL
      for (int q = 0; q < 4; ++q) {
        float u[kRows], v[kCols];
        Rows::read(a, p + q, own / kConvSide, u);
        Cols::read(b, p + q, own % kConvSide, v);
        each([&](int i, int j) { chain[i][j] = mad(u[i], v[j], chain[i][j]); });
      }
    }
  }
  // The sum over `depth` products. `source` brings strips one after the other: fetch() the next
  // into registers, put() what was fetched into shared memory.
  template <class Source>
  __device__ __forceinline__ void sum_strips(Source& source, int64_t depth, float* a, float* b) {
    each([&](int i, int j) { chain[i][j] = 0.f, sum(i, j) = 0; });
    if (depth > 0) source.fetch();
    for (int64_t k = 0; k < depth; k += kConvDepth) {
      __syncthreads();  // the last strips have been read
      source.put(a, b);
      __syncthreads();
      const bool last = k + kConvDepth >= depth;
      if (!last) source.fetch();
      multiply(a, b);
      if (!last && (k + kConvDepth) % kGemmChain != 0) continue;
      each([&](int i, int j) { sum(i, j) += static_cast<Sum>(chain[i][j]), chain[i][j] = 0.f; });
    }
  }
};

// Whether 0 <= i < n, for n >= 0.
__device__ __forceinline__ bool is_inside(int64_t i, int64_t n) {
  return static_cast<uint64_t>(i) < static_cast<uint64_t>(n);
}

// Those taps of an axis, of an output whose first tap is at `first`, that are inside: `count` from
// `begin` on.
struct ConvTaps {
  int32_t begin, count;
  __device__ __forceinline__ ConvTaps() : begin(0), count(0) {}
  __device__ __forceinline__ ConvTaps(const ConvAxis& axis, int64_t first) : begin(0), count(0) {
    const auto below = [&](int64_t x) {
      if (axis.dilation > 1) x = ceil_div(x, axis.dilation);  // most often nothing is divided
      return x <= 0 ? 0 : static_cast<int32_t>(least(axis.taps, x));
    };
    begin = below(-first);
    count = below(axis.in - first) - begin;
  }
  __device__ __forceinline__ bool has(int32_t tap) const {
    return static_cast<uint32_t>(tap - begin) < static_cast<uint32_t>(count);
  }
};

// Numbers (rest, outer, inner), of which two digits have a largest value: taps of channels, or
// positions of images. `at` is the place of one in each of kPlaces arrays.
template <class Digit, int kPlaces>
struct ConvRadix {
  Digit inners, outers;
  int64_t inner[kPlaces], outer[kPlaces], rest[kPlaces];  // from one to the next, in the arrays
  // The step that ConvDigits::next() takes: its digits, what it is in the arrays, and what a carry
  // adds there.
  Digit step_inner, step_outer;
  int64_t step[kPlaces], inner_carry[kPlaces], outer_carry[kPlaces];

  static ConvRadix of(int64_t inners, int64_t outers) {  // 0 of them: nothing is counted or divided
    ConvRadix radix{};
    radix.inners = static_cast<Digit>(most(inners, 1));
    radix.outers = static_cast<Digit>(most(outers, 1));
    return radix;
  }
  ConvRadix& set(int place, int64_t by_inner, int64_t by_outer, int64_t by_rest) {
    inner[place] = by_inner, outer[place] = by_outer, rest[place] = by_rest;
    return *this;
  }
  ConvRadix& set_step(int64_t by) {
    step_inner = static_cast<Digit>(by % inners);
    step_outer = static_cast<Digit>(by / inners % outers);
    for (int p = 0; p < kPlaces; ++p) {
      step[p] = by / inners / outers * rest[p] + step_outer * outer[p] + step_inner * inner[p];
      inner_carry[p] = outer[p] - inners * inner[p];
      outer_carry[p] = rest[p] - outers * outer[p];
    }
    return *this;
  }
};
// One of them.
template <class Digit, int kPlaces>
struct ConvDigits {
  Digit inner, outer;
  int64_t at[kPlaces];

  using Radix = ConvRadix<Digit, kPlaces>;
  __device__ __forceinline__ ConvDigits(const Radix& radix, int64_t n) {
    const int64_t high = n / radix.inners, rest = high / radix.outers;
    inner = static_cast<Digit>(n - high * radix.inners);
    outer = static_cast<Digit>(high - rest * radix.outers);
    FASTNN_UNROLL
    for (int p = 0; p < kPlaces; ++p)
      at[p] = rest * radix.rest[p] + outer * radix.outer[p] + inner * radix.inner[p];
  }
  // Without a division.
  __device__ __forceinline__ void next(const Radix& radix) {
    inner += radix.step_inner, outer += radix.step_outer;
    const bool carry = inner >= radix.inners;
    inner -= carry ? radix.inners : 0;
    outer += carry;
    const bool outer_carry = outer >= radix.outers;
    outer -= outer_carry ? radix.outers : 0;
    FASTNN_UNROLL
    for (int p = 0; p < kPlaces; ++p)
      at[p] += radix.step[p] + (carry ? radix.inner_carry[p] : 0) +
               (outer_carry ? radix.outer_carry[p] : 0);
  }
};

// k = (channel, row, column of the kernel), and where x has it, from an output's first tap on.
using ConvTapRadix = ConvRadix<int32_t, 1>;
using ConvTapDigits = ConvDigits<int32_t, 1>;
inline ConvTapRadix tap_radix(const ConvGrid& g, int64_t step) {
  return ConvTapRadix::of(g.w.taps, g.h.taps)
      .set(0, g.w.dilation, g.h.dilation * g.w.in, g.in_size())
      .set_step(step);
}

// n = (image, row, column of an output); where its first tap is in x, and where dz has it.
using ConvOutRadix = ConvRadix<int64_t, 2>;
using ConvOutDigits = ConvDigits<int64_t, 2>;
inline ConvOutRadix out_radix(const ConvGrid& g, int64_t step) {
  return ConvOutRadix::of(g.w.out, g.h.out)
      .set(0, g.w.stride, g.h.stride * g.w.in, g.groups * g.channels * g.in_size())
      .set(1, 1, g.w.out, g.groups * g.filters * g.out_size())
      .set_step(step);
}

}  // namespace
}  // namespace fastnn
