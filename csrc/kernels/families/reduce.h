// Sums over everything, and what the trainer counts.
#pragma once
#include "../kernel.h"

namespace fastnn {

// Phase 1 sums chunks of kReduceChunk elements into partials, phase 2 adds those in order.
struct SumArgs {
  const void* x;
  void* y;
  double* partials;
  int64_t n;
  float scale;
  Status* status;
  int32_t site;
};
struct CountCorrectArgs {
  const float* x;
  const int64_t* labels;
  int64_t* correct;
  int64_t rows, cols;
};
struct AccumulateArgs {
  const float* x;
  double* sum;
  double scale;
};

struct ReduceKernels {
  Kernel<SumArgs> sum_chunks, sum_combine;
  Kernel<CountCorrectArgs> count_correct;
  Kernel<AccumulateArgs> accumulate;
};

}  // namespace fastnn
