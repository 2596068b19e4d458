// Convolution with one channel and one filter per group: every output has its few products to
// itself, so that a thread computes some outputs of one plane, and nothing goes through shared
// memory. The taps of neighbouring outputs are neighbours, which the L1 cache keeps.
#pragma once
#include "conv.cuh"

namespace fastnn {
namespace {

inline constexpr int kDepthwiseOuts = 4;  // of a thread, each of which takes a weight that it reads

// Blocks have `planes` planes of `lanes` threads, and of each a segment of the outputs.
struct DepthwiseJob {
  ConvArgs args;
  int64_t lanes, planes, segments;
  ConvRadix<int64_t, 2> outs;  // in planes of x and of y
};

// A thread's outputs of a plane: where they are, and what they read of a row of the kernel.
struct DepthwiseOuts {
  int64_t from[kDepthwiseOuts], to[kDepthwiseOuts];  // to: negative where there is none
  ConvTaps rows[kDepthwiseOuts], cols[kDepthwiseOuts];

  __device__ __forceinline__ DepthwiseOuts(const DepthwiseJob& job, int64_t out) {
    const ConvGrid& g = job.args.grid;
    ConvDigits<int64_t, 2> place(job.outs, out);
    FASTNN_UNROLL
    for (int r = 0; r < kDepthwiseOuts; ++r, out += job.lanes, place.next(job.outs)) {
      const bool has = out < g.out_size();
      from[r] = place.at[0] - g.h.pad * g.w.in - g.w.pad;
      to[r] = has ? place.at[1] : -1;
      rows[r] = has ? ConvTaps(g.h, place.outer * g.h.stride - g.h.pad) : ConvTaps();
      cols[r] = ConvTaps(g.w, place.inner * g.w.stride - g.w.pad);
    }
  }
};

// The sums of a kernel whose rows have kTaps taps, neighbours in x, and which is one chain.
template <class T, int kTaps>
__device__ __forceinline__ void sum_few_taps(const ConvGrid& g, const T* w, const T* x,
                                             const DepthwiseOuts& outs,
                                             float (&sum)[kDepthwiseOuts]) {
  const T* from[kDepthwiseOuts];
  uint32_t cols[kDepthwiseOuts];  // a bit per tap that is inside
  FASTNN_UNROLL
  for (int r = 0; r < kDepthwiseOuts; ++r) {
    from[r] = x + outs.from[r];
    cols[r] = ((1u << outs.cols[r].count) - 1) << outs.cols[r].begin;
    sum[r] = 0.f;
  }
  FASTNN_NO_UNROLL
  for (int32_t i = 0; i < g.h.taps; ++i) {
    float weights[kTaps], v[kDepthwiseOuts][kTaps];
    FASTNN_UNROLL
    for (int j = 0; j < kTaps; ++j) weights[j] = to_float(w[j]);
    FASTNN_UNROLL
    for (int r = 0; r < kDepthwiseOuts; ++r) {
      const uint32_t inside = outs.rows[r].has(i) ? cols[r] : 0;
      FASTNN_UNROLL
      for (int j = 0; j < kTaps; ++j) v[r][j] = inside >> j & 1 ? to_float(from[r][j]) : 0.f;
      from[r] += g.h.dilation * g.w.in;
    }
    FASTNN_UNROLL
    for (int r = 0; r < kDepthwiseOuts; ++r) {
      FASTNN_UNROLL
      for (int j = 0; j < kTaps; ++j) sum[r] = mad(weights[j], v[r][j], sum[r]);
    }
    w += kTaps;
  }
}

// Those of any kernel.
template <class T>
__device__ __forceinline__ void sum_taps(const ConvGrid& g, const T* w, const T* x,
                                         const DepthwiseOuts& outs, float (&sum)[kDepthwiseOuts]) {
  float chain[kDepthwiseOuts];
  FASTNN_UNROLL
  for (int r = 0; r < kDepthwiseOuts; ++r) chain[r] = sum[r] = 0.f;
  int32_t left = kGemmChain;
  for (int32_t i = 0; i < g.h.taps; ++i)
    for (int32_t j = 0; j < g.w.taps; ++j) {
      const T* from = x + i * g.h.dilation * g.w.in + int64_t{j} * g.w.dilation;
      const float weight = to_float(*w++);
      const bool last = --left == 0;
      FASTNN_UNROLL
      for (int r = 0; r < kDepthwiseOuts; ++r) {
        const bool inside = outs.rows[r].has(i) && outs.cols[r].has(j);
        chain[r] = mad(weight, inside ? to_float(from[outs.from[r]]) : 0.f, chain[r]);
        if (last) sum[r] += chain[r], chain[r] = 0.f;
      }
      if (last) left = kGemmChain;
    }
  FASTNN_UNROLL
  for (int r = 0; r < kDepthwiseOuts; ++r) sum[r] += chain[r];
}

// kTaps: 0 for any.
template <class T, int kTaps>
__global__ void __launch_bounds__(kConvThreads, 2) conv_depthwise_kernel(DepthwiseJob job) {
  FASTNN_SHARED(float, staged, kDepthwiseOuts* kConvThreads);
  const ConvArgs& args = job.args;
  const ConvGrid& g = args.grid;
  const auto* bias = static_cast<const T*>(args.bias);
  const int64_t planes = g.batch * g.groups, lane = threadIdx.x % job.lanes;
  for (int64_t task = blockIdx.x; task < ceil_div(planes, job.planes) * job.segments;
       task += gridDim.x) {
    const int64_t block = task / job.segments, segment = task - block * job.segments;
    const int64_t plane = block * job.planes + threadIdx.x / job.lanes, group = plane % g.groups;
    if (plane >= planes) continue;
    const DepthwiseOuts outs(job, segment * kDepthwiseOuts * job.lanes + lane);
    float sum[kDepthwiseOuts];
    const auto* w = static_cast<const T*>(args.w) + group * g.depth();
    const auto* x = static_cast<const T*>(args.x) + plane * g.in_size();
    if constexpr (kTaps > 0)
      sum_few_taps<T, kTaps>(g, w, x, outs, sum);
    else
      sum_taps(g, w, x, outs, sum);
    const int64_t first = plane * args.y_plane;
    float* own = staged + threadIdx.x;
    FASTNN_UNROLL
    for (int r = 0; r < kDepthwiseOuts; ++r) {
      if (bias != nullptr) sum[r] += to_float(bias[group]);
      if (args.z != nullptr && outs.to[r] >= 0)
        static_cast<T*>(args.z)[first + outs.to[r]] = from_float<T>(sum[r]);
      own[r * kConvThreads] = sum[r];
    }
    activate_shared(args, own, kDepthwiseOuts);
    FASTNN_UNROLL
    for (int r = 0; r < kDepthwiseOuts; ++r)
      if (outs.to[r] >= 0)
        static_cast<T*>(args.y)[first + outs.to[r]] = from_float<T>(own[r * kConvThreads]);
  }
}

template <class T, int kTaps>
void launch_depthwise(const DepthwiseJob& job, Slice s) {
  const ConvGrid& g = job.args.grid;
  FASTNN_LAUNCH((conv_depthwise_kernel<T, kTaps>),
                grid_for(ceil_div(g.batch * g.groups, job.planes) * job.segments), kConvThreads,
                s.stream, job);
}
template <class T>
void conv_depthwise(const ConvArgs& args, Slice s) {
  const ConvGrid& g = args.grid;
  int64_t lanes = 1;
  while (lanes < kConvThreads && lanes * kDepthwiseOuts < g.out_size()) lanes *= 2;
  const DepthwiseJob job{args, lanes, kConvThreads / lanes,
                         ceil_div(g.out_size(), lanes * kDepthwiseOuts),
                         out_radix(g, lanes).set(1, args.y_col, args.y_row, 0).set_step(lanes)};
  const int32_t taps = g.depth() <= kGemmChain && g.w.dilation == 1 ? g.w.taps : 0;
  if (taps == 3) return launch_depthwise<T, 3>(job, s);
  if (taps == 4) return launch_depthwise<T, 4>(job, s);
  if (taps == 5) return launch_depthwise<T, 5>(job, s);
  if (taps == 7) return launch_depthwise<T, 7>(job, s);
  launch_depthwise<T, 0>(job, s);
}

// ---- gradient of the weights -------------------------------------------------------------------
inline constexpr int kDepthwiseTaps = 9;  // summed at a time: dz is read once for a kernel of 3 x 3

// Sums of this thread's positions of a chunk, in chains of kGemmChain fma, added in float64.
template <class T>
__device__ __forceinline__ void sum_positions(const ConvWeightJob& job, const T* x, const T* dz,
                                              int64_t begin, int64_t end, int32_t count,
                                              const ConvTapPlace* taps,
                                              double (&sums)[kDepthwiseTaps]) {
  const ConvGrid& g = job.args.grid;
  float chain[kDepthwiseTaps];
  FASTNN_UNROLL
  for (int q = 0; q < kDepthwiseTaps; ++q) sums[q] = 0, chain[q] = 0.f;
  ConvOutDigits out(job.outs, begin);
  int32_t left = kGemmChain;
  for (int64_t n = begin; n < end; n += kConvThreads, out.next(job.outs)) {
    const int64_t top = out.outer * g.h.stride - g.h.pad, first = out.inner * g.w.stride - g.w.pad;
    const float d = to_float(dz[out.at[1]]);
    const bool last = --left == 0 || n + kConvThreads >= end;
    FASTNN_UNROLL
    for (int q = 0; q < kDepthwiseTaps; ++q) {
      if (q >= count) continue;
      const bool inside =
          is_inside(top + taps[q].y, g.h.in) && is_inside(first + taps[q].x, g.w.in);
      chain[q] = mad(d, inside ? to_float(x[out.at[0] + taps[q].at]) : 0.f, chain[q]);
      if (last) sums[q] += static_cast<double>(chain[q]), chain[q] = 0.f;
    }
    if (last) left = kGemmChain;
  }
}

template <class T>
__global__ void __launch_bounds__(kConvThreads) conv_depthwise_weight_kernel(ConvWeightJob job) {
  FASTNN_SHARED(ConvTapPlace, taps, kDepthwiseTaps);
  const ConvWeightArgs& args = job.args;
  const ConvGrid& g = args.grid;
  const int64_t outs = g.batch * g.out_size();
  for (int64_t task = blockIdx.x; task < args.chunks * g.groups; task += gridDim.x) {
    const int64_t chunk = task / g.groups, group = task - chunk * g.groups;
    const auto* x =
        static_cast<const T*>(args.x) + group * g.in_size() - g.h.pad * g.w.in - g.w.pad;
    const auto* dz = static_cast<const T*>(args.dz) + group * g.out_size();
    for (int64_t k = 0; k < g.depth(); k += kDepthwiseTaps) {
      // The last ones were read before group_sum() waited.
      if (threadIdx.x < kDepthwiseTaps) taps[threadIdx.x] = tap_place(job, k + threadIdx.x);
      __syncthreads();
      const auto count = static_cast<int32_t>(least(g.depth() - k, kDepthwiseTaps));
      double sums[kDepthwiseTaps];
      sum_positions(job, x, dz, conv_begin(outs, chunk, args.chunks) + threadIdx.x,
                    conv_begin(outs, chunk + 1, args.chunks), count, taps, sums);
      group_sum<kConvThreads>(sums);
      FASTNN_UNROLL
      for (int q = 0; q < kDepthwiseTaps; ++q)
        if (threadIdx.x == 0 && q < count) args.partials[task * g.depth() + k + q] = sums[q];
    }
  }
}

template <class T>
void conv_depthwise_weight(const ConvWeightArgs& args, Slice s) {
  const ConvWeightJob job{args, tap_radix(args.grid, 1), out_radix(args.grid, kConvThreads)};
  FASTNN_LAUNCH((conv_depthwise_weight_kernel<T>), grid_for(args.chunks * args.grid.groups),
                kConvThreads, s.stream, job);
}

}  // namespace
}  // namespace fastnn
