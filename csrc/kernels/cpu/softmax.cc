// Softmax, log-softmax and logsumexp.
#include "../families/softmax.h"

#include "row_groups.h"
#include "table.h"

namespace fastnn {
namespace {

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
        v[l] = kLog ? log_softmax_dx(g[l], v[l], total) : softmax_dx(g[l], v[l], total);
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

template <class T>
constexpr SoftmaxKernels kernels() {
  return {
      .softmax_fwd = softmax_fwd<T, false>,
      .log_softmax_fwd = softmax_fwd<T, true>,
      .softmax_bwd = softmax_bwd<T, false>,
      .log_softmax_bwd = softmax_bwd<T, true>,
      .logsumexp_fwd = logsumexp_fwd<T>,
      .logsumexp_bwd = logsumexp_bwd<T>,
  };
}

}  // namespace

template <>
constinit const SoftmaxKernels FASTNN_LEVEL::Table<SoftmaxKernels>::of_dtype[kNumTableDTypes] = {
    kernels<float>(), kernels<bf16>(), {}, {}};

}  // namespace fastnn
