// The sum of an array, and what a training step counts in memory.
#include "chunk.cuh"
#include "row.cuh"

namespace fastnn {
namespace {

template <class T>
__global__ void __launch_bounds__(kReduceThreads) sum_chunks_kernel(SumArgs args) {
  each_chunk(args.n, [&](int64_t task, int64_t first, int64_t n) {
    const double sum =
        chunk_sum(static_cast<const T*>(args.x) + first, n, [](float v) { return v; });
    if (threadIdx.x == 0) args.partials[task] = sum;
  });
}

// With a status word, a sum that is not finite is reported (the loss of a step).
template <class T>
__global__ void __launch_bounds__(kReduceThreads) sum_combine_kernel(SumArgs args, int64_t tasks) {
  const double total = combine(args.partials, tasks);
  if (threadIdx.x != 0) return;
  const float y = static_cast<float>(total * static_cast<double>(args.scale));
  if (args.status != nullptr && !(y - y == 0.f))
    report(args.status, args.site, 0, DataError::kNanLoss);
  *static_cast<T*>(args.y) = from_float<T>(y);
}

template <class T>
void sum_chunks(const SumArgs& args, Slice s) {
  if (args.n > 0)
    FASTNN_LAUNCH(sum_chunks_kernel<T>, chunk_grid(args.n), kReduceThreads, s.stream, args);
}
template <class T>
void sum_combine(const SumArgs& args, Slice s) {
  const int64_t tasks = ceil_div(args.n, kReduceChunk);
  FASTNN_LAUNCH(sum_combine_kernel<T>, 1, kReduceThreads, s.stream, args, tasks);
}

// The first of the largest is the prediction. A NaN is larger than nothing, and nothing is larger
// than a NaN that comes first.
struct CountCorrect {
  static constexpr int kSums = 1;
  CountCorrectArgs args;
  static __device__ __forceinline__ float order(int64_t c, float v) {
    return v == v ? v : c == 0 ? kInf : -kInf;
  }
  template <class Group, class Sums>
  __device__ __forceinline__ void row(const Group& g, Sums& sums) const {
    const auto x = g.row(args.x);
    float best = -kInf;
    g.each(x, [&](int64_t c, float v) { best = max(order(c, v), best); });
    best = g.reduce(best, [](float a, float b) { return max(a, b); });
    const int64_t at = g.first(x, [&](int64_t c, float v) { return order(c, v) == best; });
    sums[0] += at == args.labels[g.r] ? 1.0 : 0.0;
  }
  __device__ __forceinline__ void done(int64_t, const double* sums) const {
    add(args.correct, static_cast<int64_t>(sums[0]));
  }
};
inline void count_correct(const CountCorrectArgs& args, Slice s) {
  for_rows<float>(CountCorrect{args}, args.rows, args.cols, s);
}

__global__ void accumulate_kernel(AccumulateArgs args) {
  *args.sum += static_cast<double>(*args.x) * args.scale;
}
inline void accumulate(const AccumulateArgs& args, Slice s) {
  FASTNN_LAUNCH(accumulate_kernel, 1, 1, s.stream, args);
}

template <class T>
constexpr ReduceKernels kernels() {
  return {
      .sum_chunks = sum_chunks<T>,
      .sum_combine = sum_combine<T>,
      .count_correct = float32_only<T, CountCorrectArgs>(count_correct),
      .accumulate = float32_only<T, AccumulateArgs>(accumulate),
  };
}

}  // namespace

template <>
constinit const ReduceKernels cuda::Table<ReduceKernels>::of_dtype[kNumTableDTypes] = {
    kernels<float>(), kernels<bf16>(), kernels<f16>(), {}};

}  // namespace fastnn
