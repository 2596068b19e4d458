// Margin losses of rows.
#include "row.cuh"

namespace fastnn {
namespace {

// The loss of each row, and the sum over each task.
template <class Args, class Group, class Sums>
__device__ __forceinline__ void keep_loss(const Args& args, const Group& g, double row,
                                          Sums& sums) {
  const float loss = static_cast<float>(row);
  sums[0] += static_cast<double>(loss);
  if (g.leads() && args.loss.each != nullptr) args.loss.each[g.r] = loss;
}
template <class Args>
__device__ __forceinline__ void keep_sum(const Args& args, int64_t task, const double* sums) {
  if (args.loss.partials != nullptr) args.loss.partials[task] = sums[0];
}

// ---- one label a row ---------------------------------------------------------------------------
__device__ __forceinline__ float row_scale(const MultiMarginArgs& args, int64_t r) {
  return args.scale * (args.weight == nullptr ? 1.f : args.weight[args.labels[r]]);
}
// m_c = margin - (x_y - x_c), 0 for the label itself.
struct Margins {
  int64_t label;
  double ahead;
  template <class Group>
  __device__ __forceinline__ Margins(const Group& g, const MultiMarginArgs& args)
      : label(args.labels[g.r]),
        ahead(static_cast<double>(args.margin) -
              static_cast<double>(to_float(g.at(args.x)[label]))) {}
  __device__ __forceinline__ double operator()(int64_t c, float v) const {
    return c == label ? 0.0 : ahead + static_cast<double>(v);
  }
};

template <class H>
struct MultiMarginFwd {
  static constexpr int kSums = 1;
  MultiMarginFwdArgs args;
  template <class Group, class Sums>
  __device__ __forceinline__ void row(const Group& g, Sums& sums) const {
    double loss = static_cast<double>(kNaN);
    if (in_range(args.labels[g.r], g.cols)) {
      const Margins margin(g, args);
      loss = g.sum(g.row(args.x), [&](int64_t c, float v) { return H::fwd(margin(c, v)); }) *
             static_cast<double>(row_scale(args, g.r));
    } else if (g.leads()) {
      report(args.status, args.site, g.r, DataError::kLabelOutOfRange);
    }
    keep_loss(args, g, loss, sums);
  }
  __device__ __forceinline__ void done(int64_t task, const double* sums) const {
    keep_sum(args, task, sums);
  }
};

template <class H>
struct MultiMarginBwd {
  static constexpr int kSums = 0;
  MultiMarginBwdArgs args;
  template <class Group, class Sums>
  __device__ __forceinline__ void row(const Group& g, Sums&) const {
    const auto x = g.row(args.x);
    if (!in_range(args.labels[g.r], g.cols))  // was reported
      return g.map(x, args.dx, [](int64_t, float) { return 0.f; });
    const Margins margin(g, args);
    const float scale = loss_gradient(args.gradient, g.r) * row_scale(args, g.r);
    const double total = g.sum(x, [&](int64_t c, float v) { return H::bwd(margin(c, v)); });
    g.map(x, args.dx, [&](int64_t c, float v) {
      return static_cast<float>(c == margin.label ? -total : H::bwd(margin(c, v))) * scale;
    });
  }
};

// ---- several labels a row ----------------------------------------------------------------------
// f(1 - (y - x_c)) for a class c that is no label, y being a label's score.
template <class F>
__device__ __forceinline__ double other(float count, float y, float x, F f) {
  return count == 0.f ? f(1.0 - static_cast<double>(y) + static_cast<double>(x)) : f(0.0);
}

struct MultiLabelMarginFwd {
  static constexpr int kSums = 1;
  MultiLabelMarginFwdArgs args;

  // Counts the labels of a row, which end at the first -1; the place of one that is out of range.
  template <class Group>
  __device__ __forceinline__ int64_t count(const Group& g, const int64_t* labels,
                                           float* counts) const {
    for (int64_t i = 0; i < g.cols && labels[i] != -1; ++i) {
      if (!in_range(labels[i], g.cols)) return i;
      counts[labels[i]] += 1.f;
    }
    return g.cols;
  }
  template <class Group, class Sums>
  __device__ __forceinline__ void row(const Group& g, Sums& sums) const {
    const int64_t* labels = args.labels + g.r * g.cols;
    float* counts = args.counts + g.r * g.cols;
    const auto x = g.row(args.x);
    g.each(x, [&](int64_t c, float) { counts[c] = 0.f; });
    g.sync();
    int64_t bad = g.leads() ? count(g, labels, counts) : g.cols;
    if (bad < g.cols)
      report(args.status, args.site, g.r * g.cols + bad, DataError::kLabelOutOfRange);
    g.sync();
    bad = g.reduce(bad, [](int64_t a, int64_t b) { return a < b ? a : b; });
    double loss = static_cast<double>(kNaN);
    if (bad == g.cols) {
      loss = 0;
      for (int64_t i = 0; i < g.cols && labels[i] != -1; ++i) {
        const float y = to_float(g.at(args.x)[labels[i]]);
        loss += g.sum(x, [&](int64_t c, float v) {
          return other(counts[c], y, v, [](double m) { return Hinge1::fwd(m); });
        });
      }
      loss /= static_cast<double>(g.cols);
    }
    keep_loss(args, g, loss, sums);
  }
  __device__ __forceinline__ void done(int64_t task, const double* sums) const {
    keep_sum(args, task, sums);
  }
};

// A label is pushed by every class that is too near, and such a class by every label.
struct MultiLabelMarginBwd {
  static constexpr int kSums = 0;
  MultiLabelMarginBwdArgs args;
  template <class Group, class Sums>
  __device__ __forceinline__ void row(const Group& g, Sums&) const {
    const int64_t* labels = args.labels + g.r * g.cols;
    const float* counts = args.counts + g.r * g.cols;
    const auto* x = g.at(args.x);
    const float scale = loss_gradient(args.gradient, g.r) / static_cast<float>(g.cols);
    g.map(g.row(args.x), args.dx, [&](int64_t c, float v) {
      const auto bwd = [](double m) { return Hinge1::bwd(m); };
      double slope = 0;
      if (counts[c] == 0.f) {
        for (int64_t i = 0; i < g.cols && in_range(labels[i], g.cols); ++i)
          slope += other(0.f, to_float(x[labels[i]]), v, bwd);
      } else {
        for (int64_t i = 0; i < g.cols; ++i) slope += other(counts[i], v, to_float(x[i]), bwd);
        slope *= -static_cast<double>(counts[c]);
      }
      return static_cast<float>(slope) * scale;
    });
  }
};

template <class T, class... H>
constexpr MarginKernels kernels(HingeList<H...>) {
  return {
      .multi_margin_fwd = {for_rows_of<T, MultiMarginFwd<H>>...},
      .multi_margin_bwd = {for_rows_of<T, MultiMarginBwd<H>>...},
      .multilabel_margin_fwd = for_rows_of<T, MultiLabelMarginFwd>,
      .multilabel_margin_bwd = for_rows_of<T, MultiLabelMarginBwd>,
  };
}

}  // namespace

template <>
constinit const MarginKernels cuda::Table<MarginKernels>::of_dtype[kNumTableDTypes] = {
    kernels<float>(Hinges{}), kernels<bf16>(Hinges{}), kernels<f16>(Hinges{}), {}};

}  // namespace fastnn
