// Softmax, log-softmax and logsumexp, as operations of the row engine. Totals are of exp_scaled, as
// on the CPU.
#include "../formulas/softmax.h"
#include "row.cuh"

namespace fastnn {
namespace {

template <bool kLog>
struct SoftmaxFwd {
  static constexpr int kSums = 0;
  SoftmaxFwdArgs args;
  template <class Group, class Sums>
  __device__ __forceinline__ void row(const Group& g, Sums&) const {
    const auto x = g.row(args.x);
    const float m = g.max(x);
    const double total = g.sum(x, [m](int64_t, float v) { return exp_scaled(v - m); });
    if constexpr (kLog) {
      const float log_sum = log(static_cast<float>(total * kExpScale));
      g.map(x, args.y, [=](int64_t, float v) { return (v - m) - log_sum; });
    } else {
      const float scale = static_cast<float>(1.0 / total);
      g.map(x, args.y, [=](int64_t, float v) { return exp_scaled(v - m) * scale; });
    }
  }
};

template <bool kLog>
struct SoftmaxBwd {
  static constexpr int kSums = 0;
  SoftmaxBwdArgs args;
  template <class Group, class Sums>
  __device__ __forceinline__ void row(const Group& g, Sums&) const {
    const auto dy = g.row(args.dy), y = g.row(args.y);
    const float total = static_cast<float>(g.sum(dy, y, [](float d, float v) {
      return static_cast<double>(d) * (kLog ? 1.0 : static_cast<double>(v));
    }));
    g.zip(dy, y, args.dx, [=](int64_t, float d, float v) {
      return kLog ? log_softmax_dx(d, v, total) : softmax_dx(d, v, total);
    });
  }
};

struct LogSumExpFwd {
  static constexpr int kSums = 0;
  LogSumExpFwdArgs args;
  template <class Group, class Sums>
  __device__ __forceinline__ void row(const Group& g, Sums&) const {
    const auto x = g.row(args.x);
    const float m = g.max(x);
    const double total = g.sum(x, [m](int64_t, float v) { return exp_scaled(v - m); });
    if (!g.leads()) return;
    using T = typename Group::Type;
    static_cast<T*>(args.y)[g.r] =
        from_float<T>(abs(m) == kInf ? m : m + log(static_cast<float>(total * kExpScale)));
  }
};

// From the maximum and the sum again: logsumexp rounded to one float would lose the sum when the
// inputs are large.
struct LogSumExpBwd {
  static constexpr int kSums = 0;
  LogSumExpBwdArgs args;
  template <class Group, class Sums>
  __device__ __forceinline__ void row(const Group& g, Sums&) const {
    const auto x = g.row(args.x);
    const float m = g.max(x);
    const double total = g.sum(x, [m](int64_t, float v) { return exp_scaled(v - m); });
    const float log_sum = log(static_cast<float>(total * kExpScale));
    const float dy = to_float(static_cast<const typename Group::Type*>(args.dy)[g.r]);
    g.map(x, args.dx, [=](int64_t, float v) { return exp((v - m) - log_sum) * dy; });
  }
};

template <class T>
constexpr SoftmaxKernels kernels() {
  return {
      .softmax_fwd = for_rows_of<T, SoftmaxFwd<false>>,
      .log_softmax_fwd = for_rows_of<T, SoftmaxFwd<true>>,
      .softmax_bwd = for_rows_of<T, SoftmaxBwd<false>>,
      .log_softmax_bwd = for_rows_of<T, SoftmaxBwd<true>>,
      .logsumexp_fwd = for_rows_of<T, LogSumExpFwd>,
      .logsumexp_bwd = for_rows_of<T, LogSumExpBwd>,
  };
}

}  // namespace

template <>
constinit const SoftmaxKernels cuda::Table<SoftmaxKernels>::of_dtype[kNumTableDTypes] = {
    kernels<float>(), kernels<bf16>(), kernels<f16>(), {}};

}  // namespace fastnn
