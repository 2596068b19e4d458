// The windows of an axis, each as a run of its elements.
#pragma once
#include <algorithm>
#include <vector>

#include "../kernels/families/pool.h"

namespace fastnn {

using Span = std::vector<PoolSpan>;

// Windows of an axis of n, those that a grid has cut off at its edges.
inline Span grid_spans(int64_t n, int64_t out, int64_t kernel, int64_t stride, int64_t pad,
                       int64_t dilation) {
  Span spans;
  for (int64_t o = 0; o < out; ++o) {
    const int64_t start = o * stride - pad;
    const int64_t below = start < 0 ? ceil_div(-start, dilation) : 0;
    spans.push_back({static_cast<int32_t>(start + below * dilation),
                     static_cast<int32_t>(std::min(n, start + dilation * (kernel - 1) + 1))});
  }
  return spans;
}
// Window o of adaptive pooling reaches from floor(o n / out) to ceil((o + 1) n / out).
inline Span adaptive_spans(int64_t n, int64_t out) {
  Span spans;
  for (int64_t o = 0; o < out; ++o)
    spans.push_back(
        {static_cast<int32_t>(o * n / out), static_cast<int32_t>(ceil_div((o + 1) * n, out))});
  return spans;
}
inline std::vector<float> sizes_of(const Span& spans) {
  std::vector<float> sizes;
  for (const PoolSpan& span : spans) sizes.push_back(static_cast<float>(span.end - span.begin));
  return sizes;
}
// The windows that each element of an axis of n is in; windows are in order, so they are
// neighbours.
inline Span turned(const Span& spans, int64_t n) {
  Span in(static_cast<size_t>(n), PoolSpan{0, 0});
  for (size_t o = 0; o < spans.size(); ++o)
    for (int32_t i = spans[o].begin; i < spans[o].end; ++i) {
      PoolSpan& span = in[static_cast<size_t>(i)];
      if (span.begin == span.end) span.begin = static_cast<int32_t>(o);
      span.end = static_cast<int32_t>(o) + 1;
    }
  return in;
}

}  // namespace fastnn
