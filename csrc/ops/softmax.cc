// softmax, log_softmax and logsumexp over the last axis.
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

}  // namespace

void bind_softmax(py::module_& m) {
  m.def("softmax_fwd", &softmax_fwd, py::arg("x"), py::arg("log"));
  m.def("softmax_bwd", &softmax_bwd, py::arg("dy"), py::arg("y"), py::arg("log"));
  m.def("logsumexp_fwd", &logsumexp_fwd, py::arg("x"));
  m.def("logsumexp_bwd", &logsumexp_bwd, py::arg("dy"), py::arg("x"));
}

}  // namespace fastnn
