// Rows gathered by an index in memory, and the counter that says where in the index a step is.
#include "../families/movement.h"

#include "loops.h"
#include "table.h"

namespace fastnn {
namespace {

void advance(const AdvanceArgs& args, Slice) { *args.value += args.by; }

// y[i] = x[index[*cursor + i]], whole rows; tasks are chunks of kElementwiseChunk bytes of rows.
void gather(const GatherArgs& args, Slice s) {
  const Range r = elements(s, rows_per_task(args.row_bytes), args.rows);
  const auto* x = static_cast<const char*>(args.x);
  auto* y = static_cast<char*>(args.y);
  const int64_t* index = args.index + *args.cursor;
  for (int64_t i = r.begin; i < r.end; ++i)
    __builtin_memcpy(y + i * args.row_bytes, x + index[i] * args.row_bytes,
                     static_cast<uint64_t>(args.row_bytes));
}

void copy_rows(const CopyRowsArgs& args, Slice s) {
  const Range r = elements(s, rows_per_task(args.row_bytes), args.rows);
  for (int64_t i = r.begin; i < r.end; ++i)
    __builtin_memcpy(static_cast<char*>(args.y) + i * args.y_pitch,
                     static_cast<const char*>(args.x) + i * args.x_pitch,
                     static_cast<uint64_t>(args.row_bytes));
}

constexpr MovementKernels kernels() {
  return {
      .gather = gather,
      .copy_rows = copy_rows,
      .advance = advance,
  };
}

}  // namespace

template <>
constinit const MovementKernels FASTNN_LEVEL::Table<MovementKernels>::of_dtype[kNumTableDTypes] = {
    kernels(), kernels(), {}, {}};

}  // namespace fastnn
