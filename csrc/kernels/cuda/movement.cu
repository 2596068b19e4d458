// Data that only moves, and counters in memory.
#include "engine.cuh"

namespace fastnn {
namespace {

// Rows of `row_bytes`, in units of 16 bytes where all rows start at a multiple of that; unit u of
// row i is copied from row(i) at from + row(i) x_pitch to y + i y_pitch.
template <class Unit, class F>
__device__ __forceinline__ void copy_units(const char* x, char* y, int64_t rows, int64_t row_bytes,
                                           int64_t x_pitch, int64_t y_pitch, F row) {
  const int64_t size = sizeof(Unit), per_row = row_bytes / size;
  each_element(rows * per_row, [&](int64_t e) {
    const int64_t i = e / per_row, u = e - i * per_row;
    *reinterpret_cast<Unit*>(y + i * y_pitch + u * size) =
        *reinterpret_cast<const Unit*>(x + row(i) * x_pitch + u * size);
  });
}
template <class F>
__device__ __forceinline__ void copy_rows_by(const void* x, void* y, int64_t rows,
                                             int64_t row_bytes, int64_t x_pitch, int64_t y_pitch,
                                             F row) {
  using Wide = Vec<float, 4>;
  const auto* from = static_cast<const char*>(x);
  auto* to = static_cast<char*>(y);
  const auto fits = [&](int64_t size) {
    return (reinterpret_cast<uintptr_t>(x) | reinterpret_cast<uintptr_t>(y) |
            static_cast<uintptr_t>(row_bytes | x_pitch | y_pitch)) %
               static_cast<uintptr_t>(size) ==
           0;
  };
  if (fits(sizeof(Wide)))
    copy_units<Wide>(from, to, rows, row_bytes, x_pitch, y_pitch, row);
  else if (fits(sizeof(float)))
    copy_units<float>(from, to, rows, row_bytes, x_pitch, y_pitch, row);
  else
    copy_units<char>(from, to, rows, row_bytes, x_pitch, y_pitch, row);
}
inline int64_t copy_grid(int64_t rows, int64_t row_bytes) {
  return element_grid(rows * ceil_div(row_bytes, 16));
}

__global__ void __launch_bounds__(kElementwiseThreads) gather_kernel(GatherArgs args) {
  const int64_t* index = args.index + *args.cursor;
  copy_rows_by(args.x, args.y, args.rows, args.row_bytes, args.row_bytes, args.row_bytes,
               [index](int64_t i) { return index[i]; });
}
inline void gather(const GatherArgs& args, Slice s) {
  if (args.rows * args.row_bytes <= 0) return;
  FASTNN_LAUNCH(gather_kernel, copy_grid(args.rows, args.row_bytes), kElementwiseThreads, s.stream,
                args);
}

__global__ void __launch_bounds__(kElementwiseThreads) copy_rows_kernel(CopyRowsArgs args) {
  copy_rows_by(args.x, args.y, args.rows, args.row_bytes, args.x_pitch, args.y_pitch,
               [](int64_t i) { return i; });
}
inline void copy_rows(const CopyRowsArgs& args, Slice s) {
  if (args.rows * args.row_bytes <= 0) return;
  FASTNN_LAUNCH(copy_rows_kernel, copy_grid(args.rows, args.row_bytes), kElementwiseThreads,
                s.stream, args);
}

// Squares of kSide x kSide items go through shared memory, so that rows are read and written in
// runs; one item more per row of it, so that a column does not lie in one bank.
inline constexpr int kTransposeSide = 32, kTransposeHeight = kElementwiseThreads / kTransposeSide;

template <class Item>
__global__ void __launch_bounds__(kElementwiseThreads) transpose_kernel(TransposeArgs args) {
  constexpr int kPitch = kTransposeSide + 1;
  FASTNN_SHARED(Item, square, kTransposeSide * kPitch);
  const int64_t down = ceil_div(args.rows, kTransposeSide),
                across = ceil_div(args.cols, kTransposeSide);
  const int t = static_cast<int>(threadIdx.x), x = t % kTransposeSide, y = t / kTransposeSide;
  for (int64_t tile = blockIdx.x; tile < args.batch * down * across; tile += gridDim.x) {
    const int64_t matrix = tile / (down * across) * args.rows * args.cols;
    const int64_t row = tile / across % down * kTransposeSide, col = tile % across * kTransposeSide;
    const Item* from = static_cast<const Item*>(args.x) + matrix;
    Item* to = static_cast<Item*>(args.y) + matrix;
    __syncthreads();  // the last square has been read
    for (int i = y; i < kTransposeSide; i += kTransposeHeight)
      if (row + i < args.rows && col + x < args.cols)
        square[i * kPitch + x] = from[(row + i) * args.cols + col + x];
    __syncthreads();
    for (int i = y; i < kTransposeSide; i += kTransposeHeight)
      if (col + i < args.cols && row + x < args.rows)
        to[(col + i) * args.rows + row + x] = square[x * kPitch + i];
  }
}
template <class Item>
void transpose(const TransposeArgs& args, Slice s) {
  const int64_t tiles =
      args.batch * ceil_div(args.rows, kTransposeSide) * ceil_div(args.cols, kTransposeSide);
  if (tiles <= 0) return;
  FASTNN_LAUNCH((transpose_kernel<Item>), grid_for(tiles), kElementwiseThreads, s.stream, args);
}
inline void transpose_items(const TransposeArgs& args, Slice s) {
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

__global__ void advance_kernel(AdvanceArgs args) { *args.value += args.by; }
inline void advance(const AdvanceArgs& args, Slice s) {
  FASTNN_LAUNCH(advance_kernel, 1, 1, s.stream, args);
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
constinit const MovementKernels cuda::Table<MovementKernels>::of_dtype[kNumTableDTypes] = {
    kernels(), kernels(), kernels(), {}};

}  // namespace fastnn
