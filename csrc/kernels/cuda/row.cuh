// The row engine: a warp or a block per row of a matrix. Rows of up to a few thousand columns stay
// in registers between the passes, longer ones are read again. What is summed over rows is a
// partial sum for each task of rows_per_task rows, as on the CPU, so no result depends on the
// device's size.
#pragma once
#include "engine.cuh"

namespace fastnn {
namespace {

inline constexpr int kRowThreads = 256;  // of a block, but for the longest rows
inline constexpr int kLongRowThreads = 512;

// One row as its group of kThreads threads sees it: vector i of thread t starts at column
// (i kThreads + t) kVec. kVecs is how many a thread keeps in registers; 0: none, for any length.
template <class T, int kThreads, int kVecs>
class Row {
 public:
  static constexpr int kCount = kVec<T>;
  using V = Vec<T, kCount>;

  __device__ __forceinline__ Row(const T* p, int64_t cols, bool aligned)
      : p_(p), cols_(cols), aligned_(aligned) {
    if constexpr (kVecs > 0) {
      FASTNN_UNROLL
      for (int i = 0; i < kVecs; ++i) v_[i] = load<kCount>(p + at(i), cols - at(i), aligned);
    }
  }
  static __device__ __forceinline__ int64_t at(int64_t i) {
    return (i * kThreads + threadIdx.x % kThreads) * kCount;
  }
  __device__ __forceinline__ V vec(int i) const {
    if constexpr (kVecs > 0) return v_[i];
    return load<kCount>(p_ + at(i), cols_ - at(i), aligned_);
  }
  // Calls f(i, column, left) for each vector of this thread that holds any column.
  template <class F>
  static __device__ __forceinline__ void each(int64_t cols, F f) {
    if constexpr (kVecs > 0) {
      FASTNN_UNROLL
      for (int i = 0; i < kVecs; ++i)
        if (at(i) < cols) f(i, at(i), cols - at(i));
    } else {
      for (int i = 0; at(i) < cols; ++i) f(i, at(i), cols - at(i));
    }
  }

 private:
  const T* p_;
  int64_t cols_;
  bool aligned_;
  V v_[kVecs > 0 ? kVecs : 1];
};

// ---- what an operation on rows is made of ------------------------------------------------------
// The group that works on row `r`. All its threads see the same results.
template <class T, int kThreads, int kVecs>
struct RowGroup {
  using Type = T;
  using Columns = Row<T, kThreads, kVecs>;
  static constexpr int kCount = Columns::kCount;
  int64_t r, cols;

  __device__ __forceinline__ bool leads() const { return threadIdx.x % kThreads == 0; }
  __device__ __forceinline__ const T* at(const void* x) const {
    return static_cast<const T*>(x) + r * cols;
  }
  __device__ __forceinline__ T* at(void* x) const { return static_cast<T*>(x) + r * cols; }
  __device__ __forceinline__ Columns row(const void* x) const {
    return Columns(at(x), cols, rows_aligned(static_cast<const T*>(x), cols));
  }

  // Whatever one thread of the group has written, all may read afterwards.
  __device__ __forceinline__ void sync() const {
    if constexpr (kThreads == kWarp)
      __syncwarp();
    else
      __syncthreads();
  }

  // f(column, x) for the elements of this thread.
  template <class F>
  __device__ __forceinline__ void each(const Columns& x, F f) const {
    Columns::each(cols, [&](int i, int64_t c, int64_t left) {
      const auto v = x.vec(i);
      FASTNN_UNROLL
      for (int k = 0; k < kCount; ++k)
        if (k < left) f(c + k, to_float(v.v[k]));
    });
  }
  template <class X, class F>
  __device__ __forceinline__ X reduce(X x, F f) const {
    return group_reduce<kThreads>(x, f);
  }
  // sum f(column, x) in float64; the largest x; the first column where f(column, x).
  template <class F>
  __device__ __forceinline__ double sum(const Columns& x, F f) const {
    double total = 0;
    each(x, [&](int64_t c, float v) { total += static_cast<double>(f(c, v)); });
    return group_sum<kThreads>(total);
  }
  template <class F>
  __device__ __forceinline__ double sum(const Columns& x, const Columns& z, F f) const {
    double total = 0;
    Columns::each(cols, [&](int i, int64_t, int64_t left) {
      const auto v = x.vec(i), w = z.vec(i);
      FASTNN_UNROLL
      for (int k = 0; k < kCount; ++k)
        if (k < left) total += f(to_float(v.v[k]), to_float(w.v[k]));
    });
    return group_sum<kThreads>(total);
  }
  __device__ __forceinline__ float max(const Columns& x) const {
    float m = -kInf;
    each(x, [&](int64_t, float v) { m = fastnn::max(v, m); });
    return reduce(m, [](float a, float b) { return fastnn::max(a, b); });
  }
  template <class F>
  __device__ __forceinline__ int64_t first(const Columns& x, F f) const {
    int64_t at = cols;
    each(x, [&](int64_t c, float v) { at = f(c, v) && c < at ? c : at; });
    return reduce(at, [](int64_t a, int64_t b) { return a < b ? a : b; });
  }
  // y = f(column, x).
  template <class F>
  __device__ __forceinline__ void map(const Columns& x, void* y, F f) const {
    const bool aligned = rows_aligned(static_cast<T*>(y), cols);
    Columns::each(cols, [&](int i, int64_t c, int64_t left) {
      auto v = x.vec(i);
      FASTNN_UNROLL
      for (int k = 0; k < kCount; ++k)
        if (k < left) v.v[k] = from_float<T>(f(c + k, to_float(v.v[k])));
      store(at(y) + c, v, left, aligned);
    });
  }
  // y = f(column, x, z).
  template <class F>
  __device__ __forceinline__ void zip(const Columns& x, const Columns& z, void* y, F f) const {
    const bool aligned = rows_aligned(static_cast<T*>(y), cols);
    Columns::each(cols, [&](int i, int64_t c, int64_t left) {
      auto v = x.vec(i);
      const auto w = z.vec(i);
      FASTNN_UNROLL
      for (int k = 0; k < kCount; ++k)
        if (k < left) v.v[k] = from_float<T>(f(c + k, to_float(v.v[k]), to_float(w.v[k])));
      store(at(y) + c, v, left, aligned);
    });
  }
};

// ---- the kernel --------------------------------------------------------------------------------
// An operation `op` is a struct with kSums, row(group, sums), which may add to double sums[kSums],
// and where kSums > 0, done(task, sums), called by one thread with the sums over a task's rows.
template <class T, int kThreads, int kVecs, class Op>
__global__ void __launch_bounds__((kThreads > kRowThreads ? kThreads : kRowThreads), 1)
    row_kernel(Op op, int64_t rows, int64_t cols, int64_t rows_of_task) {
  constexpr int kGroups = kThreads < kRowThreads ? kRowThreads / kThreads : 1;
  constexpr int kSums = Op::kSums, kSlots = kSums > 0 ? kSums : 1;
  const int group = static_cast<int>(threadIdx.x) / kThreads;
  for (int64_t task = blockIdx.x; task * rows_of_task < rows; task += gridDim.x) {
    const int64_t last = least((task + 1) * rows_of_task, rows);
    double sums[kSlots] = {};
    for (int64_t r = task * rows_of_task + group; r < last; r += kGroups)
      op.row(RowGroup<T, kThreads, kVecs>{r, cols}, sums);
    if constexpr (kSums > 0) {
      FASTNN_SHARED(double, part, (kSlots * kGroups));
      __syncthreads();  // the last task's sums have been read
      if (threadIdx.x % kThreads == 0) {
        FASTNN_UNROLL
        for (int j = 0; j < kSums; ++j) part[j * kGroups + group] = sums[j];
      }
      __syncthreads();
      if (threadIdx.x != 0) continue;
      FASTNN_UNROLL
      for (int j = 0; j < kSums; ++j) {
        sums[j] = 0;
        for (int g = 0; g < kGroups; ++g) sums[j] += part[j * kGroups + g];
      }
      op.done(task, sums);
    }
  }
}

template <class T, int kThreads, int kVecs, class Op>
void launch_rows(const Op& op, int64_t rows, int64_t cols, Slice s) {
  constexpr int kBlock = kThreads > kRowThreads ? kThreads : kRowThreads;
  const int64_t rows_of_task = Op::kSums > 0 ? rows_per_task(cols) : kBlock / kThreads;
  FASTNN_LAUNCH((row_kernel<T, kThreads, kVecs, Op>), grid_for(ceil_div(rows, rows_of_task)),
                kBlock, s.stream, op, rows, cols, rows_of_task);
}

template <class T, class Op>
void for_rows(const Op& op, int64_t rows, int64_t cols, Slice s) {
  if (rows <= 0) return;
  const int64_t vecs = ceil_div(cols, kVec<T>);
  if (vecs <= kWarp) return launch_rows<T, kWarp, 1>(op, rows, cols, s);
  if (vecs <= 4 * kWarp) return launch_rows<T, kWarp, 4>(op, rows, cols, s);
  if (vecs <= 4 * kRowThreads) return launch_rows<T, kRowThreads, 4>(op, rows, cols, s);
  launch_rows<T, kLongRowThreads, 0>(op, rows, cols, s);
}

// The kernel of a family's table: all rows of args.
template <class T, class Op, class Args>
void for_rows_of(const Args& args, Slice s) {
  for_rows<T>(Op{args}, args.rows, args.cols, s);
}

}  // namespace
}  // namespace fastnn
