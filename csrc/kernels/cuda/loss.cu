// Losses of rows against classes, and of elements against elements; then their sum.
#include "../formulas/softmax.h"
#include "chunk.cuh"
#include "row.cuh"

namespace fastnn {
namespace {

// ---- what all losses share ---------------------------------------------------------------------
__global__ void __launch_bounds__(kReduceThreads, 1) loss_combine_kernel(LossCombineArgs args) {
  double total = args.scale * combine(args.losses, args.tasks);
  const double weight = args.weights != nullptr ? combine(args.weights, args.tasks) : 1.0;
  if (threadIdx.x != 0) return;
  if (args.weights != nullptr) {
    total /= weight;
    *args.divisor = static_cast<float>(weight);
  }
  const float y = static_cast<float>(total);
  *args.y = y;
  if (args.status != nullptr && !(y - y == 0.f))
    report(args.status, args.site, 0, DataError::kNanLoss);
}
inline void loss_combine(const LossCombineArgs& args, Slice s) {
  FASTNN_LAUNCH(loss_combine_kernel, 1, kReduceThreads, s.stream, args);
}

// ---- cross-entropy -----------------------------------------------------------------------------
// t_c of row r.
__device__ __forceinline__ float target_of(const ClassTarget& target, int64_t r, int64_t cols,
                                           int64_t c) {
  const float q = target.labels == nullptr ? target.probabilities[r * cols + c]
                                           : (c == target.labels[r] ? 1.f : 0.f);
  return smoothed_target(q, class_weight(target, c), target.smoothing,
                         target.smoothing / static_cast<float>(cols));
}

// Logarithms of probabilities are logits whose maximum and logarithm of the sum are taken off.
template <bool kIsLogits>
struct CrossEntropyFwd {
  static constexpr int kSums = 2;  // losses, weights
  CrossEntropyFwdArgs args;

  template <class Group, class Sums>
  __device__ __forceinline__ void row(const Group& g, Sums& sums) const {
    const ClassTarget& target = args.target;
    const int64_t label = target.labels == nullptr ? 0 : target.labels[g.r];
    const bool is_ignored = target.labels != nullptr && label == target.ignore_index;
    const auto x = g.row(args.x);
    float m = 0, log_sum = 0, loss = 0;
    if constexpr (kIsLogits) {
      m = g.max(x);
      const double total = g.sum(x, [m](int64_t, float v) { return exp_scaled(v - m); });
      log_sum = log(static_cast<float>(total * kExpScale));
    }
    if (!is_ignored && !in_range(label, g.cols)) {
      if (g.leads()) report(args.status, args.site, g.r, DataError::kLabelOutOfRange);
      loss = kNaN;
    } else if (!is_ignored) {
      if (args.reports_empty_rows && m == -kInf && g.leads())
        report(args.status, args.site, g.r, DataError::kEmptyRow);
      const float weight = class_weight(target, label);
      loss = static_cast<float>(
          is_one_class(target)
              ? cross_entropy_term(to_float(g.at(args.x)[label]), m, log_sum, weight)
              : g.sum(x, [&](int64_t c, float v) {
                  return cross_entropy_term(v, m, log_sum, target_of(target, g.r, g.cols, c));
                }));
      sums[1] += static_cast<double>(weight);
    }
    sums[0] += static_cast<double>(loss);
    if (!g.leads()) return;
    if (args.loss.each != nullptr) args.loss.each[g.r] = loss;
    if constexpr (kIsLogits) {
      args.max[g.r] = m;
      args.log_sum[g.r] = log_sum;
    }
  }
  __device__ __forceinline__ void done(int64_t task, const double* sums) const {
    if (args.loss.partials != nullptr) args.loss.partials[task] = sums[0];
    if (args.weights != nullptr) args.weights[task] = sums[1];
  }
};

template <bool kIsLogits>
struct CrossEntropyBwd {
  static constexpr int kSums = 0;
  CrossEntropyBwdArgs args;

  // The sum of a row's target. A label out of range was reported, and its class has no weight.
  template <class Group, class Columns>
  __device__ __forceinline__ float target_sum(const Group& g, const Columns& x) const {
    const ClassTarget& target = args.target;
    if (is_one_class(target) && in_range(target.labels[g.r], g.cols))
      return class_weight(target, target.labels[g.r]);
    return static_cast<float>(g.sum(x, [&](int64_t c, float) {
      return static_cast<double>(target_of(target, g.r, g.cols, c));
    }));
  }
  template <class Group, class Sums>
  __device__ __forceinline__ void row(const Group& g, Sums&) const {
    const ClassTarget& target = args.target;
    const auto x = g.row(args.x);
    if (target.labels != nullptr && target.labels[g.r] == target.ignore_index)
      return g.map(x, args.dx, [](int64_t, float) { return 0.f; });
    const float dloss = loss_gradient(args.gradient, g.r);
    if constexpr (kIsLogits) {
      const float m = args.max[g.r], log_sum = args.log_sum[g.r], t_sum = target_sum(g, x);
      g.map(x, args.dx, [&](int64_t c, float v) {
        const float t = target_of(target, g.r, g.cols, c);
        return cross_entropy_dx(v, m, log_sum, t, t_sum, dloss);
      });
    } else {
      g.map(x, args.dx,
            [&](int64_t c, float) { return -target_of(target, g.r, g.cols, c) * dloss; });
    }
  }
};

// ---- pointwise losses --------------------------------------------------------------------------
__device__ __forceinline__ float value_at(const Cyclic& c, int64_t i) {
  return c.values == nullptr ? c.otherwise : c.values[i < c.period ? i : i % c.period];
}

// Calls f(x, t, a, weight, k, i) for the elements of a chunk that this thread has: the k-th of a
// vector, the i-th of all. Then done(i of the first, left) for the vector.
template <class T, class F, class Done>
__device__ __forceinline__ void each_loss(const PointwiseLossArgs& args, int64_t first, int64_t n,
                                          F f, Done done) {
  constexpr int kCount = kVec<T>;
  const auto* x = static_cast<const T*>(args.x);
  const bool aligned = is_aligned(x) && is_aligned(args.t);
  each_vec<kCount>(n, [&](int64_t i, int64_t left) {
    const auto xv = load<kCount>(x + first + i, left, aligned);
    const auto tv = load<kCount>(args.t + first + i, left, aligned);
    FASTNN_UNROLL
    for (int k = 0; k < kCount; ++k) {
      const int64_t at = first + i + k;
      if (k < left)
        f(to_float(xv.v[k]), tv.v[k], value_at(args.a, at), value_at(args.weight, at), k, at);
    }
    done(first + i, left);
  });
}

template <class T, class L>
__global__ void __launch_bounds__(kReduceThreads, 1)
    pointwise_loss_fwd_kernel(PointwiseLossFwdArgs args) {
  float* each = args.loss.each;
  const bool aligned = is_aligned(each);
  each_chunk(args.n, [&](int64_t task, int64_t first, int64_t n) {
    double sum = 0;
    Vec<float, kVec<T>> losses;
    each_loss<T>(
        args, first, n,
        [&](float x, float t, float a, float weight, int k, int64_t) {
          const double loss = static_cast<double>(weight) * L::fwd(x, t, a);
          losses.v[k] = static_cast<float>(loss);
          sum += loss;
        },
        [&](int64_t at, int64_t left) {
          if (each != nullptr) store(each + at, losses, left, aligned);
        });
    if (args.loss.partials == nullptr) return;
    sum = group_sum<kReduceThreads>(sum);
    if (threadIdx.x == 0) args.loss.partials[task] = sum;
  });
}

template <class T, class L>
__global__ void __launch_bounds__(kReduceThreads, 1)
    pointwise_loss_bwd_kernel(PointwiseLossBwdArgs args) {
  auto* dx = static_cast<T*>(args.dx);
  const bool aligned = is_aligned(dx);
  each_chunk(args.n, [&](int64_t, int64_t first, int64_t n) {
    Vec<T, kVec<T>> out;
    each_loss<T>(
        args, first, n,
        [&](float x, float t, float a, float weight, int k, int64_t i) {
          out.v[k] = from_float<T>(L::bwd(x, t, a) * (weight * loss_gradient(args.gradient, i)));
        },
        [&](int64_t i, int64_t left) { store(dx + i, out, left, aligned); });
  });
}

template <class T, class L>
void pointwise_loss_fwd(const PointwiseLossFwdArgs& args, Slice s) {
  if (args.n <= 0) return;
  FASTNN_LAUNCH((pointwise_loss_fwd_kernel<T, L>), chunk_grid(args.n), kReduceThreads, s.stream,
                args);
}
template <class T, class L>
void pointwise_loss_bwd(const PointwiseLossBwdArgs& args, Slice s) {
  if (args.n <= 0) return;
  FASTNN_LAUNCH((pointwise_loss_bwd_kernel<T, L>), chunk_grid(args.n), kReduceThreads, s.stream,
                args);
}

template <class T, class... L>
constexpr LossKernels kernels(PointwiseLossList<L...>) {
  return {
      .cross_entropy_fwd = for_rows_of<T, CrossEntropyFwd<true>>,
      .nll_loss_fwd = for_rows_of<T, CrossEntropyFwd<false>>,
      .cross_entropy_bwd = for_rows_of<T, CrossEntropyBwd<true>>,
      .nll_loss_bwd = for_rows_of<T, CrossEntropyBwd<false>>,
      .pointwise_loss_fwd = {pointwise_loss_fwd<T, L>...},
      .pointwise_loss_bwd = {pointwise_loss_bwd<T, L>...},
      .loss_combine = float32_only<T, LossCombineArgs>(loss_combine),
  };
}

}  // namespace

template <>
constinit const LossKernels cuda::Table<LossKernels>::of_dtype[kNumTableDTypes] = {
    kernels<float>(PointwiseLosses{}),
    kernels<bf16>(PointwiseLosses{}),
    kernels<f16>(PointwiseLosses{}),
    {}};

}  // namespace fastnn
