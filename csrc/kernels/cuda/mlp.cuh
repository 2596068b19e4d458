// The parts of mlp.cu: what a block does with one layer of a tile of rows. Its 8 warps share the
// rows, kRows each; a lane has every 32nd column. Buffers have rows of whole quads, the rest of a
// quad is zero, and so are the gradients of rows after the last. Invariant: every sum is that of
// one thread, in the order of its index.
#pragma once
#include "activation.cuh"
#include "chunk.cuh"

namespace fastnn {
namespace {

inline constexpr int kMlpThreads = 256, kMlpWarps = kMlpThreads / kWarp;

using Quad = Vec<float, 4>;
__device__ __forceinline__ const Quad& quad_at(const float* p) {
  return *reinterpret_cast<const Quad*>(p);
}
__device__ __forceinline__ int lane_of_thread() { return static_cast<int>(threadIdx.x) % kWarp; }
__device__ __forceinline__ int warp_of_thread() { return static_cast<int>(threadIdx.x) / kWarp; }

// `valid` rows of n floats, `rows` with zeros after them, to rows that are `stride` apart.
__device__ __forceinline__ void load_rows(const float* from, int64_t valid, int n, float* to,
                                          int rows, int stride) {
  const bool aligned = rows_aligned(from, n);
  const int quads = whole_quads(n) / 4;
  for (int e = static_cast<int>(threadIdx.x); e < rows * quads; e += kMlpThreads) {
    const int r = e / quads, c = e % quads * 4;
    const int left = r < valid ? n - c : 0;
    *reinterpret_cast<Quad*>(to + r * stride + c) =
        load<4>(from + (left > 0 ? int64_t{r} * n + c : 0), left, aligned);
  }
}
__device__ __forceinline__ void load_weights(const MlpLayer& layer, float* shared) {
  load_rows(layer.w, layer.out, layer.in, shared + layer.w_at, whole_quads(layer.out),
            weight_stride(layer.in));
}

// act(x w^T + b) of a warp's rows. Columns that there are not read the last row of weights.
template <int kRows, int kCols>
__device__ __forceinline__ void layer_forward(const MlpLayer& layer, float* shared) {
  const int in = whole_quads(layer.in), out = whole_quads(layer.out);
  const int lane = lane_of_thread(), row = warp_of_thread() * kRows;
  const float* x = shared + layer.x_at + row * in;
  const float* w[kCols];
  float sum[kRows * kCols];
  FASTNN_UNROLL
  for (int j = 0; j < kCols; ++j) {
    w[j] = shared + layer.w_at + at_most(lane + j * kWarp, out - 1) * weight_stride(layer.in);
    FASTNN_UNROLL
    for (int i = 0; i < kRows; ++i) sum[i * kCols + j] = 0.f;
  }
  FASTNN_NO_UNROLL
  for (int k = 0; k < in; k += 4) {
    Quad a[kRows];
    FASTNN_UNROLL
    for (int i = 0; i < kRows; ++i) a[i] = quad_at(x + i * in + k);
    FASTNN_UNROLL
    for (int j = 0; j < kCols; ++j) {
      if (j * kWarp >= out) break;
      const Quad b = quad_at(w[j] + k);
      FASTNN_UNROLL
      for (int i = 0; i < kRows; ++i) FASTNN_UNROLL
      for (int q = 0; q < 4; ++q) sum[i * kCols + j] = mad(a[i].v[q], b.v[q], sum[i * kCols + j]);
    }
  }
  const auto put = [&](float* to) {
    FASTNN_UNROLL
    for (int j = 0; j < kCols; ++j) {
      const int c = lane + j * kWarp;
      FASTNN_UNROLL
      for (int i = 0; i < kRows; ++i)
        if (c < out) to[(row + i) * out + c] = c < layer.out ? sum[i * kCols + j] : 0.f;
    }
  };
  FASTNN_UNROLL
  for (int j = 0; j < kCols; ++j) {
    const int c = lane + j * kWarp;
    const float bias = layer.b != nullptr && c < layer.out ? layer.b[c] : 0.f;
    FASTNN_UNROLL
    for (int i = 0; i < kRows; ++i) sum[i * kCols + j] += bias;
  }
  if (layer.saves_input) put(shared + layer.z_at);
  activate_all(layer.activation, sum, layer.a, Activations{});
  put(shared + layer.y_at);
}

// The gradient of the sums of the layer before, dy w act'(saved), from that of this layer's in its
// outputs' place, to the place of its inputs.
template <int kRows, int kCols>
__device__ __forceinline__ void layer_backward(const MlpLayer& layer, const MlpLayer& before,
                                               float* shared) {
  const int in = whole_quads(layer.in), out = whole_quads(layer.out);
  const int stride = weight_stride(layer.in);
  const int lane = lane_of_thread(), row = warp_of_thread() * kRows;
  const float* dy = shared + layer.y_at + row * out;
  const float* w[kCols];
  float sum[kRows * kCols];
  FASTNN_UNROLL
  for (int j = 0; j < kCols; ++j) {
    w[j] = shared + layer.w_at + at_most(lane + j * kWarp, in - 1);
    FASTNN_UNROLL
    for (int i = 0; i < kRows; ++i) sum[i * kCols + j] = 0.f;
  }
  FASTNN_NO_UNROLL
  for (int n = 0; n < out; n += 4) {
    Quad a[kRows];
    FASTNN_UNROLL
    for (int i = 0; i < kRows; ++i) a[i] = quad_at(dy + i * out + n);
    FASTNN_UNROLL
    for (int j = 0; j < kCols; ++j) {
      if (j * kWarp >= in) break;
      FASTNN_UNROLL
      for (int q = 0; q < 4; ++q) {
        const float b = w[j][(n + q) * stride];
        FASTNN_UNROLL
        for (int i = 0; i < kRows; ++i) sum[i * kCols + j] = mad(a[i].v[q], b, sum[i * kCols + j]);
      }
    }
  }
  float saved[kRows * kCols];
  FASTNN_UNROLL
  for (int j = 0; j < kCols; ++j) {
    const int c = lane + j * kWarp;
    FASTNN_UNROLL
    for (int i = 0; i < kRows; ++i)
      saved[i * kCols + j] = c < in ? shared[before.z_at + (row + i) * in + c] : 0.f;
  }
  differentiate_all(before.activation, sum, saved, before.a, Activations{});
  FASTNN_UNROLL
  for (int j = 0; j < kCols; ++j) {
    const int c = lane + j * kWarp;
    FASTNN_UNROLL
    for (int i = 0; i < kRows; ++i)
      if (c < in) shared[layer.x_at + (row + i) * in + c] = c < layer.in ? sum[i * kCols + j] : 0.f;
  }
}

// dw = dy^T x and db of a tile, to the block's sums or added to what is there. A thread has 4 x 4
// of dw, and those 64 rows or columns on.
template <int kRows, int kSquares>
__device__ __forceinline__ void weight_gradients(const MlpLayer& layer, const float* shared,
                                                 float* sums, bool add) {
  constexpr int kSide = 16, kTileRows = kRows * kMlpWarps;
  const int in = whole_quads(layer.in), out = whole_quads(layer.out);
  const float *dy = shared + layer.y_at, *x = shared + layer.x_at;
  const int n0 = static_cast<int>(threadIdx.x) / kSide * 4;
  const int k0 = static_cast<int>(threadIdx.x) % kSide * 4;
  FASTNN_UNROLL
  for (int h = 0; h < kSquares; ++h) {
    const int n = n0 + h * 4 * kSide;
    if (n >= out || k0 >= in) continue;
    float sum[kSquares][4][4] = {};
    FASTNN_NO_UNROLL
    for (int r = 0; r < kTileRows; ++r) {
      const Quad a = quad_at(dy + r * out + n);
      FASTNN_UNROLL
      for (int g = 0; g < kSquares; ++g) {
        if (g * 4 * kSide >= in) break;
        const Quad b = quad_at(x + r * in + at_most(k0 + g * 4 * kSide, in - 4));
        FASTNN_UNROLL
        for (int i = 0; i < 4; ++i) FASTNN_UNROLL
        for (int j = 0; j < 4; ++j) sum[g][i][j] = mad(a.v[i], b.v[j], sum[g][i][j]);
      }
    }
    FASTNN_UNROLL
    for (int g = 0; g < kSquares; ++g) {
      const int k = k0 + g * 4 * kSide;
      FASTNN_UNROLL
      for (int i = 0; i < 4; ++i) {
        if (k >= in || n + i >= layer.out) continue;
        auto* to = reinterpret_cast<Quad*>(sums + layer.sum_at + (n + i) * in + k);
        Quad total = add ? *to : Quad{};
        FASTNN_UNROLL
        for (int j = 0; j < 4; ++j) total.v[j] += sum[g][i][j];
        *to = total;
      }
    }
  }
  const int n = static_cast<int>(threadIdx.x);
  if (n >= out) return;
  float total = 0.f;
  for (int r = 0; r < kTileRows; ++r) total += dy[r * out + n];
  float* to = sums + layer.sum_at + layer.out * in + n;
  *to = add ? *to + total : total;
}

}  // namespace
}  // namespace fastnn
