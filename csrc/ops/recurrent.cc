// rnn, lstm and gru: one layer in one direction. Forward is one product for the inputs of all steps
// and then, step by step, a product with the state and a cell kernel; backward goes through the
// steps the other way round, collects the gradients of all sums and ends with one product for each
// weight. On CUDA all steps of a pass can be one launch (families/recurrent.h). What forward
// returns beside outputs and states is for backward, which writes the gradients of the sums over
// the gates: it can run once, and the tape sees the write.
#include "recurrent.h"

#include "../kernels/formulas/recurrent.h"

namespace fastnn {
namespace {

constexpr double kRnnCost = kCostPerExp, kLstmCost = 5 * kCostPerExp, kGruCost = 3 * kCostPerExp;

// What step s completes, where all gates' sums are one product with the state.
void weight_gradients(const RecurrentLayer& layer, InputGradients& input, int64_t s, const float* d,
                      const Array& h, const std::vector<bool>& needs, const Gradients& grads) {
  const Chunk chunk = layer.chunk(s);
  if (chunk.count == 0) return;
  input.reach(chunk);
  const int64_t n = layer.gates * layer.width;
  if (needs[2]) input.hidden(chunk, d, n, n, h, write_as<float>(*grads[2]));
}

// Both biases have one gradient, unless the layer made the second itself.
void bias_gradient(const std::vector<bool>& needs, Gradients& grads) {
  if (needs[4] && !grads[4]) grads[4] = grads[3];
  if (!needs[3]) grads[3].reset();
}

// All steps forward: what all cells have of the arguments is added here.
void launch_sequence(const RecurrentLayer& layer, const InputSums& input, const Outputs& out,
                     SequenceFwdArgs args) {
  input.reach(0);
  args.w = layer.hidden_weights(), args.bias = layer.hidden_bias();
  args.gates = write_as<float>(input.sums);
  args.h = write_as<float>(out.h), args.h_n = write_as<float>(out.h_n);
  args.y = layer.lengths ? write_as<float>(out.y) : nullptr;
  launch(layer.whole(), &Kernels::sequence_fwd, args);
}
// And back.
void launch_sequence(const RecurrentLayer& layer, const Incoming& in, const Array& h,
                     const std::vector<bool>& needs, SequenceBwdArgs args) {
  args.w = layer.hidden_weights(), args.h = read_as<float>(h);
  args.dy = in.has_dy ? read_as<float>(in.dy) : nullptr;
  args.dh = write_as<float>(in.dh);
  args.to_state = needs[5];
  launch(layer.whole(), &Kernels::sequence_bwd, args);
}

// ---- tanh and relu -----------------------------------------------------------------------------

std::vector<Array> rnn_fwd(const Array& x, const Weights& weights, const OptionalArray& h_0,
                           const OptionalArray& lengths, bool reverse, int nonlinearity) {
  RecurrentLayer layer("rnn", 1, x, weights, h_0, lengths, reverse);
  layer.check_lengths();
  const auto cell = static_cast<SequenceCell>(kTanhSequence + nonlinearity);
  const bool one_launch = layer.become_one_launch(cell, false);
  const InputSums input(layer);
  const Outputs out(layer);
  if (one_launch) {
    launch_sequence(layer, input, out,
                    {.sequence = layer.sequence(cell), .h_0 = read_optional_as(h_0)});
    return {out.y, out.h_n, out.h};
  }
  const Array initial = h_0 ? *h_0 : layer.state_from({});
  const Factor factor = layer.hidden_factor(0, 1, true);
  for (int64_t s = 0; s < layer.steps; ++s) {
    input.reach(s);
    float* z = write_as<float>(input.sums) + layer.time(s) * layer.cells();
    const float* h_prev = layer.before(s, out.h, initial);
    layer.hidden_sums(factor, 0, 1, s, h_prev, {.c = z, .accumulate = true});
    launch(layer.cell(kRnnCost), &Kernels::rnn_fwd, nonlinearity,
           RnnFwdArgs{layer.at(s), z, h_prev, out.at(layer, s)});
  }
  return {out.y, out.h_n, out.h};
}

Gradients rnn_bwd(const OptionalArray& dy, const OptionalArray& dh_n, const Array& x,
                  const Weights& weights, const OptionalArray& h_0, const OptionalArray& lengths,
                  bool reverse, int nonlinearity, const Array& h, const std::vector<bool>& needs) {
  RecurrentLayer layer("rnn", 1, x, weights, h_0, lengths, reverse);
  const auto cell = static_cast<SequenceCell>(kTanhSequence + nonlinearity);
  const bool one_launch = layer.become_one_launch(cell, true);
  const Incoming in(layer, dy, dh_n);
  const Array dsums = layer.history();
  Gradients grads(6);
  InputGradients input(layer, dsums, needs, grads);
  if (one_launch)
    launch_sequence(layer, in, h, needs,
                    {.sequence = layer.sequence(cell), .gates = write_as<float>(dsums)});
  const Factor factor = layer.hidden_factor(0, 1, false);
  for (int64_t s = layer.steps - 1; s >= 0; --s) {
    const int64_t from = layer.time(s) * layer.cells();
    float* dz = write_as<float>(dsums) + from;
    const RecurrentGradients step = in.at(layer, s);
    if (!one_launch) {
      launch(layer.cell(kCostPerElement), &Kernels::rnn_bwd, nonlinearity,
             RnnBwdArgs{layer.at(s), step, read_as<float>(h) + from, dz});
      if (goes_back(s, needs))
        factor.multiply({.c = step.dh, .m = layer.batch, .accumulate = true},
                        rows_of(dz, layer.width));
    }
    weight_gradients(layer, input, s, read_as<float>(dsums), h, needs, grads);
  }
  input.finish();
  bias_gradient(needs, grads);
  if (needs[5]) grads[5] = in.dh;
  return grads;
}

// ---- LSTM --------------------------------------------------------------------------------------

std::vector<Array> lstm_fwd(const Array& x, const Weights& weights, const OptionalArray& h_0,
                            const OptionalArray& c_0, const OptionalArray& lengths, bool reverse) {
  RecurrentLayer layer("lstm", 4, x, weights, h_0, lengths, reverse);
  if (c_0) layer.check_state("c_0", *c_0);
  layer.check_lengths();
  const bool one_launch = layer.become_one_launch(kLstmSequence, false);
  const InputSums input(layer);
  const Array& gates = input.sums;
  const Outputs out(layer);
  const Array c = layer.history(), c_n = layer.state();
  if (one_launch) {
    launch_sequence(layer, input, out,
                    {.sequence = layer.sequence(kLstmSequence),
                     .h_0 = read_optional_as(h_0),
                     .c_0 = read_optional_as(c_0),
                     .c = write_as<float>(c),
                     .c_n = write_as<float>(c_n)});
    return {out.y, out.h_n, c_n, out.h, c, gates};
  }
  const Array h_first = h_0 ? *h_0 : layer.state_from({}),
              c_first = c_0 ? *c_0 : layer.state_from({});
  const Factor factor = layer.hidden_factor(0, 4, true);
  for (int64_t s = 0; s < layer.steps; ++s) {
    input.reach(s);
    const int64_t from = layer.time(s) * layer.cells();
    float* z = write_as<float>(gates) + 4 * from;
    const float *h_prev = layer.before(s, out.h, h_first), *c_prev = layer.before(s, c, c_first);
    layer.hidden_sums(factor, 0, 4, s, h_prev, {.c = z, .accumulate = true});
    launch(layer.cell(kLstmCost), &Kernels::lstm_fwd,
           LstmFwdArgs{layer.at(s), z, h_prev, c_prev, out.at(layer, s), write_as<float>(c) + from,
                       s == layer.steps - 1 ? write_as<float>(c_n) : nullptr});
  }
  return {out.y, out.h_n, c_n, out.h, c, gates};
}

Gradients lstm_bwd(const OptionalArray& dy, const OptionalArray& dh_n, const OptionalArray& dc_n,
                   const Array& x, const Weights& weights, const OptionalArray& h_0,
                   const OptionalArray& c_0, const OptionalArray& lengths, bool reverse,
                   const Array& h, const Array& c, const Array& gates,
                   const std::vector<bool>& needs) {
  RecurrentLayer layer("lstm", 4, x, weights, h_0, lengths, reverse);
  const bool one_launch = layer.become_one_launch(kLstmSequence, true);
  const Incoming in(layer, dy, dh_n);
  const Array dc = layer.state_from(dc_n), c_first = c_0 ? *c_0 : layer.state_from({});
  Gradients grads(7);
  InputGradients input(layer, gates, needs, grads);
  if (one_launch)
    launch_sequence(layer, in, h, needs,
                    {.sequence = layer.sequence(kLstmSequence),
                     .c = read_as<float>(c),
                     .c_0 = read_optional_as(c_0),
                     .gates = write_as<float>(gates),
                     .dc = write_as<float>(dc)});
  const Factor factor = layer.hidden_factor(0, 4, false);
  for (int64_t s = layer.steps - 1; s >= 0; --s) {
    const int64_t from = layer.time(s) * layer.cells();
    float* dz = write_as<float>(gates) + 4 * from;
    const RecurrentGradients step = in.at(layer, s);
    if (!one_launch) {
      launch(layer.cell(2 * kCostPerExp), &Kernels::lstm_bwd,
             LstmBwdArgs{layer.at(s), step, dz, read_as<float>(c) + from,
                         layer.before(s, c, c_first), write_as<float>(dc)});
      if (goes_back(s, needs))
        factor.multiply({.c = step.dh, .m = layer.batch, .accumulate = true},
                        rows_of(dz, 4 * layer.width));
    }
    weight_gradients(layer, input, s, read_as<float>(gates), h, needs, grads);
  }
  input.finish();
  bias_gradient(needs, grads);
  if (needs[5]) grads[5] = in.dh;
  if (needs[6]) grads[6] = dc;
  return grads;
}

// ---- GRU ---------------------------------------------------------------------------------------
// after: r is applied to the product with the state, which is kept as `hidden`. Otherwise to the
// state, and r h' is kept.

std::vector<Array> gru_fwd(const Array& x, const Weights& weights, const OptionalArray& h_0,
                           const OptionalArray& lengths, bool reverse, bool after, float sign) {
  RecurrentLayer layer("gru", 3, x, weights, h_0, lengths, reverse);
  layer.check_lengths();
  const bool one_launch = after && layer.become_one_launch(kGruSequence, false);
  const InputSums input(layer);
  const Array& gates = input.sums;
  const Outputs out(layer);
  const Array hidden = layer.history();
  if (one_launch) {
    launch_sequence(layer, input, out,
                    {.sequence = layer.sequence(kGruSequence),
                     .h_0 = read_optional_as(h_0),
                     .hidden = write_as<float>(hidden),
                     .sign = sign});
    return {out.y, out.h_n, out.h, gates, hidden};
  }
  const Array initial = h_0 ? *h_0 : layer.state_from({});
  const Factor reset_update = layer.hidden_factor(0, 2, true),
               fresh = layer.hidden_factor(2, 3, true);
  for (int64_t s = 0; s < layer.steps; ++s) {
    input.reach(s);
    const int64_t from = layer.time(s) * layer.cells(), ld = 3 * layer.width;
    float *z = write_as<float>(gates) + 3 * from, *part = write_as<float>(hidden) + from;
    const float* h_prev = layer.before(s, out.h, initial);
    const GruFwdArgs args{layer.at(s), z, part, h_prev, out.at(layer, s), sign, after};
    layer.hidden_sums(reset_update, 0, 2, s, h_prev, {.c = z, .ldc = ld, .accumulate = true});
    if (after) {
      layer.hidden_sums(fresh, 2, 3, s, h_prev, {.c = part});
    } else {
      launch(layer.cell(kGruCost), &Kernels::gru_reset, args);
      layer.hidden_sums(fresh, 2, 3, s, part,
                        {.c = z + 2 * layer.width, .ldc = ld, .accumulate = true});
    }
    launch(layer.cell(kGruCost), &Kernels::gru_fwd, args);
  }
  return {out.y, out.h_n, out.h, gates, hidden};
}

// One step: gates become the gradients of the sums, and hidden that of the product with the state
// (after).
void gru_step_back(const RecurrentLayer& layer, const GruBwdArgs& args, float* dreset,
                   const Factor& reset_update, const Factor& fresh, bool to_state) {
  const int64_t batch = layer.batch, width = layer.width;
  launch(layer.cell(kCostPerElement), &Kernels::gru_bwd, args);
  if (!args.after) {
    fresh.multiply({.c = dreset, .m = batch}, {args.gates + 2 * width, 3 * width, 1});
    launch(layer.cell(kCostPerElement), &Kernels::gru_reset_bwd, args);
  }
  if (!to_state) return;
  const GemmArgs dh{.c = args.grads.dh, .m = batch, .accumulate = true};
  reset_update.multiply(dh, rows_of(args.gates, 3 * width));
  if (args.after) fresh.multiply(dh, rows_of(args.hidden, width));
}

Gradients gru_bwd(const OptionalArray& dy, const OptionalArray& dh_n, const Array& x,
                  const Weights& weights, const OptionalArray& h_0, const OptionalArray& lengths,
                  bool reverse, bool after, float sign, const Array& h, const Array& gates,
                  const Array& hidden, const std::vector<bool>& needs) {
  RecurrentLayer layer("gru", 3, x, weights, h_0, lengths, reverse);
  const bool one_launch = after && layer.become_one_launch(kGruSequence, true);
  const Incoming in(layer, dy, dh_n);
  Gradients grads(6);
  InputGradients input(layer, gates, needs, grads);
  const Array initial = h_0 ? *h_0 : layer.state_from({}), dreset = layer.state();
  const Factor reset_update = layer.hidden_factor(0, 2, false),
               fresh = layer.hidden_factor(2, 3, false);
  const int64_t width = layer.width, ld = 3 * width;
  float *d = write_as<float>(gates), *part = write_as<float>(hidden);
  if (needs[4] && after) grads[4] = layer.floats({ld});
  ColumnSums hidden_sums(layer, width);
  if (one_launch)
    launch_sequence(layer, in, h, needs,
                    {.sequence = layer.sequence(kGruSequence),
                     .h_0 = read_optional_as(h_0),
                     .gates = d,
                     .hidden = part,
                     .sign = sign});
  for (int64_t s = layer.steps - 1; s >= 0; --s) {
    const int64_t from = layer.time(s) * layer.cells();
    float* scratch = write_as<float>(dreset);
    if (!one_launch)
      gru_step_back(layer,
                    {layer.at(s), in.at(layer, s), d + 3 * from, part + from,
                     layer.before(s, h, initial), scratch, sign, after},
                    scratch, reset_update, fresh, goes_back(s, needs));
    const Chunk chunk = layer.chunk(s);
    if (chunk.count == 0) continue;
    input.reach(chunk);
    if (grads[4]) hidden_sums.add(part + chunk.first * layer.cells(), chunk.count * layer.batch);
    if (!needs[2]) continue;
    float *dw = write_as<float>(*grads[2]), *dw_n = dw + 2 * width * width;
    input.hidden(chunk, d, ld, 2 * width, h, dw);
    if (after) {
      input.hidden(chunk, part, width, width, h, dw_n);
    } else {
      input.product(chunk, d + 2 * width, ld, part, dw_n);
    }
  }
  input.finish();
  if (grads[4]) {  // the parts of r and z are those of b_ih
    float* db = write_as<float>(*grads[4]);
    launch(single(layer.op, layer.device), &Kernels::copy_rows,
           CopyRowsArgs{read(*grads[3]), db, 1, 8 * width, 8 * width, 8 * width});
    hidden_sums.finish(db + 2 * width);
  }
  bias_gradient(needs, grads);
  if (needs[5]) grads[5] = in.dh;
  return grads;
}

template <class... A>
py::dict nonlinearities(ActivationList<A...>) {
  py::dict names;
  int index = 0;
  ((names[A::kName] = index++), ...);
  return names;
}

}  // namespace

void bind_recurrent(py::module_& m) {
  m.attr("RNN_NONLINEARITIES") = nonlinearities(RnnCells{});
  m.def("rnn_fwd", &rnn_fwd, py::arg("x"), py::arg("weights"), py::arg("h_0"), py::arg("lengths"),
        py::arg("reverse"), py::arg("nonlinearity"));
  m.def("rnn_bwd", &rnn_bwd, py::arg("dy"), py::arg("dh_n"), py::arg("x"), py::arg("weights"),
        py::arg("h_0"), py::arg("lengths"), py::arg("reverse"), py::arg("nonlinearity"),
        py::arg("h"), py::arg("needs"));
  m.def("lstm_fwd", &lstm_fwd, py::arg("x"), py::arg("weights"), py::arg("h_0"), py::arg("c_0"),
        py::arg("lengths"), py::arg("reverse"));
  m.def("lstm_bwd", &lstm_bwd, py::arg("dy"), py::arg("dh_n"), py::arg("dc_n"), py::arg("x"),
        py::arg("weights"), py::arg("h_0"), py::arg("c_0"), py::arg("lengths"), py::arg("reverse"),
        py::arg("h"), py::arg("c"), py::arg("gates"), py::arg("needs"));
  m.def("gru_fwd", &gru_fwd, py::arg("x"), py::arg("weights"), py::arg("h_0"), py::arg("lengths"),
        py::arg("reverse"), py::arg("after"), py::arg("sign"));
  m.def("gru_bwd", &gru_bwd, py::arg("dy"), py::arg("dh_n"), py::arg("x"), py::arg("weights"),
        py::arg("h_0"), py::arg("lengths"), py::arg("reverse"), py::arg("after"), py::arg("sign"),
        py::arg("h"), py::arg("gates"), py::arg("hidden"), py::arg("needs"));
}

}  // namespace fastnn
