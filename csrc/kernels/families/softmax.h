// Softmax, log-softmax and logsumexp. Tasks: chunks of rows.
#pragma once
#include "../kernel.h"

namespace fastnn {

struct SoftmaxFwdArgs {
  const void* x;
  void* y;
  int64_t rows, cols;
};
struct SoftmaxBwdArgs {
  const void *dy, *y;
  void* dx;
  int64_t rows, cols;
};
struct LogSumExpFwdArgs {
  const void* x;
  void* y;
  int64_t rows, cols;
};
struct LogSumExpBwdArgs {
  const void *dy, *x;
  void* dx;
  int64_t rows, cols;
};

struct SoftmaxKernels {
  Kernel<SoftmaxFwdArgs> softmax_fwd, log_softmax_fwd;
  Kernel<SoftmaxBwdArgs> softmax_bwd, log_softmax_bwd;
  Kernel<LogSumExpFwdArgs> logsumexp_fwd;
  Kernel<LogSumExpBwdArgs> logsumexp_bwd;
};

}  // namespace fastnn
