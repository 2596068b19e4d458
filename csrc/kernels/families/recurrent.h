// Recurrent cells: everything of one time step that is not a product, in one pass. Tasks: chunks
// of the batch's rows. All arrays are [rows, width] of one step, gates [rows, gates * width].
#pragma once
#include "../kernel.h"

namespace fastnn {

// Which step of which rows. A row whose length is not above t is past its end there: its state
// stays what it was, its output is 0, and no gradient enters.
struct RecurrentStep {
  const int64_t* lengths;  // [rows], or null: all rows are as long as the sequence
  int64_t t, rows, width;
};
// Rows per task: few, since the work of a step is small and a row's is large.
constexpr int64_t recurrent_rows(int64_t width) {
  return width >= 2048 ? 1 : 2048 / (width + 1) + 1;
}

// What every cell leaves: the state, and where it is to stand besides.
struct RecurrentOutputs {
  float* h;    // never null
  float* y;    // the state, 0 past a row's end; null where no row ends early, since it is h then
  float* h_n;  // the state after the last step, else null
};
// What every cell's backward starts from: dh is the gradient of h by later steps. It is overwritten
// by the part of the previous state's that does not pass the gates' sums.
struct RecurrentGradients {
  const float* dy;
  float* dh;
};

struct RnnFwdArgs {
  RecurrentStep step;
  const float *z, *h_prev;
  RecurrentOutputs out;
};
// Backward of gated cells writes the gradients of the sums over the gates: [rows, gates * width].
struct RnnBwdArgs {
  RecurrentStep step;
  RecurrentGradients grads;
  const float* h;
  float* dz;
};

struct LstmFwdArgs {
  RecurrentStep step;
  float* gates;  // the sums of i f g o; then the gates
  const float *h_prev, *c_prev;
  RecurrentOutputs out;
  float *c, *c_n;  // c_n as h_n
};
struct LstmBwdArgs {
  RecurrentStep step;
  RecurrentGradients grads;
  float* gates;
  const float *c, *c_prev;
  float* dc;  // the gradient of c by later steps, then of c_prev
};

// The layer-normalised LSTM: lstm_fwd makes c (and an h that nobody reads), h is of its norm n.
struct LstmOutputFwdArgs {
  RecurrentStep step;
  const float *gates, *n, *h_prev;
  RecurrentOutputs out;
};
// o becomes the gradient of its sum, n that of n, and dh 0.
struct LstmOutputBwdArgs {
  RecurrentStep step;
  RecurrentGradients grads;
  float *gates, *n;
};
// i, f and g become the gradients of their sums; rows past their end have zeros there, in o too.
struct LstmCellBwdArgs {
  RecurrentStep step;
  float* gates;
  const float *c_prev, *dc_output;  // what h says about c
  float* dc;                        // as in LstmBwdArgs
};

// The gates' sums of r z n; then the gates. `after`: n has its hidden part apart, as `hidden`
// [rows, width], since r is applied after the product. Otherwise gru_reset makes r h' (`hidden`)
// and r, z before that product, and gru_fwd finds all of n's sum in its place.
struct GruFwdArgs {
  RecurrentStep step;
  float *gates, *hidden;
  const float* h_prev;
  RecurrentOutputs out;
  float sign;
  bool after;
};
// after: hidden becomes the gradient of the product. Otherwise gru_bwd leaves r for gru_reset_bwd,
// which reads `dreset`, the gradient of r h', and adds to dh.
struct GruBwdArgs {
  RecurrentStep step;
  RecurrentGradients grads;
  float *gates, *hidden;
  const float *h_prev, *dreset;
  float sign;
  bool after;
};

// Reports the first length that is not in [0, steps]. One task.
struct CheckLengthsArgs {
  const int64_t* lengths;
  int64_t rows, steps;
  Status* status;
  int32_t site;
};

// ---- all steps at once --------------------------------------------------------------------------
// What a step's kernels and its product with the state make, for all steps in one launch: CUDA
// alone has it, where the library says so (abi.h, makes_sequence). GRU is the one that applies r
// after the product.
enum SequenceCell : int32_t { kTanhSequence, kReluSequence, kLstmSequence, kGruSequence };

// What of a layer makes a difference to whether all its steps are one launch on CUDA.
struct CudaSequence {
  int32_t cell;  // a SequenceCell
  bool backward, bf16_weights;
  int64_t rows, width;
};

// Step s of a reversed sequence is time steps - 1 - s. Weights are rounded to bfloat16 on request;
// all else is float32.
struct Sequence {
  SequenceCell cell;
  const int64_t* lengths;  // as in RecurrentStep
  int64_t steps, rows, width;
  bool reverse, bf16_weights;
};
// Arrays are [steps, rows, width], gates [steps, rows, gates * width]; null where a cell has none.
// gates are the sums of the inputs; then the gates (not of tanh and relu cells).
struct SequenceFwdArgs {
  Sequence sequence;
  const float *w, *bias;   // of the state: [gates * width, width]; bias may be null
  const float *h_0, *c_0;  // null: zeros
  float *gates, *hidden;   // hidden as in GruFwdArgs, after
  float *h, *y, *h_n;      // as in RecurrentOutputs
  float *c, *c_n;
  float sign;
};
// dh and dc are the gradients of the last states; then of the first ones (dh only where to_state).
// gates become the gradients of their sums, and hidden that of the product (gru).
struct SequenceBwdArgs {
  Sequence sequence;
  const float *w, *dy;  // dy null: zeros
  const float *h, *h_0, *c, *c_0;
  float *gates, *hidden;
  float *dh, *dc;
  float sign;
  bool to_state;
};

struct RecurrentKernels {
  Kernel<RnnFwdArgs> rnn_fwd[2];  // tanh, relu
  Kernel<RnnBwdArgs> rnn_bwd[2];
  Kernel<LstmFwdArgs> lstm_fwd;
  Kernel<LstmBwdArgs> lstm_bwd;
  Kernel<LstmOutputFwdArgs> lstm_output_fwd;
  Kernel<LstmOutputBwdArgs> lstm_output_bwd;
  Kernel<LstmCellBwdArgs> lstm_cell_bwd;
  Kernel<GruFwdArgs> gru_reset, gru_fwd;
  Kernel<GruBwdArgs> gru_bwd, gru_reset_bwd;
  Kernel<CheckLengthsArgs> check_lengths;
  Kernel<SequenceFwdArgs> sequence_fwd;
  Kernel<SequenceBwdArgs> sequence_bwd;
};

}  // namespace fastnn
