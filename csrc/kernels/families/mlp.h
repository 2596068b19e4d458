// A training step of a small network of linear layers as one kernel: forward, loss and backward of
// tiles of rows whose activations stay on chip, then the sums of what the tiles found. CUDA's
// alone.
#pragma once
#include "../kernel.h"
#include "elementwise.h"

namespace fastnn {

inline constexpr int kMaxMlpLayers = 7;
inline constexpr int64_t kMaxMlpIn = 64, kMaxMlpWidth = 128, kMaxMlpOut = 32;
inline constexpr int64_t kMaxMlpBlocks =
    128;  // each takes tile after tile, and has sums of its own

// y = act(x w^T + b), w [out, in]; b and db may be null. The numbers after the activation are
// places of floats, by plan_mlp.
struct MlpLayer {
  const float *w, *b;
  float *dw, *db;
  int32_t in, out, activation;
  float a;
  bool saves_input;                // what the activation's derivative is taken from
  int32_t w_at, x_at, y_at, z_at;  // in shared memory: weights, inputs, outputs, sums before act
  int32_t sum_at;                  // in a block's sums: dw, with rows of whole quads, then db
};

// loss = sum of losses / divisor: cross-entropy with labels [rows], of those that are not
// ignore_index, or, labels null, squared differences from targets [rows, out]. The divisor is the
// number of them for a mean, else 1. Gradients are those of share * loss. Bad labels and a loss
// that is not finite are reported.
struct MlpStepArgs {
  const float *x, *targets;
  const int64_t* labels;
  float *y, *loss;         // y [rows, out]
  float* sums;             // [blocks, num_sums]
  double *losses, *count;  // [blocks]
  int64_t rows, ignore_index;
  MlpLayer layers[kMaxMlpLayers];
  int32_t num_layers, blocks, tile_rows, shared_floats, num_sums;
  bool mean, keeps_weights;  // in shared memory, all of them, from tile to tile
  float share;
  Status* status;
  int32_t site;
};

struct MlpKernels {
  Kernel<MlpStepArgs> mlp_step;
};

namespace {

constexpr int32_t whole_quads(int32_t n) { return (n + 3) / 4 * 4; }
// Rows of weights are an odd number of quads apart: those of eight rows lie in all banks.
constexpr int32_t weight_stride(int32_t in) { return 4 * (whole_quads(in) / 4 | 1); }

// Where everything lies for that many rows a tile; false where it does not fit.
constexpr bool plan_mlp(MlpStepArgs* args, int32_t tile_rows, bool keeps_weights) {
  constexpr int32_t kMostFloats = (227 << 10) / 4 - 256;  // of a block of sm_90; 256: sums of warps
  int32_t at = 0, sum_at = 0, most_weights = 0;
  args->tile_rows = tile_rows, args->keeps_weights = keeps_weights;
  for (int32_t i = 0; i < args->num_layers; ++i) {
    MlpLayer& layer = args->layers[i];
    const int32_t in = whole_quads(layer.in), out = whole_quads(layer.out);
    layer.x_at = i == 0 ? 0 : args->layers[i - 1].y_at;
    if (i == 0) at = tile_rows * in;
    layer.y_at = at;
    layer.z_at = layer.saves_input ? at + tile_rows * out : at;
    at = layer.z_at + tile_rows * out;
    layer.sum_at = sum_at;
    sum_at += layer.out * in + out;
    most_weights = static_cast<int32_t>(most(most_weights, out * weight_stride(layer.in)));
  }
  for (int32_t i = 0; i < args->num_layers; ++i) {
    MlpLayer& layer = args->layers[i];
    layer.w_at = at;
    if (keeps_weights) at += whole_quads(layer.out) * weight_stride(layer.in);
  }
  args->num_sums = sum_at;
  args->shared_floats = keeps_weights ? at : at + most_weights;
  args->blocks = static_cast<int32_t>(least(ceil_div(args->rows, tile_rows), kMaxMlpBlocks));
  return args->shared_floats <= kMostFloats;
}

// The layout of a network of these layers, given in, out and saves_input of each: tiles of 32 rows,
// or of 16 where more do not fit; false where it is too large, or of another form.
constexpr bool plan_mlp(MlpStepArgs* args) {
  const int32_t count = args->num_layers;
  if (count < 2 || count > kMaxMlpLayers) return false;
  for (int32_t i = 0; i < count; ++i) {
    const MlpLayer& layer = args->layers[i];
    const int64_t most_in = i == 0 ? kMaxMlpIn : kMaxMlpWidth;
    const int64_t most_out = i == count - 1 ? kMaxMlpOut : kMaxMlpWidth;
    if (layer.in < 1 || layer.in > most_in || layer.out < 1 || layer.out > most_out) return false;
    if (i > 0 && layer.in != args->layers[i - 1].out) return false;
  }
  return plan_mlp(args, 32, true) || plan_mlp(args, 32, false) || plan_mlp(args, 16, false);
}

}  // namespace
}  // namespace fastnn
