// Reductions over a whole array, in two phases: chunks of fixed size, then the chunks in order.
// Plus the sums that the trainer keeps of a step.
#include "../families/reduce.h"

#include "loops.h"
#include "table.h"

namespace fastnn {
namespace {

template <class T>
void sum_chunks(const SumArgs& args, Slice s) {
  const auto* x = static_cast<const T*>(args.x);
  for (int64_t task = s.begin; task < s.end; ++task) {
    const Range r = elements({task, task + 1, nullptr}, kReduceChunk, args.n);
    args.partials[task] = sum(x + r.begin, r.end - r.begin, 0.f, [](float v) { return v; });
  }
}

// With a status word, a sum that is not finite is reported (the loss of a step).
template <class T>
void sum_combine(const SumArgs& args, Slice) {
  const double total = sum_in_order(args.partials, ceil_div(args.n, kReduceChunk));
  const float y = static_cast<float>(total * static_cast<double>(args.scale));
  if (args.status != nullptr && !(y - y == 0.f))
    report(args.status, args.site, 0, DataError::kNanLoss);
  *static_cast<T*>(args.y) = from_float<T>(y);
}

// The first of the largest is the prediction, as in numpy.argmax.
void count_correct(const CountCorrectArgs& args, Slice) {
  int64_t correct = 0;
  for (int64_t r = 0; r < args.rows; ++r) {
    const float* x = args.x + r * args.cols;
    int64_t best = 0;
    for (int64_t c = 1; c < args.cols; ++c) best = x[c] > x[best] ? c : best;
    correct += best == args.labels[r];
  }
  *args.correct += correct;
}

void accumulate(const AccumulateArgs& args, Slice) {
  *args.sum += static_cast<double>(*args.x) * args.scale;
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
constinit const ReduceKernels FASTNN_LEVEL::Table<ReduceKernels>::of_dtype[kNumTableDTypes] = {
    kernels<float>(), kernels<bf16>(), {}, {}};

}  // namespace fastnn
