// The update of one weight, one functor per optimizer (torch.optim's conventions), and the list of
// them that everything else iterates. A functor is made once per parameter and step, in float64,
// from the options, the parameter's step count and the rates of the step; rule(g, slots...) updates
// the slots and returns the step, which is subtracted from the weight. Slots are float32 whatever
// the parameter's dtype.
#pragma once
#include "../primitives.h"

namespace fastnn {

inline constexpr int kMaxSlots = 3;

// What a schedule may change: in memory, so that a recorded step sees it.
struct OptimRates {
  double lr, beta1;  // beta1: decay of the first moment, or of the velocity
};
// What else the caller sets; flags are 0 or 1.
struct OptimOptions {
  double beta2;            // decay of the second moment
  double eps, eps_inside;  // sqrt(v) + eps, or sqrt(v + eps)
  double weight_decay, decoupled, maximize;
  double dampening, nesterov, form;
  double bias_correction;
  double lr_decay;
  double decay_base;  // 0.96^momentum_decay
};
// What a parameter counts, in memory: written by optim_begin, once per step.
struct OptimState {
  int64_t step;
  double correction1, correction2;  // 1 - beta^step
  double mu_product;                // of NAdam's mu_1 ... mu_step
};
// What may overflow for ever: nothing, a mean of squares, or their sum (in the first slot).
enum class Squares : uint8_t { kNone, kMean, kSum };

namespace {

constexpr float kMaxFloat = 0x1.fffffep127f;
constexpr float kMinNormal = 0x1p-126f;
// x^n for n >= 0 in float64, the same bits on every target.
FASTNN_FN double int_power(double x, int64_t n) {
  double y = 1;
  for (; n > 0; n >>= 1, x *= x) y = n & 1 ? y * x : y;
  return y;
}

FASTNN_FN double nadam_mu(const OptimOptions& o, const OptimRates& r, int64_t step) {
  return r.beta1 * (1.0 - 0.5 * int_power(o.decay_base, step));
}
FASTNN_FN void begin_step(OptimState& s, const OptimOptions& o, const OptimRates& r) {
  ++s.step;
  s.correction1 = 1.0 - int_power(r.beta1, s.step);
  s.correction2 = 1.0 - int_power(o.beta2, s.step);
  s.mu_product *= nadam_mu(o, r, s.step);
}

// Dynamic loss scaling (Micikevicius et al. 2018): the scale shrinks where a gradient was not
// finite, and grows after `interval` steps without one. It stays a positive float with an inverse.
FASTNN_FN void update_scale(float* scale, int64_t* good_steps, bool found, double growth,
                            double backoff, int64_t interval) {
  *good_steps = found ? 0 : *good_steps + 1;
  const bool grows = *good_steps == interval;
  const float next = float(double(scale[0]) * (found ? backoff : grows ? growth : 1.0));
  if (grows) *good_steps = 0;
  if (next >= kMinNormal && next <= kMaxFloat) scale[0] = next;
  scale[1] = float(1.0 / double(scale[0]));
}

// ---- what all of them share --------------------------------------------------------------------

// A decaying moment passes through the subnormals, where x86 cores take a hundred cycles an
// operation, and then stays there, since 0.9 of the smallest subnormal rounds to itself.
FASTNN_FN float flush_subnormal(float x) { return abs(x) < kMinNormal ? 0.f : x; }
// Its product with a rate gets there first, for some sixty steps of each weight whose input is not
// seen again. So where a moment is only ever such a factor, it ends where it no longer moves any
// weight (eps is 1e-8): times a rate of 1e-4 it is then not subnormal.
FASTNN_FN float flush_negligible(float x) { return abs(x) < 0x1p-110f ? 0.f : x; }

// (1 - w) m + w x: the weights add up to 1 exactly, and nothing overflows.
FASTNN_FN float blend(float m, float x, float w) { return mad(w, x, mad(-w, m, m)); }
FASTNN_FN float decaying_mean(float m, float x, float w) {
  return flush_negligible(blend(m, x, w));
}
// The same of squares, which need no abs().
FASTNN_FN float decaying_square(float v, float x, float w) {
  const float mean = blend(v, x * x, w);
  return mean < kMinNormal ? 0.f : mean;
}

// a / b for b >= 0, where 0 / 0 (eps = 0 and no gradient yet) is 0.
FASTNN_FN float ratio(float a, float b) { return a / at_least(b, kMinNormal); }

// The same, to 2 units in the last place (3 without FMA), for b up to 2^100: the divider of the
// processor is busy with the root in b, and this is done beside it. y is 1 / b to one part in 8 by
// its exponent; what is left of it in b y = 1 - e goes with 1 / (1 - e) = 1 + e + e^2 to e^3,
// twice.
FASTNN_FN float ratio_to_root(float a, float b) {
  const int32_t least_bits = to_bits(kMinNormal), b_bits = to_bits(b);
  const float d = from_bits(b_bits < least_bits ? least_bits : b_bits);
  float y = from_bits(0x7ef311c7 - to_bits(d)), e = mad(-d, y, 1.f);
  y = mad(mad(e, e, e), y, y);
  e = mad(-d, y, 1.f);
  return a * mad(mad(e, e, e), y, y);
}

// A step that is yet to be divided, by what ends with a root. A loop may leave the quotient to
// another one (cpu/optim.cc).
struct Fraction {
  float numerator, denominator;
};
FASTNN_FN float value_of(float step) { return step; }
FASTNN_FN float value_of(Fraction step) { return ratio_to_root(step.numerator, step.denominator); }

// The gradient that the formulas see: of the loss or of its negative, clipped, with coupled decay;
// and the weight after decoupled decay (Loshchilov, Hutter 2019).
struct Gradient {
  float scale, l2, decay;
  FASTNN_FN Gradient(const OptimOptions& o, double lr, float clip)
      : scale(o.maximize != 0 ? -clip : clip),
        l2(o.decoupled != 0 ? 0.f : float(o.weight_decay)),
        decay(o.decoupled != 0 ? float(1.0 - lr * o.weight_decay) : 1.f) {}
  FASTNN_FN float operator()(float w, float g) const { return mad(l2, w, scale * g); }
};

// sqrt(v / correction) + eps or sqrt(v / correction + eps), without a division per weight.
struct RootPlusEps {
  float inner, rsqrt_correction, outer;
  FASTNN_FN RootPlusEps(const OptimOptions& o, double correction)
      : inner(o.eps_inside != 0 ? float(o.eps * correction) : 0.f),
        rsqrt_correction(float(1.0 / __builtin_sqrt(correction))),
        outer(o.eps_inside != 0 ? 0.f : float(o.eps)) {}
  FASTNN_FN float operator()(float v) const {
    return mad(sqrt(v + inner), rsqrt_correction, outer);
  }
};

// ---- the optimizers ----------------------------------------------------------------------------

// p -= lr g. With momentum (Polyak 1964; Sutskever et al. 2013), the forms in use:
//   A (torch)  b = momentum b + (1 - dampening) g;  p -= lr b         the first b is g itself
//   B          b = momentum b - lr g;               p += b
//   C          b = momentum b + lr g;               p -= b
//   D          b = momentum b + (1 - momentum) g;   p -= lr b / (1 - momentum^t)
// Nesterov's form puts g + momentum b in the place of b (lr g where b holds the rate).
template <bool kMomentum>
struct Sgd {
  static constexpr const char* kName = kMomentum ? "sgd_momentum" : "sgd";
  static constexpr int kSlots = kMomentum;
  static constexpr Squares kSquares = Squares::kNone;
  float momentum, input, step_g, step_b;
  FASTNN_FN Sgd(const OptimOptions& o, const OptimState& s, const OptimRates& r) {
    const bool first = s.step == 1, nesterov = o.nesterov != 0;
    double in = first ? 1.0 : 1.0 - o.dampening, out = r.lr;
    if (o.form == 1) in = -r.lr, out = -1;
    if (o.form == 2) in = r.lr, out = 1;
    if (o.form == 3) in = 1.0 - r.beta1, out = r.lr / s.correction1;
    momentum = first ? 0.f : float(r.beta1);
    input = float(in);
    step_g = nesterov || !kMomentum ? float(r.lr) : 0.f;
    step_b = float(nesterov ? out * r.beta1 : out);
  }
  FASTNN_FN float operator()(float g) const { return step_g * g; }
  FASTNN_FN float operator()(float g, float& b) const {
    b = flush_negligible(mad(momentum, b, input * g));
    return mad(step_b, b, step_g * g);
  }
};

// Kingma, Ba 2015; AMSGrad: Reddi, Kale, Kumar 2018.
//   m = b1 m + (1 - b1) g;  v = b2 v + (1 - b2) g^2;  p -= lr mhat / (sqrt(vhat) + eps)
// with mhat = m / (1 - b1^t), vhat = v / (1 - b2^t), or the largest v so far in the place of v.
template <bool kAmsgrad>
struct Adam {
  static constexpr const char* kName = kAmsgrad ? "adam_amsgrad" : "adam";
  static constexpr int kSlots = 2 + kAmsgrad;
  static constexpr Squares kSquares = Squares::kMean;
  float step_size, weight1, weight2;
  RootPlusEps root;
  FASTNN_FN Adam(const OptimOptions& o, const OptimState& s, const OptimRates& r)
      : step_size(float(o.bias_correction != 0 ? r.lr / s.correction1 : r.lr)),
        weight1(float(1.0 - r.beta1)),
        weight2(float(1.0 - o.beta2)),
        root(o, o.bias_correction != 0 ? s.correction2 : 1.0) {}
  FASTNN_FN Fraction operator()(float g, float& m, float& v) const {
    m = decaying_mean(m, g, weight1);
    v = decaying_square(v, g, weight2);
    return {step_size * m, root(v)};
  }
  FASTNN_FN Fraction operator()(float g, float& m, float& v, float& v_max) const {
    m = decaying_mean(m, g, weight1);
    v = decaying_square(v, g, weight2);
    v_max = max(v_max, v);
    return {step_size * m, root(v_max)};
  }
};

// Dozat 2016, in torch's form: Nesterov's momentum in Adam, with the warm-up
// mu_t = b1 (1 - 0.96^(t momentum_decay) / 2).
struct NAdam {
  static constexpr const char* kName = "nadam";
  static constexpr int kSlots = 2;
  static constexpr Squares kSquares = Squares::kMean;
  float step_g, step_m, weight1, weight2;
  RootPlusEps root;
  FASTNN_FN NAdam(const OptimOptions& o, const OptimState& s, const OptimRates& r)
      : weight1(float(1.0 - r.beta1)), weight2(float(1.0 - o.beta2)), root(o, s.correction2) {
    const double mu = nadam_mu(o, r, s.step), next = nadam_mu(o, r, s.step + 1);
    step_g = float(r.lr * (1.0 - mu) / (1.0 - s.mu_product));
    step_m = float(r.lr * next / (1.0 - s.mu_product * next));
  }
  FASTNN_FN Fraction operator()(float g, float& m, float& v) const {
    m = decaying_mean(m, g, weight1);
    v = decaying_square(v, g, weight2);
    return {mad(step_m, m, step_g * g), root(v)};
  }
};

// Liu et al. 2020: while the variance of the step is not tractable (rho <= 5) the step is lr mhat;
// then lr mhat r sqrt(1 - b2^t) / (sqrt(v) + eps).
struct RAdam {
  static constexpr const char* kName = "radam";
  static constexpr int kSlots = 2;
  static constexpr Squares kSquares = Squares::kMean;
  float step_size, weight1, weight2, root_factor, offset;  // the divisor is 1 at first
  FASTNN_FN RAdam(const OptimOptions& o, const OptimState& s, const OptimRates& r)
      : weight1(float(1.0 - r.beta1)), weight2(float(1.0 - o.beta2)) {
    const double end = 2.0 / (1.0 - o.beta2) - 1.0;
    const double rho = end - 2.0 * double(s.step) * (1.0 - s.correction2) / s.correction2;
    const bool rectified = rho > 5.0;
    const double r2 = (rho - 4) * (rho - 2) * end / ((end - 4) * (end - 2) * rho);
    const double factor = rectified ? __builtin_sqrt(r2 * s.correction2) : 1.0;
    step_size = float(r.lr / s.correction1 * factor);
    root_factor = rectified ? 1.f : 0.f;
    offset = rectified ? float(o.eps) : 1.f;
  }
  FASTNN_FN Fraction operator()(float g, float& m, float& v) const {
    m = decaying_mean(m, g, weight1);
    v = decaying_square(v, g, weight2);
    return {step_size * m, mad(root_factor, sqrt(v), offset)};
  }
};

// Kingma, Ba 2015, section 7.1: u = max(b2 u, |g| + eps); p -= lr m / (1 - b1^t) / u.
struct Adamax {
  static constexpr const char* kName = "adamax";
  static constexpr int kSlots = 2;
  static constexpr Squares kSquares = Squares::kNone;
  float step_size, weight1, beta2, eps;
  FASTNN_FN Adamax(const OptimOptions& o, const OptimState& s, const OptimRates& r)
      : step_size(float(r.lr / s.correction1)),
        weight1(float(1.0 - r.beta1)),
        beta2(float(o.beta2)),
        eps(float(o.eps)) {}
  FASTNN_FN float operator()(float g, float& m, float& u) const {
    m = decaying_mean(m, g, weight1);
    u = flush_subnormal(max(beta2 * u, abs(g) + eps));
    return ratio(step_size * m, u);
  }
};

// Tieleman, Hinton 2012: v = a v + (1 - a) g^2; p -= lr g / (sqrt(v) + eps). Centered (Graves
// 2013): v less the square of the mean gradient. With momentum: b = momentum b + the step / lr.
template <bool kMomentum, bool kCentered>
struct RmsProp {
  static constexpr const char* kName =
      kMomentum ? (kCentered ? "rmsprop_momentum_centered" : "rmsprop_momentum")
                : (kCentered ? "rmsprop_centered" : "rmsprop");
  static constexpr int kSlots = 1 + kMomentum + kCentered;
  static constexpr Squares kSquares = Squares::kMean;
  float lr, weight2, momentum;
  RootPlusEps root;
  FASTNN_FN RmsProp(const OptimOptions& o, const OptimState&, const OptimRates& r)
      : lr(float(r.lr)), weight2(float(1.0 - o.beta2)), momentum(float(r.beta1)), root(o, 1.0) {}
  FASTNN_FN auto step(float g, float& v, float* mean, float* b) const {
    v = decaying_square(v, g, weight2);
    float variance = v;
    if constexpr (kCentered) {
      *mean = decaying_mean(*mean, g, weight2);
      variance = at_least(mad(-*mean, *mean, v), 0.f);  // it may round to less than nothing
    }
    if constexpr (kMomentum) {
      *b = flush_negligible(mad(momentum, *b, ratio_to_root(g, root(variance))));
      return lr * *b;
    } else {
      return Fraction{lr * g, root(variance)};
    }
  }
  FASTNN_FN auto operator()(float g, float& v) const { return step(g, v, nullptr, nullptr); }
  FASTNN_FN auto operator()(float g, float& v, float& other) const {
    return step(g, v, &other, &other);  // the one that there is
  }
  FASTNN_FN auto operator()(float g, float& v, float& b, float& mean) const {
    return step(g, v, &mean, &b);
  }
};

// Duchi, Hazan, Singer 2011: s += g^2; p -= lr / (1 + (t - 1) lr_decay) g / (sqrt(s) + eps).
struct Adagrad {
  static constexpr const char* kName = "adagrad";
  static constexpr int kSlots = 1;
  static constexpr Squares kSquares = Squares::kSum;
  float lr;
  RootPlusEps root;
  FASTNN_FN Adagrad(const OptimOptions& o, const OptimState& s, const OptimRates& r)
      : lr(float(r.lr / (1.0 + double(s.step - 1) * o.lr_decay))), root(o, 1.0) {}
  FASTNN_FN Fraction operator()(float g, float& sum) const {
    sum = mad(g, g, sum);
    return {lr * g, root(sum)};
  }
};

// Zeiler 2012: v = rho v + (1 - rho) g^2; d = sqrt(a + eps) / sqrt(v + eps) g;
// a = rho a + (1 - rho) d^2; p -= lr d.
struct Adadelta {
  static constexpr const char* kName = "adadelta";
  static constexpr int kSlots = 2;
  static constexpr Squares kSquares = Squares::kMean;
  float lr, weight2, eps;
  FASTNN_FN Adadelta(const OptimOptions& o, const OptimState&, const OptimRates& r)
      : lr(float(r.lr)), weight2(float(1.0 - o.beta2)), eps(float(o.eps)) {}
  FASTNN_FN float operator()(float g, float& v, float& a) const {
    v = decaying_square(v, g, weight2);
    const float d = ratio_to_root(sqrt(a + eps) * g, sqrt(v + eps));
    a = decaying_square(a, d, weight2);
    return lr * d;
  }
};

// Chen et al. 2023: p -= lr sign(b1 m + (1 - b1) g); m = b2 m + (1 - b2) g.
struct Lion {
  static constexpr const char* kName = "lion";
  static constexpr int kSlots = 1;
  static constexpr Squares kSquares = Squares::kNone;
  float lr, weight1, weight2;
  FASTNN_FN Lion(const OptimOptions& o, const OptimState&, const OptimRates& r)
      : lr(float(r.lr)), weight1(float(1.0 - r.beta1)), weight2(float(1.0 - o.beta2)) {}
  FASTNN_FN float operator()(float g, float& m) const {
    const float c = blend(m, g, weight1);
    m = flush_subnormal(blend(m, g, weight2));  // its sign moves weights as long as it is there
    return c == 0.f ? c : copysign(lr, c);
  }
};

template <class... R>
struct OptimRuleList {
  static constexpr int kSize = sizeof...(R);
};

using OptimRules =
    OptimRuleList<Sgd<false>, Sgd<true>, Adam<false>, Adam<true>, NAdam, RAdam, Adamax,
                  RmsProp<false, false>, RmsProp<true, false>, RmsProp<false, true>,
                  RmsProp<true, true>, Adagrad, Adadelta, Lion>;

// A rule with as many of the slots as it has.
template <class Rule>
FASTNN_FN auto step_of(const Rule& rule, float g, float (&slots)[kMaxSlots]) {
  if constexpr (Rule::kSlots == 0) return rule(g);
  if constexpr (Rule::kSlots == 1) return rule(g, slots[0]);
  if constexpr (Rule::kSlots == 2) return rule(g, slots[0], slots[1]);
  if constexpr (Rule::kSlots == 3) return rule(g, slots[0], slots[1], slots[2]);
}
template <class Step>
FASTNN_FN float moved(const Gradient& gradient, float w, Step step) {
  return mad(w, gradient.decay, -value_of(step));
}
// One weight: its gradient, its decay, its step.
template <class Rule>
FASTNN_FN float update_weight(const Rule& rule, const Gradient& gradient, float w, float g,
                              float (&slots)[kMaxSlots]) {
  return moved(gradient, w, step_of(rule, gradient(w, g), slots));
}

// ---- the norm of all gradients as one vector ---------------------------------------------------

// (|g| / largest)^p: relative to the largest it cannot overflow. Within |p log x| u, which is small
// for every term that counts.
struct PowerSum {
  float p, largest;
  FASTNN_FN PowerSum(float p, float largest) : p(p), largest(at_least(largest, 0x1p-149f)) {}
  FASTNN_FN float operator()(float g) const { return exp(p * log(abs(g) / largest)); }
};
// The norm from the sum over all gradients (of the powers above for p other than 1 and 2).
FASTNN_FN double combine_norm(double p, double sum, float largest) {
  if (p == 1) return sum;
  if (p == 2) return __builtin_sqrt(sum);
  if (p == double{kInf} || largest == 0.f) return double(largest);
  return double(largest) * double(exp(log(float(sum)) / float(p)));
}
// min(1, limit / norm); 1 for a norm that is not finite, which is reported elsewhere.
FASTNN_FN float norm_factor(double norm, double limit) {
  return norm > limit && norm < double{kInf} ? float(limit / norm) : 1.f;
}
// 1 / the scale of the loss that gradients are of.
FASTNN_FN float inverse_of(const float* loss_scale) {
  return loss_scale == nullptr ? 1.f : loss_scale[1];
}

}  // namespace
}  // namespace fastnn
