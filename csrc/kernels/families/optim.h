// Optimizers: one launch for all parameters. Tasks: chunks of kOptimChunk elements.
#pragma once
#include "../kernel.h"

namespace fastnn {

// One row per chunk of kOptimChunk elements of one parameter: the multi-tensor table.
struct TensorChunk {
  void* p;
  const void* g;
  float *m, *v;
  int64_t n, first;
};  // first: flat index over all parameters
// Lives in memory, so that a recorded step sees changes: written by the host (lr) and by
// optim_begin.
struct OptimState {
  double lr;
  int64_t step;
  double correction1, correction2;
};
struct OptimBeginArgs {
  OptimState* state;
  double beta1, beta2;
  const Status* status;
};
struct OptimArgs {
  const TensorChunk* chunks;
  const OptimState* state;
  Status* status;
  double* partials;  // [tasks] sums of squares
  float* norm;       // [2]: the total norm and the clip coefficient
  int32_t site;
  int32_t num_chunks;
  double beta1, beta2;  // float64: 1 - beta2 has to be right to the last bit of float32
  float eps, weight_decay, momentum, dampening, max_norm;
  bool nesterov, maximize, decoupled;
};

struct OptimKernels {
  Kernel<OptimBeginArgs> optim_begin;
  // Finds gradients that are not finite or overflow the second moment.
  Kernel<OptimArgs> optim_check;
  Kernel<OptimArgs> sgd, adam;
  Kernel<OptimArgs> grad_norm_chunks, grad_norm_combine, grad_scale;
};

}  // namespace fastnn
