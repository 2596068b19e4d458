// linear: y = dropout(act(x w^T + b + r)) over the last axis, and its gradients, as GEMMs with
// fused epilogues.
#include "gemm.h"

namespace fastnn {
namespace {

void check_linear(const Array& x, const Array& w, const OptionalArray& b) {
  constexpr const char* op = "linear";
  check_element(op, x);
  check_dtype(op, "weight", w, x.dtype);
  check_device(op, "weight", w, x.device());
  check(w.shape.ndim == 2, op, ": expected weight of shape (out, in), got ", w.shape);
  check(x.shape.ndim >= 1, op, ": expected input with at least one axis, got ", x.shape);
  check(x.shape.last() == w.shape[1], op, ": expected input.shape[-1] == ", w.shape[1],
        " to fit weight ", w.shape, ", got input ", x.shape);
  if (!b) return;
  check_dtype(op, "bias", *b, x.dtype);
  check_device(op, "bias", *b, x.device());
  check(b->shape == Shape{w.shape[0]}, op, ": expected bias of shape ", Shape{w.shape[0]},
        " to fit weight ", w.shape, ", got ", b->shape);
}

// What follows the sums and the bias; `draw` is what dropout drew, if p is not 0.
struct Ending {
  int activation;
  float a;
  OptionalArray residual, draw;
  double p;
  bool z_is_activated;
};

Shape output_shape(const Array& x, const Array& w) {
  Shape shape = x.shape;
  shape.dims[shape.ndim - 1] = w.shape[0];
  return shape;
}

std::pair<Array, OptionalArray> launch_linear(const Array& x, const Array& w,
                                              const OptionalArray& b, const Ending& ending,
                                              bool save_z) {
  Array y = empty(output_shape(x, w), x.dtype, x.device());
  OptionalArray z;
  if (save_z) z = empty_like(y);
  const int64_t k = w.shape[1];
  with_element(x, [&]<class T>(T) {
    gemm("linear", x,
         {.c = write_as<T>(y),
          .m = x.shape.rows(),
          .n = w.shape[0],
          .k = k,
          .bias = read_optional_as<T>(b),
          .z = z ? write_as<T>(*z) : nullptr,
          .activation = ending.activation,
          .activation_param = ending.a,
          .residual = read_optional_as<T>(ending.residual),
          .z_is_activated = ending.z_is_activated,
          .draw = read_optional_as<RngDraw>(ending.draw),
          .keep = keep_of(ending.p, true)},
         rows_of(read_as<T>(x), k), transposed(read_as<T>(w), k));
  });
  return {y, z};
}

// Returns (y, z): z is the pre-activation, when `save_z`.
std::pair<Array, OptionalArray> linear_fwd(const Array& x, const Array& w, const OptionalArray& b,
                                           int activation, float a, bool save_z) {
  check_linear(x, w, b);
  return launch_linear(x, w, b, {activation, a, {}, {}, 0, false}, save_z);
}

// Returns (y, saved, draw): saved is what the activation's derivative needs, which is what dropout
// is of if `saves_output`, when `save`. The draw is made after the checks.
std::tuple<Array, OptionalArray, OptionalArray> linear_ending_fwd(
    const Array& x, const Array& w, const OptionalArray& b, const OptionalArray& residual,
    int activation, float a, bool save, bool saves_output, const OptionalArray& generator,
    double p) {
  constexpr const char* op = "linear";
  check_linear(x, w, b);
  check(x.device() == Device::kCpu, op,
        ": expected no residual or dropout fused on cuda; apply them to the result");
  check(p >= 0 && p <= 1, op, ": expected 0 <= dropout_p <= 1, got ", p);
  if (residual) {
    const Shape shape = output_shape(x, w);
    check_dtype(op, "residual", *residual, x.dtype);
    check_device(op, "residual", *residual, x.device());
    check(residual->shape == shape, op, ": expected residual of shape ", shape, ", got ",
          residual->shape);
  }
  OptionalArray draw;
  if (generator) draw = rng_draw(*generator);
  const auto [y, saved] =
      launch_linear(x, w, b, {activation, a, residual, draw, p, saves_output}, save);
  return {y, saved, draw};
}

// `saved` is what the activation's derivative needs, or nothing for the identity.
std::tuple<OptionalArray, OptionalArray, OptionalArray> linear_bwd(
    const Array& dy, const Array& x, const Array& w, const OptionalArray& saved, int activation,
    float a, bool need_dx, bool need_dw, bool need_db) {
  const Device device = x.device();
  const int64_t m = x.shape.rows(), n = w.shape[0], k = w.shape[1];
  check_dtype("linear", "the gradient", dy, x.dtype);
  check(dy.numel() == m * n, "linear: expected a gradient of ", m * n, " elements, got ", dy.shape);
  Array dz = dy;
  OptionalArray dx, dw, db;
  if (need_db) db = empty({n}, x.dtype, device);
  if (saved) dz = empty_like(dy);
  if (saved || need_db) {
    const LinearBwdArgs args{read(dy),
                             read_optional(saved),
                             saved ? write(dz) : nullptr,
                             db ? write(*db) : nullptr,
                             m,
                             n,
                             activation,
                             a};
    launch({"linear", device, x.dtype, ceil_div(n, kColumnChunk),
            static_cast<double>(m * n) * kCostPerExp},
           &Kernels::linear_bwd, args);
  }
  if (need_dx) dx = empty_like(x);
  if (need_dw) dw = empty_like(w);
  with_element(x, [&]<class T>(T) {
    if (dx)
      gemm("linear", x, {.c = write_as<T>(*dx), .m = m, .n = k, .k = n}, rows_of(read_as<T>(dz), n),
           rows_of(read_as<T>(w), k));
    if (dw)
      gemm("linear", x, {.c = write_as<T>(*dw), .m = n, .n = k, .k = m},
           transposed(read_as<T>(dz), n), rows_of(read_as<T>(x), k));
  });
  return {dx, dw, db};
}

}  // namespace

void bind_linear(py::module_& m) {
  m.def("linear_fwd", &linear_fwd, py::arg("x"), py::arg("w"), py::arg("b"), py::arg("activation"),
        py::arg("a"), py::arg("save_z"));
  m.def("linear_ending_fwd", &linear_ending_fwd, py::arg("x"), py::arg("w"), py::arg("b"),
        py::arg("residual"), py::arg("activation"), py::arg("a"), py::arg("save"),
        py::arg("saves_output"), py::arg("generator"), py::arg("p"));
  m.def("linear_bwd", &linear_bwd, py::arg("dy"), py::arg("x"), py::arg("w"), py::arg("saved"),
        py::arg("activation"), py::arg("a"), py::arg("need_dx"), py::arg("need_dw"),
        py::arg("need_db"));
}

}  // namespace fastnn
