// Softmax, log-softmax, logsumexp and cross-entropy: rows, with the maximum subtracted. A block of
// the row at a time, so that ten classes cost one vector and not ten calls of exp.
#pragma once
#include "../formulas/loss.h"
#include "loops.h"

namespace fastnn {
namespace {

FASTNN_FN Range softmax_rows(Slice s, int64_t rows, int64_t cols) {
  return elements(s, rows_per_task(cols), rows);
}

// e^d for a sum that has a term 1: terms below e^-80 would vanish in it. They would also be
// subnormal, for which some processors need a hundred cycles. NaN passes.
FASTNN_FN float exp_in_sum(float d) { return d < -80.f ? 0.f : exp(at_least(d, -80.f)); }

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
    for (int r = 0; r < kGroupRows; ++r) {
      const float m = group.max[r];
      group.max[r] = (v[c][r] > m) | (v[c][r] != v[c][r]) ? v[c][r] : m;
    }
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
    const int count = static_cast<int>(rows.end - r < kGroupRows ? rows.end - r : kGroupRows);
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

template <class T, bool kLog>
void softmax_fwd(const SoftmaxFwdArgs& args, Slice s) {
  const auto* x = static_cast<const T*>(args.x);
  auto* y = static_cast<T*>(args.y);
  const int64_t n = args.cols;
  for_row_groups(
      x, softmax_rows(s, args.rows, n), n, [&](int64_t first, int rows, const RowGroup& group) {
        float log_sum[kGroupRows];
        if (kLog) log_sums(group, rows, log_sum);
        for (int i = 0; i < rows; ++i) {
          const int64_t at = (first + i) * n;
          const float m = group.max[i];
          if constexpr (kLog) {
            const float ls = log_sum[i];
            map_row(x + at, y + at, n,
                    [=](float v) __attribute__((always_inline)) { return (v - m) - ls; });
          } else {
            const float scale = static_cast<float>(1.0 / group.total[i]);
            map_row(x + at, y + at, n,
                    [=](float v) __attribute__((always_inline)) { return exp(v - m) * scale; });
          }
        }
      });
}

// softmax: dx = y (dy - sum dy y).  log_softmax: dx = dy - exp(y) sum dy.
template <class T, bool kLog>
void softmax_bwd(const SoftmaxBwdArgs& args, Slice s) {
  const Range rows = softmax_rows(s, args.rows, args.cols);
  for (int64_t r = rows.begin; r < rows.end; ++r) {
    const auto* dy = static_cast<const T*>(args.dy) + r * args.cols;
    const auto* y = static_cast<const T*>(args.y) + r * args.cols;
    auto* dx = static_cast<T*>(args.dx) + r * args.cols;
    double acc[kBlockLanes] = {};
    for_blocks(args.cols, [&](int64_t i, int lanes) __attribute__((always_inline)) {
      float g[kBlockLanes], v[kBlockLanes];
      load_block(dy + i, lanes, 0.f, g);
      load_block(y + i, lanes, 0.f, v);
      for (int l = 0; l < kBlockLanes; ++l)
        acc[l] += static_cast<double>(g[l]) * (kLog ? 1.0 : static_cast<double>(v[l]));
    });
    const float total = static_cast<float>(combine(acc));
    for_blocks(args.cols, [&](int64_t i, int lanes) __attribute__((always_inline)) {
      float g[kBlockLanes], v[kBlockLanes];
      load_block(dy + i, lanes, 0.f, g);
      load_block(y + i, lanes, 0.f, v);
      for (int l = 0; l < kBlockLanes; ++l)
        v[l] = kLog ? g[l] - exp(v[l]) * total : v[l] * (g[l] - total);
      store_block(dx + i, lanes, v);
    });
  }
}

template <class T>
void logsumexp_fwd(const LogSumExpFwdArgs& args, Slice s) {
  auto* y = static_cast<T*>(args.y);
  for_row_groups(static_cast<const T*>(args.x), softmax_rows(s, args.rows, args.cols), args.cols,
                 [&](int64_t first, int rows, const RowGroup& group) {
                   float log_sum[kGroupRows];
                   log_sums(group, rows, log_sum);
                   for (int i = 0; i < rows; ++i) {
                     const float m = group.max[i];
                     y[first + i] = from_float<T>(abs(m) == kInf ? m : m + log_sum[i]);
                   }
                 });
}

// From the maximum and the sum again: logsumexp rounded to one float would lose the sum when the
// inputs are large.
template <class T>
void logsumexp_bwd(const LogSumExpBwdArgs& args, Slice s) {
  const auto* x = static_cast<const T*>(args.x);
  auto* dx = static_cast<T*>(args.dx);
  const int64_t n = args.cols;
  for_row_groups(
      x, softmax_rows(s, args.rows, n), n, [&](int64_t first, int rows, const RowGroup& group) {
        float log_sum[kGroupRows];
        log_sums(group, rows, log_sum);
        for (int i = 0; i < rows; ++i) {
          const int64_t at = (first + i) * n;
          const float m = group.max[i], ls = log_sum[i];
          const float dy = to_float(static_cast<const T*>(args.dy)[first + i]);
          map_row(x + at, dx + at, n,
                  [=](float v) __attribute__((always_inline)) { return exp((v - m) - ls) * dy; });
        }
      });
}

// The loss of one row; reports a label out of range.
template <class T>
double cross_entropy_row(const CrossEntropyFwdArgs& args, int64_t r, float m, float log_sum) {
  const auto* x = static_cast<const T*>(args.x) + r * args.cols;
  if (args.labels != nullptr) {
    const int64_t label = args.labels[r];
    if (label >= 0 && label < args.cols)
      return cross_entropy_term(to_float(x[label]), m, log_sum, 1.f);
    report(args.status, args.site, r, DataError::kLabelOutOfRange);
    return static_cast<double>(kNaN);
  }
  const float* t = args.targets + r * args.cols;
  double loss = 0;
  for (int64_t i = 0; i < args.cols; ++i)
    loss += cross_entropy_term(to_float(x[i]), m, log_sum, t[i]);
  return loss;
}

template <class T>
void cross_entropy_fwd(const CrossEntropyFwdArgs& args, Slice s) {
  for_row_groups(static_cast<const T*>(args.x), softmax_rows(s, args.rows, args.cols), args.cols,
                 [&](int64_t first, int rows, const RowGroup& group) {
                   float log_sum[kGroupRows];
                   log_sums(group, rows, log_sum);
                   for (int i = 0; i < rows; ++i) {
                     const int64_t r = first + i;
                     args.loss[r] = static_cast<float>(
                         cross_entropy_row<T>(args, r, group.max[i], log_sum[i]));
                     args.max[r] = group.max[i];
                     args.log_sum[r] = log_sum[i];
                   }
                 });
}

template <class T>
void cross_entropy_bwd(const CrossEntropyBwdArgs& args, Slice s) {
  const Range rows = softmax_rows(s, args.rows, args.cols);
  for (int64_t r = rows.begin; r < rows.end; ++r) {
    const auto* x = static_cast<const T*>(args.x) + r * args.cols;
    auto* dx = static_cast<T*>(args.dx) + r * args.cols;
    const float dloss = args.dy[args.dy_is_scalar ? 0 : r] * args.scale;
    const float* t = args.targets + (args.targets ? r * args.cols : 0);
    const int64_t label = args.labels ? args.labels[r] : -1;
    const float t_sum =
        args.targets ? static_cast<float>(sum(t, args.cols, 0.f, [](float v) { return v; })) : 1.f;
    const float m = args.max[r], log_sum = args.log_sum[r];
    for_blocks(args.cols, [&](int64_t i, int lanes) __attribute__((always_inline)) {
      float v[kBlockLanes], u[kBlockLanes];
      load_block(x + i, lanes, 0.f, v);
      if (args.targets != nullptr) {
        load_block(t + i, lanes, 0.f, u);
      } else {
        for (int l = 0; l < kBlockLanes; ++l) u[l] = i + l == label ? 1.f : 0.f;
      }
      for (int l = 0; l < kBlockLanes; ++l)
        v[l] = cross_entropy_dx(v[l], m, log_sum, u[l], t_sum, dloss);
      store_block(dx + i, lanes, v);
    });
  }
}

}  // namespace
}  // namespace fastnn
