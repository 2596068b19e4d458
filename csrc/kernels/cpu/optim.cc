// Optimizer updates over a table of chunks of all parameters. A set status word means that the step
// has met bad data: nothing is changed.
#include "../families/optim.h"

#include "../formulas/optim.h"
#include "loops.h"
#include "table.h"

namespace fastnn {
namespace {

void optim_begin(const OptimBeginArgs& args, Slice) {
  if (!is_ok(args.status)) return;
  OptimState& state = *args.state;
  ++state.step;
  state.correction1 = 1.0 - int_power(args.beta1, state.step);
  state.correction2 = 1.0 - int_power(args.beta2, state.step);
}

// Reports the first gradient that is not finite, or whose square would overflow the second moment
// (which would freeze its weight for ever). beta2 < 0 stands for no second moment.
template <class T>
void optim_check(const OptimArgs& args, Slice s) {
  const float limit = args.beta2 < 0 ? kMaxFloat : kMaxSquareRoot;
  for (int64_t task = s.begin; task < s.end; ++task) {
    const TensorChunk& chunk = args.chunks[task];
    const auto* g = static_cast<const T*>(chunk.g);
    int32_t largest = 0;  // the bits of |g| are ordered like |g|, with infinity and NaN on top
    for (int64_t i = 0; i < chunk.n; ++i) {
      const int32_t bits = to_bits(abs(to_float(g[i])));
      largest = bits > largest ? bits : largest;
    }
    if (largest <= to_bits(limit)) continue;
    for (int64_t i = 0; i < chunk.n; ++i) {
      const float v = to_float(g[i]);
      if (abs(v) <= limit) continue;
      report(args.status, args.site, chunk.first + i,
             abs(v) <= kMaxFloat ? DataError::kOverflow : DataError::kBadGradient);
      break;
    }
  }
}

template <class T>
void sgd(const OptimArgs& args, Slice s) {
  if (!is_ok(args.status)) return;
  const SgdStep step = sgd_step(args.state->lr, args.state->step == 1, args.momentum,
                                args.dampening, args.weight_decay);
  const float sign = args.maximize ? -1.f : 1.f, momentum = args.momentum;
  const bool nesterov = args.nesterov;
  for (int64_t task = s.begin; task < s.end; ++task) {
    const TensorChunk& chunk = args.chunks[task];
    auto* p = static_cast<T*>(chunk.p);
    const auto* g = static_cast<const T*>(chunk.g);
    float* b = chunk.m;
    if (b == nullptr) {
#pragma GCC ivdep
      for (int64_t i = 0; i < chunk.n; ++i) {
        const float w = to_float(p[i]);
        p[i] =
            from_float<T>(w - step.lr * sgd_gradient(w, sign * to_float(g[i]), step.weight_decay));
      }
    } else {
#pragma GCC ivdep
      for (int64_t i = 0; i < chunk.n; ++i) {
        const float w = to_float(p[i]),
                    d = sgd_gradient(w, sign * to_float(g[i]), step.weight_decay);
        const float buffer = sgd_buffer(b[i], d, step);
        b[i] = buffer;
        p[i] = from_float<T>(w - step.lr * (nesterov ? d + momentum * buffer : buffer));
      }
    }
  }
}

template <class T>
void adam(const OptimArgs& args, Slice s) {
  if (!is_ok(args.status)) return;
  const OptimState& state = *args.state;
  const AdamStep step = adam_step(state.lr, state.correction1, state.correction2, args.beta1,
                                  args.beta2, args.eps, args.weight_decay, args.decoupled);
  const float sign = args.maximize ? -1.f : 1.f;
  for (int64_t task = s.begin; task < s.end; ++task) {
    const TensorChunk& chunk = args.chunks[task];
    auto* p = static_cast<T*>(chunk.p);
    const auto* g = static_cast<const T*>(chunk.g);
    float *m = chunk.m, *v = chunk.v;
#pragma GCC ivdep
    for (int64_t i = 0; i < chunk.n; ++i) {
      const float w = to_float(p[i]), d = adam_gradient(w, sign * to_float(g[i]), step);
      const float m1 = adam_m(m[i], d, step), v1 = adam_v(v[i], d, step);
      m[i] = m1;
      v[i] = v1;
      p[i] = from_float<T>(adam_update(w, m1, v1, step));
    }
  }
}

// The norm of all gradients as one vector, in float64: finite gradients never overflow it.
template <class T>
void grad_norm_chunks(const OptimArgs& args, Slice s) {
  for (int64_t task = s.begin; task < s.end; ++task) {
    const TensorChunk& chunk = args.chunks[task];
    double acc[kBlockLanes] = {};
    for_blocks(chunk.n, [&](int64_t i, int lanes) __attribute__((always_inline)) {
      float v[kBlockLanes];
      load_block(static_cast<const T*>(chunk.g) + i, lanes, 0.f, v);
      for (int l = 0; l < kBlockLanes; ++l)
        acc[l] += static_cast<double>(v[l]) * static_cast<double>(v[l]);
    });
    args.partials[task] = combine(acc);
  }
}

// norm[0] is the total norm, norm[1] the factor: min(1, max_norm / norm).
void grad_norm_combine(const OptimArgs& args, Slice) {
  double total = 0;
  for (int64_t task = 0; task < args.num_chunks; ++task) total += args.partials[task];
  const double norm = __builtin_sqrt(total), limit = static_cast<double>(args.max_norm);
  args.norm[0] = static_cast<float>(norm);
  args.norm[1] = norm > limit ? static_cast<float>(limit / norm) : 1.f;
  if (!(norm - norm == 0.0)) report(args.status, args.site, 0, DataError::kBadGradient);
}

// Scales the gradients in place by norm[1].
template <class T>
void grad_scale(const OptimArgs& args, Slice s) {
  if (!is_ok(args.status)) return;
  const float factor = args.norm[1];
  if (factor == 1.f) return;
  for (int64_t task = s.begin; task < s.end; ++task) {
    const TensorChunk& chunk = args.chunks[task];
    auto* g = static_cast<T*>(const_cast<void*>(chunk.g));
#pragma GCC ivdep
    for (int64_t i = 0; i < chunk.n; ++i) g[i] = from_float<T>(to_float(g[i]) * factor);
  }
}

template <class T>
constexpr OptimKernels kernels() {
  return {
      .optim_begin = optim_begin,
      .optim_check = optim_check<T>,
      .sgd = sgd<T>,
      .adam = adam<T>,
      .grad_norm_chunks = grad_norm_chunks<T>,
      .grad_norm_combine = grad_norm_combine,
      .grad_scale = grad_scale<T>,
  };
}

}  // namespace

template <>
constinit const OptimKernels FASTNN_LEVEL::Table<OptimKernels>::of_dtype[kNumTableDTypes] = {
    kernels<float>(), kernels<bf16>(), {}, {}};

}  // namespace fastnn
