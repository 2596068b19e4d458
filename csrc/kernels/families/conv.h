// Convolution of images in NCHW (conv_plan.h has the geometry and the tasks). One kernel serves
// forward and, phase by phase of a stride and with turned weights, the gradient of the input, which
// is also the forward of a transposed convolution. Arrays have the table's dtype; sums and scratch
// do not.
#pragma once
#include "../conv_plan.h"
#include "../kernel.h"

namespace fastnn {

// Where images are in the lanes, and where conv_windows_plan() is used, a gradient may be that of
// the windows of 2 x 2, side by side, whose largest elements were taken of an image: each window's
// goes to one element.
struct ConvWindows {
  const uint8_t* places;  // of that element in its window, row by row; null: all have gradients
  int64_t h, w;           // windows of an image
  constexpr int64_t size() const { return h * w; }
};

namespace {
// Whether the gradient of the weights is a sum over them.
constexpr bool conv_sums_windows(const ConvWindows& windows, const ConvGrid& g) {
  return windows.places != nullptr && conv_windows_plan(g).used;
}
}  // namespace

// Max pooling of a result by such windows: y is its own, and the convolution's is in scratch, the
// planes of an item y_plane apart.
struct ConvPooled {
  void* y;          // null: there is none
  uint8_t* places;  // or null
  int64_t h, w;     // windows of an image
  constexpr int64_t size() const { return h * w; }
};

// y = act(w * x + bias). An output plane, row and column may be apart: a phase is every s-th.
struct ConvArgs {
  const void *x, *w, *bias;  // w: [groups, filters, depth], or packed; bias may be null
  void *y, *z;               // z: the pre-activation is stored here too; or null
  ConvGrid grid;
  int64_t y_plane, y_row, y_col;
  int32_t activation;
  float activation_param;
  float* scratch;         // conv_plan().tasks times .scratch floats; a GPU needs none
  ConvWindows windows{};  // of x
  ConvPooled pooled{};    // never on a GPU
};

// The phases of one array, of as many tasks each: a task is that of all phases, so that they fill
// the lines they share while these are in the cache.
inline constexpr int32_t kConvPhases = 4;
struct ConvPhasesArgs {
  ConvArgs phases[kConvPhases];
  int32_t count;
};

// Weights as conv() takes them, [groups, rows, depth], or in panels where it has lanes of filters.
// depth is [channels, taps of both axes], of the taps first, first + step, ... of `all`. Rows and
// channels are so many kernels apart in w.
struct ConvPackAxis {
  int32_t taps, first, step, all;
};
struct ConvPackArgs {
  const void* w;
  void* packed;
  int64_t groups, rows, channels, row_step, channel_step;
  ConvPackAxis h, w_axis;
  bool lanes;  // never on a GPU
};

// dw[groups, filters, depth] = sum over images and positions of dz x; first sums of each chunk,
// [chunks, groups, sums] of conv_weight_plan(), or of conv_windows_plan(), or on a GPU as dw, then
// their sums.
struct ConvWeightArgs {
  const void *x, *dz;
  double* partials;
  ConvGrid grid;
  int64_t chunks;
  float* scratch;         // that plan's tasks() times its .scratch floats; a GPU needs none
  ConvWindows windows{};  // of dz
};
struct ConvWeightSumArgs {
  const double* partials;
  void* dw;
  ConvGrid grid;
  int64_t chunks;
  ConvWindows windows{};  // of dz
};

// dz = dy act'(saved) and db = sums of dz per channel. dz may be null (identity), and so may db.
struct ConvBiasArgs {
  const void *dy, *saved;
  void *dz, *db;
  double* partials;  // [chunks, channels], on a GPU only
  int64_t chunks;
  int64_t batch, channels, size;
  int32_t activation;
  float activation_param;
};

struct ConvKernels {
  Kernel<ConvArgs> conv;
  Kernel<ConvPhasesArgs> conv_phases;
  Kernel<ConvPackArgs> conv_pack;
  Kernel<ConvWeightArgs> conv_bwd_weight;
  Kernel<ConvWeightSumArgs> conv_bwd_weight_sum;
  Kernel<ConvBiasArgs> conv_bwd_bias;
};

}  // namespace fastnn
