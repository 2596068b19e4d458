// Sums in two phases: chunks of fixed size, one block each, then the chunks in a fixed order, by
// one block.
#pragma once
#include "engine.cuh"

namespace fastnn {
namespace {

inline constexpr int kReduceThreads = 256;

// Calls f(i, left) for the vectors of kCount elements, of n, that this thread of the block has.
template <int kCount, class F>
__device__ __forceinline__ void each_vec(int64_t n, F f) {
  for (int64_t i = int64_t{threadIdx.x} * kCount; i < n; i += kReduceThreads * kCount) f(i, n - i);
}

// The sum of f over one chunk of n elements, by all threads of the block, in float64; f(0) is 0.
template <class T, class F>
__device__ __forceinline__ double chunk_sum(const T* x, int64_t n, F f) {
  const bool aligned = is_aligned(x);
  double sum = 0;
  each_vec<kVec<T>>(n, [&](int64_t i, int64_t left) {
    const auto v = load<kVec<T>>(x + i, left, aligned);
    FASTNN_UNROLL
    for (int k = 0; k < kVec<T>; ++k) sum += static_cast<double>(f(to_float(v.v[k])));
  });
  return group_sum<kReduceThreads>(sum);
}

// The sum of partial sums, by one block.
__device__ __forceinline__ double combine(const double* partials, int64_t count) {
  double sum = 0;
  for (int64_t i = threadIdx.x; i < count; i += kReduceThreads) sum += partials[i];
  return group_sum<kReduceThreads>(sum);
}

// Calls use(task, first, n) for the chunks of kReduceChunk elements that this block has.
template <class F>
__device__ __forceinline__ void each_chunk(int64_t n, F use) {
  for (int64_t first = blockIdx.x * kReduceChunk; first < n; first += gridDim.x * kReduceChunk)
    use(first / kReduceChunk, first, least(n - first, kReduceChunk));
}
inline int64_t chunk_grid(int64_t n) { return grid_for(ceil_div(n, kReduceChunk)); }

}  // namespace
}  // namespace fastnn
