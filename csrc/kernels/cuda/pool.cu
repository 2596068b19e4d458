// Max, average and fractional pooling: a thread per element of the result, forward and backward. An
// element's gradient is gathered from the windows it was in, in their order; where windows are
// known by the place of their largest element only, a warp per plane adds them in order. As in
// torch, the first of the largest wins, and NaN is larger than all: the last one of a window.
#include "../formulas/pool_regions.h"
#include "engine.cuh"

namespace fastnn {
namespace {

// Whether v takes the place of the maximum so far.
__device__ __forceinline__ bool replaces(float v, float best) { return (v > best) | (v != v); }

// ---- windows on a grid -------------------------------------------------------------------------
// Where element e of [planes, rows, cols] stands.
struct PlaceInPlane {
  int64_t plane, row, col;
  __device__ __forceinline__ PlaceInPlane(int64_t e, int64_t rows, int64_t cols)
      : plane(e / (rows * cols)), row(e / cols - plane * rows), col(e % cols) {}
};

// Calls use(k, at) for the elements of a window that lie inside: the k-th of the window, at `at` of
// the plane.
template <class F>
__device__ __forceinline__ void each_in_window(const PoolGrid& g, const PlaceInPlane& out, F use) {
  for (int32_t kh = 0; kh < g.kernel_h; ++kh) {
    const int64_t row = out.row * g.stride_h - g.pad_h + int64_t{kh} * g.dilation_h;
    if (!in_range(row, g.h)) continue;
    for (int32_t kw = 0; kw < g.kernel_w; ++kw) {
      const int64_t col = out.col * g.stride_w - g.pad_w + int64_t{kw} * g.dilation_w;
      if (in_range(col, g.w)) use(kh * g.kernel_w + kw, row * g.w + col);
    }
  }
}

template <class T>
__global__ void __launch_bounds__(kElementwiseThreads) max_pool_fwd_kernel(MaxPoolFwdArgs args) {
  const PoolGrid& g = args.grid;
  each_element(g.planes * g.out_h * g.out_w, [&](int64_t e) {
    const PlaceInPlane out(e, g.out_h, g.out_w);
    const T* x = static_cast<const T*>(args.x) + out.plane * g.h * g.w;
    float best = -kInf;
    int32_t at = -1;
    each_in_window(g, out, [&](int32_t k, int64_t i) {
      const float v = to_float(x[i]);
      const bool takes = replaces(v, best) | (at < 0);
      best = takes ? v : best;
      at = takes ? k : at;
    });
    static_cast<T*>(args.y)[e] = from_float<T>(best);
    if (args.offsets != nullptr) args.offsets[e] = static_cast<uint8_t>(at);
  });
}

// The out row or column of the window in which the k-th element of the kernel is at `at`; or -1.
__device__ __forceinline__ int64_t window_of(int64_t at, int32_t k, int32_t pad, int32_t dilation,
                                             int32_t stride, int64_t out) {
  const int64_t start = at + pad - int64_t{k} * dilation;
  return start >= 0 && start % stride == 0 && start / stride < out ? start / stride : -1;
}

template <class T>
__global__ void __launch_bounds__(kElementwiseThreads) max_pool_bwd_kernel(MaxPoolBwdArgs args) {
  const PoolGrid& g = args.grid;
  each_element(g.planes * g.h * g.w, [&](int64_t e) {
    const PlaceInPlane in(e, g.h, g.w);
    const int64_t plane = in.plane * g.out_h * g.out_w;
    float sum = 0;
    for (int32_t kh = g.kernel_h - 1; kh >= 0; --kh) {
      const int64_t row = window_of(in.row, kh, g.pad_h, g.dilation_h, g.stride_h, g.out_h);
      if (row < 0) continue;
      for (int32_t kw = g.kernel_w - 1; kw >= 0; --kw) {
        const int64_t col = window_of(in.col, kw, g.pad_w, g.dilation_w, g.stride_w, g.out_w);
        const int64_t out = plane + row * g.out_w + col;
        if (col >= 0 && args.offsets[out] == kh * g.kernel_w + kw)
          sum += to_float(static_cast<const T*>(args.dy)[out]);
      }
    }
    static_cast<T*>(args.dx)[e] = from_float<T>(sum);
  });
}

template <class T>
__global__ void __launch_bounds__(kElementwiseThreads) avg_pool_fwd_kernel(AvgPoolFwdArgs args) {
  const PoolGrid& g = args.grid;
  each_element(g.planes * g.out_h * g.out_w, [&](int64_t e) {
    const PlaceInPlane out(e, g.out_h, g.out_w);
    const T* x = static_cast<const T*>(args.x) + out.plane * g.h * g.w;
    double sum = 0;
    each_in_window(g, out, [&](int32_t, int64_t i) { sum += static_cast<double>(to_float(x[i])); });
    const double divisor =
        static_cast<double>(args.row_divisors[out.row] * args.col_divisors[out.col]);
    static_cast<T*>(args.y)[e] = from_float<T>(static_cast<float>(sum / divisor));
  });
}

// ---- windows given by spans --------------------------------------------------------------------
// Calls use(at) for the elements of the window `out`, row by row.
template <class F>
__device__ __forceinline__ void each_in_spans(const PoolSpans& s, const PlaceInPlane& out, F use) {
  const PoolSpan rows = s.rows[(s.per_plane ? out.plane * s.out_h : 0) + out.row];
  const PoolSpan cols = s.cols[(s.per_plane ? out.plane * s.out_w : 0) + out.col];
  for (int64_t r = rows.begin; r < rows.end; r += s.step_h)
    for (int64_t c = cols.begin; c < cols.end; c += s.step_w) use(r, c);
}

template <class T>
__global__ void __launch_bounds__(kElementwiseThreads)
    max_pool_spans_fwd_kernel(MaxPoolSpansFwdArgs args) {
  const PoolSpans& s = args.spans;
  each_element(s.planes * s.out_h * s.out_w, [&](int64_t e) {
    const PlaceInPlane out(e, s.out_h, s.out_w);
    const T* x = static_cast<const T*>(args.x) + out.plane * s.h * s.w;
    float best = -kInf;
    int64_t at = -1;
    each_in_spans(s, out, [&](int64_t r, int64_t c) {
      const float v = to_float(x[r * s.w + c]);
      const bool takes = replaces(v, best) | (at < 0);
      best = takes ? v : best;
      at = takes ? r * s.w + c : at;
    });
    static_cast<T*>(args.y)[e] = from_float<T>(best);
    args.indices[e] = at;
  });
}

// Lane i % 32 owns element i of the plane: it alone adds to it, in the order of the windows.
template <class T>
__global__ void __launch_bounds__(kElementwiseThreads)
    max_pool_spans_bwd_kernel(MaxPoolSpansBwdArgs args) {
  const int lane = static_cast<int>(threadIdx.x) % kWarp;
  const int64_t warps = kElementwiseThreads / kWarp;
  for (int64_t p = blockIdx.x * warps + threadIdx.x / kWarp; p < args.planes;
       p += gridDim.x * warps) {
    T* dx = static_cast<T*>(args.dx) + p * args.size;
    float* sums = args.sums != nullptr ? args.sums + p * args.size : reinterpret_cast<float*>(dx);
    for (int64_t i = lane; i < args.size; i += kWarp) sums[i] = 0.f;
    for (int64_t first = 0; first < args.out_size; first += kWarp) {
      const int64_t o = p * args.out_size + first + lane;
      const bool has = first + lane < args.out_size;
      const int64_t own_index = has ? args.indices[o] : -1;
      const float own_dy = has ? to_float(static_cast<const T*>(args.dy)[o]) : 0.f;
      for (int l = 0; l < kWarp; ++l) {
        const int64_t at = __shfl_sync(0xffffffff, own_index, l);
        const float dy = __shfl_sync(0xffffffff, own_dy, l);
        if (at >= 0 && at % kWarp == lane) sums[at] += dy;
      }
    }
    if (args.sums == nullptr) continue;
    for (int64_t i = lane; i < args.size; i += kWarp) dx[i] = from_float<T>(sums[i]);
  }
}

template <class T>
__global__ void __launch_bounds__(kElementwiseThreads)
    avg_pool_spans_fwd_kernel(AvgPoolSpansFwdArgs args) {
  const PoolSpans& s = args.spans;
  each_element(s.planes * s.out_h * s.out_w, [&](int64_t e) {
    const PlaceInPlane out(e, s.out_h, s.out_w);
    const T* x = static_cast<const T*>(args.x) + out.plane * s.h * s.w;
    double sum = 0;
    each_in_spans(s, out, [&](int64_t r, int64_t c) {
      sum += static_cast<double>(to_float(x[r * s.w + c]));
    });
    const double divisor =
        static_cast<double>(args.row_divisors[out.row] * args.col_divisors[out.col]);
    static_cast<T*>(args.y)[e] = from_float<T>(static_cast<float>(sum / divisor));
  });
}

// The planes of `spans` are those of dx: each of its elements gathers from the windows it was in.
template <class T>
__global__ void __launch_bounds__(kElementwiseThreads) avg_pool_bwd_kernel(AvgPoolBwdArgs args) {
  const PoolSpans& s = args.spans;
  each_element(s.planes * s.out_h * s.out_w, [&](int64_t e) {
    const PlaceInPlane in(e, s.out_h, s.out_w);
    const T* dy = static_cast<const T*>(args.dy) + in.plane * s.h * s.w;
    double sum = 0;
    each_in_spans(s, in, [&](int64_t r, int64_t c) {
      sum += static_cast<double>(to_float(dy[r * s.w + c])) /
             static_cast<double>(args.row_divisors[r] * args.col_divisors[c]);
    });
    static_cast<T*>(args.dx)[e] = from_float<T>(static_cast<float>(sum));
  });
}

__global__ void __launch_bounds__(kElementwiseThreads)
    fractional_spans_kernel(FractionalSpansArgs args) {
  each_element(args.planes, [&](int64_t p) { fractional_spans_of(args, p); });
}
inline void fractional_spans(const FractionalSpansArgs& args, Slice s) {
  if (args.planes > 0)
    FASTNN_LAUNCH(fractional_spans_kernel, element_grid(args.planes), kElementwiseThreads, s.stream,
                  args);
}

// ---- launches ----------------------------------------------------------------------------------
template <auto kKernel, class Args>
void for_each(int64_t n, const Args& args, Slice s) {
  if (n > 0) FASTNN_LAUNCH(kKernel, element_grid(n), kElementwiseThreads, s.stream, args);
}
inline int64_t outs_of(const PoolGrid& g) { return g.planes * g.out_h * g.out_w; }
inline int64_t outs_of(const PoolSpans& s) { return s.planes * s.out_h * s.out_w; }

template <class T>
void max_pool_fwd(const MaxPoolFwdArgs& args, Slice s) {
  for_each<max_pool_fwd_kernel<T>>(outs_of(args.grid), args, s);
}
template <class T>
void max_pool_bwd(const MaxPoolBwdArgs& args, Slice s) {
  for_each<max_pool_bwd_kernel<T>>(args.grid.planes * args.grid.h * args.grid.w, args, s);
}
template <class T>
void avg_pool_fwd(const AvgPoolFwdArgs& args, Slice s) {
  for_each<avg_pool_fwd_kernel<T>>(outs_of(args.grid), args, s);
}
template <class T>
void max_pool_spans_fwd(const MaxPoolSpansFwdArgs& args, Slice s) {
  for_each<max_pool_spans_fwd_kernel<T>>(outs_of(args.spans), args, s);
}
template <class T>
void max_pool_spans_bwd(const MaxPoolSpansBwdArgs& args, Slice s) {
  for_each<max_pool_spans_bwd_kernel<T>>(args.size > 0 ? args.planes * kWarp : 0, args, s);
}
template <class T>
void avg_pool_spans_fwd(const AvgPoolSpansFwdArgs& args, Slice s) {
  for_each<avg_pool_spans_fwd_kernel<T>>(outs_of(args.spans), args, s);
}
template <class T>
void avg_pool_bwd(const AvgPoolBwdArgs& args, Slice s) {
  for_each<avg_pool_bwd_kernel<T>>(outs_of(args.spans), args, s);
}

template <class T>
constexpr PoolKernels kernels() {
  return {
      .max_pool_fwd = max_pool_fwd<T>,
      .max_pool_bwd = max_pool_bwd<T>,
      .max_pool_spans_fwd = max_pool_spans_fwd<T>,
      .max_pool_spans_bwd = max_pool_spans_bwd<T>,
      .avg_pool_fwd = avg_pool_fwd<T>,
      .avg_pool_spans_fwd = avg_pool_spans_fwd<T>,
      .avg_pool_bwd = avg_pool_bwd<T>,
      .fractional_spans = fractional_spans,
  };
}

}  // namespace

template <>
constinit const PoolKernels cuda::Table<PoolKernels>::of_dtype[kNumTableDTypes] = {
    kernels<float>(), kernels<bf16>(), kernels<f16>(), {}};

}  // namespace fastnn
