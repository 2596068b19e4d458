// What a kernel is given besides its Args: a range of tasks (CPU) or a stream (CUDA).
#pragma once
#include <cstdint>

namespace fastnn {

struct Slice {
  int64_t begin, end;  // tasks [begin, end)
  void* stream;        // CUDA: all tasks, on this stream
};

// Tasks of one-dimensional work cut into chunks. Never a function of the thread count.
inline constexpr int64_t kElementwiseChunk = 16384;
inline constexpr int64_t kReduceChunk = 16384;
inline constexpr int64_t kOptimChunk = 16384;
inline constexpr int64_t kColumnChunk = 64;

// Internal linkage: the kernels of every instruction set include this, and must not share code.
namespace {

constexpr int64_t least(int64_t a, int64_t b) { return a < b ? a : b; }
constexpr int64_t most(int64_t a, int64_t b) { return a > b ? a : b; }
constexpr bool in_range(int64_t i, int64_t n) { return i >= 0 && i < n; }
constexpr int64_t ceil_div(int64_t n, int64_t chunk) { return (n + chunk - 1) / chunk; }
constexpr int64_t round_up(int64_t n, int64_t unit) { return ceil_div(n, unit) * unit; }

// Rows per task of row-wise work: about one elementwise chunk.
constexpr int64_t rows_per_task(int64_t cols) {
  return cols >= kElementwiseChunk ? 1 : kElementwiseChunk / (cols > 0 ? cols : 1);
}

}  // namespace
}  // namespace fastnn
