// Optimizer updates over a table of chunks of all parameters: one loop for every rule. A set status
// word means that the step has met bad data: nothing is changed.
#include "../families/optim.h"

#include <type_traits>

#include "loops.h"
#include "table.h"

namespace fastnn {
namespace {

void optim_begin(const OptimArgs& args, Slice) {
  if (!is_ok(args.status)) return;
  const OptimState* last = nullptr;
  OptimState before{};  // what `last` held
  for (int32_t i = 0; i < args.num_chunks; ++i) {
    OptimState* state = args.chunks[i].state;
    if (state == last) continue;
    if (last && state->step == before.step && state->mu_product == before.mu_product) {
      *state = *last;  // most count alike, and powers of beta take longer than small updates
    } else {
      before = *state;
      begin_step(*state, args.options, *args.rates);
    }
    last = state;
  }
}

// Whether the norm has shown that no gradient is bad, which is all that some rules ask of them.
bool known_finite(const OptimArgs& args) {
  return args.clip_is_norm && args.squares == Squares::kNone && args.clip[0] <= kMaxFloat;
}

float clip_factor(const OptimArgs& args) { return args.clip == nullptr ? 1.f : args.clip[1]; }

// The largest size(i) >= 0 of i < n, or NaN if one is NaN: the bits of x >= 0 are ordered like x,
// with infinity and NaN on top.
template <class F>
float largest_size(int64_t n, F size) {
  int32_t largest = 0;
  for (int64_t i = 0; i < n; ++i) {
    const int32_t bits = to_bits(size(i)) & INT32_MAX;
    largest = bits > largest ? bits : largest;
  }
  return from_bits(largest);
}

// Reports the first element of a chunk whose size(i) is not finite, if there is one.
template <class T, class F>
void check_chunk(const OptimArgs& args, const TensorChunk& chunk, F size) {
  if (largest_size(chunk.n, size) <= kMaxFloat) return;
  const auto* g = static_cast<const T*>(chunk.g);
  for (int64_t i = 0; i < chunk.n; ++i) {
    if (size(i) <= kMaxFloat) continue;
    report(args.status, args.site, chunk.first + i,
           abs(to_float(g[i])) <= kMaxFloat ? DataError::kOverflow : DataError::kBadGradient);
    return;
  }
}

// Reports the first gradient that is not finite, or that would overflow the second moment (which
// would freeze its weight for ever). Weights and sums are read only where they matter.
template <class T>
void optim_check(const OptimArgs& args, Slice s) {
  if (known_finite(args)) return;
  const Gradient gradient(args.options, 0, clip_factor(args));
  const bool decays = gradient.l2 != 0.f && args.squares != Squares::kNone;
  // From the end: the update, which reads the same gradients, finds the first of them in the cache.
  for (int64_t task = s.end; task-- > s.begin;) {
    const TensorChunk& chunk = args.chunks[task];
    const auto *p = static_cast<const T*>(chunk.p), *g = static_cast<const T*>(chunk.g);
    const float* slot = chunk.slots[0];
    const auto size = [g](int64_t i) { return abs(to_float(g[i])); };
    // Enough for nearly all: up to 2^51 they are finite, and so are sums of their squares, each
    // below half a unit in the last place of FLT_MAX.
    if (!decays && abs(gradient(0.f, largest_size(chunk.n, size))) <= 0x1p51f) continue;
    const auto nothing = [](int64_t) { return 0.f; };
    const auto weight = [p](int64_t i) { return to_float(p[i]); };
    const auto sum = [slot](int64_t i) { return slot[i]; };
    const auto check_squares = [&](auto w, auto so_far) {
      check_chunk<T>(args, chunk, [&](int64_t i) {
        const float d = gradient(w(i), to_float(g[i]));
        return mad(d, d, so_far(i));
      });
    };
    switch (args.squares) {
      case Squares::kNone:
        check_chunk<T>(args, chunk, size);
        break;
      case Squares::kMean:
        decays ? check_squares(weight, nothing) : check_squares(nothing, nothing);
        break;
      case Squares::kSum:
        decays ? check_squares(weight, sum) : check_squares(nothing, sum);
        break;
    }
  }
}

// A weight's step is a chain of some 75 cycles, the last 30 of them its quotient, and a core's
// registers hold what is under way of three or four vectors. In loops of their own, quotients take
// few: Zen 3 updates 1.3 times as many weights of a cache.
constexpr int64_t kFractions = 256;

// Rule and gradient are copies, which stay in registers: what a reference is to might be a weight.
template <class T, class Rule>
void update_chunk(const TensorChunk& chunk, Rule rule, Gradient gradient) {
  auto* p = static_cast<T*>(chunk.p);
  const auto* g = static_cast<const T*>(chunk.g);
  float* slots[kMaxSlots];
  for (int k = 0; k < Rule::kSlots; ++k) slots[k] = chunk.slots[k];
  const auto step_at = [&](int64_t i) {
    float values[kMaxSlots];
    for (int k = 0; k < Rule::kSlots; ++k) values[k] = slots[k][i];
    const auto step = step_of(rule, gradient(to_float(p[i]), to_float(g[i])), values);
    for (int k = 0; k < Rule::kSlots; ++k) slots[k][i] = values[k];
    return step;
  };
  const auto move = [&](int64_t i, auto step) {
    p[i] = from_float<T>(moved(gradient, to_float(p[i]), step));
  };
  if constexpr (std::is_same_v<decltype(step_at(0)), Fraction>) {
    float numerators[kFractions], denominators[kFractions];
    for (int64_t i = 0; i < chunk.n; i += kFractions) {
      const int64_t count = least(kFractions, chunk.n - i);
#pragma GCC ivdep
      for (int64_t j = 0; j < count; ++j) {
        const Fraction step = step_at(i + j);
        numerators[j] = step.numerator, denominators[j] = step.denominator;
      }
#pragma GCC ivdep
      for (int64_t j = 0; j < count; ++j) move(i + j, Fraction{numerators[j], denominators[j]});
    }
  } else {
#pragma GCC ivdep
    for (int64_t i = 0; i < chunk.n; ++i) move(i, step_at(i));
  }
}

template <class T, class Rule>
void optim_update(const OptimArgs& args, Slice s) {
  if (!is_ok(args.status)) return;
  const Gradient gradient(args.options, args.rates->lr, clip_factor(args));
  for (int64_t task = s.begin; task < s.end; ++task) {
    const TensorChunk& chunk = args.chunks[task];
    update_chunk<T>(chunk, Rule(args.options, *chunk.state, *args.rates), gradient);
  }
}

// ---- the norm of all gradients as one vector ---------------------------------------------------

template <class T>
void grad_norm_max(const GradNormArgs& args, Slice s) {
  for (int64_t task = s.begin; task < s.end; ++task) {
    const TensorChunk& chunk = args.chunks[task];
    args.maxima[task] = max_abs(static_cast<const T*>(chunk.g), chunk.n);
  }
}

float largest(const GradNormArgs& args) {
  return args.num_chunks == 0 ? 0.f : max_abs(args.maxima, args.num_chunks);
}

// In float64: finite gradients never overflow it.
template <class T>
void grad_norm_sum(const GradNormArgs& args, Slice s) {
  const bool squared = args.norm_type == 2, absolute = args.norm_type == 1;
  const float p = static_cast<float>(args.norm_type);
  const PowerSum power(p, squared || absolute ? 1.f : largest(args));
  for (int64_t task = s.begin; task < s.end; ++task) {
    const auto* g = static_cast<const T*>(args.chunks[task].g);
    const int64_t n = args.chunks[task].n;
    args.sums[task] = squared    ? sum(g, n, 0.f, [](float v) { return double(v) * double(v); })
                      : absolute ? sum(g, n, 0.f, [](float v) { return double(abs(v)); })
                                 : sum(g, n, 0.f, [power](float v) { return double(power(v)); });
  }
}

void grad_norm_combine(const GradNormArgs& args, Slice) {
  const double total =
      args.norm_type < double{kInf} ? sum_in_order(args.sums, args.num_chunks) : 0.0;
  const bool plain = args.norm_type == 1 || args.norm_type == 2;
  const float unscale = inverse_of(args.loss_scale);
  const double norm =
      combine_norm(args.norm_type, total, plain ? 0.f : largest(args)) * double(unscale);
  args.norm[0] = static_cast<float>(norm);
  args.norm[1] = norm_factor(norm, static_cast<double>(args.max_norm)) * unscale;
  if (args.status != nullptr && !(norm - norm == 0.0))
    report(args.status, args.site, 0, DataError::kBadGradient);
}

// ---- gradients changed in place ----------------------------------------------------------------

template <class T, class F>
void map_gradients(const GradNormArgs& args, Slice s, F f) {
  for (int64_t task = s.begin; task < s.end; ++task) {
    const TensorChunk& chunk = args.chunks[task];
    auto* g = static_cast<T*>(const_cast<void*>(chunk.g));
    map(g, g, {0, chunk.n}, f);
  }
}

template <class T>
void grad_scale(const GradNormArgs& args, Slice s) {
  const float factor = args.norm[1];
  if (!is_ok(args.status) || factor == 1.f) return;
  map_gradients<T>(args, s, [factor](float g) { return g * factor; });
}

template <class T>
void grad_clamp(const GradNormArgs& args, Slice s) {
  if (!is_ok(args.status)) return;
  const float limit = args.max_norm;
  map_gradients<T>(args, s, [limit](float g) { return within(g, limit); });
}

// ---- loss scaling ------------------------------------------------------------------------------

void scaler_begin(const GradScalerArgs& args, Slice) { begin_scaled(args); }
void scaler_update(const GradScalerArgs& args, Slice) { update_scaled(args); }

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
constinit const OptimKernels FASTNN_LEVEL::Table<OptimKernels>::of_dtype[kNumTableDTypes] = {
    kernels<float>(OptimRules{}), kernels<bf16>(OptimRules{}), {}, {}};

}  // namespace fastnn
