// The geometry, checks and products of a recurrent layer.
#include "recurrent.h"

namespace fastnn {

const float* check_vector(const char* op, const char* name, const OptionalArray& vector,
                          int64_t size, const Array& w_hh) {
  if (!vector) return nullptr;
  check_dtype(op, name, *vector, DType::kFloat32);
  check_device(op, name, *vector, w_hh.device());
  check(vector->shape == Shape{size}, op, ": expected ", name, " of shape ", Shape{size},
        " to fit weight_hh ", w_hh.shape, ", got ", vector->shape);
  return read_as<float>(*vector);
}

RecurrentLayer::RecurrentLayer(const char* name, int64_t gates_per_unit, const Array& x,
                               const Weights& weights, const OptionalArray& h_0,
                               const OptionalArray& row_lengths, bool reverse)
    : op(name), device(x.device()), gates(gates_per_unit), lengths(row_lengths), reverse_(reverse) {
  check_dtype(op, "input", x, DType::kFloat32);
  check(x.shape.ndim == 3, op, ": expected input of shape (steps, batch, features), got ", x.shape);
  check(x.shape[0] > 0, op, ": expected at least one step, got input ", x.shape);
  steps = x.shape[0], batch = x.shape[1], features = x.shape[2];
  check<TypeError>(weights[0].has_value() && weights[1].has_value(), op,
                   ": expected weight_ih and weight_hh, got None");
  const Array &w_ih = *weights[0], &w_hh = *weights[1];
  check_dtype(op, "weight_hh", w_hh, DType::kFloat32);
  check_device(op, "weight_hh", w_hh, device);
  check(w_hh.shape.ndim == 2 && w_hh.shape[0] == gates * w_hh.shape[1], op,
        ": expected weight_hh of shape (", gates, " * hidden, hidden), got ", w_hh.shape);
  width = w_hh.shape[1];
  check_dtype(op, "weight_ih", w_ih, DType::kFloat32);
  check_device(op, "weight_ih", w_ih, device);
  check(w_ih.shape == Shape{gates * width, features}, op, ": expected weight_ih of shape ",
        Shape{gates * width, features}, " to fit input ", x.shape, " and weight_hh ", w_hh.shape,
        ", got ", w_ih.shape);
  b_ih_ = check_vector(op, "bias_ih", weights[2], w_hh.shape[0], w_hh);
  b_hh_ = check_vector(op, "bias_hh", weights[3], w_hh.shape[0], w_hh);
  if (h_0) check_state("h_0", *h_0);
  if (lengths) {
    check<TypeError>(lengths->dtype == DType::kInt64, op, ": expected lengths of int64, got ",
                     dtype_name(lengths->dtype));
    check_device(op, "lengths", *lengths, device);
    check(lengths->shape == Shape{batch}, op, ": expected lengths of shape ", Shape{batch},
          ", one for each row of the batch of input ", x.shape, ", got ", lengths->shape);
  }
  x_ = read_as<float>(x), w_ih_ = read_as<float>(w_ih), w_hh_ = read_as<float>(w_hh);
  h_0_ = read_optional_as(h_0);
}

void RecurrentLayer::check_state(const char* name, const Array& state) const {
  check_dtype(op, name, state, DType::kFloat32);
  check_device(op, name, state, device);
  check(state.shape == Shape{batch, width}, op, ": expected ", name, " of shape ",
        Shape{batch, width}, " (batch, hidden), got ", state.shape);
}

void RecurrentLayer::check_lengths() const {
  if (!lengths) return;
  const StatusSite site(device, [op = op, steps = steps, lengths = *lengths](DataError, int64_t i) {
    return concat(op, ": expected 0 <= lengths <= ", steps, ", the steps of input, got ",
                  static_cast<const int64_t*>(lengths.storage->data)[i], " at lengths[", i, "]");
  });
  launch(single(op, device), &Kernels::check_lengths,
         CheckLengthsArgs{read_as<int64_t>(*lengths), batch, steps, site.status(), site.site()});
  site.raise();
}

RecurrentStep RecurrentLayer::at(int64_t s) const {
  return {lengths ? read_as<int64_t>(*lengths) : nullptr, time(s), batch, width};
}

Launch RecurrentLayer::cell(double cost_per_unit) const {
  return {op, device, DType::kFloat32, ceil_div(batch, recurrent_rows(width)),
          static_cast<double>(cells()) * cost_per_unit};
}

Array RecurrentLayer::state_from(const OptionalArray& from) const {
  Array y = state();
  const double cost = static_cast<double>(cells()) * kCostPerElement;
  if (from) {
    const int64_t bytes = width * 4;
    launch({op, device, DType::kFloat32, ceil_div(batch, rows_per_task(bytes)), cost},
           &Kernels::copy_rows, CopyRowsArgs{read(*from), write(y), batch, bytes, bytes, bytes});
  } else {
    launch(elementwise(op, y), &Kernels::fill, FillArgs{nullptr, write(y), cells(), 0.f});
  }
  return y;
}

// ---- what enters and what leaves a pass ---------------------------------------------------------

Outputs::Outputs(const RecurrentLayer& layer)
    : y(layer.history()), h(layer.lengths ? layer.history() : y), h_n(layer.state()) {}

RecurrentOutputs Outputs::at(const RecurrentLayer& layer, int64_t s) const {
  const int64_t from = layer.time(s) * layer.cells();
  return {write_as<float>(h) + from, layer.lengths ? write_as<float>(y) + from : nullptr,
          s == layer.steps - 1 ? write_as<float>(h_n) : nullptr};
}

Incoming::Incoming(const RecurrentLayer& layer, const OptionalArray& output,
                   const OptionalArray& state)
    : has_dy(output.has_value()),
      dy(has_dy ? *output : layer.state_from({})),
      dh(layer.state_from(state)) {
  const Shape shape{layer.steps, layer.batch, layer.width};
  check_dtype(layer.op, "the gradient", dy, DType::kFloat32);
  check(!has_dy || dy.shape == shape, layer.op, ": expected a gradient of shape ", shape, ", got ",
        dy.shape);
}

RecurrentGradients Incoming::at(const RecurrentLayer& layer, int64_t s) const {
  const int64_t from = has_dy ? layer.time(s) * layer.cells() : 0;
  return {read_as<float>(dy) + from, write_as<float>(dh)};
}

// ---- products ----------------------------------------------------------------------------------

const float* RecurrentLayer::before(int64_t s, const Array& states, const Array& initial) const {
  return s == 0 ? read_as<float>(initial) : read_as<float>(states) + time(s - 1) * cells();
}

Factor RecurrentLayer::hidden_factor(int64_t begin, int64_t end, bool transpose) const {
  const float* rows = w_hh_ + begin * width * width;
  const int64_t count = (end - begin) * width;
  return transpose ? Factor(op, device, transposed(rows, width), width, count)
                   : Factor(op, device, rows_of(rows, width), count, width);
}

void RecurrentLayer::hidden_sums(const Factor& factor, int64_t begin, int64_t end, int64_t s,
                                 const float* h, GemmArgs c) const {
  c.m = batch;
  c.bias = b_hh_ == nullptr ? nullptr : b_hh_ + begin * width;
  if (s > 0 || h_0_ != nullptr) return factor.multiply(c, rows_of(h, width));
  c.n = (end - begin) * width;  // h is zeros
  gemm(op, device, c, rows_of(h, width), rows_of(w_hh_, width));
}

// ---- products of several steps ------------------------------------------------------------------

constexpr int64_t kChunkRows = 256;

Chunk RecurrentLayer::chunk(int64_t s) const {
  const int64_t rows = std::max<int64_t>(1, batch);
  const int64_t length = one_launch_ ? steps : std::max<int64_t>(1, kChunkRows / rows);
  const int64_t count = s % length == 0 ? std::min(length, steps - s) : 0;
  return {s, count, count > 0 ? std::min(time(s), time(s + count - 1)) : 0};
}

bool RecurrentLayer::become_one_launch(SequenceCell cell, bool backward) {
  if (!device.is_cuda() || cells() == 0) return false;
  const Sequence it = sequence(cell);
  one_launch_ = cuda_makes_sequence(device, {cell, backward, it.bf16_weights, it.rows, it.width});
  return one_launch_;
}

Sequence RecurrentLayer::sequence(SequenceCell cell) const {
  return {cell,     lengths ? read_as<int64_t>(*lengths) : nullptr, steps, batch, width,
          reverse_, matmul_precision() == MatmulPrecision::kMedium};
}

InputSums::InputSums(const RecurrentLayer& layer)
    : sums(layer.floats({layer.steps, layer.batch, layer.gates * layer.width})), layer_(layer) {
  if (layer.chunk(0).count == layer.steps) return;
  factor_.emplace(layer.op, layer.device, transposed(layer.w_ih_, layer.features), layer.features,
                  layer.gates * layer.width);
}

void InputSums::reach(int64_t s) const {
  const Chunk chunk = layer_.chunk(s);
  if (chunk.count == 0) return;
  const int64_t from = chunk.first * layer_.batch, n = layer_.gates * layer_.width;
  const GemmArgs c{.c = write_as<float>(sums) + from * n,
                   .m = chunk.count * layer_.batch,
                   .n = n,
                   .k = layer_.features,
                   .bias = layer_.b_ih_};
  const Matrix x = rows_of(layer_.x_ + from * layer_.features, layer_.features);
  if (factor_) return factor_->multiply(c, x);
  gemm(layer_.op, layer_.device, c, x, transposed(layer_.w_ih_, layer_.features));
}

ColumnSums::ColumnSums(const RecurrentLayer& layer, int64_t cols)
    : layer_(layer),
      partials_(layer.floats({ceil_div(layer.steps, layer.chunk(0).count), cols})),
      cols_(cols) {}

void ColumnSums::add(const float* d, int64_t rows) {
  const LinearBwdArgs args{d,    nullptr, nullptr, write_as<float>(partials_) + chunks_++ * cols_,
                           rows, cols_,   0,       0};
  launch({layer_.op, layer_.device, DType::kFloat32, ceil_div(cols_, kColumnChunk),
          static_cast<double>(rows * cols_) * kCostPerElement},
         &Kernels::linear_bwd, args);
}

void ColumnSums::finish(float* sums) const {
  const LinearBwdArgs args{read_as<float>(partials_), nullptr, nullptr, sums, chunks_, cols_, 0, 0};
  launch({layer_.op, layer_.device, DType::kFloat32, ceil_div(cols_, kColumnChunk), 0},
         &Kernels::linear_bwd, args);
}

InputGradients::InputGradients(const RecurrentLayer& layer, const Array& dsums,
                               const std::vector<bool>& needs, Gradients& grads)
    : layer_(layer), dsums_(dsums), needs_(needs), grads_(grads) {
  const int64_t n = layer.gates * layer.width;
  if (needs[0]) {
    grads[0] = layer.floats({layer.steps, layer.batch, layer.features});
    factor_.emplace(layer.op, layer.device, rows_of(layer.w_ih_, layer.features), n,
                    layer.features);
  }
  if (needs[1]) grads[1] = layer.floats({n, layer.features});
  if (needs[2]) grads[2] = layer.floats({n, layer.width});
  if (needs[3] || needs[4]) {
    grads[3] = layer.floats({n});
    sums_.emplace(layer, n);
  }
}

void InputGradients::reach(const Chunk& chunk) {
  const int64_t n = layer_.gates * layer_.width, k = layer_.features;
  const int64_t from = chunk.first * layer_.batch, rows = chunk.count * layer_.batch;
  const float *d = read_as<float>(dsums_) + from * n, *x = layer_.x_ + from * k;
  if (needs_[0])
    factor_->multiply({.c = write_as<float>(*grads_[0]) + from * k, .m = rows}, rows_of(d, n));
  if (needs_[1])
    gemm(layer_.op, layer_.device,
         {.c = write_as<float>(*grads_[1]),
          .m = n,
          .n = k,
          .k = rows,
          .accumulate = !is_last(chunk)},
         transposed(d, n), rows_of(x, k));
  if (sums_) sums_->add(d, rows);
}

// Steps after the first have the states before them in `states`, one step away.
void InputGradients::hidden(const Chunk& chunk, const float* d, int64_t ld, int64_t rows,
                            const Array& states, float* dw) const {
  const int64_t batch = layer_.batch, width = layer_.width;
  const bool from_start = chunk.begin == 0;
  const int64_t count = chunk.count - from_start;
  const int64_t first = chunk.first + (from_start && !layer_.reverse_);
  const int64_t before = count == 0 ? 0 : layer_.reverse_ ? first + 1 : first - 1;
  GemmArgs c{.c = dw, .m = rows, .n = width, .k = count * batch, .accumulate = !is_last(chunk)};
  gemm(layer_.op, layer_.device, c, transposed(d + (count > 0 ? first : 0) * batch * ld, ld),
       rows_of(read_as<float>(states) + before * layer_.cells(), width));
  if (!from_start || layer_.h_0_ == nullptr) return;
  c.k = batch;
  c.accumulate = true;
  gemm(layer_.op, layer_.device, c, transposed(d + layer_.time(0) * batch * ld, ld),
       rows_of(layer_.h_0_, width));
}

void InputGradients::product(const Chunk& chunk, const float* d, int64_t ld, const float* with,
                             float* dw) const {
  const int64_t from = chunk.first * layer_.batch, width = layer_.width;
  gemm(layer_.op, layer_.device,
       {.c = dw,
        .m = width,
        .n = width,
        .k = chunk.count * layer_.batch,
        .accumulate = !is_last(chunk)},
       transposed(d + from * ld, ld), rows_of(with + from * width, width));
}

void InputGradients::finish() {
  if (sums_) sums_->finish(write_as<float>(*grads_[3]));
}

}  // namespace fastnn
