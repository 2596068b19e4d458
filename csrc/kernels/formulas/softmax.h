// Softmax over a row of logits x with maximum m and s = log sum e^(x - m): y = e^(x - m) / sum, and
// log y = (x - m) - s. m and s stay apart: their sum would lose s when the logits are large.
#pragma once
#include "../primitives.h"

namespace fastnn {
namespace {

// softmax: dx = y (dy - sum dy y).  log_softmax: dx = dy - exp(y) sum dy.
FASTNN_FN float softmax_dx(float dy, float y, float total) { return y * (dy - total); }
FASTNN_FN float log_softmax_dx(float dy, float y, float total) {
  return dy - exp_scaled(y) * kExpScale * total;
}

}  // namespace
}  // namespace fastnn
