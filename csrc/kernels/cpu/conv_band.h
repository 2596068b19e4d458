// What the kernels of convolution read: an image with its padding, either as a band of rows whose
// phases lie apart (so that neighbouring outputs read neighbours whatever the stride), or as one
// row of k, for a span of positions. Nothing larger than a band or some rows is ever copied.
#pragma once
#include "../conv_plan.h"
#include "gemm_micro.h"

namespace fastnn {
namespace {

FASTNN_INLINE void zero_run(float* dst, int64_t n) {
  for (int64_t i = 0; i < n; ++i) dst[i] = 0;
}
FASTNN_INLINE void copy_run(float* dst, const float* src, int64_t n) {
  int64_t i = 0;
  for (; i + kLanes <= n; i += kLanes) store(dst + i, load(src + i));
  copy_few(dst + i, src + i, n - i);
}

// dst[i] = row[first + i step], 0 outside of the row's `size` elements.
FASTNN_INLINE void copy_padded(float* dst, int64_t n, const float* row, int64_t size, int64_t first,
                               int64_t step) {
  const auto below = [&](int64_t x) { return x <= 0 ? 0 : least(n, ceil_div(x, step)); };
  const int64_t begin = step == 1 ? (first < 0 ? least(n, -first) : 0) : below(-first);
  const int64_t end = step == 1 ? (size > first ? least(n, size - first) : 0) : below(size - first);
  zero_run(dst, least(begin, n));
  if (step == 1) {
    if (end > begin) copy_run(dst + begin, row + first + begin, end - begin);
  } else {
    for (int64_t i = begin; i < end; ++i) dst[i] = row[first + i * step];
  }
  const int64_t rest = end > begin ? end : begin;
  zero_run(dst + rest, n - rest);
}

// The offset in a band of each k, from where an output reads.
FASTNN_INLINE void band_offsets(const ConvGrid& g, const ConvPlan& plan, int32_t* at) {
  for (int64_t c = 0; c < g.channels; ++c)
    for (int64_t i = 0; i < g.h.taps; ++i)
      for (int64_t j = 0; j < g.w.taps; ++j) {
        const int64_t y = i * g.h.dilation, x = j * g.w.dilation;
        const int64_t phase =
            (c * g.h.phases() + y % g.h.stride) * g.w.phases() + x % g.w.stride;
        *at++ = static_cast<int32_t>(phase * plan.plane + y / g.h.stride * plan.row_length +
                                     x / g.w.stride);
      }
}

// What output rows [row, row + rows) read of the channels at x.
inline void copy_band(const ConvGrid& g, const ConvPlan& plan, const float* x, int64_t row,
                      int64_t rows, float* band) {
  if (g.depth() == 0) return;
  for (int64_t c = 0; c < g.channels; ++c, x += g.in_size())
    for (int64_t i = 0; i < g.h.phases(); ++i)
      for (int64_t j = 0; j < g.w.phases(); ++j, band += plan.plane)
        for (int64_t r = 0; r < g.h.length(rows); ++r) {
          const int64_t y = (row + r) * g.h.stride + i - g.h.pad;
          const bool inside = y >= 0 && y < g.h.in;
          copy_padded(band + r * plan.row_length, plan.row_length, x + (inside ? y * g.w.in : 0),
                      inside ? g.w.in : 0, j - g.w.pad, g.w.stride);
        }
  zero_run(band, kConvSlack);
}

// What positions [begin, begin + n) read of the channel at x with one tap of each axis.
FASTNN_INLINE void copy_span(const ConvGrid& g, const float* x, int64_t i, int64_t j, int64_t begin,
                             int64_t n, float* dst) {
  int64_t row = begin / g.w.out, col = begin % g.w.out;
  const int64_t first = j * g.w.dilation - g.w.pad;
  for (; n > 0; ++row, col = 0) {
    const int64_t count = least(n, g.w.out - col);
    const int64_t y = row * g.h.stride + i * g.h.dilation - g.h.pad;
    const bool inside = y >= 0 && y < g.h.in;
    copy_padded(dst, count, x + (inside ? y * g.w.in : 0), inside ? g.w.in : 0,
                first + col * g.w.stride, g.w.stride);
    dst += count, n -= count;
  }
}

}  // namespace
}  // namespace fastnn
