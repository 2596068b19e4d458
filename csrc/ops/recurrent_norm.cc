// layer_norm_lstm: one layer in one direction of an LSTM with three layer norms (Ba, Kiros, Hinton
// 2016): of the products with the inputs, many steps at once, of that with the state and of the
// cell, step by step. As in recurrent.cc, backward overwrites what forward kept: it can run once,
// and the tape sees the write.
#include "recurrent.h"

namespace fastnn {
namespace {

constexpr const char* kOp = "layer_norm_lstm";
using Norms = std::array<OptionalArray, 4>;  // gain_ih, gain_hh, gain_c, bias_c

// The norm of rows [steps * batch, cols], some of them at a time.
struct RowNorm {
  Device device;
  int64_t rows, cols;
  const float *gain, *bias;
  float eps;
  double* mean;
  float* rstd;

  Launch launch_of(int64_t count, double cost) const {
    return {kOp, device, DType::kFloat32, ceil_div(count, rows_per_task(cols)),
            static_cast<double>(count * cols) * cost};
  }
  // For `count` rows from `first` on: x has all rows, the others those that it is about.
  void forward(int64_t first, int64_t count, const float* x, float* y) const {
    launch(launch_of(count, kCostPerExp), &Kernels::layer_norm_fwd,
           LayerNormFwdArgs{x + first * cols, gain, bias, y, mean + first, rstd + first, count,
                            cols, eps});
  }
  void backward(int64_t first, int64_t count, const float* dy, const float* x, float* dx) const {
    const LayerNormBwdArgs args{.dy = dy,
                                .x = x + first * cols,
                                .w = gain,
                                .mean = mean + first,
                                .rstd = rstd + first,
                                .dx = dx,
                                .rows = count,
                                .cols = cols};
    launch(launch_of(count, 2 * kCostPerExp), &Kernels::layer_norm_bwd, args);
  }
  // The gradients of gain and bias, for all rows.
  void parameters(const float* dy, const float* x, OptionalArray* dgain,
                  OptionalArray* dbias) const {
    const Launch main = launch_of(rows, 2 * kCostPerExp);
    const Array partials = empty({main.tasks, 2, cols}, DType::kInt64, device);
    const auto made = [&](OptionalArray* grad) -> float* {
      if (grad == nullptr) return nullptr;
      *grad = empty({cols}, DType::kFloat32, device);
      return write_as<float>(**grad);
    };
    const LayerNormBwdArgs args{.dy = dy,
                                .x = x,
                                .w = gain,
                                .mean = mean,
                                .rstd = rstd,
                                .partials = write_as<double>(partials),
                                .dw = made(dgain),
                                .db = made(dbias),
                                .rows = rows,
                                .cols = cols};
    launch(main, &Kernels::layer_norm_bwd, args);
    launch({kOp, device, DType::kFloat32, ceil_div(cols, kColumnChunk),
            static_cast<double>(cols * main.tasks)},
           &Kernels::layer_norm_bwd_params, args);
  }
};

// What forward keeps of its norms: mean [3, steps * batch] in float64, and 1 / deviation.
struct Statistics {
  explicit Statistics(const RecurrentLayer& layer)
      : mean(empty({3, layer.steps * layer.batch}, DType::kInt64, layer.device)),
        rstd(layer.floats({3, layer.steps * layer.batch})) {}
  Statistics(Array kept_mean, Array kept_rstd)
      : mean(std::move(kept_mean)), rstd(std::move(kept_rstd)) {}
  Array mean, rstd;
};

struct LayerNorms {
  RowNorm input, hidden, cell;
};

RecurrentLayer layer_of(const Array& x, const Weights& weights, const Norms& norms,
                        const OptionalArray& h_0, const OptionalArray& lengths, bool reverse,
                        float eps) {
  // Biases belong to the norms, not to the sums.
  RecurrentLayer layer(kOp, 4, x, {weights[0], weights[1], {}, {}}, h_0, lengths, reverse);
  check(layer.width > 0, kOp, ": expected at least one unit to normalise, got weight_hh ",
        weights[1]->shape);
  check(eps >= 0.f, kOp, ": expected eps >= 0, got ", eps);
  constexpr const char* kNames[] = {"gain_ih", "gain_hh", "gain_c", "bias_c"};
  for (int i = 0; i < 4; ++i)
    check_vector(kOp, kNames[i], norms[i], i < 2 ? 4 * layer.width : layer.width, *weights[1]);
  check_vector(kOp, "bias_ih", weights[2], 4 * layer.width, *weights[1]);
  check_vector(kOp, "bias_hh", weights[3], 4 * layer.width, *weights[1]);
  return layer;
}

LayerNorms norms_of(const RecurrentLayer& layer, const Weights& weights, const Norms& norms,
                    float eps, const Statistics& kept) {
  const int64_t rows = layer.steps * layer.batch;
  const auto norm = [&](int i, int64_t cols, const OptionalArray& gain, const OptionalArray& bias) {
    return RowNorm{layer.device,
                   rows,
                   cols,
                   read_optional_as(gain),
                   read_optional_as(bias),
                   eps,
                   write_as<double>(kept.mean) + i * rows,
                   write_as<float>(kept.rstd) + i * rows};
  };
  return {norm(0, 4 * layer.width, norms[0], weights[2]),
          norm(1, 4 * layer.width, norms[1], weights[3]), norm(2, layer.width, norms[2], norms[3])};
}

Array sums_of(const RecurrentLayer& layer) {
  return layer.floats({layer.steps, layer.batch, 4 * layer.width});
}

std::vector<Array> layer_norm_lstm_fwd(const Array& x, const Weights& weights, const Norms& given,
                                       const OptionalArray& h_0, const OptionalArray& c_0,
                                       const OptionalArray& lengths, bool reverse, float eps) {
  const RecurrentLayer layer = layer_of(x, weights, given, h_0, lengths, reverse, eps);
  if (c_0) layer.check_state("c_0", *c_0);
  layer.check_lengths();
  const Statistics kept(layer);
  const LayerNorms norms = norms_of(layer, weights, given, eps, kept);
  const InputSums input(layer);
  const Array h_first = h_0 ? *h_0 : layer.state_from({}),
              c_first = c_0 ? *c_0 : layer.state_from({});
  const Outputs out(layer);
  const Array c = layer.history(), n = layer.history(), c_n = layer.state(), gates = sums_of(layer),
              hidden = sums_of(layer), part = layer.floats({layer.batch, 4 * layer.width}),
              unused = layer.state();
  const Factor factor = layer.hidden_factor(0, 4, true);
  const int64_t batch = layer.batch, cols = 4 * layer.width;
  for (int64_t s = 0; s < layer.steps; ++s) {
    input.reach(s);
    if (const Chunk chunk = layer.chunk(s); chunk.count > 0)
      norms.input.forward(chunk.first * batch, chunk.count * batch, read_as<float>(input.sums),
                          write_as<float>(gates) + chunk.first * batch * cols);
    const int64_t row = layer.time(s) * batch, from = row * layer.width;
    float *z = write_as<float>(gates) + row * cols, *c_here = write_as<float>(c) + from;
    const float* h_prev = layer.before(s, out.h, h_first);
    layer.hidden_sums(factor, 0, 4, s, h_prev, {.c = write_as<float>(hidden) + row * cols});
    norms.hidden.forward(row, batch, read_as<float>(hidden), write_as<float>(part));
    launch(elementwise(kOp, part), &Kernels::binary, static_cast<int>(Binary::kAdd),
           BinaryArgs{z, read(part), z, batch * cols, 0.f});
    launch(layer.cell(5 * kCostPerExp), &Kernels::lstm_fwd,
           LstmFwdArgs{layer.at(s),
                       z,
                       h_prev,
                       layer.before(s, c, c_first),
                       {write_as<float>(unused), nullptr, nullptr},
                       c_here,
                       s == layer.steps - 1 ? write_as<float>(c_n) : nullptr});
    norms.cell.forward(row, batch, read_as<float>(c), write_as<float>(n) + from);
    launch(layer.cell(kCostPerExp), &Kernels::lstm_output_fwd,
           LstmOutputFwdArgs{layer.at(s), z, read_as<float>(n) + from, h_prev, out.at(layer, s)});
  }
  return {out.y, out.h_n, c_n, out.h, c, n, gates, input.sums, hidden, kept.mean, kept.rstd};
}

// What forward returned after the last states.
struct Kept {
  Array h, c, n, gates, input, hidden, mean, rstd;
  explicit Kept(const std::array<Array, 8>& a)
      : h(a[0]), c(a[1]), n(a[2]), gates(a[3]), input(a[4]), hidden(a[5]), mean(a[6]), rstd(a[7]) {}
};

// The gradients of the norms' parameters, which come last: dz is that of both sums of gates.
void norm_gradients(const LayerNorms& norms, const Kept& kept, const std::vector<bool>& needs,
                    Gradients& grads) {
  const auto some = [&](const RowNorm& norm, const Array& dy, const Array& x, int gain, int bias) {
    if (needs[gain] || needs[bias])
      norm.parameters(read_as<float>(dy), read_as<float>(x), needs[gain] ? &grads[gain] : nullptr,
                      needs[bias] ? &grads[bias] : nullptr);
  };
  some(norms.input, kept.gates, kept.input, 7, 3);
  some(norms.hidden, kept.gates, kept.hidden, 8, 4);
  some(norms.cell, kept.n, kept.c, 9, 10);
}

// Gradients of x, the weights, the initial states, the gains and bias_c.
Gradients layer_norm_lstm_bwd(const OptionalArray& dy, const OptionalArray& dh_n,
                              const OptionalArray& dc_n, const Array& x, const Weights& weights,
                              const Norms& given, const OptionalArray& h_0,
                              const OptionalArray& c_0, const OptionalArray& lengths, bool reverse,
                              float eps, const std::array<Array, 8>& saved,
                              const std::vector<bool>& needs) {
  const Kept kept(saved);
  const RecurrentLayer layer = layer_of(x, weights, given, h_0, lengths, reverse, eps);
  const LayerNorms norms = norms_of(layer, weights, given, eps, {kept.mean, kept.rstd});
  const Incoming in(layer, dy, dh_n);
  const Array dc = layer.state_from(dc_n), c_first = c_0 ? *c_0 : layer.state_from({}),
              dc_output = layer.state(), dinput = sums_of(layer), dhidden = sums_of(layer);
  Gradients grads(11);
  const std::vector<bool> of_products{needs[0], needs[1], needs[2], false, false};
  InputGradients input(layer, dinput, of_products, grads);
  const Factor factor = layer.hidden_factor(0, 4, false);
  const int64_t batch = layer.batch, cols = 4 * layer.width;
  float* d = write_as<float>(dhidden);
  for (int64_t s = layer.steps - 1; s >= 0; --s) {
    const int64_t row = layer.time(s) * batch, from = row * layer.width;
    float *dz = write_as<float>(kept.gates) + row * cols, *dn = write_as<float>(kept.n) + from;
    const RecurrentGradients step = in.at(layer, s);
    launch(layer.cell(kCostPerExp), &Kernels::lstm_output_bwd,
           LstmOutputBwdArgs{layer.at(s), step, dz, dn});
    norms.cell.backward(row, batch, dn, read_as<float>(kept.c), write_as<float>(dc_output));
    launch(layer.cell(kCostPerElement), &Kernels::lstm_cell_bwd,
           LstmCellBwdArgs{layer.at(s), dz, layer.before(s, kept.c, c_first),
                           read_as<float>(dc_output), write_as<float>(dc)});
    norms.hidden.backward(row, batch, dz, read_as<float>(kept.hidden), d + row * cols);
    if (goes_back(s, needs))
      factor.multiply({.c = step.dh, .m = batch, .accumulate = true},
                      rows_of(d + row * cols, cols));
    const Chunk chunk = layer.chunk(s);
    if (chunk.count == 0) continue;
    const int64_t first = chunk.first * batch;
    norms.input.backward(first, chunk.count * batch, read_as<float>(kept.gates) + first * cols,
                         read_as<float>(kept.input), write_as<float>(dinput) + first * cols);
    input.reach(chunk);
    if (needs[2]) input.hidden(chunk, d, cols, cols, kept.h, write_as<float>(*grads[2]));
  }
  norm_gradients(norms, kept, needs, grads);
  if (needs[5]) grads[5] = in.dh;
  if (needs[6]) grads[6] = dc;
  return grads;
}

}  // namespace

void bind_recurrent_norm(py::module_& m) {
  m.def("layer_norm_lstm_fwd", &layer_norm_lstm_fwd, py::arg("x"), py::arg("weights"),
        py::arg("norms"), py::arg("h_0"), py::arg("c_0"), py::arg("lengths"), py::arg("reverse"),
        py::arg("eps"));
  m.def("layer_norm_lstm_bwd", &layer_norm_lstm_bwd, py::arg("dy"), py::arg("dh_n"),
        py::arg("dc_n"), py::arg("x"), py::arg("weights"), py::arg("norms"), py::arg("h_0"),
        py::arg("c_0"), py::arg("lengths"), py::arg("reverse"), py::arg("eps"), py::arg("saved"),
        py::arg("needs"));
}

}  // namespace fastnn
