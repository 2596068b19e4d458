// Optimizer updates for all parameters in one launch: a block takes one chunk of one parameter
// after the other. Learning rate, step count and corrections are read from memory, so a recorded
// launch sees them change. Invariant: once the status word is set, nothing is changed.
#pragma once
#include "../formulas/optim.h"
#include "reduce.cuh"

namespace fastnn {
namespace {

inline constexpr int kOptimThreads = 256;

__global__ void optim_begin_kernel(OptimBeginArgs args) {
  if (!is_ok(args.status)) return;
  OptimState& state = *args.state;
  ++state.step;
  state.correction1 = 1.0 - int_power(args.beta1, state.step);
  state.correction2 = 1.0 - int_power(args.beta2, state.step);
}
inline void optim_begin(const OptimBeginArgs& args, Slice s) {
  FASTNN_LAUNCH(optim_begin_kernel, 1, 1, s.stream, args);
}

// Calls f(i, left) for the vectors of a chunk that this thread has.
template <int kCount, class F>
__device__ __forceinline__ void each_vec(int64_t n, F f) {
  for (int64_t i = int64_t{threadIdx.x} * kCount; i < n; i += kOptimThreads * kCount) f(i, n - i);
}

// Reports the first gradient that is not finite, or whose square would overflow the second moment
// (which would freeze its weight for ever). beta2 < 0 stands for no second moment.
template <class T>
__global__ void __launch_bounds__(kOptimThreads) optim_check_kernel(OptimArgs args) {
  const float limit = args.beta2 < 0.f ? kMaxFloat : kMaxSquareRoot;
  for (int32_t task = blockIdx.x; task < args.num_chunks; task += gridDim.x) {
    const TensorChunk chunk = args.chunks[task];
    const auto* g = static_cast<const T*>(chunk.g);
    FASTNN_ASSUME_GLOBAL(g);
    const bool aligned = is_aligned(g);
    each_vec<kVec<T>>(chunk.n, [&](int64_t i, int64_t left) {
      const auto x = load<kVec<T>>(g + i, left, aligned);
      FASTNN_UNROLL
      for (int k = 0; k < kVec<T>; ++k) {
        const float size = abs(to_float(x.v[k]));
        if (size <= limit) continue;
        report(args.status, args.site, chunk.first + i + k,
               size <= kMaxFloat ? DataError::kOverflow : DataError::kBadGradient);
      }
    });
  }
}

// The state is loaded once per block; a chunk's four arrays move in vectors of equal length.
template <class T>
__global__ void __launch_bounds__(kOptimThreads) adam_kernel(OptimArgs args) {
  if (!is_ok(args.status)) return;
  const OptimState& state = *args.state;
  const AdamStep step = adam_step(state.lr, state.correction1, state.correction2, args.beta1,
                                  args.beta2, args.eps, args.weight_decay, args.decoupled);
  const float sign = args.maximize ? -1.f : 1.f;
  constexpr int kCount = kVec<T>;
  for (int32_t task = blockIdx.x; task < args.num_chunks; task += gridDim.x) {
    const TensorChunk chunk = args.chunks[task];
    auto* p = static_cast<T*>(chunk.p);
    const auto* g = static_cast<const T*>(chunk.g);
    FASTNN_ASSUME_GLOBAL(p);
    FASTNN_ASSUME_GLOBAL(g);
    FASTNN_ASSUME_GLOBAL(chunk.m);
    FASTNN_ASSUME_GLOBAL(chunk.v);
    const bool aligned =
        is_aligned(p) && is_aligned(g) && is_aligned(chunk.m) && is_aligned(chunk.v);
    each_vec<kCount>(chunk.n, [&](int64_t i, int64_t left) {
      auto pv = load<kCount>(p + i, left, aligned);
      const auto gv = load<kCount>(g + i, left, aligned);
      auto mv = load<kCount>(chunk.m + i, left, aligned),
           vv = load<kCount>(chunk.v + i, left, aligned);
      FASTNN_UNROLL
      for (int k = 0; k < kCount; ++k) {
        const float w = to_float(pv.v[k]), d = adam_gradient(w, sign * to_float(gv.v[k]), step);
        mv.v[k] = adam_m(mv.v[k], d, step);
        vv.v[k] = adam_v(vv.v[k], d, step);
        pv.v[k] = from_float<T>(adam_update(w, mv.v[k], vv.v[k], step));
      }
      store(chunk.m + i, mv, left, aligned);
      store(chunk.v + i, vv, left, aligned);
      store(p + i, pv, left, aligned);
    });
  }
}

template <class T>
void optim_check(const OptimArgs& args, Slice s) {
  if (args.num_chunks <= 0) return;
  FASTNN_LAUNCH(optim_check_kernel<T>, grid_for(args.num_chunks), kOptimThreads, s.stream, args);
}
template <class T>
void adam(const OptimArgs& args, Slice s) {
  if (args.num_chunks <= 0) return;
  FASTNN_LAUNCH(adam_kernel<T>, grid_for(args.num_chunks), kOptimThreads, s.stream, args);
}

// A chunk without a buffer (m is null) is plain gradient descent.
template <class T>
__global__ void __launch_bounds__(kOptimThreads) sgd_kernel(OptimArgs args) {
  if (!is_ok(args.status)) return;
  const SgdStep step = sgd_step(args.state->lr, args.state->step == 1, args.momentum,
                                args.dampening, args.weight_decay);
  const float sign = args.maximize ? -1.f : 1.f;
  constexpr int kCount = kVec<T>;
  for (int32_t task = blockIdx.x; task < args.num_chunks; task += gridDim.x) {
    const TensorChunk chunk = args.chunks[task];
    auto* p = static_cast<T*>(chunk.p);
    const auto* g = static_cast<const T*>(chunk.g);
    FASTNN_ASSUME_GLOBAL(p);
    FASTNN_ASSUME_GLOBAL(g);
    FASTNN_ASSUME_GLOBAL(chunk.m);
    const bool has_buffer = chunk.m != nullptr;
    const bool aligned = is_aligned(p) && is_aligned(g) && is_aligned(chunk.m);
    each_vec<kCount>(chunk.n, [&](int64_t i, int64_t left) {
      auto pv = load<kCount>(p + i, left, aligned);
      const auto gv = load<kCount>(g + i, left, aligned);
      Vec<float, kCount> bv = {};
      if (has_buffer) bv = load<kCount>(chunk.m + i, left, aligned);
      FASTNN_UNROLL
      for (int k = 0; k < kCount; ++k) {
        const float w = to_float(pv.v[k]);
        const float d = sgd_gradient(w, sign * to_float(gv.v[k]), step.weight_decay);
        bv.v[k] = sgd_buffer(bv.v[k], d, step);
        const float direction = args.nesterov ? d + args.momentum * bv.v[k] : bv.v[k];
        pv.v[k] = from_float<T>(w - step.lr * (has_buffer ? direction : d));
      }
      if (has_buffer) store(chunk.m + i, bv, left, aligned);
      store(p + i, pv, left, aligned);
    });
  }
}
template <class T>
void sgd(const OptimArgs& args, Slice s) {
  if (args.num_chunks <= 0) return;
  FASTNN_LAUNCH(sgd_kernel<T>, grid_for(args.num_chunks), kOptimThreads, s.stream, args);
}

// ---- the norm of all gradients as one vector, in float64: finite ones never overflow it ---------
template <class T>
__global__ void __launch_bounds__(kReduceThreads) grad_norm_chunks_kernel(OptimArgs args) {
  for (int32_t task = blockIdx.x; task < args.num_chunks; task += gridDim.x) {
    const TensorChunk chunk = args.chunks[task];
    const auto* g = static_cast<const T*>(chunk.g);
    FASTNN_ASSUME_GLOBAL(g);
    const double sum = chunk_sum(g, chunk.n, [](double v) { return v * v; });
    if (threadIdx.x == 0) args.partials[task] = sum;
  }
}

// norm[0] is the total norm, norm[1] the factor: min(1, max_norm / norm).
__global__ void __launch_bounds__(kReduceThreads) grad_norm_combine_kernel(OptimArgs args) {
  const double norm = __builtin_sqrt(combine(args.partials, args.num_chunks));
  const double limit = static_cast<double>(args.max_norm);
  if (threadIdx.x != 0) return;
  args.norm[0] = static_cast<float>(norm);
  args.norm[1] = norm > limit ? static_cast<float>(limit / norm) : 1.f;
  if (!(norm - norm == 0.0)) report(args.status, args.site, 0, DataError::kBadGradient);
}

// Scales the gradients in place by norm[1].
template <class T>
__global__ void __launch_bounds__(kOptimThreads) grad_scale_kernel(OptimArgs args) {
  if (!is_ok(args.status)) return;
  const float factor = args.norm[1];
  if (factor == 1.f) return;
  for (int32_t task = blockIdx.x; task < args.num_chunks; task += gridDim.x) {
    const TensorChunk chunk = args.chunks[task];
    auto* g = static_cast<T*>(const_cast<void*>(chunk.g));
    FASTNN_ASSUME_GLOBAL(g);
    const bool aligned = is_aligned(g);
    each_vec<kVec<T>>(chunk.n, [&](int64_t i, int64_t left) {
      auto v = load<kVec<T>>(g + i, left, aligned);
      FASTNN_UNROLL
      for (int k = 0; k < kVec<T>; ++k) v.v[k] = from_float<T>(to_float(v.v[k]) * factor);
      store(g + i, v, left, aligned);
    });
  }
}

template <class T>
void grad_norm_chunks(const OptimArgs& args, Slice s) {
  if (args.num_chunks <= 0) return;
  FASTNN_LAUNCH(grad_norm_chunks_kernel<T>, grid_for(args.num_chunks), kReduceThreads, s.stream,
                args);
}
inline void grad_norm_combine(const OptimArgs& args, Slice s) {
  FASTNN_LAUNCH(grad_norm_combine_kernel, 1, kReduceThreads, s.stream, args);
}
template <class T>
void grad_scale(const OptimArgs& args, Slice s) {
  if (args.num_chunks <= 0) return;
  FASTNN_LAUNCH(grad_scale_kernel<T>, grid_for(args.num_chunks), kOptimThreads, s.stream, args);
}

}  // namespace
}  // namespace fastnn
