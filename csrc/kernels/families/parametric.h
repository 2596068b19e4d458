// Activations whose parameter is trained, one number for all elements or one for each channel;
// maxout; and hardtanh.
#pragma once
#include "../formulas/activation.h"
#include "../kernel.h"

namespace fastnn {

// Elements x[outer, channels, inner]; a[channels]. One parameter for all: channels and outer are 1.
struct ParametricShape {
  int64_t outer, channels, inner;

  // Tasks: chunks of elements for one parameter, of channels where neighbours in memory have
  // different ones, else channels.
  int64_t tasks() const {
    if (channels == 1) return ceil_div(inner, kReduceChunk);
    return inner == 1 ? ceil_div(channels, kColumnChunk) : channels;
  }
  int64_t partials() const { return channels == 1 ? tasks() : channels; }
};
struct ParametricFwdArgs {
  const void *x, *a;
  void* y;
  ParametricShape shape;
};
// da[c] = sum dy df/da over the channel, from float64 partial sums: of each task for one parameter,
// else of each channel.
struct ParametricBwdArgs {
  const void *dy, *x, *a;
  void* dx;
  double* partials;
  ParametricShape shape;
};
struct ParametricBwdParamsArgs {
  const double* partials;
  void* da;
  ParametricShape shape;
};
inline constexpr int kNumParametric = ParametricActivations::kSize;

// y[r, i] = max over j of x[r, j cols + i], j < pieces; NaN if one is NaN. The gradient goes to the
// first that is y. Tasks: chunks of rows.
struct MaxoutFwdArgs {
  const void* x;
  void* y;
  int64_t rows, cols, pieces;
};
struct MaxoutBwdArgs {
  const void *dy, *x, *y;
  void* dx;
  int64_t rows, cols, pieces;
};

// y = min(max(x, low), high). Tasks: chunks of kElementwiseChunk elements.
struct HardtanhFwdArgs {
  const void* x;
  void* y;
  int64_t n;
  float low, high;
};
struct HardtanhBwdArgs {
  const void *dy, *x;
  void* dx;
  int64_t n;
  float low, high;
};

struct ParametricKernels {
  Kernel<ParametricFwdArgs> parametric_fwd[kNumParametric];
  Kernel<ParametricBwdArgs> parametric_bwd[kNumParametric];
  Kernel<ParametricBwdParamsArgs> parametric_bwd_params;
  Kernel<MaxoutFwdArgs> maxout_fwd;
  Kernel<MaxoutBwdArgs> maxout_bwd;
  Kernel<HardtanhFwdArgs> hardtanh_fwd;
  Kernel<HardtanhBwdArgs> hardtanh_bwd;
};

}  // namespace fastnn
