// Activations with a trained parameter: prelu, and swish with a Tensor beta. And maxout, hardtanh.
#include "common.h"

namespace fastnn {
namespace {

constexpr const char* kNames[] = {"prelu", "swish"};
static_assert(std::size(kNames) == kNumParametric);

// One parameter, or one for each index of axis 1.
ParametricShape check_parameter(int kind, const Array& x, const Array& a) {
  const char* op = kNames[kind];
  const int64_t channels = x.shape.ndim >= 2 ? x.shape[1] : 1;
  check(a.shape.ndim <= 1 && (a.numel() == 1 || a.numel() == channels), op,
        ": expected a parameter of shape (1,) or, for each index of axis 1 of input ", x.shape,
        ", (", channels, ",), got ", a.shape);
  check_dtype(op, "the parameter", a, x.dtype);
  check_device(op, "the parameter", a, x.device());
  if (a.numel() == 1) return {1, 1, x.numel()};
  int64_t inner = 1;
  for (int i = 2; i < x.shape.ndim; ++i) inner *= x.shape[i];
  return {x.shape[0], channels, inner};
}

Launch over(int kind, const Array& x, const ParametricShape& shape) {
  return {kNames[kind], x.device(), x.dtype, shape.tasks(),
          static_cast<double>(x.numel()) * kCostPerExp};
}

Array parametric_fwd(int kind, const Array& x, const Array& a) {
  const ParametricShape shape = check_parameter(kind, x, a);
  Array y = empty_like(x);
  launch(over(kind, x, shape), &Kernels::parametric_fwd, kind,
         ParametricFwdArgs{read(x), read(a), write(y), shape});
  return y;
}

// Returns (dx, da).
std::tuple<Array, Array> parametric_bwd(int kind, const Array& dy, const Array& x, const Array& a) {
  const ParametricShape shape = check_parameter(kind, x, a);
  check_same(kNames[kind], "the output", x, "its gradient", dy);
  Array dx = empty_like(x), da = empty_like(a);
  Array partials = empty({shape.partials()}, DType::kInt64, x.device());
  launch(
      over(kind, x, shape), &Kernels::parametric_bwd, kind,
      ParametricBwdArgs{read(dy), read(x), read(a), write(dx), write_as<double>(partials), shape});
  launch({kNames[kind], x.device(), x.dtype, 1, 0}, &Kernels::parametric_bwd_params,
         ParametricBwdParamsArgs{read_as<double>(partials), write(da), shape});
  return {dx, da};
}

Launch pieces_of(const Array& x) {
  return row_wise("maxout", x, x.shape.rows(), x.shape.last(), kCostPerElement);
}

Array maxout_fwd(const Array& x, int64_t pieces) {
  check(pieces >= 1, "maxout: expected pieces >= 1, got ", pieces);
  check(x.shape.ndim >= 1, "maxout: expected input with at least one axis, got ", x.shape);
  check(x.shape.last() % pieces == 0, "maxout: expected a last axis that ", pieces,
        " pieces divide, got input ", x.shape);
  Shape shape = x.shape;
  shape.dims[shape.ndim - 1] /= pieces;
  Array y = empty(shape, x.dtype, x.device());
  launch(pieces_of(x), &Kernels::maxout_fwd,
         MaxoutFwdArgs{read(x), write(y), shape.rows(), shape.last(), pieces});
  return y;
}

Array maxout_bwd(const Array& dy, const Array& x, const Array& y, int64_t pieces) {
  check_same("maxout", "the output", y, "its gradient", dy);
  Array dx = empty_like(x);
  launch(
      pieces_of(x), &Kernels::maxout_bwd,
      MaxoutBwdArgs{read(dy), read(x), read(y), write(dx), y.shape.rows(), y.shape.last(), pieces});
  return dx;
}

// y may be x.
void launch_hardtanh(const Array& x, const Array& y, double low, double high) {
  check(low <= high, "hardtanh: expected min_val <= max_val, got ", low, " and ", high);
  launch(elementwise("hardtanh", x), &Kernels::hardtanh_fwd,
         HardtanhFwdArgs{read(x), write(y), x.numel(), static_cast<float>(low),
                         static_cast<float>(high)});
}

Array hardtanh_fwd(const AnyLayout& x, double low, double high) {
  Array y = empty_like(x);
  launch_hardtanh(x, y, low, high);
  return y;
}

// In the memory of x.
void hardtanh_(const AnyLayout& x, double low, double high) {
  check_writable("hardtanh", "input", x);
  launch_hardtanh(x, x, low, high);
}

Array hardtanh_bwd(const AnyLayout& dy, const AnyLayout& x, double low, double high) {
  check_same("hardtanh", "the output", x, "its gradient", dy);
  check_layout("hardtanh", "the output", x, "its gradient", dy);
  Array dx = empty_like(x);
  launch(elementwise("hardtanh", x), &Kernels::hardtanh_bwd,
         HardtanhBwdArgs{read(dy), read(x), write(dx), x.numel(), static_cast<float>(low),
                         static_cast<float>(high)});
  return dx;
}

}  // namespace

void bind_parametric(py::module_& m) {
  m.def("hardtanh_fwd", &hardtanh_fwd, py::arg("x"), py::arg("low"), py::arg("high"));
  m.def("hardtanh_", &hardtanh_, py::arg("x"), py::arg("low"), py::arg("high"));
  m.def("hardtanh_bwd", &hardtanh_bwd, py::arg("dy"), py::arg("x"), py::arg("low"),
        py::arg("high"));
  m.def("maxout_fwd", &maxout_fwd, py::arg("x"), py::arg("pieces"));
  m.def("maxout_bwd", &maxout_bwd, py::arg("dy"), py::arg("x"), py::arg("y"), py::arg("pieces"));
  py::dict kinds;
  for (int i = 0; i < kNumParametric; ++i) kinds[kNames[i]] = i;
  m.attr("PARAMETRIC") = kinds;
  m.def("parametric_fwd", &parametric_fwd, py::arg("kind"), py::arg("x"), py::arg("a"));
  m.def("parametric_bwd", &parametric_bwd, py::arg("kind"), py::arg("dy"), py::arg("x"),
        py::arg("a"));
}

}  // namespace fastnn
