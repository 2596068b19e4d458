// What softmax and the losses share: sums of exponentials over rows, with the maximum subtracted. A
// block of the row at a time, so that ten classes cost one vector and not ten calls of exp.
#pragma once
#include "../formulas/softmax.h"
#include "loops.h"

namespace fastnn {
namespace {

FASTNN_FN Range softmax_rows(Slice s, int64_t rows, int64_t cols) {
  return elements(s, rows_per_task(cols), rows);
}

// Up to 16 rows together. With m = max x and s = sum exp(x - m): logsumexp = m + log s. A row of
// nothing but -inf has no distribution: x - m is NaN, and so is its sum.
constexpr int kGroupRows = kBlockLanes;

struct RowGroup {
  float max[kGroupRows];
  double total[kGroupRows];
};

template <class T>
FASTNN_FN void one_row(const T* x, int64_t cols, float* max_x, double* total) {
  const float m = max(x, cols);
  *max_x = m;
  *total = sum(x, cols, -kInf,
               [m](float v) __attribute__((always_inline)) { return exp_in_sum(v - m); });
}

// Narrow rows side by side, one row per lane: ten classes are ten vector operations for 16 rows,
// not 16 times a vector of which six lanes idle. The sum's tree is that of one_row, so the bits are
// too.
template <class T>
void narrow_rows(const T* x, int rows, int64_t cols, RowGroup& group) {
  float v[kBlockLanes][kGroupRows];
  double terms[kBlockLanes][kGroupRows];
  for (int c = 0; c < kBlockLanes; ++c)
    for (int r = 0; r < kGroupRows; ++r)
      v[c][r] = c < cols && r < rows ? to_float(x[r * cols + c]) : -kInf;
  for (int r = 0; r < kGroupRows; ++r) group.max[r] = -kInf;
  for (int c = 0; c < cols; ++c)
    for (int r = 0; r < kGroupRows; ++r) group.max[r] = max(v[c][r], group.max[r]);
  for (int c = 0; c < kBlockLanes; ++c)
    for (int r = 0; r < kGroupRows; ++r)
      terms[c][r] = c < cols ? static_cast<double>(exp_in_sum(v[c][r] - group.max[r])) : 0.0;
  for (int width = kBlockLanes / 2; width > 0; width /= 2)
    for (int c = 0; c < width; ++c)
      for (int r = 0; r < kGroupRows; ++r) terms[c][r] += terms[c + width][r];
  for (int r = 0; r < kGroupRows; ++r) group.total[r] = terms[0][r];
}

// Calls use(first row, rows, group) for groups of rows.
template <class T, class F>
FASTNN_FN void for_row_groups(const T* x, Range rows, int64_t cols, F use) {
  for (int64_t r = rows.begin; r < rows.end; r += kGroupRows) {
    const int count = static_cast<int>(least(rows.end - r, kGroupRows));
    RowGroup group;
    if (cols <= kBlockLanes) {
      narrow_rows(x + r * cols, count, cols, group);
    } else {
      for (int i = 0; i < count; ++i)
        one_row(x + (r + i) * cols, cols, &group.max[i], &group.total[i]);
    }
    use(r, count, group);
  }
}

// The logarithms of the sums of a group, all lanes at once.
FASTNN_FN void log_sums(const RowGroup& group, int rows, float (&log_sum)[kGroupRows]) {
  for (int r = 0; r < kGroupRows; ++r)
    log_sum[r] = log(r < rows ? static_cast<float>(group.total[r]) : 1.f);
}

// y[i] = f(x[i]) for one row, in whole blocks.
template <class T, class F>
FASTNN_FN void map_row(const T* x, T* y, int64_t n, F f) {
  for_blocks(n, [&](int64_t i, int lanes) __attribute__((always_inline)) {
    float v[kBlockLanes];
    load_block(x + i, lanes, 0.f, v);
    for (int l = 0; l < kBlockLanes; ++l) v[l] = f(v[l]);
    store_block(y + i, lanes, v);
  });
}

}  // namespace
}  // namespace fastnn
