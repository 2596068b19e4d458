// The kernels of the losses.
#include "kernels_test.h"

namespace fastnn {
namespace {

template <class T>
Bytes class_losses(const Kernels& k, int64_t rows, int64_t cols) {
  Bytes out;
  const int64_t n = rows * cols, tasks = ceil_div(rows, rows_per_task(cols));
  const Slice all{0, tasks, nullptr};
  Status status{kStatusOk};
  Buffer<T> x(n);
  Buffer<float> t(n), weight(cols), dloss(rows);
  std::vector<int64_t> labels(static_cast<size_t>(rows));
  for (size_t i = 0; i < labels.size(); ++i) labels[i] = static_cast<int64_t>(i) % cols;
  const ClassTarget targets[] = {{labels.data(), nullptr, nullptr, -100, 0},
                                 {labels.data(), nullptr, weight.get(), 0, 0.1f},
                                 {nullptr, t.get(), weight.get(), -100, 0.1f}};
  for (const ClassTarget& target : targets)
    for (const bool logits : {false, true}) {
      Buffer<float> loss(rows, true), max(rows, true), log_sum(rows, true), y(2, true);
      Buffer<double> sums(tasks, true), weights(tasks, true);
      Buffer<T> dx(n, true);
      (logits ? k.cross_entropy_fwd : k.nll_loss_fwd)({x.get(),
                                                       target,
                                                       {loss.get(), sums.get()},
                                                       weights.get(),
                                                       max.get(),
                                                       log_sum.get(),
                                                       rows,
                                                       cols,
                                                       true,
                                                       &status,
                                                       0},
                                                      all);
      if (k.loss_combine != nullptr)  // float32: the same for every dtype
        k.loss_combine({sums.get(), weights.get(), y.get(), y.get() + 1, tasks, 1, nullptr, 0},
                       {0, 1, nullptr});
      (logits ? k.cross_entropy_bwd : k.nll_loss_bwd)({x.get(),
                                                       target,
                                                       {dloss.get(), y.get() + 1, 0.5f, false},
                                                       max.get(),
                                                       log_sum.get(),
                                                       dx.get(),
                                                       rows,
                                                       cols},
                                                      all);
      append(out, loss);
      append(out, sums);
      append(out, y);
      append(out, dx);
    }
  EXPECT(status.word == kStatusOk, "labels are in range");
  if (rows > 0) {
    Buffer<float> loss(rows), max(rows), log_sum(rows);
    Buffer<T> dx(n);
    labels[0] = cols;
    const ClassTarget bad{labels.data(), nullptr, weight.get(), -100, 0};
    k.cross_entropy_fwd({x.get(),
                         bad,
                         {loss.get(), nullptr},
                         nullptr,
                         max.get(),
                         log_sum.get(),
                         rows,
                         cols,
                         false,
                         &status,
                         3},
                        all);
    k.cross_entropy_bwd({x.get(),
                         bad,
                         {dloss.get(), nullptr, 1, true},
                         max.get(),
                         log_sum.get(),
                         dx.get(),
                         rows,
                         cols},
                        all);
    EXPECT(status_code(status.word) == DataError::kLabelOutOfRange &&
               status_index(status.word) == 0 && status_site(status.word) == 3,
           "word %lx", static_cast<unsigned long>(status.word));
  }
  return out;
}

// The loss of index `kind`, in its domain: the bits of a NaN are nobody's promise.
template <class T>
Bytes pointwise_loss(const Kernels& k, int kind, int64_t n) {
  const Slice chunks{0, ceil_div(n, kReduceChunk), nullptr};
  Buffer<T> x(n), dx(n, true);
  Buffer<float> t(n), weight(3), dloss(n), loss(n, true);
  Buffer<double> sums(chunks.end, true);
  to_unit(x);
  to_unit(t);
  const PointwiseLossArgs args{x.get(), t.get(), {weight.get(), 3, 1}, {nullptr, 1, 0.5f}, n};
  k.pointwise_loss_fwd[kind]({args, {loss.get(), sums.get()}}, chunks);
  k.pointwise_loss_bwd[kind]({args, {dloss.get(), nullptr, 2, false}, dx.get()}, chunks);
  Bytes out;
  append(out, loss);
  append(out, sums);
  append(out, dx);
  return out;
}

template <class T>
Bytes margin_losses(const Kernels& k, int64_t rows, int64_t cols) {
  Bytes out;
  const int64_t n = rows * cols, tasks = ceil_div(rows, rows_per_task(cols));
  const Slice all{0, tasks, nullptr};
  Status status{kStatusOk};
  Buffer<T> x(n);
  Buffer<float> weight(cols), counts(n, true), dloss(rows);
  std::vector<int64_t> label(static_cast<size_t>(rows)), labels(static_cast<size_t>(n));
  for (size_t i = 0; i < label.size(); ++i) label[i] = static_cast<int64_t>(i) % cols;
  for (size_t i = 0; i < labels.size(); ++i) labels[i] = i % 3 == 2 ? -1 : label[i % label.size()];
  const LossGradient gradient{dloss.get(), nullptr, 2, false};
  for (int p = 0; p <= kNumHinges; ++p) {
    Buffer<float> loss(rows, true);
    Buffer<double> sums(tasks, true);
    Buffer<T> dx(n, true);
    const LossOutput to{loss.get(), sums.get()};
    if (p < kNumHinges) {
      const MultiMarginArgs args{x.get(), label.data(), weight.get(), 1, 0.3f, rows, cols};
      k.multi_margin_fwd[p]({args, to, &status, 0}, all);
      k.multi_margin_bwd[p]({args, gradient, dx.get()}, all);
    } else {
      const MultiLabelMarginArgs args{x.get(), labels.data(), counts.get(), rows, cols};
      k.multilabel_margin_fwd({args, to, &status, 0}, all);
      k.multilabel_margin_bwd({args, gradient, dx.get()}, all);
    }
    append(out, loss);
    append(out, sums);
    append(out, dx);
  }
  EXPECT(status.word == kStatusOk, "labels are in range");
  return out;
}

template <class T>
void compare_dtype(DType dtype) {
  for (const int64_t n : sizes()) {
    const std::string at = " n=" + std::to_string(n);
    if (n > 0) {
      compare("classes" + at, [n](const Kernels& k) { return class_losses<T>(k, 3, n); }, dtype);
      compare("margins" + at, [n](const Kernels& k) { return margin_losses<T>(k, 3, n); }, dtype);
    }
    for (int i = 0; i < kNumPointwiseLosses; ++i)
      compare(
          "pointwise loss " + std::to_string(i) + at,
          [=](const Kernels& k) { return pointwise_loss<T>(k, i, n); }, dtype);
  }
  compare("classes tall", [](const Kernels& k) { return class_losses<T>(k, 4000, 10); }, dtype);
  compare("margins tall", [](const Kernels& k) { return margin_losses<T>(k, 4000, 10); }, dtype);
}

}  // namespace
}  // namespace fastnn

int main() {
  fastnn::compare_dtype<float>(fastnn::DType::kFloat32);
  fastnn::compare_dtype<uint16_t>(fastnn::DType::kBFloat16);
  return report_tests();
}
