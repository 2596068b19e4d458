// softmax, log_softmax and logsumexp over the last axis; cross_entropy against hard or soft labels.
#include "common.h"

namespace fastnn {
namespace {

void check_rows(const char* op, const Array& x) {
  check(x.shape.ndim >= 1, op, ": expected input with at least one axis, got ", x.shape);
  check(x.shape.last() > 0 || x.numel() == 0, op,
        ": expected at least one class on the last axis, got input ", x.shape);
}

Array softmax_fwd(const Array& x, bool log) {
  const char* op = log ? "log_softmax" : "softmax";
  check_rows(op, x);
  Array y = empty_like(x);
  const SoftmaxFwdArgs args{read(x), write(y), x.shape.rows(), x.shape.last()};
  launch(row_wise(op, x, args.rows, args.cols, 2 * kCostPerExp),
         log ? &Kernels::log_softmax_fwd : &Kernels::softmax_fwd, args);
  return y;
}

Array softmax_bwd(const Array& dy, const Array& y, bool log) {
  const char* op = log ? "log_softmax" : "softmax";
  check_same(op, "the output", y, "its gradient", dy);
  Array dx = empty_like(y);
  const SoftmaxBwdArgs args{read(dy), read(y), write(dx), y.shape.rows(), y.shape.last()};
  launch(row_wise(op, y, args.rows, args.cols, kCostPerExp),
         log ? &Kernels::log_softmax_bwd : &Kernels::softmax_bwd, args);
  return dx;
}

Array logsumexp_fwd(const Array& x) {
  check_rows("logsumexp", x);
  Array y = empty(x.shape.without_last(), x.dtype, x.device());
  const LogSumExpFwdArgs args{read(x), write(y), x.shape.rows(), x.shape.last()};
  launch(row_wise("logsumexp", x, args.rows, args.cols, kCostPerExp), &Kernels::logsumexp_fwd,
         args);
  return y;
}

Array logsumexp_bwd(const Array& dy, const Array& x) {
  check(dy.shape == x.shape.without_last(), "logsumexp: expected a gradient of shape ",
        x.shape.without_last(), ", got ", dy.shape);
  check_dtype("logsumexp", "the gradient", dy, x.dtype);
  Array dx = empty_like(x);
  const LogSumExpBwdArgs args{read(dy), read(x), write(dx), x.shape.rows(), x.shape.last()};
  launch(row_wise("logsumexp", x, args.rows, args.cols, 2 * kCostPerExp), &Kernels::logsumexp_bwd,
         args);
  return dx;
}

void check_target(const Array& x, const Array& target) {
  constexpr const char* op = "cross_entropy";
  check(x.shape.ndim >= 1, op, ": expected input of shape (batch, classes), got ", x.shape);
  check_device(op, "target", target, x.device());
  if (target.dtype == DType::kInt64) {
    check(target.shape == x.shape.without_last(), op, ": expected target of shape ",
          x.shape.without_last(), ", one class index for each row of input ", x.shape, ", got ",
          target.shape);
  } else {
    check<TypeError>(target.dtype == DType::kFloat32, op,
                     ": expected target of int64 class indices or float32 probabilities, got ",
                     dtype_name(target.dtype));
    check(target.shape == x.shape, op, ": expected target probabilities of shape ", x.shape,
          " like input, got ", target.shape);
  }
}

// Returns (loss per row, max, log_sum). Reads labels on the host only to say which one is wrong.
std::tuple<Array, Array, Array> cross_entropy_fwd(const Array& x, const Array& target) {
  check_target(x, target);
  check_rows("cross_entropy", x);
  const bool hard = target.dtype == DType::kInt64;
  const int64_t classes = x.shape.last();
  const Shape shape = x.shape.without_last();
  Array loss = empty(shape, DType::kFloat32, x.device());
  Array max = empty(shape, DType::kFloat32, x.device()),
        log_sum = empty(shape, DType::kFloat32, x.device());
  const StatusSite site(x.device(), [target, classes](DataError, int64_t index) {
    Array labels = target;
    if (labels.device() != Device::kCpu) {
      labels = empty(target.shape, target.dtype);
      copy_bytes(target, labels);
    }
    return concat("cross_entropy: expected 0 <= target < ", classes, ", got ",
                  static_cast<const int64_t*>(labels.storage->data)[index], " at target[", index,
                  "]");
  });
  const CrossEntropyFwdArgs args{read(x),
                                 hard ? read_as<int64_t>(target) : nullptr,
                                 hard ? nullptr : read_as<float>(target),
                                 write_as<float>(loss),
                                 write_as<float>(max),
                                 write_as<float>(log_sum),
                                 x.shape.rows(),
                                 classes,
                                 site.status(),
                                 site.site()};
  launch(row_wise("cross_entropy", x, args.rows, args.cols, kCostPerExp),
         &Kernels::cross_entropy_fwd, args);
  site.raise();
  return {loss, max, log_sum};
}

// dx = (softmax(x) - target) dy scale; dy is a scalar or has one element per row.
Array cross_entropy_bwd(const Array& dy, const Array& x, const Array& target, const Array& max,
                        const Array& log_sum, float scale) {
  const bool hard = target.dtype == DType::kInt64, is_scalar = dy.shape.ndim == 0;
  check_dtype("cross_entropy", "the gradient", dy, DType::kFloat32);
  check(is_scalar || dy.shape == max.shape, "cross_entropy: expected a gradient of shape () or ",
        max.shape, ", got ", dy.shape);
  Array dx = empty_like(x);
  const CrossEntropyBwdArgs args{read(x),
                                 hard ? read_as<int64_t>(target) : nullptr,
                                 hard ? nullptr : read_as<float>(target),
                                 read_as<float>(max),
                                 read_as<float>(log_sum),
                                 read_as<float>(dy),
                                 write(dx),
                                 x.shape.rows(),
                                 x.shape.last(),
                                 scale,
                                 is_scalar};
  launch(row_wise("cross_entropy", x, args.rows, args.cols, kCostPerExp),
         &Kernels::cross_entropy_bwd, args);
  return dx;
}

}  // namespace

void bind_softmax(py::module_& m) {
  m.def("softmax_fwd", &softmax_fwd, py::arg("x"), py::arg("log"));
  m.def("softmax_bwd", &softmax_bwd, py::arg("dy"), py::arg("y"), py::arg("log"));
  m.def("logsumexp_fwd", &logsumexp_fwd, py::arg("x"));
  m.def("logsumexp_bwd", &logsumexp_bwd, py::arg("dy"), py::arg("x"));
  m.def("cross_entropy_fwd", &cross_entropy_fwd, py::arg("x"), py::arg("target"));
  m.def("cross_entropy_bwd", &cross_entropy_bwd, py::arg("dy"), py::arg("x"), py::arg("target"),
        py::arg("max"), py::arg("log_sum"), py::arg("scale"));
}

}  // namespace fastnn
