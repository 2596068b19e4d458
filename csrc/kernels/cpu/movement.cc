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

// Blocks of rows of x, so that the lines of the cache that a column crosses are used up.
template <class Item>
void transpose(const TransposeArgs& args, Slice s) {
  constexpr int64_t kRows = 16;
  const int64_t per_matrix = args.tasks_per_matrix();
  for (int64_t task = s.begin; task < s.end; ++task) {
    const int64_t offset = task / per_matrix * args.rows * args.cols;
    const auto* x = static_cast<const Item*>(args.x) + offset;
    auto* y = static_cast<Item*>(args.y) + offset;
    const int64_t first = task % per_matrix * kTransposeCols,
                  last = least(first + kTransposeCols, args.cols);
    for (int64_t r = 0; r < args.rows; r += kRows) {
      const int64_t rows = least(kRows, args.rows - r);
      for (int64_t c = first; c < last; ++c)
#pragma GCC ivdep
        for (int64_t i = 0; i < rows; ++i) y[c * args.rows + r + i] = x[(r + i) * args.cols + c];
    }
  }
}
void transpose_items(const TransposeArgs& args, Slice s) {
  switch (args.item) {
    case 1:
      return transpose<uint8_t>(args, s);
    case 2:
      return transpose<uint16_t>(args, s);
    case 4:
      return transpose<uint32_t>(args, s);
    default:
      return transpose<uint64_t>(args, s);
  }
}

constexpr MovementKernels kernels() {
  return {
      .gather = gather,
      .copy_rows = copy_rows,
      .transpose = transpose_items,
      .advance = advance,
  };
}

}  // namespace

template <>
constinit const MovementKernels FASTNN_LEVEL::Table<MovementKernels>::of_dtype[kNumTableDTypes] = {
    kernels(), kernels(), {}, {}};

}  // namespace fastnn
