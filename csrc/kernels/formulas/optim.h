// The update of one weight, for each optimizer (torch.optim's conventions). Moments are float32
// whatever the parameter's dtype.
#pragma once
#include "../primitives.h"

namespace fastnn {
namespace {

constexpr float kMaxFloat = 0x1.fffffep127f;
constexpr float kMaxSquareRoot = 0x1.fffffep63f;  // the largest float whose square is finite

// A decaying moment passes through the subnormals, where x86 cores take a hundred cycles an
// operation, and then stays there, since 0.9 of the smallest subnormal rounds to itself. Below
// FLT_MIN a moment no longer moves any weight (eps is 1e-8), so it is zero.
FASTNN_FN float flush_subnormal(float x) { return abs(x) < 0x1p-126f ? 0.f : x; }

// Sutskever et al. 2013, in torch's form: b = momentum b + (1 - dampening) g; p -= lr (b | g +
// momentum b).
struct SgdStep {
  float lr, momentum, one_minus_dampening, weight_decay;
};
// torch starts the buffer with the first gradient itself, without dampening.
FASTNN_FN SgdStep sgd_step(double lr, bool first, float momentum, float dampening,
                           float weight_decay) {
  return {static_cast<float>(lr), first ? 0.f : momentum, first ? 1.f : 1.f - dampening,
          weight_decay};
}
FASTNN_FN float sgd_gradient(float p, float g, float weight_decay) { return g + weight_decay * p; }
FASTNN_FN float sgd_buffer(float b, float g, const SgdStep& s) {
  return flush_subnormal(s.momentum * b + s.one_minus_dampening * g);
}

// Kingma, Ba 2015; Loshchilov, Hutter 2019 for the decoupled decay:
//   m = b1 m + (1 - b1) g;  v = b2 v + (1 - b2) g^2;  p -= lr mhat / (sqrt(vhat) + eps)
// with mhat = m / (1 - b1^t), vhat = v / (1 - b2^t).
struct AdamStep {
  float step_size;          // lr / (1 - b1^t)
  float rsqrt_correction2;  // 1 / sqrt(1 - b2^t)
  float one_minus_beta1, beta2, one_minus_beta2, eps;
  float l2;     // coupled decay: g += l2 p
  float decay;  // decoupled decay: p *= decay, 1 - lr weight_decay
};
// `lr` and the corrections 1 - b^t are those of OptimState.
FASTNN_FN AdamStep adam_step(double lr, double correction1, double correction2, double beta1,
                             double beta2, float eps, float weight_decay, bool decoupled) {
  AdamStep s;
  s.step_size = float(lr / correction1);
  s.rsqrt_correction2 = float(1.0 / __builtin_sqrt(correction2));
  s.one_minus_beta1 = float(1.0 - beta1);
  s.beta2 = float(beta2);
  s.one_minus_beta2 = float(1.0 - beta2);
  s.eps = eps;
  s.l2 = decoupled ? 0.f : weight_decay;
  s.decay = decoupled ? float(1.0 - lr * double(weight_decay)) : 1.f;
  return s;
}
FASTNN_FN float adam_gradient(float p, float g, const AdamStep& s) { return g + s.l2 * p; }
FASTNN_FN float adam_m(float m, float g, const AdamStep& s) {
  return flush_subnormal(m + s.one_minus_beta1 * (g - m));
}
FASTNN_FN float adam_v(float v, float g, const AdamStep& s) {
  return flush_subnormal(s.beta2 * v + s.one_minus_beta2 * (g * g));
}
FASTNN_FN float adam_update(float p, float m, float v, const AdamStep& s) {
  return p * s.decay - s.step_size * m / (sqrt(v) * s.rsqrt_correction2 + s.eps);
}

// x^n for n >= 0 in float64, the same bits on every target.
FASTNN_FN double int_power(double x, int64_t n) {
  double y = 1;
  for (; n > 0; n >>= 1, x *= x) y = n & 1 ? y * x : y;
  return y;
}

}  // namespace
}  // namespace fastnn
