// Matrix products (gemm_plan.h and gemm_batch.h have their arguments and tasks) and the backward of
// a layer, or of several at once.
#pragma once
#include "../gemm_batch.h"
#include "../kernel.h"

namespace fastnn {

// dz = dy * act'(saved) and db = column sums of dz, in one pass. dz may be null (identity). `items`
// layers of one shape follow one another in all arrays.
struct LinearBwdArgs {
  const void *dy, *saved;
  void *dz, *db;
  int64_t rows, cols;
  int32_t activation;
  float activation_param;
  int64_t items = 1;
};

struct LinearKernels {
  Kernel<GemmArgs> gemm_pack, gemm_packed, gemm_small;
  Kernel<GemmBatchArgs> gemm_batch_pack, gemm_batch, gemm_spans, gemm_span_sums;
  Kernel<LinearBwdArgs> linear_bwd;
};

}  // namespace fastnn
