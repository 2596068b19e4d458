// Penalties on parameters, and constraints that are applied to them after a step.
#include "multi_tensor.h"

namespace fastnn {
namespace {

// l1 sum |w| + l2 sum w^2 over all parameters, a float32 scalar.
Array penalty_fwd(const std::string& op, const Arrays& params, double l1, double l2) {
  check(!params.empty(), op, ": expected at least one parameter, got none");
  check_parameters(op.c_str(), params, params, false);
  const Array table = chunk_table({params, {}, {}, {}});
  const Device device = params[0].device();
  const Array partials = empty({num_chunks(table)}, DType::kInt64, device);
  Array y = empty({}, DType::kFloat32, device);
  PenaltyArgs args{};
  args.chunks = read_as<TensorChunk>(table);
  args.partials = write_as<double>(partials);
  args.y = write_as<float>(y);
  args.l1 = l1;
  args.l2 = l2;
  args.num_chunks = num_chunks(table);
  launch(over_chunks(op.c_str(), params, table, kCostPerElement), &Kernels::penalty_fwd, args);
  launch(single(op.c_str(), device), &Kernels::penalty_combine, args);
  return y;
}

// The gradients of all parameters.
Arrays penalty_bwd(const std::string& op, const Array& dy, const Arrays& params, double l1,
                   double l2) {
  Arrays grads;
  for (const Array& p : params) grads.push_back(empty_like(p));
  const Array table = chunk_table({params, grads, {}, {}, false, true});
  PenaltyArgs args{};
  args.chunks = read_as<TensorChunk>(table);
  args.dy = read_as<float>(dy);
  args.l1 = l1;
  args.l2 = l2;
  args.num_chunks = num_chunks(table);
  launch(over_chunks(op.c_str(), params, table, kCostPerElement), &Kernels::penalty_bwd, args);
  return grads;
}

// A constraint changes nothing in a step that has met bad data.
void soft_threshold(const Arrays& params, double threshold, const OptionalArray& lr) {
  constexpr const char* op = "soft_threshold_";
  check(threshold >= 0 && threshold < double{kInf}, op, ": expected a finite threshold >= 0, got ",
        threshold);
  if (params.empty()) return;
  check_parameters(op, params, params);
  const Array table = chunk_table({params, {}, {}, {}, true});
  const SoftThresholdArgs args{read_as<TensorChunk>(table), read_optional_as<double>(lr),
                               current_status(params[0].device()), threshold};
  launch(over_chunks(op, params, table, kCostPerElement), &Kernels::soft_threshold, args);
}

// Rows are the incoming weights of a unit: the first axis counts the units.
void max_norm(const Arrays& params, double limit) {
  constexpr const char* op = "max_norm_";
  check(limit > 0, op, ": expected max_norm > 0, got ", limit);
  if (params.empty()) return;
  check_parameters(op, params, params);
  std::vector<RowBlock> blocks;
  for (size_t i = 0; i < params.size(); ++i) {
    const Array& p = params[i];
    check(p.shape.ndim >= 2, op, ": expected parameters of at least two axes, got parameter ", i,
          " of shape ", p.shape);
    const int64_t units = p.shape[0], cols = units > 0 ? p.numel() / units : 0;
    const int64_t step = rows_per_task(cols);
    auto* first = static_cast<char*>(write(p));
    for (int64_t row = 0; row < units; row += step)
      blocks.push_back({first + row * cols * static_cast<int64_t>(item_size(p.dtype)),
                        std::min(step, units - row), cols});
  }
  const Array table =
      table_on_device(blocks.data(), blocks.size() * sizeof(RowBlock), params[0].device());
  const MaxNormArgs args{read_as<RowBlock>(table), current_status(params[0].device()), limit};
  launch({op, params[0].device(), params[0].dtype, static_cast<int64_t>(blocks.size()),
          static_cast<double>(total_size(params)) * kCostPerElement},
         &Kernels::max_norm, args);
}

}  // namespace

void bind_penalty(py::module_& m) {
  m.def("penalty_fwd", &penalty_fwd, py::arg("op"), py::arg("params"), py::arg("l1"),
        py::arg("l2"));
  m.def("penalty_bwd", &penalty_bwd, py::arg("op"), py::arg("dy"), py::arg("params"), py::arg("l1"),
        py::arg("l2"));
  m.def("soft_threshold", &soft_threshold, py::arg("params"), py::arg("threshold"), py::arg("lr"));
  m.def("max_norm", &max_norm, py::arg("params"), py::arg("limit"));
}

}  // namespace fastnn
