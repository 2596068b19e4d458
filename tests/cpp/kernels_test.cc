// Every CPU kernel whose family has no file of its own.
#include "kernels_test.h"

#include <algorithm>
#include <array>

namespace fastnn {
namespace {

template <class T>
Bytes elementwise(const Kernels& k, int64_t n) {
  Bytes out;
  const Slice all{0, ceil_div(n, kElementwiseChunk), nullptr};
  Buffer<T> x(n), z(n);
  for (int i = 0; i < kNumActivations; ++i) {
    Buffer<T> y(n, true), dx(n, true);
    k.activation_fwd[i]({x.get(), y.get(), n, 0.7f}, all);
    k.activation_bwd[i]({x.get(), z.get(), dx.get(), n, 0.7f}, all);
    append(out, y);
    append(out, dx);
  }
  Buffer<T> clipped(n, true), slopes(n, true);
  k.hardtanh_fwd({x.get(), clipped.get(), n, -0.5f, 0.5f}, all);
  k.hardtanh_bwd({z.get(), x.get(), slopes.get(), n, -0.5f, 0.5f}, all);
  append(out, clipped);
  append(out, slopes);
  for (const auto binary : k.binary) {
    Buffer<T> y(n, true), s(n, true);
    binary({x.get(), z.get(), y.get(), n, 0}, all);
    binary({x.get(), nullptr, s.get(), n, 2}, all);
    append(out, y);
    append(out, s);
  }
  Buffer<T> y(n, true), u(n, true);
  const RngDraw draw{7, 9};
  k.fill({nullptr, y.get(), n, 1.5f}, all);
  k.uniform({u.get(), n, &draw, -1, 1}, all);
  for (const auto* b : {&y, &u}) append(out, *b);
  return out;
}

template <class T>
Bytes dropouts(const Kernels& k, int64_t n) {
  Bytes out;
  const Slice all{0, ceil_div(n, kElementwiseChunk), nullptr};
  Buffer<T> x(n), variance(n);
  for (T& v : variance.values) v = T{};
  const RngDraw draw{7, 9};
  const Keep keep{20000, 1.4f, -0.f, 0.f};
  const std::vector<int32_t> thresholds{1 << 22, 1 << 23, 3 << 22, INT32_MAX};
  std::vector<Buffer<T>> y(6, Buffer<T>(n, true));
  k.dropout({x.get(), y[0].get(), n, &draw, keep}, all);
  k.gaussian_dropout({x.get(), y[1].get(), n, &draw, 0.7f}, all);
  k.poisson_dropout({x.get(), y[2].get(), n, &draw, thresholds.data(), 2, 1, 0.5f}, all);
  k.sample_normal({x.get(), variance.get(), y[3].get(), n, &draw}, all);
  k.sample_normal_bwd({x.get(), variance.get(), y[4].get(), n, &draw}, all);
  if (n > 0) k.dropout_rows({x.get(), y[5].get(), 1, n, &draw, keep}, {0, 1, nullptr});
  for (const auto& b : y) append(out, b);
  return out;
}

template <class T>
Bytes parametric(const Kernels& k, const ParametricShape& shape) {
  const int64_t n = shape.outer * shape.channels * shape.inner;
  Bytes out;
  Buffer<T> x(n), dy(n), a(shape.channels);
  for (int i = 0; i < kNumParametric; ++i) {
    Buffer<T> y(n, true), dx(n, true), da(shape.channels, true);
    Buffer<double> partials(shape.partials(), true);
    const Slice all{0, shape.tasks(), nullptr};
    k.parametric_fwd[i]({x.get(), a.get(), y.get(), shape}, all);
    k.parametric_bwd[i]({dy.get(), x.get(), a.get(), dx.get(), partials.get(), shape}, all);
    k.parametric_bwd_params({partials.get(), da.get(), shape}, {0, 1, nullptr});
    for (const auto* b : {&y, &dx, &da}) append(out, *b);
    append(out, partials);
  }
  return out;
}

template <class T>
Bytes maxout(const Kernels& k, int64_t rows, int64_t cols, int64_t pieces) {
  const Slice all{0, ceil_div(rows, rows_per_task(cols * pieces)), nullptr};
  Buffer<T> x(rows * cols * pieces), y(rows * cols, true), dy(rows * cols),
      dx(rows * cols * pieces, true);
  k.maxout_fwd({x.get(), y.get(), rows, cols, pieces}, all);
  k.maxout_bwd({dy.get(), x.get(), y.get(), dx.get(), rows, cols, pieces}, all);
  Bytes out;
  append(out, y);
  append(out, dx);
  return out;
}

template <class T>
Bytes softmax(const Kernels& k, int64_t rows, int64_t cols) {
  const Slice all{0, ceil_div(rows, rows_per_task(cols)), nullptr};
  Buffer<T> x(rows * cols), dy(rows * cols), row_dy(rows);
  Bytes out;
  for (const bool log : {false, true}) {
    Buffer<T> y(rows * cols, true), dx(rows * cols, true);
    (log ? k.log_softmax_fwd : k.softmax_fwd)({x.get(), y.get(), rows, cols}, all);
    (log ? k.log_softmax_bwd : k.softmax_bwd)({dy.get(), y.get(), dx.get(), rows, cols}, all);
    append(out, y);
    append(out, dx);
  }
  Buffer<T> lse(rows, true), dx(rows * cols, true);
  k.logsumexp_fwd({x.get(), lse.get(), rows, cols}, all);
  k.logsumexp_bwd({row_dy.get(), x.get(), dx.get(), rows, cols}, all);
  append(out, lse);
  append(out, dx);
  return out;
}

template <class T>
Bytes optimizers(const Kernels& k, int64_t n) {
  Bytes out;
  for (int rule = 0; rule < kNumOptimRules; ++rule) {
    Buffer<T> p(n), g(n);
    Buffer<float> a(n), b(n), c(n);
    for (Buffer<float>* slot : {&a, &b, &c})
      for (float& x : slot->values) x = std::abs(x);
    std::vector<TensorChunk> chunks;
    OptimState state{0, 1, 1, 1};
    for (int64_t at = 0; at < n; at += kOptimChunk)
      chunks.push_back({p.get() + at,
                        g.get() + at,
                        {a.get() + at, b.get() + at, c.get() + at},
                        &state,
                        std::min(kOptimChunk, n - at),
                        at});
    const OptimRates rates{1e-2, 0.9};
    Status status{kStatusOk};
    const auto count = static_cast<int32_t>(chunks.size());
    std::vector<double> sums(chunks.size());
    std::vector<float> maxima(chunks.size());
    float norm[2];
    GradNormArgs clip{chunks.data(), &status, sums.data(), maxima.data(), norm, 3, 1, 0, count};
    OptimArgs args{chunks.data(), &rates, norm, &status, 0, count, {}, Squares::kSum};
    args.options.beta2 = 0.999;
    args.options.eps = 1e-8;
    args.options.weight_decay = 0.01;
    args.options.nesterov = args.options.bias_correction = 1;
    args.options.decay_base = 0.999;
    const Slice all{0, count, nullptr}, one{0, 1, nullptr};
    k.grad_norm_max(clip, all);
    k.grad_norm_sum(clip, all);
    k.grad_norm_combine(clip, one);
    k.optim_check(args, all);
    k.optim_begin(args, one);
    k.optim_update[rule](args, all);
    k.grad_scale(clip, all);
    k.grad_clamp(clip, all);
    EXPECT(state.step == (n > 0) && status.word == kStatusOk, "one step");
    append(out, p);
    append(out, g);
    append(out, a);
    append(out, b);
    append(out, c);
  }
  return out;
}

template <class T>
Bytes penalties(const Kernels& k, int64_t n) {
  Buffer<T> p(n), g(n);
  TensorChunk chunk{p.get(), g.get(), {}, nullptr, n, 0};
  Status status{kStatusOk};
  double partial;
  float y;
  const float dy = 0.5f;
  const Slice one{0, 1, nullptr};
  const PenaltyArgs args{&chunk, &partial, &y, &dy, 0.25, 0.5, 1};
  k.penalty_fwd(args, one);
  k.penalty_combine(args, one);
  k.penalty_bwd(args, one);
  k.soft_threshold({&chunk, nullptr, &status, 0.1}, one);
  const RowBlock block{p.get(), n / 3, 3};
  k.max_norm({&block, &status, 0.5}, one);
  Bytes out;
  append(out, p);
  append(out, g);
  return out;
}

template <class T>
Bytes reductions(const Kernels& k, int64_t n) {
  Buffer<T> x(n), y(1, true);
  const int64_t tasks = ceil_div(n, kReduceChunk);
  Buffer<double> partials(tasks, true);
  const SumArgs args{x.get(), y.get(), partials.get(), n, 0.5f, nullptr, 0};
  k.sum_chunks(args, {0, tasks, nullptr});
  k.sum_combine(args, {0, 1, nullptr});
  Bytes out;
  append(out, y);
  return out;
}

template <class T>
Bytes pooling(const Kernels& k, int64_t w, int32_t kernel, int32_t stride, int32_t pad) {
  constexpr int64_t kPlanes = 3, kRows = 5;
  const int64_t reach = w + 2 * pad - kernel, out_w = reach / stride + 1;
  const int64_t out_h = (kRows + 2 * pad - kernel) / stride + 1, outs = kPlanes * out_h * out_w;
  const PoolGrid grid{kPlanes, kRows,  w,   out_h, out_w, kernel, kernel,
                      stride,  stride, pad, pad,   1,     1};
  const Slice all{0, ceil_div(kPlanes, rows_per_task(kRows * w)), nullptr};
  Buffer<T> x(kPlanes * kRows * w), y(outs, true), mean(outs, true), dx(kPlanes * kRows * w, true);
  Buffer<float> sums(kPlanes * kRows * w, true);
  std::vector<uint8_t> offsets(static_cast<size_t>(outs));
  const std::vector<float> divisors(static_cast<size_t>(std::max(out_h, out_w)), 2.f);
  k.max_pool_fwd({x.get(), y.get(), offsets.data(), grid}, all);
  k.max_pool_bwd({y.get(), offsets.data(), dx.get(), sums.get(), grid}, all);
  k.avg_pool_fwd({x.get(), mean.get(), divisors.data(), divisors.data(), grid}, all);
  Bytes out;
  for (const auto* b : {&y, &mean, &dx}) append(out, *b);
  // The same by spans: the whole plane as one window.
  const PoolSpan rows{0, kRows}, cols{0, static_cast<int32_t>(w)};
  const PoolSpans spans{&rows, &cols, kPlanes, kRows, w, 1, 1, 1, 1, false};
  Buffer<T> most(kPlanes, true), total(kPlanes, true), back(kPlanes * kRows * w, true);
  std::vector<int64_t> at(kPlanes);
  k.max_pool_spans_fwd({x.get(), most.get(), at.data(), spans}, all);
  k.max_pool_spans_bwd({most.get(), at.data(), back.get(), sums.get(), kPlanes, kRows * w, 1}, all);
  k.avg_pool_spans_fwd({x.get(), total.get(), divisors.data(), divisors.data(), spans}, all);
  for (const auto* b : {&most, &total, &back}) append(out, *b);
  const PoolSpans turned{&rows, &cols, kPlanes, kRows, w, 1, 1, 1, 1, false};
  const std::vector<float> ones(static_cast<size_t>(std::max(kRows, w)), 1.f);
  k.avg_pool_bwd({x.get(), total.get(), ones.data(), ones.data(), turned}, all);
  append(out, total);
  return out;
}

#ifndef FASTNN_TEST_CUDA  // which has planes only
template <class T>
Bytes pooling_channels_last(const Kernels& k, int64_t channels, int32_t kernel, int32_t stride,
                            int32_t pad) {
  constexpr int64_t kImages = 2, kRows = 5, kCols = 4, kPlaces = kRows * kCols;
  const int64_t out_h = (kRows + 2 * pad - kernel) / stride + 1,
                out_w = (kCols + 2 * pad - kernel) / stride + 1, n = kImages * kPlaces * channels,
                outs = kImages * out_h * out_w * channels;
  const PoolGrid grid{kImages, kRows,  kCols, out_h, out_w, kernel, kernel,
                      stride,  stride, pad,   pad,   1,     1,      channels};
  const Slice all{0, ceil_div(kImages, rows_per_task(kPlaces * channels)), nullptr};
  Buffer<T> x(n), y(outs, true), mean(outs, true), dx(n, true), total(kImages * channels, true);
  Buffer<float> sums(n, true);
  std::vector<uint8_t> offsets(static_cast<size_t>(outs));
  const std::vector<float> divisors(5, 2.f);
  k.max_pool_fwd({x.get(), y.get(), offsets.data(), grid}, all);
  k.max_pool_bwd({y.get(), offsets.data(), dx.get(), sums.get(), grid}, all);
  k.avg_pool_fwd({x.get(), mean.get(), divisors.data(), divisors.data(), grid}, all);
  const PoolSpan rows{0, kRows}, cols{0, kCols};
  const PoolSpans turned{&rows, &cols, kImages, kRows, kCols, 1, 1, 1, 1, false, channels};
  k.avg_pool_bwd({x.get(), total.get(), divisors.data(), divisors.data(), turned}, all);
  Bytes out;
  for (const auto* b : {&y, &dx, &mean, &total}) append(out, *b);
  return out;
}
#endif

template <class T>
Bytes rows_by_index(const Kernels& k, int64_t cols) {
  constexpr int64_t kCount = 9, kRows = 4;
  const std::vector<int64_t> index{3, 0, 0, 1, 3, 3, -1, 0, 1};
  Buffer<T> x(kRows * cols), y(kCount * cols, true), dx(kRows * cols, true);
  std::vector<int64_t> first(kRows + 1), order(kCount), best(kCount);
  k.take({x.get(), index.data(), y.get(), 1, kCount, kRows, cols, 2.f, nullptr, 0},
         {0, ceil_div(kCount, rows_per_task(cols)), nullptr});
  k.take_order({index.data(), first.data(), order.data(), kCount, kRows, 1}, {0, 1, nullptr});
  EXPECT(first[1] == 3 && first[2] == 3 && first[4] == 6, "row 1 is ignored, -1 is no row");
  const Slice all{0, ceil_div(kRows, rows_per_task(cols)), nullptr};
  k.take_bwd({y.get(), first.data(), order.data(), dx.get(), 1, kCount, kRows, cols}, all);
  k.argmax({x.get(), best.data(), kRows, cols}, all);
  Bytes out;
  append(out, y);
  append(out, dx);
  return out;
}

// There and back again: two matrices of 5 rows.
template <class T>
Bytes transposed(const Kernels& k, int64_t cols) {
  constexpr int64_t kBatch = 2, kRows = 5, kItem = sizeof(T);
  const int64_t n = kBatch * kRows * cols;
  Buffer<T> x(n), y(n, true), z(n, true);
  const TransposeArgs turn{x.get(), y.get(), kBatch, kRows, cols, kItem},
      back{y.get(), z.get(), kBatch, cols, kRows, kItem};
  k.transpose(turn, {0, kBatch * turn.tasks_per_matrix(), nullptr});
  k.transpose(back, {0, kBatch * back.tasks_per_matrix(), nullptr});
  Bytes out, first;
  append(out, z);
  append(first, x);
  EXPECT(out == first, "transposed twice");
  append(out, y);
  return out;
}

template <class T>
void compare_dtype(DType dtype) {
  for (const int64_t n : sizes()) {
    const std::string at = " n=" + std::to_string(n);
    compare("elementwise" + at, [n](const Kernels& k) { return elementwise<T>(k, n); }, dtype);
    compare("dropout" + at, [n](const Kernels& k) { return dropouts<T>(k, n); }, dtype);
    compare("optimizers" + at, [n](const Kernels& k) { return optimizers<T>(k, n); }, dtype);
    compare("penalties" + at, [n](const Kernels& k) { return penalties<T>(k, n); }, dtype);
    compare("sum" + at, [n](const Kernels& k) { return reductions<T>(k, n); }, dtype);
    for (const ParametricShape& shape :
         {ParametricShape{1, 1, n}, ParametricShape{3, n, 1}, ParametricShape{2, 3, n}})
      compare("parametric" + at, [=](const Kernels& k) { return parametric<T>(k, shape); }, dtype);
    compare("maxout" + at, [n](const Kernels& k) { return maxout<T>(k, 3, n, 2); }, dtype);
    if (n == 0) continue;
    compare("softmax" + at, [n](const Kernels& k) { return softmax<T>(k, 3, n); }, dtype);
    compare("transpose" + at, [n](const Kernels& k) { return transposed<T>(k, n); }, dtype);
    compare("take" + at, [n](const Kernels& k) { return rows_by_index<T>(k, n); }, dtype);
    for (const auto& [kernel, stride, pad] :
         {std::array{2, 2, 0}, {3, 1, 1}, {3, 2, 1}, {2, 3, 1}}) {
#ifndef FASTNN_TEST_CUDA
      compare(
          "pool channels last" + at,
          [n, kernel, stride, pad](const Kernels& k) {
            return pooling_channels_last<T>(k, n, kernel, stride, pad);
          },
          dtype);
#endif
      if (n >= kernel)
        compare(
            "pool" + at,
            [n, kernel, stride, pad](const Kernels& k) {
              return pooling<T>(k, n, kernel, stride, pad);
            },
            dtype);
    }
  }
  compare("softmax tall", [](const Kernels& k) { return softmax<T>(k, 4000, 10); }, dtype);
}

}  // namespace
}  // namespace fastnn

int main() {
  fastnn::compare_dtype<float>(fastnn::DType::kFloat32);
  fastnn::compare_dtype<uint16_t>(fastnn::DType::kBFloat16);
  return report_tests();
}
