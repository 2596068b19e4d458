// Losses of one element, forward and derivative, in stable form.
#pragma once
#include "../primitives.h"

namespace fastnn {
namespace {

// Cross-entropy of a row of logits x against a target distribution t. With m = max x and
// s = log sum exp(x - m), so that log softmax(x)_c = (x_c - m) - s:
//   loss = sum_c t_c ((m - x_c) + s),   dx_c = (softmax(x)_c sum t - t_c) dloss
// m and s stay apart: their sum would lose s when the logits are large.
FASTNN_FN double cross_entropy_term(float x, float m, float s, float t) {
  return t == 0.f ? 0.0 : double(t) * (double(m - x) + double(s));
}
FASTNN_FN float cross_entropy_dx(float x, float m, float s, float t, float t_sum, float dloss) {
  return (exp((x - m) - s) * t_sum - t) * dloss;
}

}  // namespace
}  // namespace fastnn
