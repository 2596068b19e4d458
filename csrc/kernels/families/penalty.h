// Penalties and constraints on parameters, one launch for all of them. Tasks: the rows of a table.
#pragma once
#include "optim.h"

namespace fastnn {

struct PenaltyArgs {
  const TensorChunk* chunks;
  double* partials;  // [tasks]
  float* y;          // the penalty
  const float* dy;   // its gradient; the parameters' are written to chunk.g
  double l1, l2;
  int32_t num_chunks;
};
struct SoftThresholdArgs {
  const TensorChunk* chunks;
  const double* lr;  // in memory, see OptimRates; null for 1
  const Status* status;
  double threshold;  // times lr
};

// Rows of one parameter: the incoming weights of some of its units.
struct RowBlock {
  void* p;
  int64_t rows, cols;
};
struct MaxNormArgs {
  const RowBlock* blocks;
  const Status* status;
  double limit;
};

struct PenaltyKernels {
  Kernel<PenaltyArgs> penalty_fwd, penalty_combine, penalty_bwd;
  Kernel<SoftThresholdArgs> soft_threshold;
  Kernel<MaxNormArgs> max_norm;
};

}  // namespace fastnn
