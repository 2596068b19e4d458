// The whole contract between ops and targets: one table of function pointers per (target, storage
// dtype). A kernel is `void(const Args&, Slice)`; Args are POD, so that a launch can be recorded
// and replayed, and whatever changes from step to step (step count, learning rate, RNG offset,
// batch) lives in memory the Args point to. The number of tasks is a function of shape only
// (slice.h, gemm_plan.h).
#pragma once
#include <cstdint>

#include "formulas/activation.h"
#include "gemm_plan.h"
#include "slice.h"
#include "status.h"

namespace fastnn {

enum class DType : uint8_t { kFloat32, kBFloat16, kFloat16, kUInt8, kInt64 };
inline constexpr int kNumTableDTypes = 4;  // int64 has no table: labels and indices are arguments
inline constexpr int kNumActivations = Activations::kSize;

template <class Args>
using Kernel = void (*)(const Args&, Slice);

// ---- elementwise; tasks are chunks of kElementwiseChunk elements -----------------------------
struct ActivationFwdArgs {
  const void* x;
  void* y;
  int64_t n;
  float a;
};
struct ActivationBwdArgs {
  const void *dy, *saved;
  void* dx;
  int64_t n;
  float a;
};
// y = op(x, z). A null z stands for `scalar`.
struct BinaryArgs {
  const void *x, *z;
  void* y;
  int64_t n;
  float scalar;
};
enum class Binary : int { kAdd, kSub, kMul, kDiv, kRsub, kRdiv, kSize };
struct FillArgs {
  const void* x;
  void* y;
  int64_t n;
  float value;
};  // y = value, or value x[0]
struct CopyArgs {
  const void* x;
  void* y;
  int64_t n;
};  // x is float32 in `from_float32`, else y is
// y = lo + (hi - lo) u, u uniform on [0, 1) with 24 bits: word e & 3 of Philox block e >> 2.
struct UniformArgs {
  void* y;
  int64_t n;
  const struct RngDraw* draw;
  float lo, hi;
};

// ---- linear ----------------------------------------------------------------------------------
// dz = dy * act'(saved) and db = column sums of dz, in one pass. dz may be null (identity).
struct LinearBwdArgs {
  const float *dy, *saved;
  float *dz, *db;
  int64_t rows, cols;
  int32_t activation;
  float activation_param;
};

// ---- row-wise; tasks are chunks of rows ------------------------------------------------------
struct LayerNormFwdArgs {
  const void *x, *w, *b;
  void* y;
  double* mean;  // float64, since at an offset of 1e8 a rounded mean is off by whole standard
                 // deviations
  float* rstd;
  int64_t rows, cols;
  float eps;
};
struct LayerNormBwdArgs {
  const void *dy, *x, *w;
  const double* mean;
  const float* rstd;
  void* dx;          // may be null
  double* partials;  // [tasks, 2, cols] of dw and db, or null
  void *dw, *db;     // written by the second phase, either may be null
  int64_t rows, cols;
};
struct SoftmaxFwdArgs {
  const void* x;
  void* y;
  int64_t rows, cols;
};
struct SoftmaxBwdArgs {
  const void *dy, *y;
  void* dx;
  int64_t rows, cols;
};
struct LogSumExpFwdArgs {
  const void* x;
  void* y;
  int64_t rows, cols;
};
struct LogSumExpBwdArgs {
  const void *dy, *x;
  void* dx;
  int64_t rows, cols;
};

// ---- losses ----------------------------------------------------------------------------------
// loss[r] = lse(x[r]) - x[r, label] (hard) or sum_c t[r, c] (lse(x[r]) - x[r, c]) (soft labels).
struct CrossEntropyFwdArgs {
  const void* x;
  const int64_t* labels;        // or null
  const float* targets;         // [rows, cols], or null
  float *loss, *max, *log_sum;  // [rows]; lse = max + log_sum
  int64_t rows, cols;
  Status* status;
  int32_t site;
};
// dx = (softmax(x) - target) * dy[r] * scale; dy has one element when `dy_is_scalar`.
struct CrossEntropyBwdArgs {
  const void* x;
  const int64_t* labels;
  const float *targets, *max, *log_sum, *dy;
  void* dx;
  int64_t rows, cols;
  float scale;
  bool dy_is_scalar;
};

// ---- reductions ------------------------------------------------------------------------------
// Phase 1 sums chunks of kReduceChunk elements into partials, phase 2 adds those in order.
struct SumArgs {
  const void* x;
  void* y;
  double* partials;
  int64_t n;
  float scale;
  Status* status;
  int32_t site;
};
struct CountCorrectArgs {
  const float* x;
  const int64_t* labels;
  int64_t* correct;
  int64_t rows, cols;
};
struct AccumulateArgs {
  const float* x;
  double* sum;
  double scale;
};

// ---- randomness: see philox.h ----------------------------------------------------------------
struct RngDraw {
  uint64_t seed, offset;
};
struct RngDrawArgs {
  RngDraw* state;
  RngDraw* draw;
};  // *draw = *state; ++state->offset
struct DropoutArgs {
  const void* x;
  void* y;
  int64_t n;
  const RngDraw* draw;
  uint32_t threshold;
  float scale;
};
struct ShuffleKeysArgs {
  uint64_t* keys;
  int64_t n;
  uint64_t seed, epoch;
};

// ---- data movement ---------------------------------------------------------------------------
// y[i] = x[index[*cursor + i]] for i < rows, whole rows of `row_bytes`.
struct GatherArgs {
  const void* x;
  const int64_t* index;
  const int64_t* cursor;
  void* y;
  int64_t rows, row_bytes;
};
struct AdvanceArgs {
  int64_t* value;
  int64_t by;
};

// ---- optimizers: one launch for all parameters -----------------------------------------------
// One row per chunk of kOptimChunk elements of one parameter: the multi-tensor table.
struct TensorChunk {
  void* p;
  const void* g;
  float *m, *v;
  int64_t n, first;
};  // first: flat index over all parameters
// Lives in memory, so that a recorded step sees changes: written by the host (lr) and by
// optim_begin.
struct OptimState {
  double lr;
  int64_t step;
  double correction1, correction2;
};
struct OptimBeginArgs {
  OptimState* state;
  double beta1, beta2;
  const Status* status;
};
struct OptimArgs {
  const TensorChunk* chunks;
  const OptimState* state;
  Status* status;
  double* partials;  // [tasks] sums of squares
  float* norm;       // [2]: the total norm and the clip coefficient
  int32_t site;
  int32_t num_chunks;
  double beta1, beta2;  // float64: 1 - beta2 has to be right to the last bit of float32
  float eps, weight_decay, momentum, dampening, max_norm;
  bool nesterov, maximize, decoupled;
};

struct Kernels {
  Kernel<ActivationFwdArgs> activation_fwd[kNumActivations];
  Kernel<ActivationBwdArgs> activation_bwd[kNumActivations];
  Kernel<BinaryArgs> binary[static_cast<int>(Binary::kSize)];
  Kernel<FillArgs> fill;
  Kernel<CopyArgs> to_float32, from_float32;
  Kernel<UniformArgs> uniform;

  Kernel<GemmArgs> gemm_pack, gemm_packed, gemm_small;
  Kernel<LinearBwdArgs> linear_bwd;

  Kernel<LayerNormFwdArgs> layer_norm_fwd;
  Kernel<LayerNormBwdArgs> layer_norm_bwd, layer_norm_bwd_params;
  Kernel<SoftmaxFwdArgs> softmax_fwd, log_softmax_fwd;
  Kernel<SoftmaxBwdArgs> softmax_bwd, log_softmax_bwd;
  Kernel<LogSumExpFwdArgs> logsumexp_fwd;
  Kernel<LogSumExpBwdArgs> logsumexp_bwd;

  Kernel<CrossEntropyFwdArgs> cross_entropy_fwd;
  Kernel<CrossEntropyBwdArgs> cross_entropy_bwd;

  Kernel<SumArgs> sum_chunks, sum_combine;
  Kernel<CountCorrectArgs> count_correct;
  Kernel<AccumulateArgs> accumulate;

  Kernel<RngDrawArgs> rng_draw;
  Kernel<DropoutArgs> dropout;
  Kernel<ShuffleKeysArgs> shuffle_keys;

  Kernel<GatherArgs> gather;
  Kernel<AdvanceArgs> advance;

  Kernel<OptimBeginArgs> optim_begin;
  Kernel<OptimArgs>
      optim_check;  // finds gradients that are not finite or overflow the second moment
  Kernel<OptimArgs> sgd, adam;
  Kernel<OptimArgs> grad_norm_chunks, grad_norm_combine, grad_scale;
};

// One symbol per compiled instruction set; see core/dispatch.cc.
using KernelTable = Kernels[kNumTableDTypes];
extern const KernelTable kernels_v2, kernels_v3, kernels_v4, kernels_arm;

}  // namespace fastnn
