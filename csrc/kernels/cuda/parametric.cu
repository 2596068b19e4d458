// Activations with a trained parameter; and maxout and hardtanh.
#include "../families/parametric.h"
#include "chunk.cuh"
#include "column.cuh"

namespace fastnn {
namespace {

__device__ __forceinline__ int64_t channel_of(const ParametricShape& shape, int64_t i) {
  return shape.channels == 1 ? 0 : i / shape.inner % shape.channels;
}
inline int64_t size_of(const ParametricShape& s) { return s.outer * s.channels * s.inner; }

template <class T, class A>
__global__ void __launch_bounds__(kElementwiseThreads)
    parametric_fwd_kernel(ParametricFwdArgs args, int64_t n) {
  const auto *x = static_cast<const T*>(args.x), *a = static_cast<const T*>(args.a);
  each_element(n, [&](int64_t i) {
    static_cast<T*>(args.y)[i] =
        from_float<T>(A::fwd(to_float(x[i]), to_float(a[channel_of(args.shape, i)])));
  });
}
template <class T, class A>
void parametric_fwd(const ParametricFwdArgs& args, Slice s) {
  const int64_t n = size_of(args.shape);
  if (n > 0)
    FASTNN_LAUNCH((parametric_fwd_kernel<T, A>), element_grid(n), kElementwiseThreads, s.stream,
                  args, n);
}

// dx[i] is written, what element i adds to the parameter's gradient returned. The product is exact.
template <class T, class A>
__device__ __forceinline__ double backward(const ParametricBwdArgs& args, int64_t i, float a) {
  const float x = to_float(static_cast<const T*>(args.x)[i]);
  const float dy = to_float(static_cast<const T*>(args.dy)[i]);
  static_cast<T*>(args.dx)[i] = from_float<T>(A::bwd(dy, x, a));
  return static_cast<double>(dy) * static_cast<double>(A::slope_of_a(x, a));
}

// One parameter for all: a sum per chunk.
template <class T, class A>
__global__ void __launch_bounds__(kReduceThreads)
    parametric_bwd_all_kernel(ParametricBwdArgs args) {
  const float a = to_float(*static_cast<const T*>(args.a));
  each_chunk(args.shape.inner, [&](int64_t task, int64_t first, int64_t n) {
    double sum = 0;
    each_vec<1>(n, [&](int64_t i, int64_t) { sum += backward<T, A>(args, first + i, a); });
    sum = group_sum<kReduceThreads>(sum);
    if (threadIdx.x == 0) args.partials[task] = sum;
  });
}
// A block per channel, whose planes are runs in memory.
template <class T, class A>
__global__ void __launch_bounds__(kReduceThreads)
    parametric_bwd_planes_kernel(ParametricBwdArgs args) {
  const ParametricShape shape = args.shape;
  for (int64_t c = blockIdx.x; c < shape.channels; c += gridDim.x) {
    const float a = to_float(static_cast<const T*>(args.a)[c]);
    double sum = 0;
    each_vec<1>(shape.outer * shape.inner, [&](int64_t i, int64_t) {
      const int64_t o = i / shape.inner, at = (o * shape.channels + c) * shape.inner;
      sum += backward<T, A>(args, at + i - o * shape.inner, a);
    });
    sum = group_sum<kReduceThreads>(sum);
    if (threadIdx.x == 0) args.partials[c] = sum;
  }
}
// A lane per channel, where neighbours in memory are different channels.
template <class T, class A>
__global__ void __launch_bounds__(kColumnThreads)
    parametric_bwd_columns_kernel(ParametricBwdArgs args) {
  FASTNN_SHARED(double, part, kColumnThreads);
  const int64_t cols = args.shape.channels;
  each_column(cols, [&](int64_t c, bool has, int64_t first) {
    double sum[1] = {0};
    if (has) {
      const float a = to_float(static_cast<const T*>(args.a)[c]);
      for (int64_t r = first; r < args.shape.outer; r += kColumnWarps)
        sum[0] += backward<T, A>(args, r * cols + c, a);
    }
    sum_over_warps(sum, part);
    if (has && first == 0) args.partials[c] = sum[0];
  });
}
template <class T, class A>
void parametric_bwd(const ParametricBwdArgs& args, Slice s) {
  const ParametricShape& shape = args.shape;
  if (shape.channels <= 0) return;
  if (shape.channels == 1) {
    if (shape.inner > 0)
      FASTNN_LAUNCH((parametric_bwd_all_kernel<T, A>), chunk_grid(shape.inner), kReduceThreads,
                    s.stream, args);
  } else if (shape.inner == 1) {
    FASTNN_LAUNCH((parametric_bwd_columns_kernel<T, A>), column_grid(shape.channels),
                  kColumnThreads, s.stream, args);
  } else {
    FASTNN_LAUNCH((parametric_bwd_planes_kernel<T, A>), grid_for(shape.channels), kReduceThreads,
                  s.stream, args);
  }
}

template <class T>
__global__ void __launch_bounds__(kReduceThreads)
    parametric_bwd_params_kernel(ParametricBwdParamsArgs args, int64_t partials) {
  auto* da = static_cast<T*>(args.da);
  if (args.shape.channels == 1) {
    const double total = combine(args.partials, partials);
    if (threadIdx.x == 0) *da = from_float<T>(static_cast<float>(total));
    return;
  }
  each_vec<1>(args.shape.channels, [&](int64_t c, int64_t) {
    da[c] = from_float<T>(static_cast<float>(args.partials[c]));
  });
}
template <class T>
void parametric_bwd_params(const ParametricBwdParamsArgs& args, Slice s) {
  FASTNN_LAUNCH(parametric_bwd_params_kernel<T>, 1, kReduceThreads, s.stream, args,
                args.shape.partials());
}

// ---- maxout ------------------------------------------------------------------------------------
template <class T>
__global__ void __launch_bounds__(kElementwiseThreads) maxout_fwd_kernel(MaxoutFwdArgs args) {
  each_element(args.rows * args.cols, [&](int64_t e) {
    const int64_t r = e / args.cols;
    const T* x = static_cast<const T*>(args.x) + e + r * args.cols * (args.pieces - 1);
    float m = to_float(x[0]);
    for (int64_t j = 1; j < args.pieces; ++j) m = max(to_float(x[j * args.cols]), m);
    static_cast<T*>(args.y)[e] = from_float<T>(m);
  });
}
template <class T>
__global__ void __launch_bounds__(kElementwiseThreads) maxout_bwd_kernel(MaxoutBwdArgs args) {
  each_element(args.rows * args.cols, [&](int64_t e) {
    const int64_t first = e + e / args.cols * args.cols * (args.pieces - 1);
    const float y = to_float(static_cast<const T*>(args.y)[e]);
    float dy = to_float(static_cast<const T*>(args.dy)[e]);
    for (int64_t j = 0; j < args.pieces; ++j) {
      const float v = to_float(static_cast<const T*>(args.x)[first + j * args.cols]);
      const bool is_first = (v == y) | (v != v);
      static_cast<T*>(args.dx)[first + j * args.cols] = from_float<T>(is_first ? dy : 0.f);
      dy = is_first ? 0.f : dy;  // given away
    }
  });
}
template <class T>
void maxout_fwd(const MaxoutFwdArgs& args, Slice s) {
  const int64_t n = args.rows * args.cols;
  if (n > 0)
    FASTNN_LAUNCH(maxout_fwd_kernel<T>, element_grid(n), kElementwiseThreads, s.stream, args);
}
template <class T>
void maxout_bwd(const MaxoutBwdArgs& args, Slice s) {
  const int64_t n = args.rows * args.cols;
  if (n > 0)
    FASTNN_LAUNCH(maxout_bwd_kernel<T>, element_grid(n), kElementwiseThreads, s.stream, args);
}

// ---- hardtanh ----------------------------------------------------------------------------------
struct HardtanhFwd {
  float low, high;
  __device__ __forceinline__ float operator()(float x) const { return Clip::fwd(x, low, high); }
};
struct HardtanhBwd {
  float low, high;
  __device__ __forceinline__ float operator()(float dy, float x) const {
    return Clip::bwd(dy, x, low, high);
  }
};
template <class T>
void hardtanh_fwd(const HardtanhFwdArgs& args, Slice s) {
  elementwise<T, T, 1>({{static_cast<const T*>(args.x)}}, static_cast<T*>(args.y), args.n,
                       HardtanhFwd{args.low, args.high}, s);
}
template <class T>
void hardtanh_bwd(const HardtanhBwdArgs& args, Slice s) {
  elementwise<T, T, 2>({{static_cast<const T*>(args.dy), static_cast<const T*>(args.x)}},
                       static_cast<T*>(args.dx), args.n, HardtanhBwd{args.low, args.high}, s);
}

template <class T, class... A>
constexpr ParametricKernels kernels(ActivationList<A...>) {
  return {
      .parametric_fwd = {parametric_fwd<T, A>...},
      .parametric_bwd = {parametric_bwd<T, A>...},
      .parametric_bwd_params = parametric_bwd_params<T>,
      .maxout_fwd = maxout_fwd<T>,
      .maxout_bwd = maxout_bwd<T>,
      .hardtanh_fwd = hardtanh_fwd<T>,
      .hardtanh_bwd = hardtanh_bwd<T>,
  };
}

}  // namespace

template <>
constinit const ParametricKernels cuda::Table<ParametricKernels>::of_dtype[kNumTableDTypes] = {
    kernels<float>(ParametricActivations{}),
    kernels<bf16>(ParametricActivations{}),
    kernels<f16>(ParametricActivations{}),
    {}};

}  // namespace fastnn
