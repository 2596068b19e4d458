// Elements that have a word of Philox each: word e & 3 of block e >> 2, the same as on the CPU.
#pragma once
#include "../philox.h"
#include "engine.cuh"

namespace fastnn {
namespace {

// y[e] = f(word of e, x0[e], x1[e], ...).
template <class T, int kInputs, class F>
__global__ void __launch_bounds__(kElementwiseThreads)
    noise_kernel(Inputs<T, kInputs> in, T* y, int64_t n, const RngDraw* state, F f) {
  constexpr int kCount = 4;
  bool aligned = is_aligned(y);
  FASTNN_UNROLL
  for (int j = 0; j < kInputs; ++j) aligned = aligned && is_aligned(in.x[j]);
  const RngDraw draw = *state;
  const int64_t step = int64_t{gridDim.x} * kElementwiseThreads * kCount;
  for (int64_t i = (blockIdx.x * int64_t{kElementwiseThreads} + threadIdx.x) * kCount; i < n;
       i += step) {
    const PhiloxBlock block = philox(static_cast<uint64_t>(i / kCount), draw.offset, draw.seed);
    Vec<T, kCount> x[kInputs > 0 ? kInputs : 1], out;
    FASTNN_UNROLL
    for (int j = 0; j < kInputs; ++j) x[j] = load<kCount>(in.x[j] + i, n - i, aligned);
    FASTNN_UNROLL
    for (int k = 0; k < kCount; ++k) {
      if constexpr (kInputs == 0) out.v[k] = from_float<T>(f(block.word[k]));
      if constexpr (kInputs == 1) out.v[k] = from_float<T>(f(block.word[k], to_float(x[0].v[k])));
      if constexpr (kInputs == 2)
        out.v[k] = from_float<T>(f(block.word[k], to_float(x[0].v[k]), to_float(x[1].v[k])));
    }
    store(y + i, out, n - i, aligned);
  }
}

template <class T, int kInputs, class F>
void noise(const Inputs<T, kInputs>& in, void* y, int64_t n, const RngDraw* draw, F f, Slice s) {
  if (n <= 0) return;
  const int64_t grid = grid_for(ceil_div(n, kElementwiseThreads * 4));
  FASTNN_LAUNCH((noise_kernel<T, kInputs, F>), grid, kElementwiseThreads, s.stream, in,
                static_cast<T*>(y), n, draw, f);
}

}  // namespace
}  // namespace fastnn
