// Losses of rows and of elements. Tasks: chunks of rows (cross-entropy, margins) or of kReduceChunk
// elements. A forward kernel writes the loss of every row or element, or a float64 partial sum per
// task, which loss_combine adds in order: one pass over the input either way.
#pragma once
#include "../formulas/loss.h"
#include "../kernel.h"

namespace fastnn {

// Where the losses of a forward pass go: each one, or one partial sum per task. Null: not wanted.
struct LossOutput {
  float* each;
  double* partials;
};
// d total / d loss[i] = dy[i] scale / divisor, with dy one element when `dy_is_scalar`. The divisor
// is the sum of weights of a weighted mean, which depends on the labels; null stands for 1.
struct LossGradient {
  const float *dy, *divisor;
  float scale;
  bool dy_is_scalar;
};
namespace {
FASTNN_FN float loss_gradient(const LossGradient& g, int64_t i) {
  const float dy = g.dy[g.dy_is_scalar ? 0 : i] * g.scale;
  return g.divisor == nullptr ? dy : dy / *g.divisor;
}
}  // namespace
// y = scale * sum(losses) / sum(weights), in the order of the tasks; no weights: no division. The
// sum of weights is kept for backward. With a status word, a y that is not finite is reported.
struct LossCombineArgs {
  const double *losses, *weights;
  float *y, *divisor;
  int64_t tasks;
  double scale;
  Status* status;
  int32_t site;
};

// What a row of `cols` classes is compared with: labels, or probabilities [rows, cols] when labels
// is null. A row whose label is ignore_index has loss 0. With q the label's one-hot row or the
// probabilities, the target is t_c = weight_c ((1 - smoothing) q_c + smoothing / cols).
struct ClassTarget {
  const int64_t* labels;
  const float *probabilities, *weight;  // weight [cols], or null
  int64_t ignore_index;
  float smoothing;
};
namespace {
FASTNN_FN float class_weight(const ClassTarget& target, int64_t c) {
  return target.weight == nullptr ? 1.f : target.weight[c];
}
// Whether one class stands for the row's target; else all of them have a part in it.
FASTNN_FN bool is_one_class(const ClassTarget& target) {
  return target.labels != nullptr && target.smoothing == 0.f;
}
}  // namespace
// loss[r] = sum_c t_c (max + log_sum - x_c) over logits; weights: per task the sum of the weights
// of its labels, or null. nll_loss takes logarithms of probabilities and has no max and log_sum.
struct CrossEntropyFwdArgs {
  const void* x;
  ClassTarget target;
  LossOutput loss;
  double* weights;
  float *max, *log_sum;  // [rows]
  int64_t rows, cols;
  bool reports_empty_rows;  // a row of nothing but -inf
  Status* status;
  int32_t site;
};
struct CrossEntropyBwdArgs {
  const void* x;
  ClassTarget target;
  LossGradient gradient;
  const float *max, *log_sum;
  void* dx;
  int64_t rows, cols;
};

// Element i takes values[i % period]; no values: `otherwise`.
struct Cyclic {
  const float* values;
  int64_t period;
  float otherwise;
};
// loss[i] = weight f(x[i], t[i], a).
struct PointwiseLossArgs {
  const void* x;
  const float* t;
  Cyclic weight, a;
  int64_t n;
};
struct PointwiseLossFwdArgs : PointwiseLossArgs {
  LossOutput loss;
};
struct PointwiseLossBwdArgs : PointwiseLossArgs {
  LossGradient gradient;
  void* dx;
};
inline constexpr int kNumPointwiseLosses = PointwiseLosses::kSize;

struct LossKernels {
  Kernel<CrossEntropyFwdArgs> cross_entropy_fwd, nll_loss_fwd;
  Kernel<CrossEntropyBwdArgs> cross_entropy_bwd, nll_loss_bwd;
  Kernel<PointwiseLossFwdArgs> pointwise_loss_fwd[kNumPointwiseLosses];
  Kernel<PointwiseLossBwdArgs> pointwise_loss_bwd[kNumPointwiseLosses];
  Kernel<LossCombineArgs> loss_combine;
};

}  // namespace fastnn
