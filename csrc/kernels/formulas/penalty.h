// Penalties on weights, next to their derivatives; and what is done to weights after a step.
#pragma once
#include "../primitives.h"

namespace fastnn {
namespace {

// l1 |w| + l2 w^2: L1, L2 and both forms of the elastic net. The slope of |w| at 0 is 0. A part
// whose factor is 0 is left out: it is NaN for an infinite w.
struct Penalty {
  double l1, l2;
  FASTNN_FN double fwd(float w) const {
    const double x = double(w), magnitude = l1 * double(abs(w)), square = l2 * (x * x);
    return l2 == 0 ? magnitude : l1 == 0 ? square : magnitude + square;
  }
  FASTNN_FN float bwd(float dy, float w) const {
    const float sign = w == 0.f ? 0.f : copysign(1.f, w), pull = float(l1) * sign;
    const float slope = l2 == 0 ? pull : mad(float(2.0 * l2), w, pull);
    return dy * (w != w ? w : slope);
  }
};

// The proximal step of t |w|: towards 0 by t, and to 0 exactly within t.
FASTNN_FN float soft_threshold(float w, float t) { return w - within(w, t); }

// What brings a vector of this norm to at most `limit`.
FASTNN_FN float shrink_factor(double norm, double limit) {
  return norm > limit ? float(limit / norm) : 1.f;
}

}  // namespace
}  // namespace fastnn
