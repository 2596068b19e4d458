// Margin losses of rows of scores: a class is to be ahead of another by a margin. Tasks: chunks of
// rows. What a forward kernel writes is as in families/loss.h.
#pragma once
#include "../formulas/loss.h"
#include "loss.h"

namespace fastnn {

// loss[r] = weight_y scale sum_{c != y} h(margin - (x_y - x_c)), y = labels[r], for a hinge h of
// the list Hinges.
struct MultiMarginArgs {
  const void* x;
  const int64_t* labels;
  const float* weight;  // [cols], or null
  float margin, scale;
  int64_t rows, cols;
};
struct MultiMarginFwdArgs : MultiMarginArgs {
  LossOutput loss;
  Status* status;
  int32_t site;
};
struct MultiMarginBwdArgs : MultiMarginArgs {
  LossGradient gradient;
  void* dx;
};

// loss[r] = sum_y sum_c max(0, 1 - (x_y - x_c)) / cols over the labels y of the row, which end at
// the first -1, and the classes c that are none of them. `counts` is how often a class is a label.
struct MultiLabelMarginArgs {
  const void* x;
  const int64_t* labels;  // [rows, cols]
  float* counts;          // [rows, cols]; forward writes it
  int64_t rows, cols;
};
struct MultiLabelMarginFwdArgs : MultiLabelMarginArgs {
  LossOutput loss;
  Status* status;
  int32_t site;
};
struct MultiLabelMarginBwdArgs : MultiLabelMarginArgs {
  LossGradient gradient;
  void* dx;
};
inline constexpr int kNumHinges = Hinges::kSize;

struct MarginKernels {
  Kernel<MultiMarginFwdArgs> multi_margin_fwd[kNumHinges];
  Kernel<MultiMarginBwdArgs> multi_margin_bwd[kNumHinges];
  Kernel<MultiLabelMarginFwdArgs> multilabel_margin_fwd;
  Kernel<MultiLabelMarginBwdArgs> multilabel_margin_bwd;
};

}  // namespace fastnn
