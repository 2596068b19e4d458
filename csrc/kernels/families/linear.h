// Matrix products (gemm_plan.h has their arguments and tasks) and the backward of a layer.
#pragma once
#include "../gemm_plan.h"
#include "../kernel.h"

namespace fastnn {

// dz = dy * act'(saved) and db = column sums of dz, in one pass. dz may be null (identity).
struct LinearBwdArgs {
  const float *dy, *saved;
  float *dz, *db;
  int64_t rows, cols;
  int32_t activation;
  float activation_param;
};

struct LinearKernels {
  Kernel<GemmArgs> gemm_pack, gemm_packed, gemm_small;
  Kernel<LinearBwdArgs> linear_bwd;
};

}  // namespace fastnn
