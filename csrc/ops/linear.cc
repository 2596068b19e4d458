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
  check(p >= 0 && p <= 1, op, ": expected 0 <= dropout_p <= 1, got ", p);
  if (residual) {
    const Shape shape = output_shape(x, w);
    check_dtype(op, "residual", *residual, x.dtype);
    check_device(op, "residual", *residual, x.device());
    check(residual->shape == shape, op, ": expected residual of shape ", shape, ", got ",
          residual->shape);
  }
  OptionalArray draw, local;
  if (generator) draw = rng_draw(*generator), local = draw_on(*draw, x.device());
  const auto [y, saved] =
      launch_linear(x, w, b, {activation, a, residual, local, p, saves_output}, save);
  return {y, saved, draw};
}

// What dx goes through, where x is the result of a layer: that layer's dropout and its activation's
// derivative, for which `saved` is there, unless it is the identity. `sums`: its bias's gradient.
struct Passage {
  OptionalArray saved;
  int activation;
  float a;
  OptionalArray draw;
  double p;
  bool sums;
  using Tuple = std::tuple<OptionalArray, int, float, OptionalArray, double, bool>;
  explicit Passage(const Tuple& t)
      : saved(std::get<0>(t)),
        activation(std::get<1>(t)),
        a(std::get<2>(t)),
        draw(std::get<3>(t)),
        p(std::get<4>(t)),
        sums(std::get<5>(t)) {}
};

// dz = dy act'(saved), and its column sums if they are needed.
std::pair<Array, OptionalArray> activation_and_bias_bwd(const Array& dy, const Array& w,
                                                        const OptionalArray& saved, int activation,
                                                        float a, bool need_db) {
  const int64_t n = w.shape[0], m = n > 0 ? dy.numel() / n : 0;
  Array dz = dy;
  OptionalArray db;
  if (need_db) db = empty({n}, dy.dtype, dy.device());
  if (saved) dz = empty_like(dy);
  if (!saved && !need_db) return {dz, db};
  const LinearBwdArgs args{read(dy),
                           read_optional(saved),
                           saved ? write(dz) : nullptr,
                           db ? write(*db) : nullptr,
                           m,
                           n,
                           activation,
                           a};
  launch({"linear", dy.device(), dy.dtype, ceil_div(n, kColumnChunk),
          static_cast<double>(m * n) * kCostPerExp},
         &Kernels::linear_bwd, args);
  return {dz, db};
}

Array weight_bwd(const Array& dz, const Array& x, const Array& w) {
  const int64_t m = x.shape.rows(), n = w.shape[0], k = w.shape[1];
  Array dw = empty_like(w);
  with_element(x, [&]<class T>(T) {
    gemm("linear", x, {.c = write_as<T>(dw), .m = n, .n = k, .k = m}, transposed(read_as<T>(dz), n),
         rows_of(read_as<T>(x), k));
  });
  return dw;
}

// dx, or what it becomes on its passage, and then the sums of its columns.
std::pair<Array, OptionalArray> input_bwd(const Array& dz, const Array& x, const Array& w,
                                          const Passage* passage) {
  const int64_t m = x.shape.rows(), n = w.shape[0], k = w.shape[1];
  Array dx = empty_like(x), draw, scratch;
  OptionalArray sums;
  with_element(x, [&]<class T>(T) {
    GemmArgsOf<T> args{.c = write_as<T>(dx), .m = m, .n = k, .k = n};
    if (passage != nullptr) {
      args.saved = read_optional_as<T>(passage->saved);
      args.activation = passage->saved ? passage->activation : 0;
      args.activation_param = passage->a;
      if (passage->draw) draw = draw_on(*passage->draw, x.device());
      args.draw = passage->draw ? read_as<RngDraw>(draw) : nullptr;
      args.keep = keep_of(passage->p, true);
    }
    if (passage != nullptr && passage->sums) {
      sums = empty({k}, x.dtype, x.device());
      scratch = empty({gemm_sums(m, k)}, DType::kFloat32, x.device());
      args.column_sums = write_as<T>(*sums), args.scratch = write_as<float>(scratch);
    }
    gemm("linear", x, args, rows_of(read_as<T>(dz), n), rows_of(read_as<T>(w), k));
  });
  return {dx, sums};
}

void check_gradient(const Array& dy, const Array& x, const Array& w) {
  check_dtype("linear", "the gradient", dy, x.dtype);
  const int64_t expected = x.shape.rows() * w.shape[0];
  check(dy.numel() == expected, "linear: expected a gradient of ", expected, " elements, got ",
        dy.shape);
}

// `saved` is what the activation's derivative needs, or nothing for the identity.
std::tuple<OptionalArray, OptionalArray, OptionalArray> linear_bwd(
    const Array& dy, const Array& x, const Array& w, const OptionalArray& saved, int activation,
    float a, bool need_dx, bool need_dw, bool need_db) {
  check_gradient(dy, x, w);
  const auto [dz, db] = activation_and_bias_bwd(dy, w, saved, activation, a, need_db);
  OptionalArray dx, dw;
  if (need_dx) dx = input_bwd(dz, x, w, nullptr).first;
  if (need_dw) dw = weight_bwd(dz, x, w);
  return {dx, dw, db};
}

// The same on CUDA where x is the result of a layer that nothing else has used: returns that
// layer's dz in the place of dx, and last its db.
std::tuple<Array, OptionalArray, OptionalArray, OptionalArray> linear_chain_bwd(
    const Array& dy, const Array& x, const Array& w, const OptionalArray& saved, int activation,
    float a, bool need_dw, bool need_db, const Passage::Tuple& passage) {
  check_gradient(dy, x, w);
  check(x.device().is_cuda() && x.numel() > 0,
        "linear: expected input on cuda, and not empty, to pass its gradient on, got ", x.shape,
        " on ", device_name(x.device()));
  const Passage on(passage);
  const auto [dz, db] = activation_and_bias_bwd(dy, w, saved, activation, a, need_db);
  const auto [dx, sums] = input_bwd(dz, x, w, &on);
  OptionalArray dw;
  if (need_dw) dw = weight_bwd(dz, x, w);
  return {dx, dw, db, sums};
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
  m.def("linear_chain_bwd", &linear_chain_bwd, py::arg("dy"), py::arg("x"), py::arg("w"),
        py::arg("saved"), py::arg("activation"), py::arg("a"), py::arg("need_dw"),
        py::arg("need_db"), py::arg("passage"));
}

}  // namespace fastnn
