// Activations: each forward next to its derivative, one functor each, and the list of them that
// everything else iterates. fwd(x, a) is the value, bwd(dy, s, a) = dy * f'(x), where s is the
// input or the output of fwd as kSaved says, and `a` is the activation's one parameter (kDefault
// where the caller gives none; unused by most). Invariants: NaN in x, s or dy gives NaN; infinite x
// gives the limit; bounds are in docs/results/ulp_sweep.md.
#pragma once

#include "../primitives.h"

namespace fastnn {
namespace {

enum class Saved : uint8_t { kInput, kOutput };

// y = x
struct Identity {
  static constexpr const char* kName = "identity";
  static constexpr Saved kSaved = Saved::kOutput;
  static constexpr float kDefault = 0.f;
  FASTNN_FN static float fwd(float x, float) { return x; }
  FASTNN_FN static float bwd(float dy, float, float) { return dy; }
};

// y = max(x, 0), with relu(-0) = +0 and slope 0 at 0. The output has the sign that backward needs.
// forward takes vectors of GCC's as well: tiles apply it to registers.
struct Relu {
  static constexpr const char* kName = "relu";
  static constexpr Saved kSaved = Saved::kOutput;
  static constexpr float kDefault = 0.f;
  template <class T>
  FASTNN_FN static T fwd(T x, float) {
    return x <= 0.f ? T{} : x;
  }
  FASTNN_FN static float bwd(float dy, float y, float) {
    const float dead =
        (dy != dy) | (y != y) ? kNaN : 0.f;  // not 0 * dy, which is NaN for an infinite dy
    return y > 0.f ? dy : dead;
  }
};

// y = x > 0 ? x : a x. Input saved: for a < 0 the output does not tell the branch. Slope a at 0.
struct LeakyRelu {
  static constexpr const char* kName = "leaky_relu";
  static constexpr Saved kSaved = Saved::kInput;
  static constexpr float kDefault = 0.01f;
  FASTNN_FN static float fwd(float x, float a) { return x > 0.f ? x : a * x; }
  FASTNN_FN static float bwd(float dy, float x, float a) {
    const float dx = x > 0.f ? dy : a * dy;
    return x != x ? x : dx;
  }
  FASTNN_FN static float slope_of_a(float x, float) { return x > 0.f ? 0.f : x; }
};

// y = min(max(x, low), high), with slope 0 at low and at high. v: the input, or an output that was
// not rounded.
struct Clip {
  FASTNN_FN static float fwd(float x, float low, float high) {
    return x <= low ? low : at_most(x, high);
  }
  FASTNN_FN static float bwd(float dy, float v, float low, float high) {
    const float inside = (v <= low) | (v >= high) ? 0.f : 1.f;
    return v != v ? v : Relu::bwd(dy, inside, 0.f);
  }
};

// y = min(max(x, 0), 6)
struct Relu6 {
  static constexpr const char* kName = "relu6";
  static constexpr Saved kSaved = Saved::kOutput;
  static constexpr float kDefault = 0.f;
  FASTNN_FN static float fwd(float x, float) { return Clip::fwd(x, 0.f, 6.f); }
  FASTNN_FN static float bwd(float dy, float y, float) { return Clip::bwd(dy, y, 0.f, 6.f); }
};

// y = min(max(x + 3, 0), 6) / 6, with slope 0 where it is 0 or 1.
struct Hardsigmoid {
  static constexpr const char* kName = "hardsigmoid";
  static constexpr Saved kSaved = Saved::kInput;
  static constexpr float kDefault = 0.f;
  FASTNN_FN static float fwd(float x, float) {
    return x <= -3.f ? 0.f : at_most(x + 3.f, 6.f) / 6.f;
  }
  FASTNN_FN static float bwd(float dy, float x, float a) {
    return abs(x) >= 3.f ? Relu::bwd(dy, 0.f, a) : Relu::bwd(dy, 1.f, a) * (x - x + 1.f) / 6.f;
  }
};

// y = x min(max(x + 3, 0), 6) / 6, with slope 0 up to -3 and 1 from 3 on.
struct Hardswish {
  static constexpr const char* kName = "hardswish";
  static constexpr Saved kSaved = Saved::kInput;
  static constexpr float kDefault = 0.f;
  FASTNN_FN static float fwd(float x, float) {
    const float gate = at_most(x + 3.f, 6.f) / 6.f;
    return x <= -3.f ? 0.f : x >= 3.f ? x : x * gate;
  }
  FASTNN_FN static float bwd(float dy, float x, float) {
    const float slope = mad(x, 1.f / 3.f, 0.5f);
    return dy * (x <= -3.f ? 0.f : x >= 3.f ? 1.f : slope);
  }
};

// y = x > 0 ? x : a (e^x - 1). Input saved: for a <= 0 the output does not tell the branch.
struct Elu {
  static constexpr const char* kName = "elu";
  static constexpr Saved kSaved = Saved::kInput;
  static constexpr float kDefault = 1.f;
  FASTNN_FN static float fwd(float x, float a) { return x > 0.f ? x : a * expm1(x); }
  FASTNN_FN static float bwd(float dy, float x, float a) {
    return dy * (x > 0.f ? 1.f : a * exp(x));
  }
};

// Self-normalizing networks (Klambauer et al. 2017): y = scale (x > 0 ? x : alpha (e^x - 1)).
struct Selu {
  static constexpr const char* kName = "selu";
  static constexpr Saved kSaved = Saved::kInput;
  static constexpr float kDefault = 0.f;
  static constexpr float kScale = 1.0507009873554804934f;
  static constexpr float kScaleAlpha = 1.7580993408473768600f;
  FASTNN_FN static float fwd(float x, float) {
    return x > 0.f ? kScale * x : kScaleAlpha * expm1(x);
  }
  FASTNN_FN static float bwd(float dy, float x, float) {
    return dy * (x > 0.f ? kScale : kScaleAlpha * exp(x));
  }
};

// y = 1 / (1 + e^-x); y' = e / (1 + e)^2 with e = e^-|x|. Input saved: y (1 - y) has no digits left
// once y rounds to 1.
struct Sigmoid {
  static constexpr const char* kName = "sigmoid";
  static constexpr Saved kSaved = Saved::kInput;
  static constexpr float kDefault = 0.f;
  FASTNN_FN static float fwd(float x, float) { return sigmoid(x); }
  FASTNN_FN static float bwd(float dy, float x, float) { return dy * sigmoid_slope_at(x); }
};

// y = tanh x; y' = 4 e / (1 + e)^2 with e = e^-2|x|. Input saved, as for Sigmoid. 4 e is scaled as
// one number, so that a denormal one is rounded once.
struct Tanh {
  static constexpr const char* kName = "tanh";
  static constexpr Saved kSaved = Saved::kInput;
  static constexpr float kDefault = 0.f;
  FASTNN_FN static float fwd(float x, float) { return tanh(x); }
  FASTNN_FN static float bwd(float dy, float x, float) {
    return dy * sigmoid_slope_at(2.f * x, 4.f);
  }
};

// y = log(1 + e^(a x)) / a for a > 0; y' = sigmoid(a x).
struct Softplus {
  static constexpr const char* kName = "softplus";
  static constexpr Saved kSaved = Saved::kInput;
  static constexpr float kDefault = 1.f;
  FASTNN_FN static float fwd(float x, float a) {
    return mad(log1p_exp_neg(abs(a * x)), 1.f / a, at_least(x, 0.f));
  }
  FASTNN_FN static float bwd(float dy, float x, float a) { return dy * sigmoid(a * x); }
};

// d/dx [x sigmoid(z(x))] = s + g s (1 - s), with s = sigmoid(z) and g = x z'(x), for |z| < 150.
FASTNN_FN float gate_slope(float z, float g) {
  const float e = exp_scaled(-abs(z)) * kExpScale;
  const float r = 1.f / (1.f + e);
  return mad(g * e, r * r, z < 0.f ? e * r : r);
}

// Swish: y = x sigmoid(a x). Past z = -128 the result is 0 whatever x is. For a other than a power
// of two, the rounding of a x adds a relative error of |a x| u.
struct Silu {
  static constexpr const char* kName = "silu";
  static constexpr Saved kSaved = Saved::kInput;
  static constexpr float kDefault = 1.f;
  FASTNN_FN static float fwd(float x, float a) {
    const float z = a * x;
    return z < -128.f ? -0.f : mul_sigmoid(x, z);
  }
  FASTNN_FN static float bwd(float dy, float x, float a) {
    const float z = within(a * x, 128.f);
    return dy * gate_slope(z, z);
  }
  // x^2 s (1 - s) with s = sigmoid(a x): 0 where e^-|a x| is, whatever x is.
  FASTNN_FN static float slope_of_a(float x, float a) {
    const float e = exp_scaled(-abs(a * x)) * kExpScale;
    const float r = 1.f / (1.f + e);
    return e == 0.f ? 0.f : (x * e * r) * (x * r);
  }
};

// y = x P(X < x) for a normal X, as max(x, 0) - |x| P(X > |x|): no cancellation on either side, and
// the tail is rounded once. y' = P(X < x) + x e^(-x^2/2) / sqrt(2 pi). Past |x| = 15 the tail is 0.
struct Gelu {
  static constexpr const char* kName = "gelu";
  static constexpr Saved kSaved = Saved::kInput;
  static constexpr float kDefault = 0.f;
  FASTNN_FN static float fwd(float x, float) {
    // As integers, which is one instruction; a NaN, clamped as well, comes back with the last line.
    const float t = from_bits(at_most(to_bits(abs(x)), to_bits(15.f)));
    const NormalTail tail(t);
    const Sum2 square = two_product(t, t);
    const float n = mad(square.hi, tail.m, t);  // t N
    const float d = 1.f + mad_once(NormalTail::kN, n, t * tail.e);
    const Reduced e = reduce_minus_half<64>(square);
    const float y = e.s * mad(n * e.r, mad(expm1_coeffs<-2>(e.r), e.r, -0.5f), n) / d;
    return mad(y, -0.5f * kExpScale, x < 0.f ? -0.f : x);
  }
  FASTNN_FN static float bwd(float dy, float x, float) {
    constexpr float kInvSqrt2Pi = 3.989423e-01f;
    const float t = at_most(abs(x), 15.f);
    const NormalTail tail(t);
    const float n = mad(t, tail.m, 1.f);
    const float ratio = n / mad(t, mad(NormalTail::kN, n, tail.e), 1.f);
    const Reduced e = reduce<64>(-0.5f * t * t);
    const float d = e.s * exp_poly(e.r) * mad(2.f * kInvSqrt2Pi, t, -ratio);
    constexpr float kHalf = 0.5f * kExpScale;
    return dy * mad(d, x < 0.f ? -kHalf : kHalf, x < 0.f ? 0.f : 1.f);
  }
};

// y = x/2 (1 + tanh(sqrt(2/pi) (x + 0.044715 x^3))) = x sigmoid(z), z = x (c0 + c1 x^2). Where the
// tail is small, an error of z is magnified by |z|, so forward carries z = hi + lo: `w` is c0 + c1
// x^2 rounded to 13 bits, `rest` is what is missing.
struct GeluTanh {
  static constexpr const char* kName = "gelu_tanh";
  static constexpr Saved kSaved = Saved::kInput;
  static constexpr float kDefault = 0.f;
  static constexpr float kC0 = 1.5958251953125f, kC0Lo = -5.6073706e-05f;  // kC0 on a grid of 2^-13
  static constexpr float kC1 = 7.1354814e-02f, kC1Lo = 2.3988325e-09f;
  FASTNN_FN static float fwd(float x, float) {
    constexpr float kGrid = 12288.f;  // adding 1.5 * 2^13 rounds to a multiple of 2^-10
    const float t = within(x, 11.f);
    const Sum2 t2 = two_product(t, t);
    const Sum2 c = two_product(kC1, t2.hi);
    const float w = (mad(kC1, t2.hi, kC0) + kGrid) - kGrid;
    const float rest = ((kC0 - w) + c.hi) + (c.lo + mad(kC1, t2.lo, mad(kC1Lo, t2.hi, kC0Lo)));
    const Sum2 z = two_product(t, w);
    return mul_sigmoid(at_least(x, -11.f), z.hi, mad(t, rest, z.lo));
  }
  FASTNN_FN static float bwd(float dy, float x, float) {
    const float t = within(x, 12.f);
    const float c = kC1 * t * t;
    const float c0 = kC0 + kC0Lo;
    return dy * gate_slope(t * (c0 + c), t * mad(3.f, c, c0));
  }
};

template <class... A>
struct ActivationList {
  static constexpr int kSize = sizeof...(A);
};

using Activations = ActivationList<Identity, Relu, LeakyRelu, Elu, Selu, Sigmoid, Tanh, Softplus,
                                   Silu, Gelu, GeluTanh, Relu6, Hardsigmoid, Hardswish>;
// Those whose parameter may be trained: slope_of_a(x, a) is d fwd / da.
using ParametricActivations = ActivationList<LeakyRelu, Silu>;

}  // namespace
}  // namespace fastnn
