// Gradient clipping, by the norm of all gradients as one vector or by value.
#include "multi_tensor.h"

namespace fastnn {
namespace {

// Scales the gradients in place to a total norm of at most max_norm; returns the norm before.
Array clip_grad_norm(const Arrays& grads, float max_norm, double norm_type) {
  constexpr const char* op = "clip_grad_norm_";
  check(max_norm >= 0.f, op, ": expected max_norm >= 0, got ", max_norm);
  check(norm_type > 0, op, ": expected norm_type > 0, got ", norm_type);
  check_parameters(op, grads, grads);
  const Device device = grads.empty() ? Device::kCpu : grads[0].device();
  const StatusSite site(device, [](DataError, int64_t) {
    return std::string(
        "clip_grad_norm_: expected finite gradients, got a norm that is NaN or infinite; nothing "
        "was scaled");
  });
  const Array table = chunk_table({grads, grads, {}, {}, false, true});
  const int64_t chunks = num_chunks(table);
  const Array sums = empty({chunks}, DType::kInt64, device),
              maxima = empty({chunks}, DType::kFloat32, device),
              norm = empty({2}, DType::kFloat32, device);
  const GradNormArgs args{read_as<TensorChunk>(table),
                          site.status(),
                          write_as<double>(sums),
                          write_as<float>(maxima),
                          write_as<float>(norm),
                          norm_type,
                          max_norm,
                          site.site(),
                          static_cast<int32_t>(chunks)};
  Launch what = single(op, device);
  if (!grads.empty()) {
    what = over_chunks(op, grads, table, norm_type == 2 ? kCostPerElement : kCostPerExp);
    if (norm_type != 1 && norm_type != 2) launch(what, &Kernels::grad_norm_max, args);
    if (norm_type < double{kInf}) launch(what, &Kernels::grad_norm_sum, args);
  }
  launch(single(op, device), &Kernels::grad_norm_combine, args);
  if (!grads.empty()) launch(what, &Kernels::grad_scale, args);
  site.raise();
  Array total = norm;
  total.shape = {};
  return total;
}

// Clamps the gradients in place to [-clip_value, clip_value].
void clip_grad_value(const Arrays& grads, float clip_value) {
  constexpr const char* op = "clip_grad_value_";
  check(clip_value >= 0.f, op, ": expected clip_value >= 0, got ", clip_value);
  check_parameters(op, grads, grads);
  if (grads.empty()) return;
  std::vector<int64_t> sizes;
  for (const Array& g : grads) sizes.push_back(g.numel());
  const StatusSite site(grads[0].device(), describe_gradient(op, sizes, "clipped"));
  const Array table = chunk_table({grads, grads, {}, {}, false, true});
  OptimArgs finite{};
  GradNormArgs clamp{};
  finite.chunks = clamp.chunks = read_as<TensorChunk>(table);
  finite.status = clamp.status = site.status();
  finite.site = clamp.site = site.site();
  finite.num_chunks = clamp.num_chunks = num_chunks(table);
  clamp.max_norm = clip_value;
  const Launch what = over_chunks(op, grads, table, kCostPerElement);
  launch(what, &Kernels::optim_check, finite);
  launch(what, &Kernels::grad_clamp, clamp);
  site.raise();
}

}  // namespace

void bind_clip(py::module_& m) {
  m.def("clip_grad_norm", &clip_grad_norm, py::arg("grads"), py::arg("max_norm"),
        py::arg("norm_type"));
  m.def("clip_grad_value", &clip_grad_value, py::arg("grads"), py::arg("clip_value"));
}

}  // namespace fastnn
