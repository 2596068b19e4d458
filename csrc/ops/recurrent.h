// What the recurrent layers share: the geometry of one layer in one direction, the products of all
// its steps at once, and those of one step.
#pragma once
#include <algorithm>
#include <array>

#include "gemm.h"

namespace fastnn {

using Weights = std::array<OptionalArray, 4>;  // weight_ih, weight_hh, bias_ih, bias_hh
using Gradients = std::vector<OptionalArray>;  // of x, the weights, and the initial states

// Consecutive steps, whose products with the weights are one; their data follow one another from
// time `first` on. A few hundred rows, so that the sums are still in the caches when they are used.
struct Chunk {
  int64_t begin, count, first;
};

// One layer in one direction over x [steps, batch, features], with hidden states [batch, width] and
// sums [batch, gates * width] in each step.
class RecurrentLayer {
 public:
  RecurrentLayer(const char* name, int64_t gates_per_unit, const Array& x, const Weights& weights,
                 const OptionalArray& h_0, const OptionalArray& row_lengths, bool reverse);

  const char* op;
  Device device;
  int64_t gates, steps, batch, features, width;
  OptionalArray lengths;

  int64_t cells() const { return batch * width; }
  // Where step s is in time, and the shape of what it is about.
  int64_t time(int64_t s) const { return reverse_ ? steps - 1 - s : s; }
  RecurrentStep at(int64_t s) const;
  Launch cell(double cost_per_unit) const;

  void check_state(const char* name, const Array& state) const;
  // Raises when a length is out of range; later in a replay, as every error in the data.
  void check_lengths() const;

  Array history() const { return floats({steps, batch, width}); }
  Array state() const { return floats({batch, width}); }
  Array floats(const Shape& shape) const { return empty(shape, DType::kFloat32, device); }
  // A copy, or zeros.
  Array state_from(const OptionalArray& from) const;

  // The state before step s.
  const float* before(int64_t s, const Array& states, const Array& initial) const;
  // The factor of products with rows [begin, end) * width of W_hh, transposed or not.
  Factor hidden_factor(int64_t begin, int64_t end, bool transpose) const;
  // c [batch, (end - begin) * width] = or += h W_hh[begin : end]^T + b_hh[begin : end], where h is
  // zeros in the first step unless there is an initial state.
  void hidden_sums(const Factor& factor, int64_t begin, int64_t end, int64_t s, const float* h,
                   GemmArgs c) const;

  // The chunk of steps that begins with s; of no steps where s is inside one.
  Chunk chunk(int64_t s) const;

  // Whether the steps of a pass are one launch, on a device that has it; then they are one chunk.
  bool become_one_launch(SequenceCell cell, bool backward);
  Sequence sequence(SequenceCell cell) const;
  Launch whole() const { return {op, device, DType::kFloat32, 1, 0}; }
  const float* hidden_weights() const { return w_hh_; }
  const float* hidden_bias() const { return b_hh_; }

 private:
  friend class InputSums;
  friend class InputGradients;
  bool reverse_, one_launch_ = false;
  const float *x_, *w_ih_, *w_hh_, *b_ih_, *b_hh_, *h_0_;
};

// The elements of a bias, or of a norm's gain; null if there is none.
const float* check_vector(const char* op, const char* name, const OptionalArray& vector,
                          int64_t size, const Array& w_hh);

// The outputs, and the states behind them: other memory where a row may end early.
struct Outputs {
  explicit Outputs(const RecurrentLayer& layer);
  Array y, h, h_n;

  RecurrentOutputs at(const RecurrentLayer& layer, int64_t s) const;
};

// The gradients that enter: of the outputs, and of the last states on their way back.
struct Incoming {
  Incoming(const RecurrentLayer& layer, const OptionalArray& output, const OptionalArray& state);
  bool has_dy;
  Array dy, dh;

  RecurrentGradients at(const RecurrentLayer& layer, int64_t s) const;
};

// dh += d W, unless nobody asks for the gradient of the initial state.
inline bool goes_back(int64_t s, const std::vector<bool>& needs) { return s > 0 || needs[5]; }

// The sums x W_ih^T + b_ih.
class InputSums {
 public:
  explicit InputSums(const RecurrentLayer& layer);
  // To be called for every step: makes those of the chunk that begins there.
  void reach(int64_t s) const;
  const Array sums;

 private:
  const RecurrentLayer& layer_;
  std::optional<Factor> factor_;
};

// Column sums of [rows, cols], chunk by chunk.
class ColumnSums {
 public:
  ColumnSums(const RecurrentLayer& layer, int64_t cols);
  void add(const float* d, int64_t rows);
  void finish(float* sums) const;

 private:
  const RecurrentLayer& layer_;
  Array partials_;  // [chunks, cols]
  int64_t cols_, chunks_ = 0;
};

// dx, dW and db from the gradients of the sums, [steps, batch, gates * width].
class InputGradients {
 public:
  InputGradients(const RecurrentLayer& layer, const Array& dsums, const std::vector<bool>& needs,
                 Gradients& grads);
  // To be called for every step, from the last on, when its chunk is done.
  void reach(const Chunk& chunk);
  // Rows of dW_hh from the gradients of their sums, d [steps, batch, ld].
  void hidden(const Chunk& chunk, const float* d, int64_t ld, int64_t rows, const Array& states,
              float* dw) const;
  // The same for a product with [steps, batch, width] of each step itself.
  void product(const Chunk& chunk, const float* d, int64_t ld, const float* with, float* dw) const;
  void finish();

 private:
  bool is_last(const Chunk& chunk) const { return chunk.begin + chunk.count == layer_.steps; }
  const RecurrentLayer& layer_;
  const Array& dsums_;
  const std::vector<bool>& needs_;
  Gradients& grads_;
  std::optional<Factor> factor_;
  std::optional<ColumnSums> sums_;
};

}  // namespace fastnn
