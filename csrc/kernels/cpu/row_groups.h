// What softmax and the losses share: sums of exponentials over rows, with the maximum subtracted. A
// row is summed in sixteen lanes, and the lanes of up to sixteen rows are combined together, so
// that ten classes cost a few vector operations. The exponentials are kept for softmax.
#pragma once
#include "../formulas/softmax.h"
#include "lane_tree.h"

namespace fastnn {
namespace {

FASTNN_FN Range softmax_rows(Slice s, int64_t rows, int64_t cols) {
  return elements(s, rows_per_task(cols), rows);
}

constexpr int kGroupRows = kBlockLanes;
constexpr int kUnrolledBlocks = 4;

// Rows together, with m = max x and total = sum exp_scaled(x - m): logsumexp = m + log_sum. A row
// of nothing but -inf has no distribution: x - m is NaN, and so is its sum.
struct RowGroup {
  float max[kGroupRows], total[kGroupRows];
  float lanes[kGroupRows][kBlockLanes];  // of narrow rows, exp_scaled(x - m)

  // log sum exp(x - m), all lanes at once.
  FASTNN_FN void log_sums(int rows, float (&log_sum)[kGroupRows]) const {
    for (int r = 0; r < kGroupRows; ++r) log_sum[r] = log(r < rows ? total[r] * kExpScale : 1.f);
  }
};

// The larger of two, or `a` where b is NaN. A NaN in a row is found by the row's sum.
struct Larger {
  template <class V>
  FASTNN_FN V operator()(V a, V b) const {
    return a < b ? b : a;
  }
};
FASTNN_FN Floats larger(Floats a, const Floats& b) {
  FASTNN_UNROLL for (int i = 0; i < Floats::kVectors; ++i) a.v[i] = Larger{}(a.v[i], b.v[i]);
  return a;
}

// Calls unrolled(i) for i = 0, 64, ... and then block(i, lanes) for what is left.
template <class U, class B>
FASTNN_FN void for_unrolled_blocks(int64_t n, U unrolled, B block) {
  constexpr int64_t kStep = kUnrolledBlocks * kBlockLanes;
  int64_t i = 0;
  for (; i + kStep <= n; i += kStep) unrolled(i);
  for (; i < n; i += kBlockLanes) block(i, static_cast<int>(least(n - i, kBlockLanes)));
}

// lanes[l] = max x[i] for i % 16 = l, NaNs aside.
template <class T>
FASTNN_FN void largest_lanes(const T* x, int64_t n, float (&lanes)[kBlockLanes]) {
  Floats acc[kUnrolledBlocks];
  FASTNN_UNROLL for (Floats& block : acc) block = Floats(-kInf);
  const auto add = [&](int b, const T* block, int count) __attribute__((always_inline)) {
    float v[kBlockLanes];
    load_block(block, count, -kInf, v);
    acc[b] = larger(acc[b], Floats(v));
  };
  for_unrolled_blocks(
      n,
      [&](int64_t i) __attribute__((always_inline)) {
        FASTNN_UNROLL for (int b = 0; b < kUnrolledBlocks; ++b)
            add(b, x + i + b * kBlockLanes, kBlockLanes);
      },
      [&](int64_t i, int count) __attribute__((always_inline)) { add(0, x + i, count); });
  FASTNN_UNROLL for (int b = kUnrolledBlocks / 2; b > 0; b /= 2) {
    FASTNN_UNROLL for (int i = 0; i < b; ++i) acc[i] = larger(acc[i], acc[i + b]);
  }
  acc[0].store_to(lanes);
}

template <class T>
FASTNN_FN void terms_of_block(const T* x, int count, float m, float (&e)[kBlockLanes]) {
  load_block(x, count, -kInf, e);
  FASTNN_FOR_LANES(l) e[l] = exp_scaled(e[l] - m);
}

// lanes[l] = sum exp_scaled(x[i] - m) for i % 16 = l, the terms kept in `kept` unless it is null.
// Four terms are added in float, which costs at most 2 u, and their sums in float64.
template <class T>
FASTNN_FN void sum_lanes(const T* x, int64_t n, float m, float* kept, float (&lanes)[kBlockLanes]) {
  Lanes acc = {};
  for_unrolled_blocks(
      n,
      [&](int64_t i) __attribute__((always_inline)) {
        Floats terms[kUnrolledBlocks];
        FASTNN_UNROLL for (int b = 0; b < kUnrolledBlocks; ++b) {
          const int64_t at = i + b * kBlockLanes;
          float e[kBlockLanes];
          terms_of_block(x + at, kBlockLanes, m, e);
          if (kept != nullptr) store_block(kept + at, kBlockLanes, e);
          terms[b] = Floats(e);
        }
        float sum[kBlockLanes];
        ((terms[0] + terms[1]) + (terms[2] + terms[3])).store_to(sum);
        acc += Lanes(sum);
      },
      [&](int64_t i, int count) __attribute__((always_inline)) {
        float e[kBlockLanes];
        terms_of_block(x + i, count, m, e);
        if (kept != nullptr) store_block(kept + i, count, e);
        acc += Lanes(e);
      });
  FASTNN_FOR_LANES(l) lanes[l] = static_cast<float>(acc[l]);
}

template <class T>
FASTNN_FN void sum_wide_rows(const T* x, int rows, int64_t cols, float* kept, RowGroup& group) {
  auto& lanes = group.lanes;
  for (int r = 0; r < rows; ++r) largest_lanes(x + r * cols, cols, lanes[r]);
  for (int r = rows; r < kGroupRows; ++r)
    FASTNN_FOR_LANES(l) lanes[r][l] = 0.f;
  combine_rows(lanes, group.max, Larger{});
  for (int r = 0; r < rows; ++r) {
    float* keep = kept == nullptr ? kept : kept + r * cols;
    sum_lanes(x + r * cols, cols, group.max[r], keep, lanes[r]);
  }
  combine_rows(lanes, group.total, Plus{});
}

// Rows of one vector each. Those that a group lacks repeat its last one: nobody looks at them.
template <class T>
FASTNN_FN void sum_narrow_rows(const T* x, int rows, int64_t cols, RowGroup& group) {
  auto& lanes = group.lanes;
  const int count = static_cast<int>(cols);
  for (int r = 0; r < kGroupRows; ++r)
    load_block(x + (r < rows ? r : rows - 1) * cols, count, -kInf, lanes[r]);
  combine_rows(lanes, group.max, Larger{});
  for (int r = 0; r < kGroupRows; ++r) {
    const float m = group.max[r];
    FASTNN_FOR_LANES(l) lanes[r][l] = exp_scaled(lanes[r][l] - m);
  }
  combine_rows(lanes, group.total, Plus{});
}

// A sum that is NaN: the row's maximum again, which now knows of the row's NaNs.
template <class T>
[[gnu::noinline]] void max_with_nan(const T* x, int rows, int64_t cols, RowGroup& group) {
  for (int r = 0; r < rows; ++r)
    if (group.total[r] != group.total[r]) group.max[r] = max(x + r * cols, cols);
}

// As many rows as stay in the first cache.
FASTNN_FN int rows_together(int64_t cols) {
  constexpr int64_t kElements = 4096;
  return static_cast<int>(least(most(kElements / most(cols, 1), 1), kGroupRows));
}

// Calls use(first row, rows, group) for groups of rows. The terms of rows of more than sixteen go
// to `kept`, which has the size of x, unless it is null.
template <class T, class F>
FASTNN_FN void for_row_groups(const T* x, Range rows, int64_t cols, float* kept, F use) {
  const int together = rows_together(cols);
  for (int64_t r = rows.begin; r < rows.end; r += together) {
    const int count = static_cast<int>(least(rows.end - r, together));
    RowGroup group;
    if (cols <= kBlockLanes) {
      sum_narrow_rows(x + r * cols, count, cols, group);
    } else {
      sum_wide_rows(x + r * cols, count, cols, kept == nullptr ? kept : kept + r * cols, group);
    }
    bool has_nan = false;
    for (int i = 0; i < kGroupRows; ++i) has_nan |= group.total[i] != group.total[i];
    if (has_nan) [[unlikely]]
      max_with_nan(x + r * cols, count, cols, group);
    use(r, count, group);
  }
}

// y[i] = f(x[i]) for one row, in whole blocks.
template <class T, class F>
FASTNN_FN void map_row(const T* x, T* y, int64_t n, F f) {
  for_blocks(n, [&](int64_t i, int lanes) __attribute__((always_inline)) {
    float v[kBlockLanes];
    load_block(x + i, lanes, 0.f, v);
    FASTNN_FOR_LANES(l) v[l] = f(v[l]);
    store_block(y + i, lanes, v);
  });
}

}  // namespace
}  // namespace fastnn
