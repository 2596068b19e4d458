// Optimizer updates: one launch for all parameters. The parameters are cut into chunks whose
// addresses fill a table in memory; the kernels take the table.
#include "common.h"

namespace fastnn {
namespace {

using Arrays = std::vector<Array>;

// The step count, learning rate and bias corrections, in memory on the parameters' device.
Array make_optim_state(double lr, int64_t step) {
  Array state = empty({static_cast<int64_t>(sizeof(OptimState))}, DType::kUInt8);
  *static_cast<OptimState*>(state.storage->data) = {lr, step, 1, 1};
  return state;
}

Array host_copy(const Array& state) {
  if (state.device() == Device::kCpu) return state;
  Array copy = empty(state.shape, state.dtype);
  copy_bytes(state, copy);
  return copy;
}
int64_t optim_step(const Array& state) {
  return static_cast<OptimState*>(host_copy(state).storage->data)->step;
}
void set_optim_lr(const Array& state, double lr) {
  const Array host = host_copy(state);
  static_cast<OptimState*>(host.storage->data)->lr = lr;
  if (state.device() != Device::kCpu) copy_bytes(host, state);
}

struct Parameters {
  const char* op;
  const Arrays &params, &grads, &m, &v;
};

void check_parameters(const Parameters& p) {
  check(p.params.size() == p.grads.size(), p.op, ": expected ", p.params.size(), " gradients, got ",
        p.grads.size());
  for (size_t i = 0; i < p.params.size(); ++i) {
    const std::string name = concat("parameter ", i);
    check_same(p.op, name.c_str(), p.params[i], "its gradient", p.grads[i]);
    check_writable(p.op, name.c_str(), p.params[i]);
    check<TypeError>(p.params[i].dtype == p.params[0].dtype, p.op,
                     ": expected parameters of one dtype, got ", dtype_name(p.params[0].dtype),
                     " and ", dtype_name(p.params[i].dtype));
    check_device(p.op, name.c_str(), p.params[i], p.params[0].device());
  }
}

// One entry per kOptimChunk elements of each parameter. `m` and `v` may be empty lists.
Array chunk_table(const Parameters& p, bool write_params, bool write_grads) {
  std::vector<TensorChunk> chunks;
  int64_t first = 0;
  for (size_t i = 0; i < p.params.size(); ++i) {
    const int64_t n = p.params[i].numel();
    auto* param = static_cast<char*>(write_params ? write(p.params[i])
                                                  : const_cast<void*>(read(p.params[i])));
    auto* grad = static_cast<const char*>(write_grads ? write(p.grads[i]) : read(p.grads[i]));
    float* m = p.m.empty() ? nullptr : write_as<float>(p.m[i]);
    float* v = p.v.empty() ? nullptr : write_as<float>(p.v[i]);
    const auto item = static_cast<int64_t>(item_size(p.params[i].dtype));
    for (int64_t at = 0; at < n; at += kOptimChunk)
      chunks.push_back({param + at * item, grad + at * item, m ? m + at : nullptr,
                        v ? v + at : nullptr, std::min(kOptimChunk, n - at), first + at});
    first += n;
  }
  const auto bytes = static_cast<int64_t>(chunks.size() * sizeof(TensorChunk));
  const Device device = p.params.empty() ? Device::kCpu : p.params[0].device();
  Array host = allocate_constant({bytes}, DType::kUInt8);
  if (bytes > 0) std::memcpy(host.storage->data, chunks.data(), static_cast<size_t>(bytes));
  if (device == Device::kCpu) return host;
  Array table = empty({bytes}, DType::kUInt8, device);
  copy_bytes(host, table);
  return table;
}

int64_t num_chunks(const Array& table) {
  return table.numel() / static_cast<int64_t>(sizeof(TensorChunk));
}

// Says which parameter and element a flat index is.
Describe describe_gradient(const std::string& op, const Arrays& params) {
  std::vector<int64_t> sizes;
  for (const Array& p : params) sizes.push_back(p.numel());
  return [op, sizes](DataError code, int64_t index) {
    size_t i = 0;
    while (i + 1 < sizes.size() && index >= sizes[i]) index -= sizes[i++];
    const char* what =
        code == DataError::kOverflow ? "a gradient whose square is finite" : "finite gradients";
    const char* got =
        code == DataError::kOverflow ? "one that overflows the second moment" : "NaN or infinity";
    return concat(op, ": expected ", what, ", got ", got, " in parameter ", i, " at flat index ",
                  index, "; nothing was updated");
  };
}

Launch over_chunks(const char* op, const Array& param, int64_t chunks, double cost) {
  return {op, param.device(), param.dtype, chunks,
          static_cast<double>(chunks * kOptimChunk) * cost};
}

// Shared by all optimizers: check the gradients, count the step, update.
void step(const Parameters& p, const Array& state, OptimArgs args,
          Kernel<OptimArgs> Kernels::* update) {
  if (p.params.empty()) return;
  check_parameters(p);
  const StatusSite site(p.params[0].device(), describe_gradient(p.op, p.params));
  const Array table = chunk_table(p, true, false);
  args.chunks = read_as<TensorChunk>(table);
  args.state = read_as<OptimState>(state);
  args.status = site.status();
  args.site = site.site();
  args.num_chunks = static_cast<int32_t>(num_chunks(table));
  double elements = 0;
  for (const Array& param : p.params) elements += static_cast<double>(param.numel());
  const Launch what{p.op, p.params[0].device(), p.params[0].dtype, args.num_chunks,
                    elements * kCostPerExp};
  launch(what, &Kernels::optim_check, args);
  launch(single(p.op, what.device), &Kernels::optim_begin,
         OptimBeginArgs{write_as<OptimState>(state), args.beta1, args.beta2, args.status});
  launch(what, update, args);
  site.raise();
}

void sgd(const Arrays& params, const Arrays& grads, const Arrays& buffers, const Array& state,
         float momentum, float dampening, float weight_decay, bool nesterov, bool maximize) {
  OptimArgs args{};
  args.beta2 = -1;
  args.momentum = momentum;
  args.dampening = dampening;
  args.weight_decay = weight_decay;
  args.nesterov = nesterov;
  args.maximize = maximize;
  step({"sgd", params, grads, buffers, {}}, state, args, &Kernels::sgd);
}

void adam(const std::string& op, const Arrays& params, const Arrays& grads, const Arrays& m,
          const Arrays& v, const Array& state, double beta1, double beta2, float eps,
          float weight_decay, bool decoupled, bool maximize) {
  OptimArgs args{};
  args.beta1 = beta1;
  args.beta2 = beta2;
  args.eps = eps;
  args.weight_decay = weight_decay;
  args.decoupled = decoupled;
  args.maximize = maximize;
  step({op.c_str(), params, grads, m, v}, state, args, &Kernels::adam);
}

// Looks for bad gradients before anything is changed: an optimizer with several groups checks all
// of them first. beta2 < 0 stands for no second moment.
void check_gradients(const std::string& op, const Arrays& params, const Arrays& grads,
                     double beta2) {
  if (params.empty()) return;
  const Parameters p{op.c_str(), params, grads, {}, {}};
  check_parameters(p);
  const StatusSite site(params[0].device(), describe_gradient(op, params));
  const Array table = chunk_table(p, false, false);
  OptimArgs args{};
  args.chunks = read_as<TensorChunk>(table);
  args.status = site.status();
  args.site = site.site();
  args.num_chunks = static_cast<int32_t>(num_chunks(table));
  args.beta2 = beta2;
  launch(over_chunks(p.op, params[0], args.num_chunks, kCostPerElement), &Kernels::optim_check,
         args);
  site.raise();
}

// Scales the gradients in place to a total norm of at most max_norm; returns the norm before.
Array clip_grad_norm(const Arrays& grads, float max_norm) {
  constexpr const char* op = "clip_grad_norm_";
  check(max_norm >= 0.f, op, ": expected max_norm >= 0, got ", max_norm);
  const Parameters p{op, grads, grads, {}, {}};
  if (grads.empty()) {
    Array zero = empty({}, DType::kFloat32);
    *write_as<float>(zero) = 0.f;
    return zero;
  }
  check_parameters(p);
  const Device device = grads[0].device();
  const StatusSite site(device, [](DataError, int64_t) {
    return std::string(
        "clip_grad_norm_: expected finite gradients, got a norm that is NaN or infinite; nothing "
        "was scaled");
  });
  const Array table = chunk_table(p, false, true);
  const int64_t chunks = num_chunks(table);
  Array partials = empty({chunks}, DType::kInt64, device),
        norm = empty({2}, DType::kFloat32, device);
  OptimArgs args{};
  args.chunks = read_as<TensorChunk>(table);
  args.status = site.status();
  args.site = site.site();
  args.partials = write_as<double>(partials);
  args.norm = write_as<float>(norm);
  args.num_chunks = static_cast<int32_t>(chunks);
  args.max_norm = max_norm;
  launch(over_chunks(op, grads[0], chunks, kCostPerElement), &Kernels::grad_norm_chunks, args);
  launch(single(op, device), &Kernels::grad_norm_combine, args);
  launch(over_chunks(op, grads[0], chunks, kCostPerElement), &Kernels::grad_scale, args);
  site.raise();
  Array total = norm;
  total.shape = {};
  return total;
}

}  // namespace

void bind_optim(py::module_& m) {
  m.def("make_optim_state", &make_optim_state, py::arg("lr"), py::arg("step"));
  m.def("optim_step", &optim_step, py::arg("state"));
  m.def("set_optim_lr", &set_optim_lr, py::arg("state"), py::arg("lr"));
  m.def("sgd", &sgd, py::arg("params"), py::arg("grads"), py::arg("buffers"), py::arg("state"),
        py::arg("momentum"), py::arg("dampening"), py::arg("weight_decay"), py::arg("nesterov"),
        py::arg("maximize"));
  m.def("adam", &adam, py::arg("op"), py::arg("params"), py::arg("grads"), py::arg("m"),
        py::arg("v"), py::arg("state"), py::arg("beta1"), py::arg("beta2"), py::arg("eps"),
        py::arg("weight_decay"), py::arg("decoupled"), py::arg("maximize"));
  m.def("check_gradients", &check_gradients, py::arg("op"), py::arg("params"), py::arg("grads"),
        py::arg("beta2"));
  m.def("clip_grad_norm", &clip_grad_norm, py::arg("grads"), py::arg("max_norm"));
}

}  // namespace fastnn
