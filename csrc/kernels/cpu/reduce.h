// Reductions over a whole array, in two phases: chunks of fixed size, then the chunks in order.
// Plus the small counters that a training step keeps in memory.
#pragma once
#include "loops.h"

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
  double total = 0;
  for (int64_t task = 0; task < ceil_div(args.n, kReduceChunk); ++task)
    total += args.partials[task];
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

}  // namespace
}  // namespace fastnn
