// Losses. Tasks: chunks of rows.
#pragma once
#include "../kernel.h"

namespace fastnn {

// loss[r] = lse(x[r]) - x[r, label] (hard) or sum_c t[r, c] (lse(x[r]) - x[r, c]) (soft labels).
struct CrossEntropyFwdArgs {
  const void* x;
  const int64_t* labels;        // or null
  const float* targets;         // [rows, cols], or null
  float *loss, *max, *log_sum;  // [rows]; lse = max + log_sum
  int64_t rows, cols;
  Status* status;
  int32_t site;
};
// dx = (softmax(x) - target) * dy[r] * scale; dy has one element when `dy_is_scalar`.
struct CrossEntropyBwdArgs {
  const void* x;
  const int64_t* labels;
  const float *targets, *max, *log_sum, *dy;
  void* dx;
  int64_t rows, cols;
  float scale;
  bool dy_is_scalar;
};

struct LossKernels {
  Kernel<CrossEntropyFwdArgs> cross_entropy_fwd;
  Kernel<CrossEntropyBwdArgs> cross_entropy_bwd;
};

}  // namespace fastnn
