// Losses of one element, each forward next to its derivative, in stable form; and the list of the
// pointwise ones that everything else iterates. Forward is float64, because sums of it are; NaN in
// x or t gives NaN.
#pragma once
#include "../primitives.h"

namespace fastnn {
namespace {

// Cross-entropy of a row of logits x against a target distribution t. With m = max x and
// s = log sum exp(x - m), so that log softmax(x)_c = (x_c - m) - s:
//   loss = sum_c t_c ((m - x_c) + s),   dx_c = (softmax(x)_c sum t - t_c) dloss
// m and s stay apart: their sum would lose s when the logits are large.
FASTNN_FN double cross_entropy_term(float x, float m, float s, float t) {
  return double(t) * (t == 0.f ? 0.0 : double(m - x) + double(s));
}
FASTNN_FN float cross_entropy_dx(float x, float m, float s, float t, float t_sum, float dloss) {
  return (exp_scaled((x - m) - s) * kExpScale * t_sum - t) * dloss;
}

// weight ((1 - smoothing) q + share): a target's probability q after label smoothing (Szegedy et
// al. 2016) and class weights. Its last operation is no product, which some instruction sets would
// contract into a sum that follows, and others not.
FASTNN_FN float smoothed_target(float q, float weight, float smoothing, float share) {
  return mad(weight * (1.f - smoothing), q, weight * share);
}

// A pointwise loss: fwd(x, t, a) of a prediction x and a target t, and bwd(x, t, a) = d fwd / dx;
// `a` is the loss's parameter: one number, or one for each element.

// (x - t)^2
struct MseLoss {
  static constexpr const char* kName = "mse_loss";
  FASTNN_FN static double fwd(float x, float t, float) {
    const double d = double(x) - double(t);
    return d * d;
  }
  FASTNN_FN static float bwd(float x, float t, float) { return 2.f * (x - t); }
};

// -1, 0 or 1; NaN for NaN.
FASTNN_FN float sign(float d) { return d > 0.f ? 1.f : d < 0.f ? -1.f : d; }

// |x - t|, with slope 0 at 0.
struct L1Loss {
  static constexpr const char* kName = "l1_loss";
  FASTNN_FN static double fwd(float x, float t, float) {
    const double d = double(x) - double(t);
    return d < 0 ? -d : d;
  }
  FASTNN_FN static float bwd(float x, float t, float) { return sign(x - t); }
};

// d^2 / 2a where |d| < a, else |d| - a / 2; a = 0 is L1Loss (Girshick 2015).
struct SmoothL1Loss {
  static constexpr const char* kName = "smooth_l1_loss";
  FASTNN_FN static double fwd(float x, float t, float a) {
    const double d = L1Loss::fwd(x, t, a);
    return d < double(a) ? 0.5 * d * d / double(a) : d - 0.5 * double(a);
  }
  FASTNN_FN static float bwd(float x, float t, float a) {
    const float d = x - t;
    return abs(d) < a ? d / a : sign(d);
  }
};

// d^2 / 2 where |d| < a, else a (|d| - a / 2) (Huber 1964).
struct HuberLoss {
  static constexpr const char* kName = "huber_loss";
  FASTNN_FN static double fwd(float x, float t, float a) {
    return double(a) * SmoothL1Loss::fwd(x, t, a);
  }
  FASTNN_FN static float bwd(float x, float t, float a) {
    const float d = x - t;
    return abs(d) < a ? d : a * sign(d);
  }
};

// p y, where p = 0 wins over an infinite y. The choice is made before the product: after it, some
// instruction sets would contract the product into a sum that follows, and others not.
FASTNN_FN double weighted(double p, double y) {
  const bool wins = p == 0 && (y == double(kInf) || y == -double(kInf));
  return p * (wins ? 0.0 : y);
}

// -t log sigmoid(x) a - (1 - t) log sigmoid(-x), a the weight of the positive class. One
// exponential serves both sides; a hard target's loss and slope keep their relative accuracy.
struct BceWithLogits {
  static constexpr const char* kName = "binary_cross_entropy_with_logits";
  FASTNN_FN static double fwd(float x, float t, float a) {
    const double tail = double(log1p_exp_neg(abs(x)));  // NaN for NaN
    const double up = double(at_least(x, 0.f)), down = double(at_least(-x, 0.f));
    return weighted(double(t) * double(a), down + tail) + weighted(1.0 - double(t), up + tail);
  }
  FASTNN_FN static float bwd(float x, float t, float a) {
    const float e = exp(-abs(x)), r = 1.f / (1.f + e);
    const float p = x < 0.f ? e * r : r, q = x < 0.f ? r : e * r;
    return mad(-(t * a), q, (1.f - t) * p);
  }
};

// -t log x - (1 - t) log(1 - x) with logarithms of at least -100, as torch: finite for a prediction
// that is wrong and certain. Its slope (x - t) / (x (1 - x)) is cut at 1e-12 in the denominator.
struct Bce {
  static constexpr const char* kName = "binary_cross_entropy";
  FASTNN_FN static double fwd(float x, float t, float) {
    const double yes = double(at_least(log(x), -100.f)), no = double(at_least(log1p(-x), -100.f));
    return (double(t) - 1.0) * no - double(t) * yes;
  }
  FASTNN_FN static float bwd(float x, float t, float) {
    return (x - t) / at_least((1.f - x) * x, 1e-12f);
  }
};

// t (log t - x) for a logarithm x of a probability, 0 log 0 = 0 (Kullback, Leibler 1951).
struct KlDiv {
  static constexpr const char* kName = "kl_div";
  FASTNN_FN static double fwd(float x, float t, float) {
    return t == 0.f && x == x ? 0.0 : double(t) * (double(log(t)) - double(x));
  }
  FASTNN_FN static float bwd(float x, float t, float) { return x != x ? x : -t; }
};

// KlDiv where the target is a logarithm too.
struct KlDivLog {
  static constexpr const char* kName = "kl_div_log";
  FASTNN_FN static double fwd(float x, float t, float) {
    return t == -kInf && x == x ? 0.0 : double(exp(t)) * (double(t) - double(x));
  }
  FASTNN_FN static float bwd(float x, float t, float) { return x != x ? x : -exp(t); }
};

// log(1 + e^(-t x)) for t = -1 or 1
struct SoftMargin {
  static constexpr const char* kName = "soft_margin_loss";
  FASTNN_FN static double fwd(float x, float t, float) {
    const float z = -t * x;
    return double(at_least(z, 0.f)) + double(log1p_exp_neg(abs(z)));
  }
  FASTNN_FN static float bwd(float x, float t, float) { return -t * sigmoid(-t * x); }
};

// What is lacking to a margin, m, and 0 for m <= 0; NaN for NaN.
struct Hinge1 {
  FASTNN_FN static double fwd(double m) { return m <= 0 ? 0.0 : m; }
  FASTNN_FN static double bwd(double m) { return m > 0 ? 1.0 : m <= 0 ? 0.0 : m; }
};
// Its square.
struct Hinge2 {
  FASTNN_FN static double fwd(double m) { return Hinge1::fwd(m) * Hinge1::fwd(m); }
  FASTNN_FN static double bwd(double m) { return 2 * Hinge1::fwd(m); }
};
template <class... H>
struct HingeList {
  static constexpr int kSize = sizeof...(H);
};
using Hinges = HingeList<Hinge1, Hinge2>;

// max(0, a - t x) for t = -1 or 1, with slope 0 at 0.
struct HingeLoss {
  static constexpr const char* kName = "hinge_loss";
  FASTNN_FN static double lacking(float x, float t, float a) {
    return double(a) - double(t) * double(x);
  }
  FASTNN_FN static double fwd(float x, float t, float a) { return Hinge1::fwd(lacking(x, t, a)); }
  FASTNN_FN static float bwd(float x, float t, float a) {
    return -t * static_cast<float>(Hinge1::bwd(lacking(x, t, a)));
  }
};

template <class... L>
struct PointwiseLossList {
  static constexpr int kSize = sizeof...(L);
};
using PointwiseLosses = PointwiseLossList<MseLoss, L1Loss, SmoothL1Loss, HuberLoss, BceWithLogits,
                                          Bce, KlDiv, KlDivLog, SoftMargin, HingeLoss>;

}  // namespace
}  // namespace fastnn
