// The geometry, checks and products of a recurrent layer.
#include "recurrent.h"

namespace fastnn {
namespace {

const float* check_bias(const char* op, const char* name, const OptionalArray& bias,
                        const Array& w_hh) {
  if (!bias) return nullptr;
  check_dtype(op, name, *bias, DType::kFloat32);
  check_device(op, name, *bias, w_hh.device());
  check(bias->shape == Shape{w_hh.shape[0]}, op, ": expected ", name, " of shape ",
        Shape{w_hh.shape[0]}, " to fit weight_hh ", w_hh.shape, ", got ", bias->shape);
  return read_as<float>(*bias);
}

}  // namespace

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
  b_ih_ = check_bias(op, "bias_ih", weights[2], w_hh);
  b_hh_ = check_bias(op, "bias_hh", weights[3], w_hh);
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

// ---- products ----------------------------------------------------------------------------------

Array RecurrentLayer::input_sums() const {
  Array sums = floats({steps, batch, gates * width});
  gemm(op, device,
       {.c = write_as<float>(sums),
        .m = steps * batch,
        .n = gates * width,
        .k = features,
        .bias = b_ih_},
       rows_of(x_, features), transposed(w_ih_, features));
  return sums;
}

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

void RecurrentLayer::input_gradients(const Array& dsums, const std::vector<bool>& needs,
                                     Gradients& grads) const {
  const int64_t m = steps * batch, n = gates * width;
  const float* d = read_as<float>(dsums);
  if (needs[0]) {
    grads[0] = floats({steps, batch, features});
    gemm(op, device, {.c = write_as<float>(*grads[0]), .m = m, .n = features, .k = n},
         rows_of(d, n), rows_of(w_ih_, features));
  }
  if (needs[1]) {
    grads[1] = floats({n, features});
    gemm(op, device, {.c = write_as<float>(*grads[1]), .m = n, .n = features, .k = m},
         transposed(d, n), rows_of(x_, features));
  }
  if (needs[3] || needs[4]) {
    grads[3] = floats({n});
    column_sums(dsums, write_as<float>(*grads[3]));
  }
}

// Steps after the first have the states before them in `states`, one step away.
void RecurrentLayer::hidden_gradient(const float* d, int64_t ld, int64_t rows, const Array& states,
                                     float* dw) const {
  const float* h = read_as<float>(states);
  const int64_t k = (steps - 1) * batch;
  GemmArgs c{.c = dw, .m = rows, .n = width, .k = k};
  gemm(op, device, c, transposed(reverse_ ? d : d + batch * ld, ld),
       rows_of(reverse_ ? h + cells() : h, width));
  if (h_0_ == nullptr) return;
  c.k = batch;
  c.accumulate = true;
  gemm(op, device, c, transposed(d + time(0) * batch * ld, ld), rows_of(h_0_, width));
}

void RecurrentLayer::column_sums(const Array& d, float* db) const {
  const int64_t n = d.shape.last(), m = steps * batch;
  const LinearBwdArgs args{read_as<float>(d), nullptr, nullptr, db, m, n, 0, 0};
  launch({op, device, DType::kFloat32, ceil_div(n, kColumnChunk),
          static_cast<double>(m * n) * kCostPerElement},
         &Kernels::linear_bwd, args);
}

}  // namespace fastnn
