// Margin losses of rows.
#include "../families/margin.h"

#include "loss_rows.h"
#include "table.h"

namespace fastnn {
namespace {

// ---- one label a row ---------------------------------------------------------------------------

// For each block of classes: m_c = margin - (x_y - x_c), 0 for the label itself and missing lanes.
// Then use(at, lanes, m).
template <class T, class F>
FASTNN_FN void for_margins(const MultiMarginArgs& args, int64_t r, F use) {
  const auto* x = static_cast<const T*>(args.x) + r * args.cols;
  const int64_t label = args.labels[r];
  const double ahead = static_cast<double>(args.margin) - static_cast<double>(to_float(x[label]));
  for_blocks(args.cols, [&](int64_t at, int lanes) __attribute__((always_inline)) {
    float v[kBlockLanes];
    double m[kBlockLanes];
    load_block(x + at, lanes, 0.f, v);
    FASTNN_FOR_LANES(l)
      m[l] = (l < lanes) & (at + l != label) ? ahead + static_cast<double>(v[l]) : 0.0;
    use(at, lanes, m);
  });
}

FASTNN_FN float row_scale(const MultiMarginArgs& args, int64_t r) {
  return args.scale * (args.weight == nullptr ? 1.f : args.weight[args.labels[r]]);
}

template <class T, class H>
double multi_margin_row(const MultiMarginFwdArgs& args, int64_t r) {
  if (!in_range(args.labels[r], args.cols)) {
    report(args.status, args.site, r, DataError::kLabelOutOfRange);
    return static_cast<double>(kNaN);
  }
  Lanes acc;
  for_margins<T>(
      args, r, [&](int64_t, int, const double (&m)[kBlockLanes]) __attribute__((always_inline)) {
        acc += each_lane([&](int l) __attribute__((always_inline)) { return H::fwd(m[l]); });
      });
  return combine(acc) * static_cast<double>(row_scale(args, r));
}

template <class T, class H>
void multi_margin_fwd(const MultiMarginFwdArgs& args, Slice s) {
  sum_rows(args.loss, s, args.rows, args.cols,
           [&](int64_t r) { return multi_margin_row<T, H>(args, r); });
}

template <class T, class H>
void multi_margin_bwd(const MultiMarginBwdArgs& args, Slice s) {
  const Range rows = elements(s, rows_per_task(args.cols), args.rows);
  for (int64_t r = rows.begin; r < rows.end; ++r) {
    auto* dx = static_cast<T*>(args.dx) + r * args.cols;
    if (!in_range(args.labels[r], args.cols)) {  // was reported
      fill_row(dx, args.cols);
      continue;
    }
    const float scale = loss_gradient(args.gradient, r) * row_scale(args, r);
    double acc[kBlockLanes] = {};
    for_margins<T>(args, r,
                   [&](int64_t at, int lanes, const double (&m)[kBlockLanes])
                       __attribute__((always_inline)) {
                         float v[kBlockLanes];
                         FASTNN_FOR_LANES(l) {
                           const double slope = H::bwd(m[l]);
                           acc[l] += slope;
                           v[l] = static_cast<float>(slope) * scale;
                         }
                         store_block(dx + at, lanes, v);
                       });
    dx[args.labels[r]] = from_float<T>(-static_cast<float>(combine(acc)) * scale);
  }
}

// ---- several labels a row ----------------------------------------------------------------------

// Counts the labels of a row, which end at the first -1; false if one is out of range.
bool count_labels(const MultiLabelMarginFwdArgs& args, int64_t r) {
  const int64_t* labels = args.labels + r * args.cols;
  float* counts = args.counts + r * args.cols;
  fill_row(counts, args.cols);
  for (int64_t i = 0; i < args.cols && labels[i] != -1; ++i) {
    if (!in_range(labels[i], args.cols)) {
      report(args.status, args.site, r * args.cols + i, DataError::kLabelOutOfRange);
      return false;
    }
    counts[labels[i]] += 1.f;
  }
  return true;
}

// sum f(1 - (x_y - x_c)) over the classes c of a row that are no label.
template <class T, class F>
FASTNN_FN double sum_others(const T* x, const float* counts, int64_t cols, double y, F f) {
  Lanes acc;
  for_blocks(cols, [&](int64_t at, int lanes) __attribute__((always_inline)) {
    float v[kBlockLanes], count[kBlockLanes];
    load_block(x + at, lanes, 0.f, v);
    load_block(counts + at, lanes, 1.f, count);
    acc += each_lane([&](int l) __attribute__((always_inline)) {
      return f(count[l] == 0.f ? 1.0 - y + static_cast<double>(v[l]) : 0.0);
    });
  });
  return combine(acc);
}

template <class T>
double multilabel_margin_row(const MultiLabelMarginFwdArgs& args, int64_t r) {
  if (!count_labels(args, r)) return static_cast<double>(kNaN);
  const int64_t* labels = args.labels + r * args.cols;
  const auto* x = static_cast<const T*>(args.x) + r * args.cols;
  double loss = 0;
  for (int64_t i = 0; i < args.cols && labels[i] != -1; ++i)
    loss += sum_others(x, args.counts + r * args.cols, args.cols,
                       static_cast<double>(to_float(x[labels[i]])),
                       [](double m) __attribute__((always_inline)) { return Hinge1::fwd(m); });
  return loss / static_cast<double>(args.cols);
}

template <class T>
void multilabel_margin_fwd(const MultiLabelMarginFwdArgs& args, Slice s) {
  sum_rows(args.loss, s, args.rows, args.cols,
           [&](int64_t r) { return multilabel_margin_row<T>(args, r); });
}

// A label is pushed by every class that is too near, and such a class by every label.
template <class T>
void multilabel_margin_bwd(const MultiLabelMarginBwdArgs& args, Slice s) {
  const Range rows = elements(s, rows_per_task(args.cols), args.rows);
  const int64_t cols = args.cols;
  for (int64_t r = rows.begin; r < rows.end; ++r) {
    const auto* x = static_cast<const T*>(args.x) + r * cols;
    const int64_t* labels = args.labels + r * cols;
    const float* counts = args.counts + r * cols;
    const float scale = loss_gradient(args.gradient, r) / static_cast<float>(cols);
    for (int64_t c = 0; c < cols; ++c) {
      const double xc = static_cast<double>(to_float(x[c]));
      double slope = 0;
      if (counts[c] == 0.f) {
        for (int64_t i = 0; i < cols && in_range(labels[i], cols); ++i)
          slope += Hinge1::bwd(1.0 - static_cast<double>(to_float(x[labels[i]])) + xc);
      } else {
        slope = -static_cast<double>(counts[c]) *
                sum_others(x, counts, cols, xc,
                           [](double m) __attribute__((always_inline)) { return Hinge1::bwd(m); });
      }
      static_cast<T*>(args.dx)[r * cols + c] = from_float<T>(static_cast<float>(slope) * scale);
    }
  }
}

template <class T, class... H>
constexpr MarginKernels kernels(HingeList<H...>) {
  return {
      .multi_margin_fwd = {multi_margin_fwd<T, H>...},
      .multi_margin_bwd = {multi_margin_bwd<T, H>...},
      .multilabel_margin_fwd = multilabel_margin_fwd<T>,
      .multilabel_margin_bwd = multilabel_margin_bwd<T>,
  };
}

}  // namespace

template <>
constinit const MarginKernels FASTNN_LEVEL::Table<MarginKernels>::of_dtype[kNumTableDTypes] = {
    kernels<float>(Hinges{}), kernels<bf16>(Hinges{}), {}, {}};

}  // namespace fastnn
