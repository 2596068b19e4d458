// Random kernels. A thread draws whole Philox blocks for the elements it writes, so that every
// value is a function of (seed, offset, element), the same as on the CPU; no mask is stored.
#pragma once
#include "../families/dropout.h"
#include "engine.cuh"

namespace fastnn {
namespace {

// Element e takes 16-bit lane e & 7 of block e >> 3, low half of each word first.
template <class T>
__global__ void __launch_bounds__(kElementwiseThreads) dropout_kernel(DropoutArgs args) {
  constexpr int kCount = static_cast<int>(kLanesPerBlock);
  const auto* x = static_cast<const T*>(args.x);
  auto* y = static_cast<T*>(args.y);
  const bool aligned = is_aligned(x) && is_aligned(y);
  const RngDraw draw = *args.draw;
  const int64_t step = int64_t{gridDim.x} * kElementwiseThreads * kCount;
  for (int64_t i = (blockIdx.x * int64_t{kElementwiseThreads} + threadIdx.x) * kCount; i < args.n;
       i += step) {
    auto v = load<kCount>(x + i, args.n - i, aligned);
    const PhiloxBlock block = philox(static_cast<uint64_t>(i / kCount), draw.offset, draw.seed);
    FASTNN_UNROLL
    for (int k = 0; k < kCount; ++k) {
      const uint32_t lane = (block.word[k / 2] >> (k % 2 * 16)) & 0xffff;
      v.v[k] = from_float<T>(keep_or_drop(to_float(v.v[k]), lane, args.keep));
    }
    store(y + i, v, args.n - i, aligned);
  }
}

template <class T>
__global__ void __launch_bounds__(kElementwiseThreads) uniform_kernel(UniformArgs args) {
  auto* y = static_cast<T*>(args.y);
  const bool aligned = is_aligned(y);
  const RngDraw draw = *args.draw;
  const int64_t step = int64_t{gridDim.x} * kElementwiseThreads * 4;
  for (int64_t i = (blockIdx.x * int64_t{kElementwiseThreads} + threadIdx.x) * 4; i < args.n;
       i += step) {
    const PhiloxBlock block = philox(static_cast<uint64_t>(i / 4), draw.offset, draw.seed);
    Vec<T, 4> v;
    FASTNN_UNROLL
    for (int k = 0; k < 4; ++k)
      v.v[k] = from_float<T>(args.lo + (args.hi - args.lo) * uniform01(block.word[k]));
    store(y + i, v, args.n - i, aligned);
  }
}

__global__ void rng_draw_kernel(RngDrawArgs args) {
  *args.draw = *args.state;
  ++args.state->offset;
}

template <class T>
void dropout(const DropoutArgs& args, Slice s) {
  if (args.n <= 0) return;
  const int64_t grid = grid_for(ceil_div(args.n, kElementwiseThreads * kLanesPerBlock));
  FASTNN_LAUNCH(dropout_kernel<T>, grid, kElementwiseThreads, s.stream, args);
}
template <class T>
void uniform(const UniformArgs& args, Slice s) {
  if (args.n <= 0) return;
  const int64_t grid = grid_for(ceil_div(args.n, kElementwiseThreads * 4));
  FASTNN_LAUNCH(uniform_kernel<T>, grid, kElementwiseThreads, s.stream, args);
}
inline void rng_draw(const RngDrawArgs& args, Slice s) {
  FASTNN_LAUNCH(rng_draw_kernel, 1, 1, s.stream, args);
}

}  // namespace
}  // namespace fastnn
