// Rows by index, and what turns rows into indices. A gradient row is summed by the threads that own
// it, in the order of the indices, so no result depends on the schedule.
#include "chunk.cuh"
#include "row.cuh"

namespace fastnn {
namespace {

// ---- rows by index -----------------------------------------------------------------------------
template <class T, int kCount>
__device__ __forceinline__ void take_vectors(const TakeArgs& args) {
  const auto* x = static_cast<const T*>(args.x);
  auto* y = static_cast<T*>(args.y);
  const int64_t per_row = args.cols / kCount;
  Vec<T, kCount> fill;
  FASTNN_UNROLL
  for (int k = 0; k < kCount; ++k) fill.v[k] = from_float<T>(args.fill);
  each_element(args.outer * args.n * per_row, [&](int64_t e) {
    const int64_t row = e / per_row, c = (e - row * per_row) * kCount, o = row / args.n;
    const int64_t at = args.index[row - o * args.n];
    const bool found = in_range(at, args.rows);
    const auto v =
        found ? load<kCount>(x + (o * args.rows + at) * args.cols + c, kCount, true) : fill;
    store(y + row * args.cols + c, v, kCount, true);
    if (!found && args.status != nullptr && c == 0)
      report(args.status, args.site, row, DataError::kIndexOutOfRange);
  });
}
template <class T>
__global__ void __launch_bounds__(kElementwiseThreads, 1) take_kernel(TakeArgs args) {
  if (rows_aligned(static_cast<const T*>(args.x), args.cols) && is_aligned(args.y))
    take_vectors<T, kVec<T>>(args);
  else
    take_vectors<T, 1>(args);
}
template <class T>
void take(const TakeArgs& args, Slice s) {
  const int64_t n = args.outer * args.n * args.cols;
  if (n > 0)
    FASTNN_LAUNCH(take_kernel<T>, element_grid(ceil_div(n, kVec<T>)), kElementwiseThreads, s.stream,
                  args);
}

// ---- where each row was taken to ---------------------------------------------------------------
// x[i] becomes the sum of x[0 .. i], by one block.
__device__ __forceinline__ void scan(int64_t* x, int64_t n) {
  FASTNN_SHARED(int64_t, part, kReduceThreads);
  const int t = static_cast<int>(threadIdx.x);
  int64_t before = 0;
  for (int64_t base = 0; base < n; base += kReduceThreads) {
    part[t] = base + t < n ? x[base + t] : 0;
    for (int step = 1; step < kReduceThreads; step *= 2) {
      __syncthreads();
      const int64_t left = t >= step ? part[t - step] : 0;
      __syncthreads();
      part[t] += left;
    }
    __syncthreads();
    if (base + t < n) x[base + t] = before + part[t];
    before += part[kReduceThreads - 1];
    __syncthreads();  // before the next part overwrites this
  }
}

// A counting sort by one block, stable: from the end of each row's part to its beginning. In a part
// of the index, the places of equal rows are told apart by how many of them come later.
__global__ void __launch_bounds__(kReduceThreads, 1) take_order_kernel(TakeOrderArgs args) {
  FASTNN_SHARED(int64_t, rows, kReduceThreads);
  const int t = static_cast<int>(threadIdx.x);
  const auto row_at = [&](int64_t i) {
    const int64_t r = i < args.n ? args.index[i] : -1;
    return in_range(r, args.rows) && r != args.ignored ? r : -1;
  };
  for (int64_t r = t; r <= args.rows; r += kReduceThreads) args.first[r] = 0;
  __syncthreads();
  for (int64_t i = t; i < args.n; i += kReduceThreads)
    if (row_at(i) >= 0) add(args.first + row_at(i), 1);
  __syncthreads();
  scan(args.first, args.rows + 1);
  for (int64_t base = (args.n - 1) / kReduceThreads * kReduceThreads; base >= 0;
       base -= kReduceThreads) {
    const int64_t r = row_at(base + t);
    rows[t] = r;
    __syncthreads();
    int earlier = 0, later = 0;
    for (int other = 0; other < kReduceThreads; ++other) {
      earlier += other < t && rows[other] == r;
      later += other > t && rows[other] == r;
    }
    const int64_t end = r >= 0 ? args.first[r] : 0;
    if (r >= 0) args.order[end - 1 - later] = base + t;
    __syncthreads();  // all have read the ends
    if (r >= 0 && earlier == 0) args.first[r] = end - 1 - later;
    __syncthreads();
  }
}
inline void take_order(const TakeOrderArgs& args, Slice s) {
  FASTNN_LAUNCH(take_order_kernel, 1, kReduceThreads, s.stream, args);
}

template <class T>
__global__ void __launch_bounds__(kElementwiseThreads, 1) take_bwd_kernel(TakeBwdArgs args) {
  const auto* dy = static_cast<const T*>(args.dy);
  each_element(args.outer * args.rows * args.cols, [&](int64_t e) {
    const int64_t row = e / args.cols, c = e - row * args.cols, o = row / args.rows;
    const int64_t r = row - o * args.rows;
    double total = 0;
    for (int64_t k = args.first[r]; k < args.first[r + 1]; ++k)
      total += static_cast<double>(to_float(dy[(o * args.n + args.order[k]) * args.cols + c]));
    static_cast<T*>(args.dx)[e] = from_float<T>(static_cast<float>(total));
  });
}
template <class T>
void take_bwd(const TakeBwdArgs& args, Slice s) {
  const int64_t n = args.outer * args.rows * args.cols;
  if (n > 0)
    FASTNN_LAUNCH(take_bwd_kernel<T>, element_grid(n), kElementwiseThreads, s.stream, args);
}

// ---- rows and indices --------------------------------------------------------------------------
__global__ void __launch_bounds__(kElementwiseThreads, 1) one_hot_kernel(OneHotArgs args) {
  each_element(args.n * args.classes, [&](int64_t e) {
    const int64_t i = e / args.classes, c = e - i * args.classes, at = args.index[i];
    args.y[e] = c == at ? 1 : 0;
    if (c == 0 && !in_range(at, args.classes))
      report(args.status, args.site, i, DataError::kIndexOutOfRange);
  });
}
inline void one_hot(const OneHotArgs& args, Slice s) {
  if (args.n > 0)
    FASTNN_LAUNCH(one_hot_kernel, element_grid(args.n * args.classes), kElementwiseThreads,
                  s.stream, args);
}

struct Argmax {
  static constexpr int kSums = 0;
  ArgmaxArgs args;
  template <class Group, class Sums>
  __device__ __forceinline__ void row(const Group& g, Sums&) const {
    const auto x = g.row(args.x);
    const float best = g.max(x);
    const int64_t at =
        g.first(x, [best](int64_t, float v) { return best == best ? v == best : v != v; });
    if (g.leads()) args.y[g.r] = at;
  }
};

// NaN stands before all numbers, as in argmax.
struct TopKCorrect {
  static constexpr int kSums = 0;
  TopKCorrectArgs args;
  static __device__ __forceinline__ bool precedes(float v, float mine) {
    return (v > mine) | ((v != v) & (mine == mine));
  }
  template <class Group, class Sums>
  __device__ __forceinline__ void row(const Group& g, Sums&) const {
    const int64_t label = args.labels[g.r];
    float y = 0.f;
    if (in_range(label, g.cols)) {
      const float mine = to_float(g.at(args.x)[label]);
      const double before = g.sum(g.row(args.x), [=](int64_t c, float v) {
        const bool equal = (v == mine) | ((v != v) & (mine != mine));
        return precedes(v, mine) | (equal & (c < label)) ? 1.0 : 0.0;
      });
      y = before < static_cast<double>(args.k) ? 1.f : 0.f;
    } else if (g.leads()) {
      report(args.status, args.site, g.r, DataError::kLabelOutOfRange);
    }
    if (g.leads()) args.y[g.r] = y;
  }
};

template <class T>
constexpr EmbeddingKernels kernels() {
  return {
      .take = take<T>,
      .take_order = take_order,
      .take_bwd = take_bwd<T>,
      .one_hot = one_hot,
      .argmax = for_rows_of<T, Argmax>,
      .topk_correct = for_rows_of<T, TopKCorrect>,
  };
}

}  // namespace

template <>
constinit const EmbeddingKernels cuda::Table<EmbeddingKernels>::of_dtype[kNumTableDTypes] = {
    kernels<float>(), kernels<bf16>(), kernels<f16>(), {}};

}  // namespace fastnn
