// stacked_linear: the same linear layer of several models at once, each with its weights: y[i] =
// act(x[i] w[i]^T + b[i]), where x may be the same for all. Every model has the bits of its own
// `linear`, forward and backward.
#include "gemm.h"

namespace fastnn {
namespace {

constexpr const char* kOp = "stacked_linear";

// The sizes of a call, and the products of all models in one batch.
struct Models {
  int64_t count, rows, out, in;
  bool shared;  // whether x has no axis of models

  Models(const Array& x, const Array& w)
      : count(w.shape[0]),
        rows(x.shape[-2]),
        out(w.shape[1]),
        in(w.shape[2]),
        shared(x.shape.ndim == 2) {}

  int64_t x_step() const { return shared ? 0 : rows * in; }
  // Over the models; or, with `summed`, their sum.
  GemmBatchArgs batch(const GemmArgs& one, GemmBatchAxis axis, bool summed = false) const {
    axis.size = count;
    return {one, {axis}, 1, summed ? 1 : count, summed ? count : 1};
  }
};

void check_stacked(const Array& x, const Array& w, const OptionalArray& b) {
  check_dtype(kOp, "input", x, DType::kFloat32);
  check_dtype(kOp, "weight", w, DType::kFloat32);
  check_device(kOp, "weight", w, x.device());
  check(w.shape.ndim == 3 && w.shape[0] > 0, kOp,
        ": expected weight of shape (models, out, in), got ", w.shape);
  const bool fits = (x.shape.ndim == 2 || (x.shape.ndim == 3 && x.shape[0] == w.shape[0])) &&
                    x.shape[-1] == w.shape[2];
  check(fits, kOp, ": expected input of shape (", w.shape[0], ", rows, ", w.shape[2],
        ") or (rows, ", w.shape[2], ") to fit weight ", w.shape, ", got ", x.shape);
  if (!b) return;
  check_dtype(kOp, "bias", *b, DType::kFloat32);
  check_device(kOp, "bias", *b, x.device());
  const Shape each{w.shape[0], w.shape[1]};
  check(b->shape == each, kOp, ": expected bias of shape ", each, " to fit weight ", w.shape,
        ", got ", b->shape);
}

// Returns (y, z): z is the pre-activation, when `save_z`.
std::pair<Array, OptionalArray> stacked_linear_fwd(const Array& x, const Array& w,
                                                   const OptionalArray& b, int activation, float a,
                                                   bool save_z) {
  check_stacked(x, w, b);
  const Models models(x, w);
  const Shape shape{models.count, models.rows, models.out};
  Array y = empty(shape, DType::kFloat32, x.device());
  OptionalArray z;
  if (save_z) z = empty(shape, DType::kFloat32, x.device());
  const GemmArgs one{.c = write_as<float>(y),
                     .m = models.rows,
                     .n = models.out,
                     .k = models.in,
                     .bias = read_optional_as(b),
                     .z = z ? write_as<float>(*z) : nullptr,
                     .activation = activation,
                     .activation_param = a};
  gemm(kOp, x.device(),
       models.batch(one, {.a = models.x_step(),
                          .b = models.out * models.in,
                          .c = models.rows * models.out,
                          .bias = models.out}),
       rows_of(read_as<float>(x), models.in), transposed(read_as<float>(w), models.in));
  return {y, z};
}

// dz = dy act'(saved) and its column sums for each model.
void backward_of_activation(const Models& models, const Array& dy, const OptionalArray& saved,
                            int activation, float a, const Array& dz, const OptionalArray& db) {
  const LinearBwdArgs args{read_as<float>(dy),
                           read_optional_as(saved),
                           saved ? write_as<float>(dz) : nullptr,
                           db ? write_as<float>(*db) : nullptr,
                           models.rows,
                           models.out,
                           activation,
                           a,
                           models.count};
  launch({kOp, dy.device(), DType::kFloat32, models.count * ceil_div(models.out, kColumnChunk),
          static_cast<double>(dy.numel()) * kCostPerExp},
         &Kernels::linear_bwd, args);
}

// `saved` is what the activation's derivative needs, or nothing for the identity.
std::tuple<OptionalArray, OptionalArray, OptionalArray> stacked_linear_bwd(
    const Array& dy, const Array& x, const Array& w, const OptionalArray& saved, int activation,
    float a, bool need_dx, bool need_dw, bool need_db) {
  const Models models(x, w);
  const int64_t step = models.rows * models.out, size = models.out * models.in;
  check_dtype(kOp, "the gradient", dy, DType::kFloat32);
  check(dy.numel() == models.count * step, kOp, ": expected a gradient of ", models.count * step,
        " elements, got ", dy.shape);
  Array dz = dy;
  OptionalArray dx, dw, db;
  if (need_db) db = empty({models.count, models.out}, DType::kFloat32, x.device());
  if (saved) dz = empty_like(dy);
  if (saved || need_db) backward_of_activation(models, dy, saved, activation, a, dz, db);
  if (need_dx) {
    dx = empty_like(x);
    const GemmArgs one{
        .c = write_as<float>(*dx), .m = models.rows, .n = models.in, .k = models.out};
    gemm(kOp, x.device(),
         models.batch(one, {.a = step, .b = size, .c = models.x_step()}, models.shared),
         rows_of(read_as<float>(dz), models.out), rows_of(read_as<float>(w), models.in));
  }
  if (need_dw) {
    dw = empty_like(w);
    const GemmArgs one{
        .c = write_as<float>(*dw), .m = models.out, .n = models.in, .k = models.rows};
    gemm(kOp, x.device(), models.batch(one, {.a = step, .b = models.x_step(), .c = size}),
         transposed(read_as<float>(dz), models.out), rows_of(read_as<float>(x), models.in));
  }
  return {dx, dw, db};
}

}  // namespace

void bind_stacked(py::module_& m) {
  m.def("stacked_linear_fwd", &stacked_linear_fwd, py::arg("x"), py::arg("w"), py::arg("b"),
        py::arg("activation"), py::arg("a"), py::arg("save_z"));
  m.def("stacked_linear_bwd", &stacked_linear_bwd, py::arg("dy"), py::arg("x"), py::arg("w"),
        py::arg("saved"), py::arg("activation"), py::arg("a"), py::arg("need_dx"),
        py::arg("need_dw"), py::arg("need_db"));
}

}  // namespace fastnn
