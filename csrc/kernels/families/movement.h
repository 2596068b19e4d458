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
// y[i, c, r] = x[i, r, c] of items of 1, 2, 4 or 8 bytes. Tasks: kTransposeCols rows of one y[i].
struct TransposeArgs {
  const void* x;
  void* y;
  int64_t batch, rows, cols, item;
  constexpr int64_t tasks_per_matrix() const;
};
inline constexpr int64_t kTransposeCols = 64;
constexpr int64_t TransposeArgs::tasks_per_matrix() const { return ceil_div(cols, kTransposeCols); }
struct AdvanceArgs {
  int64_t* value;
  int64_t by;
};

struct MovementKernels {
  Kernel<GatherArgs> gather;
  Kernel<CopyRowsArgs> copy_rows;
  Kernel<TransposeArgs> transpose;
  Kernel<AdvanceArgs> advance;
};

}  // namespace fastnn
