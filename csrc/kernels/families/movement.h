// Data that only moves, and counters in memory.
#pragma once
#include "../kernel.h"

namespace fastnn {

// y[i] = x[index[*cursor + i]] for i < rows, whole rows of `row_bytes`.
struct GatherArgs {
  const void* x;
  const int64_t* index;
  const int64_t* cursor;
  void* y;
  int64_t rows, row_bytes;
};
struct AdvanceArgs {
  int64_t* value;
  int64_t by;
};

struct MovementKernels {
  Kernel<GatherArgs> gather;
  Kernel<AdvanceArgs> advance;
};

}  // namespace fastnn
