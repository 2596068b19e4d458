// Noise that multiplies activations in training, drawn by counter: forward and backward are one
// kernel, and no mask is stored. Tasks: chunks of kElementwiseChunk elements, or of rows.
#pragma once
#include "../formulas/dropout.h"
#include "../kernel.h"
#include "random.h"

namespace fastnn {

struct DropoutArgs {
  const void* x;
  void* y;
  int64_t n;
  const RngDraw* draw;
  Keep keep;
};
// Rows are kept or dropped whole: row r by lane r.
struct DropoutRowsArgs {
  const void* x;
  void* y;
  int64_t rows, cols;
  const RngDraw* draw;
  Keep keep;
};
struct GaussianDropoutArgs {
  const void* x;
  void* y;
  int64_t n;
  const RngDraw* draw;
  float sigma;
};
// y = x k scale, where k - first is the number of thresholds <= u, of u uniform on 24 bits. There
// are 2^log2_size thresholds, ascending, filled up with values that no u reaches.
struct PoissonDropoutArgs {
  const void* x;
  void* y;
  int64_t n;
  const RngDraw* draw;
  const int32_t* thresholds;
  int32_t log2_size;
  float first, scale;
};
// y ~ N(mean, variance); dvariance = dy * d y / d variance.
struct SampleNormalArgs {
  const void *mean, *variance;
  void* y;
  int64_t n;
  const RngDraw* draw;
};
struct SampleNormalBwdArgs {
  const void *dy, *variance;
  void* dvariance;
  int64_t n;
  const RngDraw* draw;
};

struct DropoutKernels {
  Kernel<DropoutArgs> dropout;
  Kernel<DropoutRowsArgs> dropout_rows;
  Kernel<GaussianDropoutArgs> gaussian_dropout;
  Kernel<PoissonDropoutArgs> poisson_dropout;
  Kernel<SampleNormalArgs> sample_normal;
  Kernel<SampleNormalBwdArgs> sample_normal_bwd;
};

}  // namespace fastnn
