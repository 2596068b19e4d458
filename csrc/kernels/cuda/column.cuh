// Sums over the rows of a matrix, column by column: a block has 32 neighbouring columns, one per
// lane, its warp w adds the rows w, w + kColumnWarps, ..., and then the warps are added in order.
// So every row is read in runs of 32, and no result depends on the device's size.
#pragma once
#include "engine.cuh"

namespace fastnn {
namespace {

inline constexpr int kColumnWarps = 8;
inline constexpr int kColumnThreads = kColumnWarps * kWarp;

// The sums x of all warps, in their order; every warp gets them. `part` has room for
// kSums * kColumnThreads.
template <int kSums>
__device__ __forceinline__ void sum_over_warps(double (&x)[kSums], double* part) {
  __syncthreads();  // the last call's values have been read
  FASTNN_UNROLL
  for (int j = 0; j < kSums; ++j) part[j * kColumnThreads + threadIdx.x] = x[j];
  __syncthreads();
  FASTNN_UNROLL
  for (int j = 0; j < kSums; ++j) {
    x[j] = 0;
    for (int w = 0; w < kColumnWarps; ++w)
      x[j] += part[j * kColumnThreads + w * kWarp + threadIdx.x % kWarp];
  }
}

// Calls use(c, has, first) for the column c of each lane, in blocks of columns: `has` says whether
// there is one, `first` is the first row of the warp.
template <class F>
__device__ __forceinline__ void each_column(int64_t cols, F use) {
  for (int64_t block = blockIdx.x; block < ceil_div(cols, kWarp); block += gridDim.x) {
    const int64_t c = block * kWarp + threadIdx.x % kWarp;
    use(c, c < cols, int64_t{threadIdx.x} / kWarp);
  }
}
inline int64_t column_grid(int64_t cols) { return grid_for(ceil_div(cols, kWarp)); }

__device__ __forceinline__ double value_of(double x) { return x; }
template <class T>
__device__ __forceinline__ double value_of(T x) {
  return static_cast<double>(to_float(x));
}

// y[c] = sum of x[r, c] over rows, which are `pitch` apart.
template <class From, class To>
__global__ void __launch_bounds__(kColumnThreads)
    sum_columns_kernel(const From* x, int64_t pitch, To* y, int64_t rows, int64_t cols) {
  FASTNN_SHARED(double, part, kColumnThreads);
  each_column(cols, [&](int64_t c, bool has, int64_t first) {
    double sum[1] = {0};
    if (has)
      for (int64_t r = first; r < rows; r += kColumnWarps) sum[0] += value_of(x[r * pitch + c]);
    sum_over_warps(sum, part);
    if (has && first == 0) y[c] = from_float<To>(static_cast<float>(sum[0]));
  });
}
template <class From, class To>
void sum_columns(const From* x, int64_t pitch, To* y, int64_t rows, int64_t cols, Slice s) {
  if (cols <= 0) return;
  FASTNN_LAUNCH((sum_columns_kernel<From, To>), column_grid(cols), kColumnThreads, s.stream, x,
                pitch, y, rows, cols);
}

}  // namespace
}  // namespace fastnn
