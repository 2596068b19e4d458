// Softmax, log-softmax, logsumexp and cross-entropy: rows, with the maximum subtracted. A block of
// the row at a time, so that ten classes cost one vector and not ten calls of exp.
#pragma once
#include "../formulas/loss.h"
#include "loops.h"

namespace fastnn {
namespace {

FASTNN_FN Range softmax_rows(Slice s, int64_t rows, int64_t cols) { return elements(s, rows_per_task(cols), rows); }

struct LogSumExp {
  float max, log_sum;  // lse = max + log_sum, log_sum in [0, log n]
};

// A row of nothing but -inf has no distribution: max - max is NaN, and so is its log_sum.
template <class T>
FASTNN_FN LogSumExp log_sum_exp(const T* x, int64_t n) {
  const float m = max(x, n);
  const double total = sum(x, n, -kInf, [m](float v) __attribute__((always_inline)) { return exp(v - m); });
  return {m, log(static_cast<float>(total))};
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
  const Range rows = softmax_rows(s, args.rows, args.cols);
  for (int64_t r = rows.begin; r < rows.end; ++r) {
    const auto* x = static_cast<const T*>(args.x) + r * args.cols;
    auto* y = static_cast<T*>(args.y) + r * args.cols;
    const float m = max(x, args.cols);
    const double total = sum(x, args.cols, -kInf, [m](float v) __attribute__((always_inline)) { return exp(v - m); });
    if constexpr (kLog) {
      const float log_sum = log(static_cast<float>(total));
      map_row(x, y, args.cols, [=](float v) __attribute__((always_inline)) { return (v - m) - log_sum; });
    } else {
      const float scale = static_cast<float>(1.0 / total);
      map_row(x, y, args.cols, [=](float v) __attribute__((always_inline)) { return exp(v - m) * scale; });
    }
  }
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
      for (int l = 0; l < kBlockLanes; ++l) acc[l] += static_cast<double>(g[l]) * (kLog ? 1.0 : static_cast<double>(v[l]));
    });
    const float total = static_cast<float>(combine(acc));
    for_blocks(args.cols, [&](int64_t i, int lanes) __attribute__((always_inline)) {
      float g[kBlockLanes], v[kBlockLanes];
      load_block(dy + i, lanes, 0.f, g);
      load_block(y + i, lanes, 0.f, v);
      for (int l = 0; l < kBlockLanes; ++l) v[l] = kLog ? g[l] - exp(v[l]) * total : v[l] * (g[l] - total);
      store_block(dx + i, lanes, v);
    });
  }
}

template <class T>
void logsumexp_fwd(const LogSumExpFwdArgs& args, Slice s) {
  const Range rows = softmax_rows(s, args.rows, args.cols);
  for (int64_t r = rows.begin; r < rows.end; ++r) {
    const auto* x = static_cast<const T*>(args.x) + r * args.cols;
    const LogSumExp row = log_sum_exp(x, args.cols);
    static_cast<T*>(args.y)[r] = from_float<T>(row.max == -kInf ? -kInf : row.max + row.log_sum);
  }
}

template <class T>
void logsumexp_bwd(const LogSumExpBwdArgs& args, Slice s) {
  const Range rows = softmax_rows(s, args.rows, args.cols);
  for (int64_t r = rows.begin; r < rows.end; ++r) {
    const float lse = to_float(static_cast<const T*>(args.y)[r]), dy = to_float(static_cast<const T*>(args.dy)[r]);
    map_row(static_cast<const T*>(args.x) + r * args.cols, static_cast<T*>(args.dx) + r * args.cols, args.cols,
            [=](float v) __attribute__((always_inline)) { return exp(v - lse) * dy; });
  }
}

template <class T>
void cross_entropy_fwd(const CrossEntropyFwdArgs& args, Slice s) {
  const Range rows = softmax_rows(s, args.rows, args.cols);
  for (int64_t r = rows.begin; r < rows.end; ++r) {
    const auto* x = static_cast<const T*>(args.x) + r * args.cols;
    const LogSumExp row = log_sum_exp(x, args.cols);
    double loss = 0;
    if (args.labels != nullptr) {
      const int64_t label = args.labels[r];
      if (label < 0 || label >= args.cols) {
        report(args.status, args.site, r, DataError::kLabelOutOfRange);
        loss = static_cast<double>(kNaN);
      } else {
        loss = cross_entropy_term(to_float(x[label]), row.max, row.log_sum, 1.f);
      }
    } else {
      const float* t = args.targets + r * args.cols;
      for (int64_t i = 0; i < args.cols; ++i)
        loss += cross_entropy_term(to_float(x[i]), row.max, row.log_sum, t[i]);
    }
    args.loss[r] = static_cast<float>(loss);
    args.max[r] = row.max;
    args.log_sum[r] = row.log_sum;
  }
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
    const float t_sum = args.targets ? static_cast<float>(sum(t, args.cols, 0.f, [](float v) { return v; })) : 1.f;
    const float m = args.max[r], log_sum = args.log_sum[r];
    for_blocks(args.cols, [&](int64_t i, int lanes) __attribute__((always_inline)) {
      float v[kBlockLanes], u[kBlockLanes];
      load_block(x + i, lanes, 0.f, v);
      if (args.targets != nullptr) {
        load_block(t + i, lanes, 0.f, u);
      } else {
        for (int l = 0; l < kBlockLanes; ++l) u[l] = i + l == label ? 1.f : 0.f;
      }
      for (int l = 0; l < kBlockLanes; ++l) v[l] = cross_entropy_dx(v[l], m, log_sum, u[l], t_sum, dloss);
      store_block(dx + i, lanes, v);
    });
  }
}

}  // namespace
}  // namespace fastnn
