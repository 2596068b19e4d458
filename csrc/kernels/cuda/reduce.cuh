// The sum of an array, in two phases: chunks of fixed size, one block each, then the chunks in a
// fixed order. Plus the small counters that a training step keeps in memory.
#pragma once
#include "engine.cuh"

namespace fastnn {
namespace {

inline constexpr int kReduceThreads = 256;

// The sum of f over one chunk of n elements, by all threads of the block, in float64.
template <class T, class F>
__device__ __forceinline__ double chunk_sum(const T* x, int64_t n, F f) {
  const bool aligned = is_aligned(x);
  double sum = 0;
  for (int64_t i = int64_t{threadIdx.x} * kVec<T>; i < n; i += kReduceThreads * kVec<T>) {
    const auto v = load<kVec<T>>(x + i, n - i, aligned);
    FASTNN_UNROLL
    for (int k = 0; k < kVec<T>; ++k) sum += f(static_cast<double>(to_float(v.v[k])));
  }
  return group_sum<kReduceThreads>(sum);
}

// The sum of partial sums, by one block.
__device__ __forceinline__ double combine(const double* partials, int64_t count) {
  double sum = 0;
  for (int64_t i = threadIdx.x; i < count; i += kReduceThreads) sum += partials[i];
  return group_sum<kReduceThreads>(sum);
}

template <class T>
__global__ void __launch_bounds__(kReduceThreads) sum_chunks_kernel(SumArgs args, int64_t tasks) {
  for (int64_t task = blockIdx.x; task < tasks; task += gridDim.x) {
    const int64_t first = task * kReduceChunk, left = args.n - first;
    const double sum =
        chunk_sum(static_cast<const T*>(args.x) + first, left < kReduceChunk ? left : kReduceChunk,
                  [](double v) { return v; });
    if (threadIdx.x == 0) args.partials[task] = sum;
  }
}

// With a status word, a sum that is not finite is reported (the loss of a step).
template <class T>
__global__ void __launch_bounds__(kReduceThreads) sum_combine_kernel(SumArgs args, int64_t tasks) {
  const double total = combine(args.partials, tasks);
  if (threadIdx.x != 0) return;
  const float y = static_cast<float>(total * static_cast<double>(args.scale));
  if (args.status != nullptr && !(y - y == 0.f))
    report(args.status, args.site, 0, DataError::kNanLoss);
  *static_cast<T*>(args.y) = from_float<T>(y);
}

__global__ void accumulate_kernel(AccumulateArgs args) {
  *args.sum += static_cast<double>(*args.x) * args.scale;
}
__global__ void advance_kernel(AdvanceArgs args) { *args.value += args.by; }

template <class T>
void sum_chunks(const SumArgs& args, Slice s) {
  const int64_t tasks = ceil_div(args.n, kReduceChunk);
  if (tasks > 0)
    FASTNN_LAUNCH(sum_chunks_kernel<T>, grid_for(tasks), kReduceThreads, s.stream, args, tasks);
}
template <class T>
void sum_combine(const SumArgs& args, Slice s) {
  const int64_t tasks = ceil_div(args.n, kReduceChunk);
  FASTNN_LAUNCH(sum_combine_kernel<T>, 1, kReduceThreads, s.stream, args, tasks);
}
inline void accumulate(const AccumulateArgs& args, Slice s) {
  FASTNN_LAUNCH(accumulate_kernel, 1, 1, s.stream, args);
}
inline void advance(const AdvanceArgs& args, Slice s) {
  FASTNN_LAUNCH(advance_kernel, 1, 1, s.stream, args);
}

}  // namespace
}  // namespace fastnn
