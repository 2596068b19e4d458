// A training step of a small network: mlp_step_kernel goes through all layers and back with a tile
// of rows in shared memory, so that global memory sees x, the weights, the outputs, and each
// block's sums for the gradients; mlp_sums_kernel adds those up. Invariant: which rows a block has,
// and the order of all sums, depends on the shape only.
#include "../formulas/loss.h"
#include "mlp.cuh"
#include "table.h"

namespace fastnn {
namespace {

// The sum of the losses of a block, and how many there were.
struct LossSums {
  double loss = 0, count = 0;
};

// The loss of one row, a column in each lane, and its gradient for that column.
__device__ __forceinline__ float row_cross_entropy(const MlpStepArgs& args, int64_t r, float v,
                                                   int classes, LossSums* sums) {
  const int lane = lane_of_thread();
  const int64_t label = args.labels[r];
  if (label == args.ignore_index) return 0.f;
  const bool known = in_range(label, classes);
  const float m = group_reduce<kWarp>(lane < classes ? v : -kInf,
                                      [](float a, float b) { return fastnn::max(a, b); });
  const double total = warp_sum(lane < classes ? static_cast<double>(exp_scaled(v - m)) : 0.0);
  const float log_sum = log(static_cast<float>(total * kExpScale));
  const float own = __shfl_sync(0xffffffff, v, known ? static_cast<int>(label) : 0);
  if (lane == 0 && !known) report(args.status, args.site, r, DataError::kLabelOutOfRange);
  if (lane == 0 && known && m == -kInf) report(args.status, args.site, r, DataError::kEmptyRow);
  sums->loss += known ? cross_entropy_term(own, m, log_sum, 1.f) : static_cast<double>(kNaN);
  sums->count += 1;
  return cross_entropy_dx(v, m, log_sum, lane == label ? 1.f : 0.f, 1.f, 1.f);
}
__device__ __forceinline__ float row_squares(const MlpStepArgs& args, int64_t r, float v,
                                             int columns, LossSums* sums) {
  const int lane = lane_of_thread();
  const float t = lane < columns ? args.targets[r * columns + lane] : 0.f;
  sums->loss += warp_sum(lane < columns ? MseLoss::fwd(v, t, 0.f) : 0.0);
  sums->count += columns;
  return MseLoss::bwd(v, t, 0.f);
}

// The outputs of a warp's rows are stored, and make room for the gradients of their sums.
template <int kRows>
__device__ __forceinline__ void tile_loss(const MlpStepArgs& args, int64_t first, float* shared,
                                          LossSums* sums) {
  const MlpLayer& layer = args.layers[args.num_layers - 1];
  const int out = whole_quads(layer.out), lane = lane_of_thread();
  for (int i = 0; i < kRows; ++i) {
    const int row = warp_of_thread() * kRows + i;
    const int64_t r = first + row;
    float* y = shared + layer.y_at + row * out;
    float dy[1] = {0.f};
    if (r < args.rows) {
      const float v = lane < layer.out ? y[lane] : 0.f;
      if (lane < layer.out) args.y[r * layer.out + lane] = v;
      const float saved[1] = {lane < layer.out ? shared[layer.z_at + row * out + lane] : 0.f};
      dy[0] = args.labels != nullptr ? row_cross_entropy(args, r, v, layer.out, sums)
                                     : row_squares(args, r, v, layer.out, sums);
      differentiate_all(layer.activation, dy, saved, layer.a, Activations{});
    }
    if (lane < out) y[lane] = lane < layer.out ? dy[0] : 0.f;
  }
}

// The sums of all warps, in their order.
__device__ __forceinline__ void store_losses(const MlpStepArgs& args, const LossSums& sums) {
  FASTNN_SHARED(double, part, 2 * kMlpWarps);
  if (lane_of_thread() == 0) {
    part[2 * warp_of_thread()] = sums.loss;
    part[2 * warp_of_thread() + 1] = sums.count;
  }
  __syncthreads();
  if (threadIdx.x != 0) return;
  LossSums total;
  for (int w = 0; w < kMlpWarps; ++w) total.loss += part[2 * w], total.count += part[2 * w + 1];
  args.losses[blockIdx.x] = total.loss;
  args.count[blockIdx.x] = total.count;
}

// kWidth: of the widest layer.
template <int kWidth, int kRows>
__global__ void __launch_bounds__(kMlpThreads, 1)
    mlp_step_kernel(const FASTNN_GRID_CONSTANT MlpStepArgs args) {
  constexpr int kCols = kWidth / kWarp, kSquares = kWidth / 64, kTileRows = kRows * kMlpWarps;
  FASTNN_DYNAMIC_SHARED(float, shared);
  float* sums = args.sums + int64_t{blockIdx.x} * args.num_sums;
  LossSums losses;
  if (args.keeps_weights)
    for (int i = 0; i < args.num_layers; ++i) load_weights(args.layers[i], shared);
  for (int64_t tile = blockIdx.x; tile * kTileRows < args.rows; tile += gridDim.x) {
    const int64_t first = tile * kTileRows;
    const MlpLayer& bottom = args.layers[0];
    load_rows(args.x + first * bottom.in, args.rows - first, bottom.in, shared + bottom.x_at,
              kTileRows, whole_quads(bottom.in));
    FASTNN_NO_UNROLL
    for (int i = 0; i < args.num_layers; ++i) {
      if (!args.keeps_weights) load_weights(args.layers[i], shared);
      __syncthreads();
      layer_forward<kRows, kCols>(args.layers[i], shared);
      __syncthreads();  // the weights have been used
    }
    tile_loss<kRows>(args, first, shared, &losses);
    FASTNN_NO_UNROLL
    for (int i = args.num_layers - 1; i >= 0; --i) {
      if (!args.keeps_weights && i > 0 && i < args.num_layers - 1)
        load_weights(args.layers[i], shared);
      __syncthreads();
      weight_gradients<kRows, kSquares>(args.layers[i], shared, sums, tile != blockIdx.x);
      __syncthreads();  // the layer's inputs have been used
      if (i > 0) layer_backward<kRows, kCols>(args.layers[i], args.layers[i - 1], shared);
      if (!args.keeps_weights) __syncthreads();
    }
  }
  store_losses(args, losses);
}

// Gradients: each quad of the blocks' sums by 8 threads, every 8th block each, then these in order.
inline constexpr int kSumQuads = kReduceThreads / kMlpWarps;

__device__ __forceinline__ void store_gradients(const MlpStepArgs& args, int32_t at,
                                                const double (&total)[4], double factor) {
  int i = args.num_layers - 1;
  while (at < args.layers[i].sum_at) --i;
  const MlpLayer& layer = args.layers[i];
  const int in = whole_quads(layer.in), place = at - layer.sum_at;
  const bool is_bias = place >= layer.out * in;
  const int row = is_bias ? 0 : place / in, c = is_bias ? place - layer.out * in : place % in;
  float* to = is_bias ? layer.db : layer.dw + row * layer.in;
  if (to == nullptr) return;
  FASTNN_UNROLL
  for (int q = 0; q < 4; ++q)
    if (c + q < (is_bias ? layer.out : layer.in)) to[c + q] = static_cast<float>(total[q] * factor);
}

__global__ void __launch_bounds__(kReduceThreads)
    mlp_sums_kernel(const FASTNN_GRID_CONSTANT MlpStepArgs args) {
  FASTNN_SHARED(double, part, 4 * kReduceThreads);
  const double divisor = args.mean ? combine(args.count, args.blocks) : 1.0;
  if (blockIdx.x == 0) {
    const double loss = combine(args.losses, args.blocks) / divisor;
    if (threadIdx.x == 0) {
      *args.loss = static_cast<float>(loss);
      if (!(*args.loss - *args.loss == 0.f) && is_ok(args.status))
        report(args.status, args.site, 0, DataError::kNanLoss);
    }
  }
  const int quad = static_cast<int>(threadIdx.x) % kSumQuads;
  const int group = static_cast<int>(threadIdx.x) / kSumQuads;
  const int32_t at = (static_cast<int32_t>(blockIdx.x) * kSumQuads + quad) * 4;
  double total[4] = {};
  if (at < args.num_sums) {
    FASTNN_UNROLL
    for (int b = 0; b < kMaxMlpBlocks / kMlpWarps; ++b) {
      const int64_t block = b * kMlpWarps + group;
      const float* from = args.sums + (block < args.blocks ? block : 0) * args.num_sums + at;
      const Quad v = quad_at(from);
      FASTNN_UNROLL
      for (int q = 0; q < 4; ++q)
        total[q] += block < args.blocks ? static_cast<double>(v.v[q]) : 0.0;
    }
  }
  FASTNN_UNROLL
  for (int q = 0; q < 4; ++q) part[q * kReduceThreads + threadIdx.x] = total[q];
  __syncthreads();
  if (group != 0 || at >= args.num_sums) return;
  FASTNN_UNROLL
  for (int q = 0; q < 4; ++q) {
    total[q] = 0;
    for (int g = 0; g < kMlpWarps; ++g) total[q] += part[q * kReduceThreads + g * kSumQuads + quad];
  }
  store_gradients(args, at, total, static_cast<double>(args.share) / divisor);
}

template <int kWidth, int kRows>
void launch_step(const MlpStepArgs& args, Slice s) {
  const size_t bytes = static_cast<size_t>(args.shared_floats) * sizeof(float);
  cudaFuncSetAttribute(mlp_step_kernel<kWidth, kRows>, cudaFuncAttributeMaxDynamicSharedMemorySize,
                       static_cast<int>(bytes));
  FASTNN_LAUNCH_SHARED((mlp_step_kernel<kWidth, kRows>), args.blocks, kMlpThreads, bytes, s.stream,
                       args);
}

void mlp_step(const MlpStepArgs& args, Slice s) {
  if (args.rows <= 0) return;
  int32_t width = 0;
  for (int i = 0; i < args.num_layers; ++i)
    width = static_cast<int32_t>(most(width, most(args.layers[i].in, args.layers[i].out)));
  if (width <= 64 && args.tile_rows == 32)
    launch_step<64, 4>(args, s);
  else if (args.tile_rows == 32)
    launch_step<128, 4>(args, s);
  else
    launch_step<128, 2>(args, s);
  FASTNN_LAUNCH(mlp_sums_kernel, ceil_div(args.num_sums, 4 * kSumQuads), kReduceThreads, s.stream,
                args);
}

}  // namespace

template <>
constinit const MlpKernels cuda::Table<MlpKernels>::of_dtype[kNumTableDTypes] = {
    {.mlp_step = mlp_step}, {}, {}, {}};

}  // namespace fastnn
