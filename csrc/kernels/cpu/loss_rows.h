// What losses of rows share: zeros for a row, and where losses and their sums go.
#pragma once
#include "../families/loss.h"
#include "loops.h"

namespace fastnn {
namespace {

// A row of zeros.
template <class T>
FASTNN_FN void fill_row(T* y, int64_t n) {
  for (int64_t i = 0; i < n; ++i) y[i] = from_float<T>(0.f);
}

// The losses of the rows of each task, and their sum. They are rounded before they are summed: a
// product in float64 might be contracted into the sum, or not.
template <class F>
FASTNN_FN void sum_rows(const LossOutput& out, Slice s, int64_t rows, int64_t cols, F loss_of) {
  for (int64_t task = s.begin; task < s.end; ++task) {
    const Range range = elements({task, task + 1, nullptr}, rows_per_task(cols), rows);
    double total = 0;
    for (int64_t r = range.begin; r < range.end; ++r) {
      const auto loss = static_cast<float>(loss_of(r));
      if (out.each != nullptr) out.each[r] = loss;
      total += static_cast<double>(loss);
    }
    if (out.partials != nullptr) out.partials[task] = total;
  }
}

}  // namespace
}  // namespace fastnn
