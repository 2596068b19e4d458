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
// Rows of `row_bytes` from one pitch to another.
struct CopyRowsArgs {
  const void* x;
  void* y;
  int64_t rows, row_bytes, x_pitch, y_pitch;
};
struct AdvanceArgs {
  int64_t* value;
  int64_t by;
};

struct MovementKernels {
  Kernel<GatherArgs> gather;
  Kernel<CopyRowsArgs> copy_rows;
  Kernel<AdvanceArgs> advance;
};

}  // namespace fastnn
