// Margin losses: multi_margin_loss and the lectures' hinge loss, and multilabel_margin_loss.
#include "loss.h"

namespace fastnn {
namespace {

MultiMarginArgs multi_margin_args(const Array& x, const Array& target, const OptionalArray& weight,
                                  double margin, bool divides) {
  const int64_t classes = x.shape.last();
  return {read(x),
          read_as<int64_t>(target),
          read_optional_as<float>(weight),
          static_cast<float>(margin),
          divides ? 1.f / static_cast<float>(classes) : 1.f,
          x.shape.rows(),
          classes};
}

Launch margins(const char* op, const Array& x) {
  return row_wise(op, x, x.shape.rows(), x.shape.last(), kCostPerElement);
}

constexpr const char* name_of(bool divides) {
  return divides ? "multi_margin_loss" : "multiclass_hinge_loss";
}

Array multi_margin_fwd(const Array& x, const Array& target, const OptionalArray& weight, int p,
                       double margin, bool divides, Scale scale) {
  const char* op = name_of(divides);
  check_target(op, x, target, false);
  check_class_weight(op, x, weight);
  const Launch what = margins(op, x);
  const LossSum sum(x.shape.without_last(), x.device(), what.tasks, scale);
  const StatusSite site = label_site(op, target, 0, x.shape.last(), x.device());
  const MultiMarginFwdArgs args{multi_margin_args(x, target, weight, margin, divides), sum.output(),
                                site.status(), site.site()};
  launch(what, &Kernels::multi_margin_fwd, p - 1, args);
  site.raise();
  return sum.combine(op, false);
}

Array multi_margin_bwd(const Array& dy, const Array& x, const Array& target,
                       const OptionalArray& weight, int p, double margin, bool divides,
                       double scale) {
  const char* op = name_of(divides);
  Array dx = empty_like(x);
  const MultiMarginBwdArgs args{multi_margin_args(x, target, weight, margin, divides),
                                loss_gradient(op, dy, x.shape.without_last(), scale, {}),
                                write(dx)};
  launch(margins(op, x), &Kernels::multi_margin_bwd, p - 1, args);
  return dx;
}

constexpr const char* kMultilabel = "multilabel_margin_loss";

MultiLabelMarginArgs multilabel_args(const Array& x, const Array& target, float* counts) {
  return {read(x), read_as<int64_t>(target), counts, x.shape.rows(), x.shape.last()};
}

// Returns (loss, how often each class is a label).
std::tuple<Array, Array> multilabel_margin_fwd(const Array& x, const Array& target, Scale scale) {
  check(x.shape.ndim >= 1, kMultilabel, ": expected input of shape (batch, classes), got ",
        x.shape);
  check(target.shape == x.shape, kMultilabel, ": expected target of shape ", x.shape,
        " like input, labels and then -1, got ", target.shape);
  check_dtype(kMultilabel, "target", target, DType::kInt64);
  check_device(kMultilabel, "target", target, x.device());
  const Launch what = margins(kMultilabel, x);
  const LossSum sum(x.shape.without_last(), x.device(), what.tasks, scale);
  Array counts = empty(x.shape, DType::kFloat32, x.device());
  const StatusSite site = label_site(kMultilabel, target, -1, x.shape.last(), x.device());
  const MultiLabelMarginFwdArgs args{multilabel_args(x, target, write_as<float>(counts)),
                                     sum.output(), site.status(), site.site()};
  launch(what, &Kernels::multilabel_margin_fwd, args);
  site.raise();
  return {sum.combine(kMultilabel, false), counts};
}

Array multilabel_margin_bwd(const Array& dy, const Array& x, const Array& target,
                            const Array& counts, double scale) {
  Array dx = empty_like(x);
  const MultiLabelMarginBwdArgs args{
      multilabel_args(x, target, write_as<float>(counts)),
      loss_gradient(kMultilabel, dy, x.shape.without_last(), scale, {}), write(dx)};
  launch(margins(kMultilabel, x), &Kernels::multilabel_margin_bwd, args);
  return dx;
}

}  // namespace

void bind_margin(py::module_& m) {
  m.def("multi_margin_fwd", &multi_margin_fwd, py::arg("x"), py::arg("target"), py::arg("weight"),
        py::arg("p"), py::arg("margin"), py::arg("divides"), py::arg("scale"));
  m.def("multi_margin_bwd", &multi_margin_bwd, py::arg("dy"), py::arg("x"), py::arg("target"),
        py::arg("weight"), py::arg("p"), py::arg("margin"), py::arg("divides"), py::arg("scale"));
  m.def("multilabel_margin_fwd", &multilabel_margin_fwd, py::arg("x"), py::arg("target"),
        py::arg("scale"));
  m.def("multilabel_margin_bwd", &multilabel_margin_bwd, py::arg("dy"), py::arg("x"),
        py::arg("target"), py::arg("counts"), py::arg("scale"));
}

}  // namespace fastnn
