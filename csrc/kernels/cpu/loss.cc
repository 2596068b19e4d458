// Losses of rows against classes, and of elements against elements; then their sum.
#include "../families/loss.h"

#include "loss_rows.h"
#include "row_groups.h"
#include "table.h"

namespace fastnn {
namespace {

// ---- what all losses share ---------------------------------------------------------------------

void loss_combine(const LossCombineArgs& args, Slice) {
  double total = args.scale * sum_in_order(args.losses, args.tasks);
  if (args.weights != nullptr) {
    const double weight = sum_in_order(args.weights, args.tasks);
    total /= weight;
    *args.divisor = static_cast<float>(weight);
  }
  *args.y = static_cast<float>(total);
  if (args.status != nullptr && !(*args.y - *args.y == 0.f))
    report(args.status, args.site, 0, DataError::kNanLoss);
}

// ---- cross-entropy -----------------------------------------------------------------------------

// t_c of a row for a block of classes; 0 in the missing lanes.
FASTNN_FN void target_block(const ClassTarget& target, int64_t r, int64_t cols, int64_t at,
                            int lanes, float (&t)[kBlockLanes]) {
  float w[kBlockLanes];
  if (target.labels == nullptr) {
    load_block(target.probabilities + r * cols + at, lanes, 0.f, t);
  } else {
    FASTNN_FOR_LANES(l) t[l] = at + l == target.labels[r] ? 1.f : 0.f;
  }
  if (target.weight == nullptr) {
    FASTNN_FOR_LANES(l) w[l] = l < lanes ? 1.f : 0.f;
  } else {
    load_block(target.weight + at, lanes, 0.f, w);
  }
  const float share = target.smoothing / static_cast<float>(cols);
  FASTNN_FOR_LANES(l) t[l] = smoothed_target(t[l], w[l], target.smoothing, share);
}

// The loss of a row whose label is in range.
template <class T>
double cross_entropy_row(const CrossEntropyFwdArgs& args, int64_t r, float m, float log_sum) {
  const auto* x = static_cast<const T*>(args.x) + r * args.cols;
  const ClassTarget& target = args.target;
  if (is_one_class(target)) {
    const int64_t label = target.labels[r];
    return cross_entropy_term(to_float(x[label]), m, log_sum, class_weight(target, label));
  }
  Lanes acc;
  for_blocks(args.cols, [&](int64_t at, int lanes) __attribute__((always_inline)) {
    float v[kBlockLanes], t[kBlockLanes];
    load_block(x + at, lanes, 0.f, v);
    target_block(target, r, args.cols, at, lanes, t);
    acc += each_lane([&](int l) __attribute__((always_inline)) {
      return cross_entropy_term(v[l], m, log_sum, t[l]);
    });
  });
  return combine(acc);
}

struct TaskSums {
  double losses = 0, weights = 0;
};

// The loss of one row; reports a label out of range and a row without a distribution.
template <class T>
void add_row(const CrossEntropyFwdArgs& args, int64_t r, float m, float log_sum, TaskSums& sums) {
  const ClassTarget& target = args.target;
  const int64_t label = target.labels == nullptr ? 0 : target.labels[r];
  const bool is_ignored = target.labels != nullptr && label == target.ignore_index;
  float loss = 0;  // rounded before it is summed: no instruction set can contract that
  if (!is_ignored && !in_range(label, args.cols)) {
    report(args.status, args.site, r, DataError::kLabelOutOfRange);
    loss = kNaN;
  } else if (!is_ignored) {
    if (args.reports_empty_rows && m == -kInf)
      report(args.status, args.site, r, DataError::kEmptyRow);
    loss = static_cast<float>(cross_entropy_row<T>(args, r, m, log_sum));
    sums.weights += static_cast<double>(class_weight(target, label));
  }
  sums.losses += static_cast<double>(loss);
  if (args.loss.each != nullptr) args.loss.each[r] = loss;
}

void keep_sums(const CrossEntropyFwdArgs& args, int64_t task, const TaskSums& sums) {
  if (args.loss.partials != nullptr) args.loss.partials[task] = sums.losses;
  if (args.weights != nullptr) args.weights[task] = sums.weights;
}

template <class T>
void cross_entropy_fwd(const CrossEntropyFwdArgs& args, Slice s) {
  for (int64_t task = s.begin; task < s.end; ++task) {
    TaskSums sums;
    for_row_groups(static_cast<const T*>(args.x),
                   softmax_rows({task, task + 1, nullptr}, args.rows, args.cols), args.cols,
                   nullptr, [&](int64_t first, int rows, const RowGroup& group) {
                     float log_sum[kGroupRows];
                     group.log_sums(rows, log_sum);
                     for (int i = 0; i < rows; ++i) {
                       add_row<T>(args, first + i, group.max[i], log_sum[i], sums);
                       args.max[first + i] = group.max[i];
                       args.log_sum[first + i] = log_sum[i];
                     }
                   });
    keep_sums(args, task, sums);
  }
}

// Logarithms of probabilities are logits whose maximum and logarithm of the sum are taken off.
template <class T>
void nll_loss_fwd(const CrossEntropyFwdArgs& args, Slice s) {
  for (int64_t task = s.begin; task < s.end; ++task) {
    const Range rows = softmax_rows({task, task + 1, nullptr}, args.rows, args.cols);
    TaskSums sums;
    for (int64_t r = rows.begin; r < rows.end; ++r) add_row<T>(args, r, 0.f, 0.f, sums);
    keep_sums(args, task, sums);
  }
}

// The sum of a row's target.
FASTNN_FN float target_sum(const ClassTarget& target, int64_t r, int64_t cols) {
  Lanes acc;
  for_blocks(cols, [&](int64_t at, int lanes) __attribute__((always_inline)) {
    float t[kBlockLanes];
    target_block(target, r, cols, at, lanes, t);
    acc += Lanes(t);
  });
  return static_cast<float>(combine(acc));
}

// What dx of a row is made of; the logits' maximum and logarithm of the sum are 0 for nll_loss.
struct RowGradient {
  float m, log_sum, t_sum, dloss;
  template <bool kIsLogits>
  FASTNN_FN float dx(float x, float t) const {
    return kIsLogits ? cross_entropy_dx(x, m, log_sum, t, t_sum, dloss) : -t * dloss;
  }
};

// All classes as if none were meant, and then the one that is. A label out of range was reported,
// and its class has no weight.
template <class T, bool kIsLogits>
FASTNN_FN void one_class_dx(const T* x, T* dx, int64_t cols, const ClassTarget& target,
                            int64_t label, RowGradient row) {
  const bool counts = in_range(label, cols);
  const float t = counts ? class_weight(target, label) : 0.f;
  row.t_sum = t;
  if constexpr (kIsLogits) {
    map_row(x, dx, cols,
            [=](float v) __attribute__((always_inline)) { return row.template dx<true>(v, 0.f); });
  } else {
    fill_row(dx, cols);
  }
  if (counts) dx[label] = from_float<T>(row.template dx<kIsLogits>(to_float(x[label]), t));
}

template <class T, bool kIsLogits>
FASTNN_FN void all_classes_dx(const T* x, T* dx, int64_t cols, const ClassTarget& target, int64_t r,
                              RowGradient row) {
  row.t_sum = kIsLogits ? target_sum(target, r, cols) : 0.f;
  for_blocks(cols, [&](int64_t at, int lanes) __attribute__((always_inline)) {
    float v[kBlockLanes], t[kBlockLanes];
    load_block(x + at, lanes, 0.f, v);
    target_block(target, r, cols, at, lanes, t);
    FASTNN_FOR_LANES(l) v[l] = row.template dx<kIsLogits>(v[l], t[l]);
    store_block(dx + at, lanes, v);
  });
}

template <class T, bool kIsLogits>
void cross_entropy_bwd(const CrossEntropyBwdArgs& args, Slice s) {
  const Range rows = softmax_rows(s, args.rows, args.cols);
  const ClassTarget& target = args.target;
  const bool one_class = is_one_class(target);
  for (int64_t r = rows.begin; r < rows.end; ++r) {
    const auto* x = static_cast<const T*>(args.x) + r * args.cols;
    auto* dx = static_cast<T*>(args.dx) + r * args.cols;
    if (target.labels != nullptr && target.labels[r] == target.ignore_index) {
      fill_row(dx, args.cols);
      continue;
    }
    RowGradient row{0.f, 0.f, 0.f, loss_gradient(args.gradient, r)};
    if (kIsLogits) row.m = args.max[r], row.log_sum = args.log_sum[r];
    if (one_class) {
      one_class_dx<T, kIsLogits>(x, dx, args.cols, target, target.labels[r], row);
    } else {
      all_classes_dx<T, kIsLogits>(x, dx, args.cols, target, r, row);
    }
  }
}

// ---- pointwise losses --------------------------------------------------------------------------

FASTNN_FN void load_cyclic(const Cyclic& c, int64_t i, int lanes, float (&v)[kBlockLanes]) {
  if (c.values == nullptr) {
    FASTNN_FOR_LANES(l) v[l] = l < lanes ? c.otherwise : 0.f;
    return;
  }
  int64_t at = i % c.period;
  if (at + lanes <= c.period) return load_block(c.values + at, lanes, 0.f, v);
  FASTNN_FOR_LANES(l) {
    v[l] = l < lanes ? c.values[at] : 0.f;
    at = at + 1 == c.period ? 0 : at + 1;
  }
}

// A block of everything that a pointwise loss reads. Missing lanes have weight 0, and x and t where
// every loss is finite.
struct PointwiseBlock {
  float x[kBlockLanes], t[kBlockLanes], a[kBlockLanes], weight[kBlockLanes];
};
template <class T>
FASTNN_FN void load(const PointwiseLossArgs& args, int64_t i, int lanes, PointwiseBlock& block) {
  load_block(static_cast<const T*>(args.x) + i, lanes, 0.f, block.x);
  load_block(args.t + i, lanes, 0.f, block.t);
  load_cyclic(args.a, i, lanes, block.a);
  load_cyclic(args.weight, i, lanes, block.weight);
}

template <class T, class L>
void pointwise_loss_fwd(const PointwiseLossFwdArgs& args, Slice s) {
  for (int64_t task = s.begin; task < s.end; ++task) {
    const Range r = elements({task, task + 1, nullptr}, kReduceChunk, args.n);
    double acc[kBlockLanes] = {};
    for_blocks(r.end - r.begin, [&](int64_t at, int lanes) __attribute__((always_inline)) {
      PointwiseBlock b;
      float each[kBlockLanes];
      load<T>(args, r.begin + at, lanes, b);
      FASTNN_FOR_LANES(l) {
        const double weight = b.weight[l], loss = L::fwd(b.x[l], b.t[l], b.a[l]);
        each[l] = static_cast<float>(weight * loss);
        acc[l] = mad(weight, loss, acc[l]);  // one rounding on every instruction set
      }
      if (args.loss.each != nullptr) store_block(args.loss.each + r.begin + at, lanes, each);
    });
    if (args.loss.partials != nullptr) args.loss.partials[task] = combine(acc);
  }
}

template <class T, class L>
void pointwise_loss_bwd(const PointwiseLossBwdArgs& args, Slice s) {
  const Range r = elements(s, kReduceChunk, args.n);
  auto* dx = static_cast<T*>(args.dx) + r.begin;
  const float scalar = args.gradient.dy_is_scalar ? loss_gradient(args.gradient, 0) : 0.f;
  for_blocks(r.end - r.begin, [&](int64_t at, int lanes) __attribute__((always_inline)) {
    PointwiseBlock b;
    float dloss[kBlockLanes];
    load<T>(args, r.begin + at, lanes, b);
    if (args.gradient.dy_is_scalar) {
      FASTNN_FOR_LANES(l) dloss[l] = scalar;
    } else {
      load_block(args.gradient.dy + r.begin + at, lanes, 0.f, dloss);
      FASTNN_FOR_LANES(l) dloss[l] *= args.gradient.scale;
    }
    FASTNN_FOR_LANES(l) b.x[l] = L::bwd(b.x[l], b.t[l], b.a[l]) * (b.weight[l] * dloss[l]);
    store_block(dx + at, lanes, b.x);
  });
}

template <class T, class... L>
constexpr LossKernels kernels(PointwiseLossList<L...>) {
  return {
      .cross_entropy_fwd = cross_entropy_fwd<T>,
      .nll_loss_fwd = nll_loss_fwd<T>,
      .cross_entropy_bwd = cross_entropy_bwd<T, true>,
      .nll_loss_bwd = cross_entropy_bwd<T, false>,
      .pointwise_loss_fwd = {pointwise_loss_fwd<T, L>...},
      .pointwise_loss_bwd = {pointwise_loss_bwd<T, L>...},
      .loss_combine = float32_only<T, LossCombineArgs>(loss_combine),
  };
}

}  // namespace

template <>
constinit const LossKernels FASTNN_LEVEL::Table<LossKernels>::of_dtype[kNumTableDTypes] = {
    kernels<float>(PointwiseLosses{}), kernels<bf16>(PointwiseLosses{}), {}, {}};

}  // namespace fastnn
