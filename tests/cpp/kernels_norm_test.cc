// The norms: of rows, and of channels in all the shapes that batch, group and instance norm have.
#include "kernels_test.h"

namespace fastnn {
namespace {

// Nothing, an activation, dropout, and both.
std::vector<NormEpilogue> epilogues() {
  static const RngDraw draw{1, 2};
  constexpr Keep keep{20000, 1.5f, -0.f, 0.f};
  return {
      {}, {1, 0.7f, nullptr, {}}, {9, 0.7f, nullptr, {}}, {0, 0, &draw, keep}, {9, 0, &draw, keep}};
}

template <class T>
Bytes row_norm(const Kernels& k, int64_t rows, int64_t cols, bool centred,
               const NormEpilogue& after) {
  Buffer<T> x(rows * cols), w(cols), b(cols), y(rows * cols, true), dy(rows * cols),
      dx(rows * cols, true);
  Buffer<T> dw(cols, true), db(cols, true);
  Buffer<double> mean(rows, true);
  Buffer<float> rstd(rows, true);
  const int64_t tasks = ceil_div(rows, rows_per_task(cols));
  Buffer<double> partials(tasks * 2 * cols, true);
  (centred ? k.layer_norm_fwd : k.rms_norm_fwd)(
      {x.get(), w.get(), b.get(), y.get(), mean.get(), rstd.get(), rows, cols, 1e-5f, after},
      {0, tasks, nullptr});
  const LayerNormBwdArgs bwd{dy.get(), x.get(),        w.get(),  mean.get(), rstd.get(),
                             dx.get(), partials.get(), dw.get(), db.get(),   rows,
                             cols,     b.get(),        after};
  (centred ? k.layer_norm_bwd : k.rms_norm_bwd)(bwd, {0, tasks, nullptr});
  k.layer_norm_bwd_params(bwd, {0, ceil_div(cols, kColumnChunk), nullptr});
  Bytes out;
  for (const auto* buffer : {&y, &dx, &dw, &db}) append(out, *buffer);
  return out;
}

// groups as in Planes; size 1 over the batch is by columns, as channels-last is.
template <class T>
Bytes channel_norm(const Kernels& k, int64_t batch, int64_t channels, int64_t size, int64_t groups,
                   const NormEpilogue& after, bool last = false) {
  const int64_t n = batch * channels * size;
  const Planes planes(batch, channels, size, groups);
  const ColumnTasks column_tasks(batch, channels, size, groups);
  const bool columns = last || (groups == 0 && size == 1);
  const int64_t rows = groups > 0 ? batch : 1;
  Buffer<T> x(n), w(channels), b(channels), y(n, true), dy(n), dx(n, true);
  Buffer<T> dw(channels, true), db(channels, true);
  Buffer<float> running_mean(channels), running_var(channels);
  Buffer<double> mean(planes.statistics, true), var(planes.statistics, true);
  Buffer<double> partials(rows * 2 * channels, true);
  const Slice all{0, columns ? column_tasks.tasks() : planes.tasks(), nullptr};
  (columns ? k.column_norm_fwd : k.plane_norm_fwd)(
      {x.get(), w.get(), b.get(), y.get(), mean.get(), var.get(), nullptr, nullptr, batch, channels,
       size, groups, 1e-5f, after},
      all);
  const ChannelNormBwdArgs bwd{dy.get(), x.get(),        w.get(),  b.get(),  mean.get(), var.get(),
                               dx.get(), partials.get(), dw.get(), db.get(), batch,      channels,
                               size,     groups,         1e-5f,    false,    after};
  (columns ? k.column_norm_bwd : k.plane_norm_bwd)(bwd, all);
  k.channel_norm_bwd_params(bwd, {0, ceil_div(channels, kColumnChunk), nullptr});
  Bytes out;
  for (const auto* buffer : {&y, &dx, &dw, &db}) append(out, *buffer);
  if (sizeof(T) == sizeof(float) && (groups == 0 || groups == channels)) {
    int64_t count = 0;
    k.running_stats({mean.get(), var.get(), running_mean.get(), running_var.get(), &count, rows,
                     channels, planes.count * size, -1},
                    {0, 1, nullptr});
    EXPECT(count == 1, "one batch");
    append(out, running_mean);
    append(out, running_var);
  }
  return out;
}
template <class T>
void compare_channel_norms(int64_t n, DType dtype) {
  const std::string at = " n=" + std::to_string(n);
  for (const NormEpilogue& after : epilogues()) {
    compare(
        "columns" + at, [=](const Kernels& k) { return channel_norm<T>(k, 5, n, 1, 0, after); },
        dtype);
    for (const int64_t groups : {0, 1, 2, 4})
      compare(
          "planes" + at,
          [=](const Kernels& k) { return channel_norm<T>(k, 3, 4, n, groups, after); }, dtype);
#ifndef FASTNN_TEST_CUDA  // which has columns of batch norm only
    for (const int64_t groups : {1, 2, 4})
      compare(
          "channels last" + at,
          [=](const Kernels& k) { return channel_norm<T>(k, 3, 4, n, groups, after, true); },
          dtype);
#endif
  }
}

template <class T>
void compare_dtype(DType dtype) {
  for (const int64_t n : sizes()) {
    if (n == 0) continue;
    for (const bool centred : {true, false})
      for (const NormEpilogue& after : epilogues())
        compare(
            "row_norm n=" + std::to_string(n),
            [=](const Kernels& k) { return row_norm<T>(k, 3, n, centred, after); }, dtype);
    if (n < 2000) compare_channel_norms<T>(n, dtype);
  }
  compare(
      "layer_norm tall", [](const Kernels& k) { return row_norm<T>(k, 4000, 9, true, {}); }, dtype);
}

}  // namespace
}  // namespace fastnn

int main() {
  fastnn::compare_dtype<float>(fastnn::DType::kFloat32);
  fastnn::compare_dtype<uint16_t>(fastnn::DType::kBFloat16);
  return report_tests();
}
