// Convolution and its gradients as products of tiles: weights [filters, k] by taps [k, positions]
// of all images, and for the weights' gradient dz [filters, positions] by taps [positions, k]. With
// a channel and a filter per group a product would be one row: conv_depthwise.cuh.
#pragma once
#include "activation.cuh"
#include "conv_tile.cuh"

namespace fastnn {
namespace {

// ---- forward, and gradient of the input --------------------------------------------------------
struct ConvJob {
  ConvArgs args;
  ConvTapRadix taps;
  ConvRadix<int64_t, 2> outs;  // in x and in y
};
template <int kCols>
ConvJob conv_job(const ConvArgs& args) {
  constexpr int kSize = ConvLine<kCols>::kSize;
  return {args, tap_radix(args.grid, kConvThreads / kSize),
          out_radix(args.grid, 1)
              .set(1, args.y_col, args.y_row, args.grid.groups * args.grid.filters * args.y_plane)};
}

// Strips of the weights, whose rows are along k, and of what a column of outputs reads. Lanes go
// along k in the first and along the outputs in the second: both are neighbours in memory. What is
// fetched is converted when it is put, since it has not come yet.
template <class T, int kRows, int kCols>
struct ConvSource {
  using Rows = ConvLine<kRows>;
  using Cols = ConvLine<kCols>;
  static constexpr int kStep = kConvThreads / Cols::kSize;  // of k, from one fetch of x to the next

  const ConvJob& job;
  const T *w, *x;  // of this thread: at its row and k; at its output's first tap, less pads
  int32_t rows;    // that w has for this thread
  int64_t left;    // of k, from the next strip on
  ConvTaps tap_rows, tap_cols;
  ConvTapDigits k;
  T u[kRows], v[kCols];

  __device__ __forceinline__ void fetch() {
    const ConvGrid& g = job.args.grid;
    const int t = static_cast<int>(threadIdx.x);
    FASTNN_UNROLL
    for (int i = 0; i < kRows; ++i)
      u[i] = i < rows && t % kConvDepth < left ? w[i * kConvSide * g.depth()] : from_float<T>(0.f);
    FASTNN_UNROLL
    for (int n = 0; n < kCols; ++n) {
      const bool inside =
          t / Cols::kSize + n * kStep < left && tap_rows.has(k.outer) && tap_cols.has(k.inner);
      v[n] = inside ? x[k.at[0]] : from_float<T>(0.f);
      k.next(job.taps);
    }
    w += kConvDepth, left -= kConvDepth;
  }
  __device__ __forceinline__ void put(float* a, float* b) const {
    const int t = static_cast<int>(threadIdx.x);
    FASTNN_UNROLL
    for (int i = 0; i < kRows; ++i)
      a[t % kConvDepth * Rows::kPitch + t / kConvDepth + i * kConvSide] = to_float(u[i]);
    FASTNN_UNROLL
    for (int n = 0; n < kCols; ++n)
      b[(t / Cols::kSize + n * kStep) * Cols::kPitch + t % Cols::kSize] = to_float(v[n]);
  }
};

// y or z of this thread's part. Four outputs are one access where they are neighbours.
template <class T, class Part>
__device__ __forceinline__ void store_part(const ConvArgs& args, const Part& part, T* y,
                                           const int64_t* places, int rows) {
  const ConvGrid& g = args.grid;
  const bool together = args.y_col == 1 && args.y_row == g.w.out && g.out_size() % 4 == 0 &&
                        args.y_plane % 4 == 0 && is_aligned(y);
  FASTNN_UNROLL
  for (int i = 0; i < Part::kRows; ++i) {
    if (Part::row(i) >= rows) continue;
    T* to = y + Part::row(i) * args.y_plane;
    FASTNN_UNROLL
    for (int j = 0; j < Part::kCols; j += 4) {
      const int64_t* at = places + Part::col(j);  // negative: there is no such output
      Vec<T, 4> v;
      FASTNN_UNROLL
      for (int n = 0; n < 4; ++n) v.v[n] = from_float<T>(part.sum(i, j + n));
      if (together && at[0] >= 0) *reinterpret_cast<Vec<T, 4>*>(to + at[0]) = v;
      FASTNN_UNROLL
      for (int n = 0; n < 4; ++n)
        if (!together && at[n] >= 0) to[at[n]] = v.v[n];
    }
  }
}

// act(x) of `count` values in shared memory, kConvThreads apart: one by one, so that the choice of
// act is one text, not one per value.
__device__ __forceinline__ void activate_shared(const ConvArgs& args, float* x, int count) {
  if (args.activation == 0) return;
  FASTNN_NO_UNROLL
  for (int e = 0; e < count * kConvThreads; e += kConvThreads)
    x[e] = activate(args.activation, x[e], args.activation_param, Activations{});
}

// Everything after the sums.
template <class T, class Part>
__device__ __forceinline__ void finish_conv(const ConvArgs& args, int64_t filter, int rows,
                                            const int64_t* places, const Part& part) {
  const auto* bias = static_cast<const T*>(args.bias);
  if (bias != nullptr)
    Part::each([&](int i, int j) {
      if (Part::row(i) < rows) part.sum(i, j) += to_float(bias[filter + Part::row(i)]);
    });
  const int64_t from = filter * args.y_plane;
  if (args.z != nullptr) store_part(args, part, static_cast<T*>(args.z) + from, places, rows);
  activate_shared(args, part.sums, Part::kRows * Part::kCols);
  store_part(args, part, static_cast<T*>(args.y) + from, places, rows);
}

template <class T, int kRows, int kCols>
__global__ void __launch_bounds__(kConvThreads, 2) conv_kernel(ConvJob job) {
  using Part = ConvPart<kRows, kCols, float>;
  using Rows = typename Part::Rows;
  using Cols = typename Part::Cols;
  FASTNN_SHARED(float, a, (kConvDepth * Rows::kPitch));
  FASTNN_SHARED(float, b, (kConvDepth * Cols::kPitch));
  FASTNN_SHARED(float, sums, Part::kSums);
  FASTNN_SHARED(int64_t, places, Cols::kSize);  // of the tile's outputs in y
  const ConvArgs& args = job.args;
  const ConvGrid& g = args.grid;
  const int t = static_cast<int>(threadIdx.x);
  const int64_t outs = g.batch * g.out_size(), depth = g.depth();
  const int64_t down = ceil_div(g.filters, Rows::kSize), tiles = down * ceil_div(outs, Cols::kSize);
  for (int64_t tile = blockIdx.x; tile < g.groups * tiles; tile += gridDim.x) {
    const int64_t group = tile / tiles, at = tile - group * tiles, across = at / down;
    const int64_t row = (at - across * down) * Rows::kSize, col = across * Cols::kSize;
    const int64_t filter = group * g.filters + row, out = col + t % Cols::kSize;
    const ConvOutDigits place(job.outs, out);
    const int64_t y = place.outer * g.h.stride - g.h.pad, x = place.inner * g.w.stride - g.w.pad;
    const bool has = out < outs;
    const auto rows = static_cast<int32_t>(least(g.filters - row, Rows::kSize));
    __syncthreads();  // the last tile's places have been read
    if (t < Cols::kSize) places[t] = has ? place.at[1] : -1;
    const int own_k = t % kConvDepth, own_row = t / kConvDepth, first = t / Cols::kSize;
    ConvSource<T, kRows, kCols> source{
        .job = job,
        .w = static_cast<const T*>(args.w) + (filter + own_row) * depth + own_k,
        .x = static_cast<const T*>(args.x) + group * g.channels * g.in_size() + place.at[0] -
             g.h.pad * g.w.in - g.w.pad,
        .rows = (rows - own_row + kConvSide - 1) / kConvSide,
        .left = depth,
        .tap_rows = has ? ConvTaps(g.h, y) : ConvTaps(),
        .tap_cols = has ? ConvTaps(g.w, x) : ConvTaps(),
        .k = ConvTapDigits(job.taps, first)};
    Part part(sums);
    part.sum_strips(source, depth, a, b);
    __syncthreads();  // places have been written
    finish_conv<T>(args, filter, rows, places, part);
  }
}

template <class T, int kRows, int kCols>
void launch_conv(const ConvArgs& args, Slice s) {
  const ConvGrid& g = args.grid;
  const int64_t tiles = g.groups * ceil_div(g.filters, kRows * kConvSide) *
                        ceil_div(g.batch * g.out_size(), kCols * kConvSide);
  FASTNN_LAUNCH((conv_kernel<T, kRows, kCols>), grid_for(tiles), kConvThreads, s.stream,
                conv_job<kCols>(args));
}

// A tile as high as the filters, or smaller ones where large ones would not go round.
template <class T>
void conv_tiles(const ConvArgs& args, Slice s) {
  const ConvGrid& g = args.grid;
  const int64_t large = g.groups * ceil_div(g.filters, 64) * ceil_div(g.batch * g.out_size(), 128);
  constexpr int64_t kEnough = 128;
  if (g.filters <= kConvSide) return launch_conv<T, 1, 8>(args, s);
  if (large < kEnough) return launch_conv<T, 2, 4>(args, s);
  if (g.filters <= 2 * kConvSide) return launch_conv<T, 2, 8>(args, s);
  launch_conv<T, 4, 8>(args, s);
}

// ---- gradient of the weights -------------------------------------------------------------------
struct ConvWeightJob {
  ConvWeightArgs args;
  ConvTapRadix taps;
  ConvOutRadix outs;
};
// How far a tap is from an output's first: in x, and along both axes.
struct ConvTapPlace {
  int64_t at;
  int32_t y, x;
};
__device__ __forceinline__ ConvTapPlace tap_place(const ConvWeightJob& job, int64_t k) {
  const ConvTapDigits tap(job.taps, k);
  const ConvGrid& g = job.args.grid;
  return {tap.at[0], tap.outer * g.h.dilation, tap.inner * g.w.dilation};
}

// Strips of dz and of the taps, lanes along the positions in both.
template <class T, int kRows, int kCols>
struct ConvWeightSource {
  using Rows = ConvLine<kRows>;
  using Cols = ConvLine<kCols>;

  const ConvWeightJob& job;
  const T *dz, *x;
  const ConvTapPlace* taps;  // of this thread's first k
  int32_t rows, cols;        // that there are for this thread
  int64_t left;              // positions, from this thread's on
  ConvOutDigits out;
  T u[kRows], v[kCols];

  __device__ __forceinline__ void fetch() {
    const ConvGrid& g = job.args.grid;
    const T zero = from_float<T>(0.f);
    FASTNN_UNROLL
    for (int i = 0; i < kRows; ++i)
      u[i] = i < rows && left > 0 ? dz[out.at[1] + i * kConvSide * g.out_size()] : zero;
    const int64_t y = out.outer * g.h.stride - g.h.pad, x_at = out.inner * g.w.stride - g.w.pad;
    FASTNN_UNROLL
    for (int j = 0; j < kCols; ++j) {
      const ConvTapPlace& tap = taps[j * kConvSide];
      const bool inside =
          j < cols && left > 0 && is_inside(y + tap.y, g.h.in) && is_inside(x_at + tap.x, g.w.in);
      v[j] = inside ? x[out.at[0] + tap.at] : zero;
    }
    out.next(job.outs), left -= kConvDepth;
  }
  __device__ __forceinline__ void put(float* a, float* b) const {
    const int t = static_cast<int>(threadIdx.x), p = t % kConvDepth, own = t / kConvDepth;
    FASTNN_UNROLL
    for (int i = 0; i < kRows; ++i) a[p * Rows::kPitch + own + i * kConvSide] = to_float(u[i]);
    FASTNN_UNROLL
    for (int j = 0; j < kCols; ++j) b[p * Cols::kPitch + own + j * kConvSide] = to_float(v[j]);
  }
};

template <class T, int kRows, int kCols>
__global__ void __launch_bounds__(kConvThreads, 2) conv_weight_kernel(ConvWeightJob job) {
  using Part = ConvPart<kRows, kCols, double>;
  using Rows = typename Part::Rows;
  using Cols = typename Part::Cols;
  FASTNN_SHARED(float, a, (kConvDepth * Rows::kPitch));
  FASTNN_SHARED(float, b, (kConvDepth * Cols::kPitch));
  FASTNN_SHARED(double, sums, Part::kSums);
  FASTNN_SHARED(ConvTapPlace, taps, Cols::kSize);
  const ConvWeightArgs& args = job.args;
  const ConvGrid& g = args.grid;
  const int t = static_cast<int>(threadIdx.x), own = t / kConvDepth;
  const int64_t units = ceil_div(g.batch * g.out_size(), kConvDepth), depth = g.depth();
  const int64_t down = ceil_div(g.filters, Rows::kSize), across = ceil_div(depth, Cols::kSize);
  const int64_t tiles = g.groups * down * across;
  for (int64_t task = blockIdx.x; task < args.chunks * tiles; task += gridDim.x) {
    const int64_t chunk = task / tiles, tile = task - chunk * tiles, at = tile / across;
    const int64_t group = at / down, row = (at - group * down) * Rows::kSize;
    const int64_t k = (tile - at * across) * Cols::kSize;
    const int64_t begin = conv_begin(units, chunk, args.chunks) * kConvDepth;
    const int64_t end =
        least(g.batch * g.out_size(), conv_begin(units, chunk + 1, args.chunks) * kConvDepth);
    // The last tile's were read before the last strips were multiplied, so before a barrier.
    if (t < Cols::kSize) taps[t] = tap_place(job, k + t);
    __syncthreads();
    const int64_t position = begin + t % kConvDepth, filter = group * g.filters + row;
    const auto for_this = [&](int64_t n, int64_t size) {
      return static_cast<int32_t>(ceil_div(most(least(n, size) - own, 0), kConvSide));
    };
    ConvWeightSource<T, kRows, kCols> source{
        .job = job,
        .dz = static_cast<const T*>(args.dz) + (filter + own) * g.out_size(),
        .x = static_cast<const T*>(args.x) + group * g.channels * g.in_size() - g.h.pad * g.w.in -
             g.w.pad,
        .taps = taps + own,
        .rows = for_this(g.filters - row, Rows::kSize),
        .cols = for_this(depth - k, Cols::kSize),
        .left = end - position,
        .out = ConvOutDigits(job.outs, position)};
    Part part(sums);
    part.sum_strips(source, end - begin, a, b);
    double* to = args.partials + (chunk * g.groups * g.filters + filter) * depth + k;
    Part::each([&](int i, int j) {
      if (Part::row(i) < g.filters - row && Part::col(j) < depth - k)
        to[Part::row(i) * depth + Part::col(j)] = part.sum(i, j);
    });
  }
}

template <class T, int kRows, int kCols>
void launch_conv_weight(const ConvWeightArgs& args, Slice s) {
  const ConvGrid& g = args.grid;
  const int64_t tiles = args.chunks * g.groups * ceil_div(g.filters, kRows * kConvSide) *
                        ceil_div(g.depth(), kCols * kConvSide);
  if (tiles <= 0) return;
  const ConvWeightJob job{args, tap_radix(g, 1), out_radix(g, kConvDepth)};
  FASTNN_LAUNCH((conv_weight_kernel<T, kRows, kCols>), grid_for(tiles), kConvThreads, s.stream,
                job);
}
template <class T>
void conv_weight_tiles(const ConvWeightArgs& args, Slice s) {
  if (args.grid.filters <= kConvSide) return launch_conv_weight<T, 1, 4>(args, s);
  launch_conv_weight<T, 4, 4>(args, s);
}

}  // namespace
}  // namespace fastnn
