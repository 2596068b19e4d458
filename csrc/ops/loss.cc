// Losses: cross_entropy and nll_loss against classes, and those of one element.
#include "loss.h"

namespace fastnn {
namespace {

// ---- cross-entropy -----------------------------------------------------------------------------

ClassTarget class_target(const Array& target, const OptionalArray& weight, int64_t ignore_index,
                         double smoothing) {
  const bool hard = target.dtype == DType::kInt64;
  return {hard ? read_as<int64_t>(target) : nullptr, hard ? nullptr : read_as<float>(target),
          read_optional_as<float>(weight), ignore_index, static_cast<float>(smoothing)};
}

constexpr const char* name_of(bool logits) { return logits ? "cross_entropy" : "nll_loss"; }

// Returns (loss, max, log_sum, divisor); max and log_sum for logits only, the divisor for a
// `weighted` mean only. A row of nothing but -inf is an error of a step, and NaN elsewhere.
std::tuple<Array, OptionalArray, OptionalArray, OptionalArray> cross_entropy_fwd(
    const Array& x, const Array& target, const OptionalArray& weight, int64_t ignore_index,
    double smoothing, bool logits, Scale scale, bool weighted, bool check_finite) {
  const char* op = name_of(logits);
  check_target(op, x, target, logits);
  check_class_weight(op, x, weight);
  check(x.shape.last() > 0 || target.dtype == DType::kInt64 || x.numel() == 0, op,
        ": expected at least one class on the last axis, got input ", x.shape);
  const int64_t rows = x.shape.rows(), classes = x.shape.last();
  const Shape each = x.shape.without_last();
  const Launch what = row_wise(op, x, rows, classes, kCostPerExp);
  LossSum sum(each, x.device(), what.tasks, scale);
  OptionalArray max, log_sum;
  if (logits) {
    max = empty(each, DType::kFloat32, x.device());
    log_sum = empty(each, DType::kFloat32, x.device());
  }
  const StatusSite site = label_site(op, target, 0, classes, x.device());
  const CrossEntropyFwdArgs args{read(x),
                                 class_target(target, weight, ignore_index, smoothing),
                                 sum.output(),
                                 weighted ? sum.divide() : nullptr,
                                 logits ? write_as<float>(*max) : nullptr,
                                 logits ? write_as<float>(*log_sum) : nullptr,
                                 rows,
                                 classes,
                                 logits && (check_finite || current_plan() != nullptr),
                                 site.status(),
                                 site.site()};
  launch(what, logits ? &Kernels::cross_entropy_fwd : &Kernels::nll_loss_fwd, args);
  site.raise();
  return {sum.combine(op, check_finite), max, log_sum, sum.divisor()};
}

Array cross_entropy_bwd(const Array& dy, const Array& x, const Array& target,
                        const OptionalArray& weight, int64_t ignore_index, double smoothing,
                        const OptionalArray& max, const OptionalArray& log_sum, double scale,
                        const OptionalArray& divisor) {
  const bool logits = max.has_value();
  const char* op = name_of(logits);
  Array dx = empty_like(x);
  const CrossEntropyBwdArgs args{read(x),
                                 class_target(target, weight, ignore_index, smoothing),
                                 loss_gradient(op, dy, x.shape.without_last(), scale, divisor),
                                 read_optional_as<float>(max),
                                 read_optional_as<float>(log_sum),
                                 write(dx),
                                 x.shape.rows(),
                                 x.shape.last()};
  launch(row_wise(op, x, args.rows, args.cols, kCostPerExp),
         logits ? &Kernels::cross_entropy_bwd : &Kernels::nll_loss_bwd, args);
  return dx;
}

// ---- pointwise losses --------------------------------------------------------------------------

template <class... L>
constexpr std::array<const char*, sizeof...(L)> names(PointwiseLossList<L...>) {
  return {{L::kName...}};
}
constexpr auto kNames = names(PointwiseLosses{});

Cyclic cyclic(const char* op, const char* name, const Array& x, const OptionalArray& values,
              float otherwise) {
  if (!values) return {nullptr, 1, otherwise};
  const Shape& shape = values->shape;
  bool fits = shape.ndim <= x.shape.ndim;
  for (int i = 1; fits && i <= shape.ndim; ++i)
    fits = shape[shape.ndim - i] == x.shape[x.shape.ndim - i];
  check(fits, op, ": expected ", name, " with the shape of the last axes of input ", x.shape,
        ", got ", shape);
  check_dtype(op, name, *values, DType::kFloat32);
  check_device(op, name, *values, x.device());
  return {read_as<float>(*values), values->numel(), otherwise};
}

PointwiseLossArgs pointwise_args(int kind, const Array& x, const Array& target,
                                 const OptionalArray& weight, const OptionalArray& each_a,
                                 float a) {
  const char* op = kNames[kind];
  check(target.shape == x.shape, op, ": expected target of shape ", x.shape, " like input, got ",
        target.shape);
  check_dtype(op, "target", target, DType::kFloat32);
  check_device(op, "target", target, x.device());
  return {read(x), read_as<float>(target), cyclic(op, "weight", x, weight, 1.f),
          cyclic(op, "pos_weight", x, each_a, a), x.numel()};
}

Launch pointwise(int kind, const Array& x) {
  const int64_t n = x.numel();
  return {kNames[kind], x.device(), x.dtype, ceil_div(n, kReduceChunk),
          static_cast<double>(n) * kCostPerExp};
}

Array pointwise_loss_fwd(int kind, const Array& x, const Array& target, const OptionalArray& weight,
                         const OptionalArray& each_a, float a, Scale scale) {
  const Launch what = pointwise(kind, x);
  const PointwiseLossArgs args = pointwise_args(kind, x, target, weight, each_a, a);
  const LossSum sum(x.shape, x.device(), what.tasks, scale);
  launch(what, &Kernels::pointwise_loss_fwd, kind, PointwiseLossFwdArgs{args, sum.output()});
  return sum.combine(what.op, false);
}

Array pointwise_loss_bwd(int kind, const Array& dy, const Array& x, const Array& target,
                         const OptionalArray& weight, const OptionalArray& each_a, float a,
                         double scale) {
  Array dx = empty_like(x);
  const PointwiseLossBwdArgs args{pointwise_args(kind, x, target, weight, each_a, a),
                                  loss_gradient(kNames[kind], dy, x.shape, scale, {}), write(dx)};
  launch(pointwise(kind, x), &Kernels::pointwise_loss_bwd, kind, args);
  return dx;
}

}  // namespace

void bind_loss(py::module_& m) {
  m.def("cross_entropy_fwd", &cross_entropy_fwd, py::arg("x"), py::arg("target"), py::arg("weight"),
        py::arg("ignore_index"), py::arg("smoothing"), py::arg("logits"), py::arg("scale"),
        py::arg("weighted"), py::arg("check_finite"));
  m.def("cross_entropy_bwd", &cross_entropy_bwd, py::arg("dy"), py::arg("x"), py::arg("target"),
        py::arg("weight"), py::arg("ignore_index"), py::arg("smoothing"), py::arg("max"),
        py::arg("log_sum"), py::arg("scale"), py::arg("divisor"));
  py::dict losses;
  for (int i = 0; i < kNumPointwiseLosses; ++i) losses[kNames[i]] = i;
  m.attr("POINTWISE_LOSSES") = losses;
  m.def("pointwise_loss_fwd", &pointwise_loss_fwd, py::arg("kind"), py::arg("x"), py::arg("target"),
        py::arg("weight"), py::arg("each_a"), py::arg("a"), py::arg("scale"));
  m.def("pointwise_loss_bwd", &pointwise_loss_bwd, py::arg("kind"), py::arg("dy"), py::arg("x"),
        py::arg("target"), py::arg("weight"), py::arg("each_a"), py::arg("a"), py::arg("scale"));
}

}  // namespace fastnn
