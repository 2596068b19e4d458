// What losses share: the sum of the losses, the gradient of each, and checks of labels. A forward
// op takes `scale`: each loss without it, else scale times their sum.
#pragma once
#include "common.h"

namespace fastnn {

using Scale = std::optional<double>;

inline constexpr const char* kNotFinite =
    "loss: expected a finite value, got NaN or infinity; lower the learning rate, or look for bad "
    "values in the data; nothing was updated";

// The memory that a forward kernel of so many tasks writes, and the sum of it afterwards.
class LossSum {
 public:
  LossSum(const Shape& each, Device device, int64_t tasks, Scale scale)
      : device_(device),
        tasks_(tasks),
        scale_(scale),
        loss_(empty(scale ? Shape{} : each, DType::kFloat32, device)) {
    if (scale) partials_ = empty({tasks}, DType::kInt64, device);
  }

  LossOutput output() const {
    if (!scale_) return {write_as<float>(loss_), nullptr};
    return {nullptr, write_as<double>(*partials_)};
  }

  // For a weighted mean: the sums of weights per task.
  double* divide() {
    weights_ = empty({tasks_}, DType::kInt64, device_);
    divisor_ = empty({}, DType::kFloat32, device_);
    return write_as<double>(*weights_);
  }
  const OptionalArray& divisor() const { return divisor_; }

  Array combine(const char* op, bool check_finite) const {
    if (!scale_) return loss_;
    LossCombineArgs args{read_as<double>(*partials_),
                         weights_ ? read_as<double>(*weights_) : nullptr,
                         write_as<float>(loss_),
                         divisor_ ? write_as<float>(*divisor_) : nullptr,
                         tasks_,
                         *scale_,
                         nullptr,
                         0};
    std::optional<StatusSite> site;
    if (check_finite) {
      site.emplace(device_, [](DataError, int64_t) { return std::string(kNotFinite); });
      args.status = site->status();
      args.site = site->site();
    }
    launch(single(op, device_), &Kernels::loss_combine, args);
    if (site) site->raise();
    return loss_;
  }

 private:
  Device device_;
  int64_t tasks_;
  Scale scale_;
  Array loss_;
  OptionalArray partials_, weights_, divisor_;
};

inline LossGradient loss_gradient(const char* op, const Array& dy, const Shape& each, double scale,
                                  const OptionalArray& divisor) {
  const bool is_scalar = dy.shape.ndim == 0;
  check_dtype(op, "the gradient", dy, DType::kFloat32);
  check(is_scalar || dy.shape == each, op, ": expected a gradient of shape () or ", each, ", got ",
        dy.shape);
  return {read_as<float>(dy), read_optional_as<float>(divisor), static_cast<float>(scale),
          is_scalar};
}

// ---- labels ------------------------------------------------------------------------------------

inline void check_target(const char* op, const Array& x, const Array& target, bool allows_soft) {
  check(x.shape.ndim >= 1, op, ": expected input of shape (batch, classes), got ", x.shape);
  check_device(op, "target", target, x.device());
  if (target.dtype == DType::kInt64) {
    check(target.shape == x.shape.without_last(), op, ": expected target of shape ",
          x.shape.without_last(), ", one class index for each row of input ", x.shape, ", got ",
          target.shape);
  } else {
    check<TypeError>(allows_soft && target.dtype == DType::kFloat32, op,
                     ": expected target of int64 class indices",
                     allows_soft ? " or float32 probabilities" : "", ", got ",
                     dtype_name(target.dtype));
    check(target.shape == x.shape, op, ": expected target probabilities of shape ", x.shape,
          " like input, got ", target.shape,
          target.shape == x.shape.without_last() ? "; class indices are integers" : "");
  }
}

inline void check_class_weight(const char* op, const Array& x, const OptionalArray& weight) {
  if (!weight) return;
  check(weight->shape == Shape{x.shape.last()}, op, ": expected weight of shape (", x.shape.last(),
        ",), one for each class of input ", x.shape, ", got ", weight->shape);
  check_dtype(op, "weight", *weight, DType::kFloat32);
  check_device(op, "weight", *weight, x.device());
}

// Says which label is not in [lowest, classes), or which row is bad. Reads labels on the host only
// then.
inline StatusSite label_site(const char* op, const Array& target, int64_t lowest, int64_t classes,
                             Device device) {
  return StatusSite(device, [=](DataError code, int64_t index) {
    if (code == DataError::kNanLoss) return std::string(kNotFinite);
    if (code == DataError::kEmptyRow)
      return concat(op, ": expected a logit above -inf in each row, got none in row ", index);
    const Array labels = on_host(target);
    return concat(op, ": expected ", lowest, " <= target < ", classes, ", got ",
                  static_cast<const int64_t*>(labels.storage->data)[index], " at target[", index,
                  "]");
  });
}

}  // namespace fastnn
