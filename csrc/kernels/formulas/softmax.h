// Softmax over a row of logits x with maximum m and s = log sum e^(x - m): y = e^(x - m) / sum, and
// log y = (x - m) - s. m and s stay apart: their sum would lose s when the logits are large.
#pragma once
#include "../primitives.h"

namespace fastnn {
namespace {

// e^d for a sum that has a term 1: terms below e^-80 would vanish in it. They would also be
// subnormal, for which some processors need a hundred cycles. NaN passes.
FASTNN_FN float exp_in_sum(float d) { return d < -80.f ? 0.f : exp(at_least(d, -80.f)); }

// softmax: dx = y (dy - sum dy y).  log_softmax: dx = dy - exp(y) sum dy.
FASTNN_FN float softmax_dx(float dy, float y, float total) { return y * (dy - total); }
FASTNN_FN float log_softmax_dx(float dy, float y, float total) {
  return dy - exp_scaled(y) * kExpScale * total;
}

}  // namespace
}  // namespace fastnn
