// Pooling with the channels last: lanes are channels, so that windows of any kind are vectors,
// those over an edge as well. A channel's elements are added in the order of a plane's, to the same
// bits.
#pragma once
#include "pool_grid.h"

namespace fastnn {
namespace {

// The kernel's elements inside an image, for the window of an out row and column.
struct Window {
  int64_t ih, iw;  // of the first element, which may lie outside
  InsideAxis rows, cols;
  FASTNN_FN Window(const PoolGrid& g, int64_t oh, int64_t ow)
      : ih(oh * g.stride_h - g.pad_h),
        iw(ow * g.stride_w - g.pad_w),
        rows(inside(ih, g.h, g.kernel_h, g.dilation_h)),
        cols(inside(iw, g.w, g.kernel_w, g.dilation_w)) {}
  // Calls use(k, place): element k of the kernel and where its channels are.
  template <class F>
  FASTNN_FN void each(const PoolGrid& g, F use) const {
    for (int64_t kh = rows.begin; kh < rows.end; ++kh)
      for (int64_t kw = cols.begin; kw < cols.end; ++kw)
        use(kh * g.kernel_w + kw,
            ((ih + kh * g.dilation_h) * g.w + iw + kw * g.dilation_w) * g.channels);
  }
};

template <template <int> class Pool, int kLanes, class T>
FASTNN_FN Pool<kLanes> pool_lanes(const T* x, const PoolGrid& g, const Window& window) {
  Pool<kLanes> pool(window.rows.begin * g.kernel_w + window.cols.begin);
  window.each(g, [&](int64_t k, int64_t place) __attribute__((always_inline)) {
    float v[kLanes];
    load_strided<1, kLanes>(x + place, 1, v);
    pool.add(v, k);
  });
  return pool;
}

// Window by window of an image; `out_of` says where the channels of one go.
template <template <int> class Pool, class T, class OutOf>
void pool_image(const T* image, const PoolGrid& g, OutOf out_of) {
  for (int64_t oh = 0; oh < g.out_h; ++oh)
    for (int64_t ow = 0; ow < g.out_w; ++ow) {
      const Window window(g, oh, ow);
      const auto out = out_of(oh, ow);
      int64_t c = 0;
      for (; c + kManyLanes <= g.channels; c += kManyLanes)
        out.store(c, pool_lanes<Pool, kManyLanes>(image + c, g, window));
      for (; c + kFewLanes <= g.channels; c += kFewLanes)
        out.store(c, pool_lanes<Pool, kFewLanes>(image + c, g, window));
      for (; c < g.channels; ++c) out.store(c, pool_lanes<Pool, 1>(image + c, g, window));
    }
}

// An image's gradients: each goes to the element that was the largest.
template <class T>
void max_pool_bwd_image(const T* dy, const uint8_t* offsets, float* sums, const PoolGrid& g) {
  for (int64_t i = 0; i < g.h * g.w * g.channels; ++i) sums[i] = 0.f;
  for (int64_t oh = 0; oh < g.out_h; ++oh)
    for (int64_t ow = 0; ow < g.out_w; ++ow, dy += g.channels, offsets += g.channels)
      Window(g, oh, ow).each(g, [&](int64_t k, int64_t place) __attribute__((always_inline)) {
        float* to = sums + place;
        const auto offset = static_cast<uint8_t>(k);
#pragma GCC ivdep
        for (int64_t c = 0; c < g.channels; ++c)
          to[c] += offsets[c] == offset ? to_float(dy[c]) : 0.f;
      });
}

// The channels of one element of dx: what it gathers from the windows it was in.
template <class T>
void avg_pool_bwd_place(const T* dy, T* dx, const AvgPoolBwdArgs& args, PoolSpan rows,
                        PoolSpan cols) {
  const PoolSpans& spans = args.spans;
  for_blocks(spans.channels, [&](int64_t first, int lanes) __attribute__((always_inline)) {
    double total[kBlockLanes] = {};
    for (int64_t r = rows.begin; r < rows.end; ++r)
      for (int64_t c = cols.begin; c < cols.end; ++c) {
        const T* from = dy + (r * spans.w + c) * spans.channels + first;
        const double divisor = static_cast<double>(args.row_divisors[r] * args.col_divisors[c]);
        for (int l = 0; l < lanes; ++l)
          total[l] += static_cast<double>(to_float(from[l])) / divisor;
      }
    for (int l = 0; l < lanes; ++l) dx[first + l] = from_float<T>(static_cast<float>(total[l]));
  });
}

}  // namespace
}  // namespace fastnn
