// mlp_step: the loss of a small network of linear layers and the gradients of its parameters, by
// CUDA's fused kernel. train/mlp.py knows which networks those are.
#include "loss.h"

namespace fastnn {
namespace {

constexpr const char* kOp = "mlp_step";

struct MlpActivation {
  int32_t index;
  bool saves_input;
  float a;
};
using Activation = std::tuple<int, bool, double>;  // index, whether its output is saved, parameter
MlpActivation activation_from(const Activation& x) {
  const auto& [index, saves_output, a] = x;
  check(in_range(index, kNumActivations), kOp, ": expected an activation's index, got ", index);
  return {index, !saves_output, static_cast<float>(a)};
}

// Whether there is a kernel for layers of these sizes, the first of which is that of the input.
bool mlp_fits(const std::vector<int64_t>& sizes, const std::vector<Activation>& activations) {
  MlpStepArgs args{};
  if (sizes.size() != activations.size() + 1 || activations.size() > kMaxMlpLayers) return false;
  for (const int64_t size : sizes)
    if (size < 1 || size > kMaxMlpWidth) return false;
  args.num_layers = static_cast<int32_t>(activations.size());
  for (size_t i = 0; i < activations.size(); ++i) {
    args.layers[i].in = static_cast<int32_t>(sizes[i]);
    args.layers[i].out = static_cast<int32_t>(sizes[i + 1]);
    args.layers[i].saves_input = activation_from(activations[i]).saves_input;
  }
  return plan_mlp(&args);
}

void check_layer(size_t i, const Array& w, const OptionalArray& b, int64_t in, Device device) {
  const std::string name = concat("weight ", i), bias = concat("bias ", i);
  check_dtype(kOp, name.c_str(), w, DType::kFloat32);
  check_device(kOp, name.c_str(), w, device);
  check(w.shape.ndim == 2 && w.shape[1] == in, kOp, ": expected weight ", i, " of shape (out, ", in,
        "), got ", w.shape);
  if (!b) return;
  check_dtype(kOp, bias.c_str(), *b, DType::kFloat32);
  check_device(kOp, bias.c_str(), *b, device);
  check(b->shape == Shape{w.shape[0]}, kOp, ": expected bias ", i, " of shape ", Shape{w.shape[0]},
        ", got ", b->shape);
}

using Gradients = std::vector<OptionalArray>;

// The layers' places, and the gradients that they write.
Gradients fill_layers(MlpStepArgs* args, const Array& x, const std::vector<Array>& weights,
                      const std::vector<OptionalArray>& biases,
                      const std::vector<Activation>& activations) {
  check(weights.size() == biases.size() && weights.size() == activations.size() &&
            !weights.empty() && weights.size() <= kMaxMlpLayers,
        kOp, ": expected a bias and an activation for each of at most ", kMaxMlpLayers,
        " weights, got ", weights.size());
  Gradients gradients;
  int64_t in = x.shape.last();
  args->num_layers = static_cast<int32_t>(weights.size());
  for (size_t i = 0; i < weights.size(); ++i) {
    const Array& w = weights[i];
    check_layer(i, w, biases[i], in, x.device());
    const MlpActivation activation = activation_from(activations[i]);
    MlpLayer& layer = args->layers[i];
    gradients.push_back(empty_like(w));
    gradients.push_back(biases[i] ? OptionalArray(empty_like(*biases[i])) : OptionalArray());
    layer.w = read_as<float>(w), layer.b = read_optional_as<float>(biases[i]);
    layer.dw = write_as<float>(*gradients[2 * i]);
    layer.db = biases[i] ? write_as<float>(*gradients[2 * i + 1]) : nullptr;
    layer.in = static_cast<int32_t>(in), layer.out = static_cast<int32_t>(w.shape[0]);
    layer.activation = activation.index, layer.a = activation.a;
    layer.saves_input = activation.saves_input;
    in = w.shape[0];
  }
  check(plan_mlp(args), kOp, ": expected layers that fit into shared memory, got others");
  return gradients;
}

// Returns (y, loss, gradients): labels for cross-entropy, or numbers for squared differences; the
// gradients are of share * loss, a weight's and a bias's by turns.
std::tuple<Array, Array, Gradients> mlp_step(const Array& x, const Array& target,
                                             const std::vector<Array>& weights,
                                             const std::vector<OptionalArray>& biases,
                                             const std::vector<Activation>& activations,
                                             int64_t ignore_index, bool mean, double share) {
  check_dtype(kOp, "input", x, DType::kFloat32);
  check(x.shape.ndim == 2 && x.shape[0] > 0, kOp,
        ": expected input of shape (batch, in) of at least one row, got ", x.shape);
  MlpStepArgs args{};
  args.rows = x.shape[0];
  Gradients gradients = fill_layers(&args, x, weights, biases, activations);
  const Device device = x.device();
  Array y = empty({args.rows, weights.back().shape[0]}, DType::kFloat32, device);
  Array loss = empty({}, DType::kFloat32, device);
  check_target(kOp, y, target, true);
  const Array sums = empty({args.blocks, args.num_sums}, DType::kFloat32, device);
  const Array losses = empty({2, args.blocks}, DType::kInt64, device);
  const StatusSite labels = label_site("cross_entropy", target, 0, y.shape.last(), device);
  args.x = read_as<float>(x);
  if (target.dtype == DType::kInt64)
    args.labels = read_as<int64_t>(target);
  else
    args.targets = read_as<float>(target);
  args.y = write_as<float>(y), args.loss = write_as<float>(loss);
  args.sums = write_as<float>(sums);
  args.losses = write_as<double>(losses), args.count = args.losses + args.blocks;
  args.ignore_index = ignore_index, args.mean = mean, args.share = static_cast<float>(share);
  args.status = labels.status(), args.site = labels.site();
  launch({kOp, device, DType::kFloat32, args.blocks,
          static_cast<double>(args.rows * args.num_sums) * kCostPerFlop},
         &Kernels::mlp_step, args);
  labels.raise();
  return {y, loss, gradients};
}

}  // namespace

void bind_mlp(py::module_& m) {
  m.def("mlp_fits", &mlp_fits, py::arg("sizes"), py::arg("activations"));
  m.def("mlp_step", &mlp_step, py::arg("x"), py::arg("target"), py::arg("weights"),
        py::arg("biases"), py::arg("activations"), py::arg("ignore_index"), py::arg("mean"),
        py::arg("share"));
}

}  // namespace fastnn
