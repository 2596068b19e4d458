// Optimizers: one launch for all parameters. Tasks: chunks of kOptimChunk elements.
#pragma once
#include "../formulas/optim.h"
#include "../kernel.h"

namespace fastnn {

inline constexpr int kNumOptimRules = OptimRules::kSize;

// One row per chunk of kOptimChunk elements of one parameter: the multi-tensor table.
struct TensorChunk {
  void* p;
  const void* g;
  float* slots[kMaxSlots];
  OptimState* state;  // of the parameter; its chunks are neighbours
  int64_t n, first;
};  // first: flat index over all parameters

struct OptimArgs {
  const TensorChunk* chunks;
  const OptimRates* rates;
  const float* clip;  // null, or GradNormArgs::norm
  Status* status;
  int32_t site;
  int32_t num_chunks;
  OptimOptions options;
  Squares squares;
  bool clip_is_norm = false;  // of all these gradients: where it is finite, so are they
};

struct GradNormArgs {
  const TensorChunk* chunks;
  Status* status;    // null: a norm that is not finite is not an error here
  double* sums;      // [tasks]
  float* maxima;     // [tasks]
  float* norm;       // [2]: the norm of all gradients, and the factor that clips it
  double norm_type;  // p > 0
  float max_norm;    // of grad_clamp: the largest value
  int32_t site;
  int32_t num_chunks;
  const float* loss_scale;  // GradScalerArgs::scale, which the norm is divided by; or null
};

// Dynamic loss scaling. `found` is where the steps of a scaler report gradients that are not finite
// (instead of the status word: such a step is skipped, not an error), that of the last optimizer
// and that of those before it.
struct GradScalerArgs {
  float* scale;         // [2]: that of the loss, and its inverse
  int64_t* good_steps;  // since the scale has changed
  Status* found;        // [2]
  const Status* status;
  double growth, backoff;
  int64_t interval;
};

// Internal linkage: the kernels of every instruction set include this, and must not share code.
namespace {

// A step that has met bad data changes nothing either.
FASTNN_FN void begin_scaled(const GradScalerArgs& args) {
  if (args.found[0].word != kStatusOk) args.found[1] = args.found[0];
  args.found[0] = *args.status;
}
FASTNN_FN void update_scaled(const GradScalerArgs& args) {
  const bool found = args.found[0].word != kStatusOk || args.found[1].word != kStatusOk;
  args.found[0].word = args.found[1].word = kStatusOk;
  if (args.status->word != kStatusOk) return;
  update_scale(args.scale, args.good_steps, found, args.growth, args.backoff, args.interval);
}

}  // namespace

struct OptimKernels {
  // Counts the step of each parameter.
  Kernel<OptimArgs> optim_begin;
  // Finds gradients that are not finite or overflow the second moment.
  Kernel<OptimArgs> optim_check;
  Kernel<OptimArgs> optim_update[kNumOptimRules];
  // max |g| of each chunk; then the sum of |g|^p, relative to that for p other than 1 and 2.
  Kernel<GradNormArgs> grad_norm_max, grad_norm_sum, grad_norm_combine;
  Kernel<GradNormArgs> grad_scale, grad_clamp;
  // Before an optimizer looks at its gradients; and after all of them.
  Kernel<GradScalerArgs> scaler_begin, scaler_update;
};

}  // namespace fastnn
