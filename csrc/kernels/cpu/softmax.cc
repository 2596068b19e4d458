// Softmax, log-softmax and logsumexp.
#include "../families/softmax.h"

#include "row_groups.h"
#include "table.h"

namespace fastnn {
namespace {

// y = softmax(x) factor(row). Terms of wide rows wait in y, where that holds floats; else they are
// computed twice.
template <class T, class F>
FASTNN_FN void softmax_times(const T* x, T* y, Range rows, int64_t n, F factor) {
  constexpr bool kKeeps = sizeof(T) == sizeof(float);
  float* kept = nullptr;
  if constexpr (kKeeps) kept = y;
  for_row_groups(x, rows, n, kept, [&](int64_t first, int count, const RowGroup& group) {
    float scale[kGroupRows];
    for (int r = 0; r < kGroupRows; ++r) scale[r] = 1.f / group.total[r];
    for (int r = 0; r < count; ++r) {
      const int64_t at = (first + r) * n;
      const float m = group.max[r], s = scale[r], f = factor(first + r);
      const auto finish = [=](float term) __attribute__((always_inline)) { return term * s * f; };
      if (n <= kBlockLanes) {
        float v[kBlockLanes];
        FASTNN_FOR_LANES(l) v[l] = finish(group.lanes[r][l]);
        store_block(y + at, static_cast<int>(n), v);
      } else if constexpr (kKeeps) {
        map_row(y + at, y + at, n, finish);
      } else {
        map_row(x + at, y + at, n,
                [=](float v) __attribute__((always_inline)) { return finish(exp_scaled(v - m)); });
      }
    }
  });
}

template <class T>
void softmax_fwd(const SoftmaxFwdArgs& args, Slice s) {
  softmax_times(static_cast<const T*>(args.x), static_cast<T*>(args.y),
                softmax_rows(s, args.rows, args.cols), args.cols, [](int64_t) { return 1.f; });
}

template <class T>
void log_softmax_fwd(const SoftmaxFwdArgs& args, Slice s) {
  const auto* x = static_cast<const T*>(args.x);
  auto* y = static_cast<T*>(args.y);
  const int64_t n = args.cols;
  for_row_groups(x, softmax_rows(s, args.rows, n), n, nullptr,
                 [&](int64_t first, int rows, const RowGroup& group) {
                   float log_sum[kGroupRows];
                   group.log_sums(rows, log_sum);
                   for (int r = 0; r < rows; ++r) {
                     const int64_t at = (first + r) * n;
                     const float m = group.max[r], ls = log_sum[r];
                     map_row(x + at, y + at, n,
                             [=](float v) __attribute__((always_inline)) { return (v - m) - ls; });
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
    Lanes acc;
    for_blocks(args.cols, [&](int64_t i, int lanes) __attribute__((always_inline)) {
      float g[kBlockLanes], v[kBlockLanes];
      load_block(dy + i, lanes, 0.f, g);
      load_block(y + i, lanes, 0.f, v);
      acc += each_lane([&](int l) __attribute__((always_inline)) {
        return static_cast<double>(g[l]) * (kLog ? 1.0 : static_cast<double>(v[l]));
      });
    });
    const float total = static_cast<float>(combine(acc));
    for_blocks(args.cols, [&](int64_t i, int lanes) __attribute__((always_inline)) {
      float g[kBlockLanes], v[kBlockLanes];
      load_block(dy + i, lanes, 0.f, g);
      load_block(y + i, lanes, 0.f, v);
      FASTNN_FOR_LANES(l)
        v[l] = kLog ? log_softmax_dx(g[l], v[l], total) : softmax_dx(g[l], v[l], total);
      store_block(dx + i, lanes, v);
    });
  }
}

template <class T>
void logsumexp_fwd(const LogSumExpFwdArgs& args, Slice s) {
  auto* y = static_cast<T*>(args.y);
  for_row_groups(static_cast<const T*>(args.x), softmax_rows(s, args.rows, args.cols), args.cols,
                 nullptr, [&](int64_t first, int rows, const RowGroup& group) {
                   float log_sum[kGroupRows];
                   group.log_sums(rows, log_sum);
                   for (int r = 0; r < rows; ++r) {
                     const float m = group.max[r];
                     y[first + r] = from_float<T>(abs(m) == kInf ? m : m + log_sum[r]);
                   }
                 });
}

// From x again: logsumexp rounded to one float would lose the sum when the inputs are large.
template <class T>
void logsumexp_bwd(const LogSumExpBwdArgs& args, Slice s) {
  const auto* dy = static_cast<const T*>(args.dy);
  softmax_times(static_cast<const T*>(args.x), static_cast<T*>(args.dx),
                softmax_rows(s, args.rows, args.cols), args.cols,
                [dy](int64_t row) { return to_float(dy[row]); });
}

template <class T>
constexpr SoftmaxKernels kernels() {
  return {
      .softmax_fwd = softmax_fwd<T>,
      .log_softmax_fwd = log_softmax_fwd<T>,
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
