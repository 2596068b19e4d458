// Losses of rows.
#include "../families/loss.h"

#include "../formulas/loss.h"
#include "row_groups.h"
#include "table.h"

namespace fastnn {
namespace {

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

template <class T>
constexpr LossKernels kernels() {
  return {
      .cross_entropy_fwd = cross_entropy_fwd<T>,
      .cross_entropy_bwd = cross_entropy_bwd<T>,
  };
}

}  // namespace

template <>
constinit const LossKernels FASTNN_LEVEL::Table<LossKernels>::of_dtype[kNumTableDTypes] = {
    kernels<float>(), kernels<bf16>(), {}, {}};

}  // namespace fastnn
