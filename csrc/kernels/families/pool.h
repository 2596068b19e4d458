// Pooling of planes (batch x channels) of h x w; or channels-last, on the CPU, of images whose
// elements are `channels` numbers side by side, which count as one plane. Windows stand on a grid,
// or are given axis by axis as spans (adaptive and fractional pooling). Tasks: chunks of planes, so
// that no two tasks write the same gradient.
#pragma once
#include "../kernel.h"
#include "random.h"

namespace fastnn {

struct PoolGrid {
  int64_t planes, h, w, out_h, out_w;
  int32_t kernel_h, kernel_w, stride_h, stride_w, pad_h, pad_w, dilation_h, dilation_w;
  int64_t channels = 1;
};
// Windows of 2 x 2, side by side.
constexpr PoolGrid pool_twos(int64_t planes, int64_t h, int64_t w) {
  return {planes, h, w, h / 2, w / 2, 2, 2, 2, 2, 0, 0, 1, 1};
}
// Window `out` of an axis has the elements begin, begin + step, ... below end.
struct PoolSpan {
  int32_t begin, end;
};
// The windows of all planes, or of each plane by itself.
struct PoolSpans {
  const PoolSpan *rows, *cols;
  int64_t planes, h, w, out_h, out_w;
  int32_t step_h, step_w;
  bool per_plane;
  int64_t channels = 1;
};

// y is the largest of the window and offsets (which may be null) its place there, row by row: what
// backward needs, in one byte. A window has at most kMaxPoolOffsets elements.
inline constexpr int64_t kMaxPoolOffsets = 256;
struct MaxPoolFwdArgs {
  const void* x;
  void* y;
  uint8_t* offsets;
  PoolGrid grid;
};
struct MaxPoolBwdArgs {
  const void* dy;
  const uint8_t* offsets;
  void* dx;
  float* sums;  // of the size of dx, where its dtype is narrower; else null
  PoolGrid grid;
};
// The same with places as flat indices into the plane.
struct MaxPoolSpansFwdArgs {
  const void* x;
  void* y;
  int64_t* indices;
  PoolSpans spans;
};
struct MaxPoolSpansBwdArgs {
  const void* dy;
  const int64_t* indices;
  void* dx;
  float* sums;
  int64_t planes, size, out_size;
};
// y is the sum of the window over its divisor, which is the product of an entry per out row and
// one per out column.
struct AvgPoolFwdArgs {
  const void* x;
  void* y;
  const float *row_divisors, *col_divisors;
  PoolGrid grid;
};
struct AvgPoolSpansFwdArgs {
  const void* x;
  void* y;
  const float *row_divisors, *col_divisors;
  PoolSpans spans;
};
// `spans` turned around: the out rows and columns whose windows have an element.
struct AvgPoolBwdArgs {
  const void* dy;
  void* dx;
  const float *row_divisors, *col_divisors;
  PoolSpans spans;
};
// Rows and columns of pooling regions for each plane (Graham 2014). With `samples`, [planes, 2] of
// u for width and height, or one drawn, a pseudo-random sequence; else a random one.
struct FractionalSpansArgs {
  PoolSpan *rows, *cols;
  const RngDraw* draw;
  const float* samples;
  int64_t planes, h, w, out_h, out_w;
  int32_t kernel_h, kernel_w;
  bool pseudo_random;
};

struct PoolKernels {
  Kernel<MaxPoolFwdArgs> max_pool_fwd;
  Kernel<MaxPoolBwdArgs> max_pool_bwd;
  Kernel<MaxPoolSpansFwdArgs> max_pool_spans_fwd;
  Kernel<MaxPoolSpansBwdArgs> max_pool_spans_bwd;
  Kernel<AvgPoolFwdArgs> avg_pool_fwd;
  Kernel<AvgPoolSpansFwdArgs> avg_pool_spans_fwd;
  Kernel<AvgPoolBwdArgs> avg_pool_bwd;
  Kernel<FractionalSpansArgs> fractional_spans;
};

}  // namespace fastnn
