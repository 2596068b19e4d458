// Optimizer updates for all parameters in one launch: a block takes one chunk of one parameter
// after the other, whatever the rule. Rates, step counts and corrections are read from
// memory, so a recorded launch sees them change. Invariant: once the status word is set, nothing is
// changed.
#include "chunk.cuh"

namespace fastnn {
namespace {

inline constexpr int kOptimThreads = kReduceThreads;

// The chunks of a parameter are neighbours: the first of them counts its step.
__global__ void __launch_bounds__(kOptimThreads) optim_begin_kernel(OptimArgs args) {
  if (!is_ok(args.status)) return;
  for (int32_t i = threadIdx.x; i < args.num_chunks; i += kOptimThreads) {
    OptimState* state = args.chunks[i].state;
    if (i == 0 || args.chunks[i - 1].state != state) begin_step(*state, args.options, *args.rates);
  }
}
inline void optim_begin(const OptimArgs& args, Slice s) {
  FASTNN_LAUNCH(optim_begin_kernel, 1, kOptimThreads, s.stream, args);
}

__device__ __forceinline__ float clip_factor(const OptimArgs& args) {
  return args.clip == nullptr ? 1.f : args.clip[1];
}

// Reports the first gradient that is not finite, or that would overflow the second moment (which
// would freeze its weight for ever). Parameters are read only where they matter.
template <class T>
__global__ void __launch_bounds__(kOptimThreads) optim_check_kernel(OptimArgs args) {
  // The norm has shown that no gradient is bad.
  if (args.clip_is_norm && args.squares == Squares::kNone && args.clip[0] <= kMaxFloat) return;
  const Gradient gradient(args.options, 0, clip_factor(args));
  const bool sums = args.squares == Squares::kSum, squares = args.squares != Squares::kNone;
  const bool weights = squares && gradient.l2 != 0.f;
  constexpr int kCount = kVec<T>;
  for (int32_t task = blockIdx.x; task < args.num_chunks; task += gridDim.x) {
    const TensorChunk chunk = args.chunks[task];
    const auto *g = static_cast<const T*>(chunk.g), *p = static_cast<const T*>(chunk.p);
    const float* sum = chunk.slots[0];
    FASTNN_ASSUME_GLOBAL(g);
    FASTNN_ASSUME_GLOBAL(p);
    FASTNN_ASSUME_GLOBAL(sum);
    const bool aligned = is_aligned(g);
    each_vec<kCount>(chunk.n, [&](int64_t i, int64_t left) {
      const auto x = load<kCount>(g + i, left, aligned);
      Vec<T, kCount> w = {};
      Vec<float, kCount> s = {};
      if (weights) w = load<kCount>(p + i, left, is_aligned(p));
      if (sums) s = load<kCount>(sum + i, left, is_aligned(sum));
      FASTNN_UNROLL
      for (int k = 0; k < kCount; ++k) {
        const float value = to_float(x.v[k]), d = gradient(to_float(w.v[k]), value);
        if (k >= left || (squares ? mad(d, d, s.v[k]) : abs(value)) <= kMaxFloat) continue;
        report(args.status, args.site, chunk.first + i + k,
               abs(value) <= kMaxFloat ? DataError::kOverflow : DataError::kBadGradient);
      }
    });
  }
}

// A chunk's arrays move in vectors of equal length.
template <class T, class Rule>
__global__ void __launch_bounds__(kOptimThreads) optim_update_kernel(OptimArgs args) {
  if (!is_ok(args.status)) return;
  const Gradient gradient(args.options, args.rates->lr, clip_factor(args));
  constexpr int kSlots = Rule::kSlots;
  constexpr int kCount = kSlots < 2 ? kVec<T> : kVec<float>;  // more slots would not fit registers
  for (int32_t task = blockIdx.x; task < args.num_chunks; task += gridDim.x) {
    const TensorChunk chunk = args.chunks[task];
    const auto* state = chunk.state;
    FASTNN_ASSUME_GLOBAL(state);
    const Rule rule(args.options, *state, *args.rates);
    auto* p = static_cast<T*>(chunk.p);
    const auto* g = static_cast<const T*>(chunk.g);
    FASTNN_ASSUME_GLOBAL(p);
    FASTNN_ASSUME_GLOBAL(g);
    // One by one, since the compiler looks at assumptions before it unrolls loops.
    float *const slot0 = chunk.slots[0], *const slot1 = chunk.slots[1],
                 *const slot2 = chunk.slots[2];
    if constexpr (kSlots > 0) {
      FASTNN_ASSUME_GLOBAL(slot0);
    }
    if constexpr (kSlots > 1) {
      FASTNN_ASSUME_GLOBAL(slot1);
    }
    if constexpr (kSlots > 2) {
      FASTNN_ASSUME_GLOBAL(slot2);
    }
    float* const at[kMaxSlots] = {slot0, slot1, slot2};
    bool aligned = is_aligned(p) && is_aligned(g);
    FASTNN_UNROLL
    for (int j = 0; j < kSlots; ++j) aligned = aligned && is_aligned(at[j]);
    each_vec<kCount>(chunk.n, [&](int64_t i, int64_t left) {
      auto pv = load<kCount>(p + i, left, aligned);
      const auto gv = load<kCount>(g + i, left, aligned);
      Vec<float, kCount> slots[kMaxSlots];
      FASTNN_UNROLL
      for (int j = 0; j < kSlots; ++j) slots[j] = load<kCount>(at[j] + i, left, aligned);
      FASTNN_UNROLL
      for (int k = 0; k < kCount; ++k) {
        float values[kMaxSlots];
        FASTNN_UNROLL
        for (int j = 0; j < kSlots; ++j) values[j] = slots[j].v[k];
        pv.v[k] = from_float<T>(
            update_weight(rule, gradient, to_float(pv.v[k]), to_float(gv.v[k]), values));
        FASTNN_UNROLL
        for (int j = 0; j < kSlots; ++j) slots[j].v[k] = values[j];
      }
      FASTNN_UNROLL
      for (int j = 0; j < kSlots; ++j) store(at[j] + i, slots[j], left, aligned);
      store(p + i, pv, left, aligned);
    });
  }
}

template <class T>
void optim_check(const OptimArgs& args, Slice s) {
  if (args.num_chunks <= 0) return;
  FASTNN_LAUNCH(optim_check_kernel<T>, grid_for(args.num_chunks), kOptimThreads, s.stream, args);
}
template <class T, class Rule>
void optim_update(const OptimArgs& args, Slice s) {
  if (args.num_chunks <= 0) return;
  FASTNN_LAUNCH((optim_update_kernel<T, Rule>), grid_for(args.num_chunks), kOptimThreads, s.stream,
                args);
}

// ---- the norm of all gradients as one vector ---------------------------------------------------

// Calls use(task, size, gradient) for the chunks that this block has.
template <class T, class F>
__device__ __forceinline__ void each_gradient(const GradNormArgs& args, F use) {
  for (int32_t task = blockIdx.x; task < args.num_chunks; task += gridDim.x) {
    const TensorChunk chunk = args.chunks[task];
    auto* g = static_cast<T*>(const_cast<void*>(chunk.g));
    FASTNN_ASSUME_GLOBAL(g);
    use(task, chunk.n, g);
  }
}

template <class T>
__global__ void __launch_bounds__(kReduceThreads) grad_norm_max_kernel(GradNormArgs args) {
  each_gradient<T>(args, [&](int32_t task, int64_t n, const T* g) {
    const bool aligned = is_aligned(g);
    float m = 0;
    each_vec<kVec<T>>(n, [&](int64_t i, int64_t left) {
      const auto v = load<kVec<T>>(g + i, left, aligned);
      FASTNN_UNROLL
      for (int k = 0; k < kVec<T>; ++k) m = max(abs(to_float(v.v[k])), m);
    });
    m = group_reduce<kReduceThreads>(m, [](float a, float b) { return max(a, b); });
    if (threadIdx.x == 0) args.maxima[task] = m;
  });
}

// The largest of all, by the whole block.
__device__ __forceinline__ float max_of(const float* maxima, int32_t count) {
  float m = 0;
  for (int32_t i = threadIdx.x; i < count; i += kReduceThreads) m = max(maxima[i], m);
  return group_reduce<kReduceThreads>(m, [](float a, float b) { return max(a, b); });
}

// In float64: finite gradients never overflow it. Other powers than 1 and 2 are relative to the
// largest of all.
template <class T>
__global__ void __launch_bounds__(kReduceThreads) grad_norm_sum_kernel(GradNormArgs args) {
  const bool squared = args.norm_type == 2, absolute = args.norm_type == 1;
  const PowerSum power(static_cast<float>(args.norm_type),
                       squared || absolute ? 1.f : max_of(args.maxima, args.num_chunks));
  each_gradient<T>(args, [&](int32_t task, int64_t n, const T* g) {
    const double sum = chunk_sum(g, n, [&](float v) {
      const double d = static_cast<double>(v);
      return squared ? d * d : static_cast<double>(absolute ? abs(v) : power(v));
    });
    if (threadIdx.x == 0) args.sums[task] = sum;
  });
}

__global__ void __launch_bounds__(kReduceThreads) grad_norm_combine_kernel(GradNormArgs args) {
  const double p = args.norm_type;
  const double total = p < static_cast<double>(kInf) ? combine(args.sums, args.num_chunks) : 0.0;
  const float largest = p == 1 || p == 2 ? 0.f : max_of(args.maxima, args.num_chunks);
  const float unscale = inverse_of(args.loss_scale);
  const double norm = combine_norm(p, total, largest) * static_cast<double>(unscale);
  if (threadIdx.x != 0) return;
  args.norm[0] = static_cast<float>(norm);
  args.norm[1] = norm_factor(norm, static_cast<double>(args.max_norm)) * unscale;
  if (args.status != nullptr && !(norm - norm == 0.0))
    report(args.status, args.site, 0, DataError::kBadGradient);
}

// ---- gradients changed in place ----------------------------------------------------------------

template <class T, class F>
__device__ __forceinline__ void map_gradients(const GradNormArgs& args, F f) {
  each_gradient<T>(args, [&](int32_t, int64_t n, T* g) {
    const bool aligned = is_aligned(g);
    each_vec<kVec<T>>(n, [&](int64_t i, int64_t left) {
      auto v = load<kVec<T>>(g + i, left, aligned);
      FASTNN_UNROLL
      for (int k = 0; k < kVec<T>; ++k) v.v[k] = from_float<T>(f(to_float(v.v[k])));
      store(g + i, v, left, aligned);
    });
  });
}

template <class T>
__global__ void __launch_bounds__(kOptimThreads) grad_scale_kernel(GradNormArgs args) {
  const float factor = args.norm[1];
  if (!is_ok(args.status) || factor == 1.f) return;
  map_gradients<T>(args, [factor](float g) { return g * factor; });
}
template <class T>
__global__ void __launch_bounds__(kOptimThreads) grad_clamp_kernel(GradNormArgs args) {
  if (!is_ok(args.status)) return;
  const float limit = args.max_norm;
  map_gradients<T>(args, [limit](float g) { return within(g, limit); });
}

template <class T>
void grad_norm_sum(const GradNormArgs& args, Slice s) {
  if (args.num_chunks <= 0) return;
  FASTNN_LAUNCH(grad_norm_sum_kernel<T>, grid_for(args.num_chunks), kReduceThreads, s.stream, args);
}
inline void grad_norm_combine(const GradNormArgs& args, Slice s) {
  FASTNN_LAUNCH(grad_norm_combine_kernel, 1, kReduceThreads, s.stream, args);
}
template <class T>
void grad_scale(const GradNormArgs& args, Slice s) {
  if (args.num_chunks <= 0) return;
  FASTNN_LAUNCH(grad_scale_kernel<T>, grid_for(args.num_chunks), kOptimThreads, s.stream, args);
}
template <class T>
void grad_clamp(const GradNormArgs& args, Slice s) {
  if (args.num_chunks <= 0) return;
  FASTNN_LAUNCH(grad_clamp_kernel<T>, grid_for(args.num_chunks), kOptimThreads, s.stream, args);
}

template <class T>
void grad_norm_max(const GradNormArgs& args, Slice s) {
  if (args.num_chunks <= 0) return;
  FASTNN_LAUNCH(grad_norm_max_kernel<T>, grid_for(args.num_chunks), kReduceThreads, s.stream, args);
}

// ---- loss scaling ------------------------------------------------------------------------------

__global__ void scaler_begin_kernel(GradScalerArgs args) { begin_scaled(args); }
__global__ void scaler_update_kernel(GradScalerArgs args) { update_scaled(args); }
inline void scaler_begin(const GradScalerArgs& args, Slice s) {
  FASTNN_LAUNCH(scaler_begin_kernel, 1, 1, s.stream, args);
}
inline void scaler_update(const GradScalerArgs& args, Slice s) {
  FASTNN_LAUNCH(scaler_update_kernel, 1, 1, s.stream, args);
}

template <class T, class... R>
constexpr OptimKernels kernels(OptimRuleList<R...>) {
  return {
      .optim_begin = optim_begin,
      .optim_check = optim_check<T>,
      .optim_update = {optim_update<T, R>...},
      .grad_norm_max = grad_norm_max<T>,
      .grad_norm_sum = grad_norm_sum<T>,
      .grad_norm_combine = grad_norm_combine,
      .grad_scale = grad_scale<T>,
      .grad_clamp = grad_clamp<T>,
      .scaler_begin = scaler_begin,
      .scaler_update = scaler_update,
  };
}

}  // namespace

template <>
constinit const OptimKernels cuda::Table<OptimKernels>::of_dtype[kNumTableDTypes] = {
    kernels<float>(OptimRules{}), kernels<bf16>(OptimRules{}), kernels<f16>(OptimRules{}), {}};

}  // namespace fastnn
