// What the kernels of convolution read: a band of rows of an image with its padding, whose phases
// lie apart, so that neighbouring outputs read neighbours whatever the stride. Nothing larger than
// a band is ever copied.
#pragma once
#include "../conv_plan.h"
#include "gemm_micro.h"

namespace fastnn {
namespace {

FASTNN_INLINE void copy_run(float* dst, const float* src, int64_t n) {
  int64_t i = 0;
  for (; i + kLanes <= n; i += kLanes) store(dst + i, load(src + i));
  if (i < n) copy_few(dst + i, src + i, n - i);
}

// From an output's place in a band to that of what a tap reads, of the phases [row][column], whose
// rows are `length` floats.
FASTNN_INLINE int64_t band_offset(const ConvGrid& g, int64_t length, int64_t plane, int64_t i,
                                  int64_t j) {
  const int64_t y = i * g.h.dilation, x = j * g.w.dilation;
  if (g.h.stride == 1 && g.w.stride == 1) return y * length + x;  // without division
  const int64_t phase = y % g.h.stride * g.w.phases() + x % g.w.stride;
  return phase * plane + y / g.h.stride * length + x / g.w.stride;
}

// The elements of an axis that positions first, first + stride, ... hit: those [begin, end) of n.
struct Inside {
  int64_t begin, end;
  bool operator==(const Inside&) const = default;
};
FASTNN_INLINE Inside inside(const ConvAxis& axis, int64_t first, int64_t n) {
  const auto below = [&](int64_t x) {
    return x <= 0 ? 0 : least(n, axis.stride == 1 ? x : ceil_div(x, axis.stride));
  };
  return {below(-first), below(axis.in - first)};
}

// What output rows [row, row + rows) read of one channel: the phases, each of `plane` floats.
// kept: the band holds the same rows of another image, and so their padding.
FASTNN_INLINE void copy_channel(const ConvGrid& g, int64_t plane, const float* x, int64_t row,
                                int64_t rows, float* band, bool kept = false) {
  const int64_t length = g.w.length(g.w.out), height = g.h.length(rows);
  for (int64_t i = 0; i < g.h.phases(); ++i) {
    const int64_t top = row * g.h.stride + i - g.h.pad;
    const Inside y = inside(g.h, top, height);
    for (int64_t j = 0; j < g.w.phases(); ++j, band += plane) {
      const int64_t left = j - g.w.pad, step = g.w.stride;
      const Inside at = inside(g.w, left, length);
      if (!kept && (y.end - y.begin < height || at.end - at.begin < length))
        __builtin_memset(band, 0, sizeof(float) * static_cast<size_t>(height * length));
      const float* from = x + (top + y.begin * g.h.stride) * g.w.in + left + at.begin * step;
      float* to = band + y.begin * length + at.begin;
      for (int64_t r = y.begin; r < y.end; ++r, from += g.h.stride * g.w.in, to += length) {
        if (step == 1) {
          copy_run(to, from, at.end - at.begin);
        } else {
          for (int64_t k = 0; k < at.end - at.begin; ++k) to[k] = from[k * step];
        }
      }
    }
  }
}

// The taps [begin, end) that outputs [first, last] of an axis see in the image.
FASTNN_INLINE Inside taps_of(const ConvAxis& axis, int64_t first, int64_t last) {
  const auto below = [&](int64_t x) {
    return x <= 0 ? 0 : least(axis.taps, axis.dilation == 1 ? x : ceil_div(x, axis.dilation));
  };
  return {below(axis.pad - last * axis.stride), below(axis.in + axis.pad - first * axis.stride)};
}

// Then a weight times zero is zero, and may be left out.
bool all_finite(const float* x, int64_t n) {
  Vec sums[4] = {};  // of zeros or NaN; more than one, since each waits for its last
  int64_t i = 0;
  for (; i + 4 * kLanes <= n; i += 4 * kLanes)
    FASTNN_UNROLL for (int q = 0; q < 4; ++q) sums[q] += load(x + i + q * kLanes) * 0.f;
  float rest = 0;
  for (; i < n; ++i) rest += x[i] * 0.f;
  const Vec sum = (sums[0] + sums[1]) + (sums[2] + sums[3]);
  for (int l = 0; l < kLanes; ++l) rest += sum[l];
  return rest == 0.f;
}

// One product of a sum: the place of its float in the band, and of its weight.
struct ConvProduct {
  int32_t at, k;
};

}  // namespace
}  // namespace fastnn
