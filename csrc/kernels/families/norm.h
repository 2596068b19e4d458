// Normalisation. Tasks: chunks of rows.
#pragma once
#include "../kernel.h"

namespace fastnn {

struct LayerNormFwdArgs {
  const void *x, *w, *b;
  void* y;
  double* mean;  // float64, since at an offset of 1e8 a rounded mean is off by whole standard
                 // deviations
  float* rstd;
  int64_t rows, cols;
  float eps;
};
struct LayerNormBwdArgs {
  const void *dy, *x, *w;
  const double* mean;
  const float* rstd;
  void* dx;          // may be null
  double* partials;  // [tasks, 2, cols] of dw and db, or null
  void *dw, *db;     // written by the second phase, either may be null
  int64_t rows, cols;
};

struct NormKernels {
  Kernel<LayerNormFwdArgs> layer_norm_fwd;
  Kernel<LayerNormBwdArgs> layer_norm_bwd, layer_norm_bwd_params;
};

}  // namespace fastnn
