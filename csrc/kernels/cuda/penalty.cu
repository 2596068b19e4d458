// Penalties on all parameters as one scalar, their gradients, and constraints applied after a step:
// a block takes one row of the table after the other.
#include "../formulas/penalty.h"
#include "chunk.cuh"

namespace fastnn {
namespace {

template <class T>
__global__ void __launch_bounds__(kReduceThreads) penalty_fwd_kernel(PenaltyArgs args) {
  const Penalty penalty{args.l1, args.l2};
  for (int32_t task = blockIdx.x; task < args.num_chunks; task += gridDim.x) {
    const TensorChunk chunk = args.chunks[task];
    const auto* p = static_cast<const T*>(chunk.p);
    FASTNN_ASSUME_GLOBAL(p);
    const double sum = chunk_sum(p, chunk.n, [penalty](float w) { return penalty.fwd(w); });
    if (threadIdx.x == 0) args.partials[task] = sum;
  }
}

__global__ void __launch_bounds__(kReduceThreads) penalty_combine_kernel(PenaltyArgs args) {
  const double total = combine(args.partials, args.num_chunks);
  if (threadIdx.x == 0) *args.y = static_cast<float>(total);
}

// to[i] = f(from[i]) over a row of n elements, by the whole block.
template <class T, class F>
__device__ __forceinline__ void map_row(const T* from, T* to, int64_t n, F f) {
  const bool aligned = is_aligned(from) && is_aligned(to);
  each_vec<kVec<T>>(n, [&](int64_t i, int64_t left) {
    auto v = load<kVec<T>>(from + i, left, aligned);
    FASTNN_UNROLL
    for (int k = 0; k < kVec<T>; ++k) v.v[k] = from_float<T>(f(to_float(v.v[k])));
    store(to + i, v, left, aligned);
  });
}

template <class T>
__global__ void __launch_bounds__(kReduceThreads) penalty_bwd_kernel(PenaltyArgs args) {
  const Penalty penalty{args.l1, args.l2};
  const float dy = *args.dy;
  for (int32_t task = blockIdx.x; task < args.num_chunks; task += gridDim.x) {
    const TensorChunk chunk = args.chunks[task];
    const auto* p = static_cast<const T*>(chunk.p);
    auto* g = static_cast<T*>(const_cast<void*>(chunk.g));
    FASTNN_ASSUME_GLOBAL(p);
    FASTNN_ASSUME_GLOBAL(g);
    map_row(p, g, chunk.n, [penalty, dy](float w) { return penalty.bwd(dy, w); });
  }
}

template <class T>
__global__ void __launch_bounds__(kReduceThreads)
    soft_threshold_kernel(SoftThresholdArgs args, int64_t chunks) {
  if (!is_ok(args.status)) return;
  const auto t = static_cast<float>((args.lr == nullptr ? 1.0 : *args.lr) * args.threshold);
  for (int64_t task = blockIdx.x; task < chunks; task += gridDim.x) {
    const TensorChunk chunk = args.chunks[task];
    auto* p = static_cast<T*>(chunk.p);
    FASTNN_ASSUME_GLOBAL(p);
    map_row(p, p, chunk.n, [t](float w) { return soft_threshold(w, t); });
  }
}

template <class T>
__global__ void __launch_bounds__(kReduceThreads)
    max_norm_kernel(MaxNormArgs args, int64_t blocks) {
  if (!is_ok(args.status)) return;
  for (int64_t task = blockIdx.x; task < blocks; task += gridDim.x) {
    const RowBlock block = args.blocks[task];
    auto* p = static_cast<T*>(block.p);
    FASTNN_ASSUME_GLOBAL(p);
    for (int64_t row = 0; row < block.rows; ++row, p += block.cols) {
      const double squares = chunk_sum(
          p, block.cols, [](float v) { return static_cast<double>(v) * static_cast<double>(v); });
      const float factor = shrink_factor(__builtin_sqrt(squares), args.limit);
      if (factor != 1.f) map_row(p, p, block.cols, [factor](float v) { return v * factor; });
    }
  }
}

template <class T>
void penalty_fwd(const PenaltyArgs& args, Slice s) {
  if (args.num_chunks > 0)
    FASTNN_LAUNCH(penalty_fwd_kernel<T>, grid_for(args.num_chunks), kReduceThreads, s.stream, args);
}
inline void penalty_combine(const PenaltyArgs& args, Slice s) {
  FASTNN_LAUNCH(penalty_combine_kernel, 1, kReduceThreads, s.stream, args);
}
template <class T>
void penalty_bwd(const PenaltyArgs& args, Slice s) {
  if (args.num_chunks > 0)
    FASTNN_LAUNCH(penalty_bwd_kernel<T>, grid_for(args.num_chunks), kReduceThreads, s.stream, args);
}
// Their tables' sizes are the numbers of tasks.
template <class T>
void soft_thresholds(const SoftThresholdArgs& args, Slice s) {
  if (s.end > 0)
    FASTNN_LAUNCH(soft_threshold_kernel<T>, grid_for(s.end), kReduceThreads, s.stream, args, s.end);
}
template <class T>
void max_norm(const MaxNormArgs& args, Slice s) {
  if (s.end > 0)
    FASTNN_LAUNCH(max_norm_kernel<T>, grid_for(s.end), kReduceThreads, s.stream, args, s.end);
}

template <class T>
constexpr PenaltyKernels kernels() {
  return {
      .penalty_fwd = penalty_fwd<T>,
      .penalty_combine = penalty_combine,
      .penalty_bwd = penalty_bwd<T>,
      .soft_threshold = soft_thresholds<T>,
      .max_norm = max_norm<T>,
  };
}

}  // namespace

template <>
constinit const PenaltyKernels cuda::Table<PenaltyKernels>::of_dtype[kNumTableDTypes] = {
    kernels<float>(), kernels<bf16>(), kernels<f16>(), {}};

}  // namespace fastnn
