// layer_norm over the trailing axes.
#include "common.h"

namespace fastnn {
namespace {

constexpr const char* kOp = "layer_norm";

// Rows and columns when the last `axes` axes are normalised together.
std::pair<int64_t, int64_t> rows_and_cols(const Array& x, int axes) {
  int64_t rows = 1, cols = 1;
  for (int i = 0; i < x.shape.ndim; ++i) (i < x.shape.ndim - axes ? rows : cols) *= x.shape.dims[i];
  return {rows, cols};
}

void check_parameter(const char* name, const OptionalArray& p, const Array& x, int axes) {
  if (!p) return;
  Shape expected;
  for (int i = x.shape.ndim - axes; i < x.shape.ndim; ++i)
    expected.dims[expected.ndim++] = x.shape.dims[i];
  check(p->shape == expected, kOp, ": expected ", name, " of shape ", expected, " to fit input ",
        x.shape, ", got ", p->shape);
  check_dtype(kOp, name, *p, x.dtype);
  check_device(kOp, name, *p, x.device());
}

// Returns (y, mean, rstd); mean holds float64 values in an int64 array.
std::tuple<Array, Array, Array> layer_norm_fwd(const Array& x,
                                               const std::vector<int64_t>& normalized_shape,
                                               const OptionalArray& w, const OptionalArray& b,
                                               float eps) {
  const int axes = static_cast<int>(normalized_shape.size());
  bool fits = axes >= 1 && axes <= x.shape.ndim;
  for (int i = 0; fits && i < axes; ++i)
    fits = x.shape.dims[x.shape.ndim - axes + i] == normalized_shape[i];
  Shape expected;
  for (int64_t size : normalized_shape) {
    check(expected.ndim < kMaxDims, kOp, ": expected at most ", kMaxDims,
          " axes in normalized_shape");
    expected.dims[expected.ndim++] = size;
  }
  check(fits, kOp, ": expected input to end with normalized_shape ", expected, ", got input ",
        x.shape);
  check(eps >= 0.f, kOp, ": expected eps >= 0, got ", eps);
  check_parameter("weight", w, x, axes);
  check_parameter("bias", b, x, axes);
  const auto [rows, cols] = rows_and_cols(x, axes);
  check(cols > 0 || rows == 0, kOp, ": expected at least one element to normalise, got input ",
        x.shape);
  Array y = empty_like(x);
  Array mean = empty({rows}, DType::kInt64, x.device()),
        rstd = empty({rows}, DType::kFloat32, x.device());
  const LayerNormFwdArgs args{read(x),
                              read_optional(w),
                              read_optional(b),
                              write(y),
                              write_as<double>(mean),
                              write_as<float>(rstd),
                              rows,
                              cols,
                              eps};
  launch(row_wise(kOp, x, rows, cols, kCostPerExp), &Kernels::layer_norm_fwd, args);
  return {y, mean, rstd};
}

std::tuple<OptionalArray, OptionalArray, OptionalArray> layer_norm_bwd(
    const Array& dy, const Array& x, const OptionalArray& w, const Array& mean, const Array& rstd,
    int axes, bool need_dx, bool need_dw, bool need_db) {
  check_same(kOp, "the output", x, "its gradient", dy);
  const auto [rows, cols] = rows_and_cols(x, axes);
  OptionalArray dx, dw, db;
  Array partials;
  Shape shape;
  for (int i = x.shape.ndim - axes; i < x.shape.ndim; ++i)
    shape.dims[shape.ndim++] = x.shape.dims[i];
  const Launch main = row_wise(kOp, x, rows, cols, 2 * kCostPerExp);
  if (need_dx) dx = empty_like(x);
  if (need_dw) dw = empty(shape, x.dtype, x.device());
  if (need_db) db = empty(shape, x.dtype, x.device());
  if (need_dw || need_db) partials = empty({main.tasks, 2, cols}, DType::kInt64, x.device());
  const LayerNormBwdArgs args{read(dy),
                              read(x),
                              read_optional(w),
                              read_as<double>(mean),
                              read_as<float>(rstd),
                              dx ? write(*dx) : nullptr,
                              partials.defined() ? write_as<double>(partials) : nullptr,
                              dw ? write(*dw) : nullptr,
                              db ? write(*db) : nullptr,
                              rows,
                              cols};
  launch(main, &Kernels::layer_norm_bwd, args);
  if (partials.defined())
    launch({kOp, x.device(), x.dtype, ceil_div(cols, kColumnChunk),
            static_cast<double>(cols * main.tasks)},
           &Kernels::layer_norm_bwd_params, args);
  return {dx, dw, db};
}

}  // namespace

void bind_norm(py::module_& m) {
  m.def("layer_norm_fwd", &layer_norm_fwd, py::arg("x"), py::arg("normalized_shape"), py::arg("w"),
        py::arg("b"), py::arg("eps"));
  m.def("layer_norm_bwd", &layer_norm_bwd, py::arg("dy"), py::arg("x"), py::arg("w"),
        py::arg("mean"), py::arg("rstd"), py::arg("axes"), py::arg("need_dx"), py::arg("need_dw"),
        py::arg("need_db"));
}

}  // namespace fastnn
