// Windows on a grid, many side by side: lanes are neighbouring windows of one out row, so that a
// kernel of any size vectorises. Windows that hang over an edge are done one by one.
#pragma once
#include "../families/pool.h"
#include "loops.h"

namespace fastnn {
namespace {

// As many windows as a register has floats, which does not change a result; and for short rows.
constexpr int kManyLanes = kLanes, kFewLanes = 4;

// Planes of a slice, for a cost of `size` elements each.
FASTNN_FN Range planes_of(Slice s, int64_t size, int64_t planes) {
  return elements(s, rows_per_task(size), planes);
}

// The kernel's elements [begin, end) that lie inside an axis of n, for a window at `start`.
struct InsideAxis {
  int64_t begin, end;
};
FASTNN_FN InsideAxis inside(int64_t start, int64_t n, int64_t kernel, int64_t dilation) {
  if (start >= 0 && start + (kernel - 1) * dilation < n) return {0, kernel};  // without dividing
  return {start < 0 ? ceil_div(-start, dilation) : 0,
          start < n ? least(ceil_div(n - start, dilation), kernel) : 0};
}

// v[l] = x[l stride]. kStride is 1, 2 or 0 (any).
template <int kStride, int kLanes, class T>
FASTNN_FN void load_strided(const T* x, int64_t stride, float (&v)[kLanes]) {
  for (int l = 0; l < kLanes; ++l) v[l] = to_float(x[l * (kStride > 0 ? kStride : stride)]);
}
template <int kLanes, class T>
FASTNN_FN void load_pairs(const T* x, float (&even)[kLanes], float (&odd)[kLanes]) {
  for (int l = 0; l < kLanes; ++l) {
    even[l] = to_float(x[2 * l]);
    odd[l] = to_float(x[2 * l + 1]);
  }
}

// Shows `pool` the elements of kLanes windows from out column ow on, kernel row by kernel row.
template <int kStride, template <int> class Pool, int kLanes, class T>
FASTNN_FN void visit_windows(const T* plane, const PoolGrid& g, int64_t ih, InsideAxis rows,
                             int64_t ow, InsideAxis cols, Pool<kLanes>& pool) {
  const int64_t iw = ow * g.stride_w - g.pad_w;
  for (int64_t kh = rows.begin; kh < rows.end; ++kh) {
    const T* x = plane + (ih + kh * g.dilation_h) * g.w + iw;
    const int64_t k = kh * g.kernel_w;
    int64_t kw = cols.begin;
    float v[kLanes], odd[kLanes];
    if constexpr (kStride == 2 && kLanes > 1) {
      for (; g.dilation_w == 1 && kw + 1 < cols.end; kw += 2) {
        load_pairs<kLanes>(x + kw, v, odd);
        pool.add(v, k + kw);
        pool.add(odd, k + kw + 1);
      }
    }
    for (; kw < cols.end; ++kw) {
      load_strided<kStride, kLanes>(x + kw * g.dilation_w, g.stride_w, v);
      pool.add(v, k + kw);
    }
  }
}

// Windows [lo, hi) of an out row, all of them inside; the last block overlaps the one before.
template <int kStride, int kLanes, template <int> class Pool, class T, class Out>
FASTNN_FN void blocks(const T* plane, const PoolGrid& g, int64_t ih, InsideAxis rows, int64_t lo,
                      int64_t hi, const Out& out) {
  for (int64_t b = lo; b < hi; b += kLanes) {
    const int64_t ow = least(b, hi - kLanes);
    Pool<kLanes> pool(rows.begin * g.kernel_w);
    visit_windows<kStride>(plane, g, ih, rows, ow, {0, g.kernel_w}, pool);
    out.store(ow, pool);
  }
}

// Windows [lo, hi) of an out row, one by one.
template <template <int> class Pool, class T, class Out>
FASTNN_FN void singles(const T* plane, const PoolGrid& g, int64_t ih, InsideAxis rows, int64_t lo,
                       int64_t hi, const Out& out) {
  for (int64_t ow = lo; ow < hi; ++ow) {
    const InsideAxis cols = inside(ow * g.stride_w - g.pad_w, g.w, g.kernel_w, g.dilation_w);
    Pool<1> pool(rows.begin * g.kernel_w + cols.begin);
    visit_windows<0>(plane, g, ih, rows, ow, cols, pool);
    out.store(ow, pool);
  }
}

// The windows [begin, end) of every out row that lie inside.
FASTNN_FN InsideAxis whole_windows(const PoolGrid& g) {
  const int64_t slack = g.w + g.pad_w - int64_t{g.dilation_w} * (g.kernel_w - 1);
  const int64_t lo = least(ceil_div(g.pad_w, g.stride_w), g.out_w);
  return {lo, most(least(slack > 0 ? ceil_div(slack, g.stride_w) : 0, g.out_w), lo)};
}

template <int kStride, template <int> class Pool, class T, class Out>
FASTNN_FN void out_row(const T* plane, const PoolGrid& g, int64_t ih, InsideAxis rows,
                       InsideAxis whole, const Out& out) {
  const auto [lo, hi] = whole;
  if (hi - lo < kFewLanes) return singles<Pool>(plane, g, ih, rows, 0, g.out_w, out);
  singles<Pool>(plane, g, ih, rows, 0, lo, out);
  if (hi - lo >= kManyLanes)
    blocks<kStride, kManyLanes, Pool>(plane, g, ih, rows, lo, hi, out);
  else
    blocks<kStride, kFewLanes, Pool>(plane, g, ih, rows, lo, hi, out);
  singles<Pool>(plane, g, ih, rows, hi, g.out_w, out);
}

// Out row by out row of a plane; `out_of` says where the results of one go.
template <int kStride, template <int> class Pool, class T, class OutOf>
void pool_plane_strided(const T* plane, const PoolGrid& g, OutOf out_of) {
  const InsideAxis whole = whole_windows(g);
  for (int64_t oh = 0; oh < g.out_h; ++oh) {
    const int64_t ih = oh * g.stride_h - g.pad_h;
    const InsideAxis rows = inside(ih, g.h, g.kernel_h, g.dilation_h);
    out_row<kStride, Pool>(plane, g, ih, rows, whole, out_of(oh));
  }
}
template <template <int> class Pool, class T, class OutOf>
FASTNN_FN void pool_plane(const T* plane, const PoolGrid& g, OutOf out_of) {
  if (g.stride_w == 1)
    pool_plane_strided<1, Pool>(plane, g, out_of);
  else if (g.stride_w == 2)
    pool_plane_strided<2, Pool>(plane, g, out_of);
  else
    pool_plane_strided<0, Pool>(plane, g, out_of);
}

}  // namespace
}  // namespace fastnn
