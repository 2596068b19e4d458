// Batch, group and instance norm: a block per statistic over planes, and a lane per column for x
// [batch, channels]. Statistics are float64 sums of x minus the first x (formulas/norm.h). The
// activation after a norm is an op of its own here.
#pragma once
#include "../formulas/norm.h"
#include "column.cuh"

namespace fastnn {
namespace {

// What one plane's elements have in common.
struct Normalizer {
  SplitMean mean;
  float rstd, w, b;
  __device__ __forceinline__ float xhat(float x) const { return normalize(x, mean, rstd); }
  __device__ __forceinline__ float operator()(float x) const { return affine(xhat(x), w, b); }
};
template <class T>
__device__ __forceinline__ float value_or(const void* x, int64_t i, float otherwise) {
  return x == nullptr ? otherwise : to_float(static_cast<const T*>(x)[i]);
}
template <class T>
__device__ __forceinline__ Normalizer normalizer(const void* w, const void* b, int64_t channel,
                                                 double mean, double var, float eps) {
  return {split(mean), reciprocal_std(var, eps), value_or<T>(w, channel, 1.f),
          value_or<T>(b, channel, 0.f)};
}
// One of the numbers, to be taken off before they are squared; an infinity would make the mean NaN.
__device__ __forceinline__ double shift_of(float x) {
  return x - x == 0.f ? static_cast<double>(x) : 0.0;
}
// Sample 0 is the whole batch for batch norm. sums: of dy, of dy xhat.
__device__ __forceinline__ void store_sums(const ChannelNormBwdArgs& args, int64_t sample,
                                           int64_t channel, const double* sums) {
  if (args.partials == nullptr) return;
  double* row = args.partials + sample * 2 * args.channels;
  row[channel] = sums[1];
  row[args.channels + channel] = sums[0];
}

// ---- planes: a block per statistic -------------------------------------------------------------
inline constexpr int kPlaneThreads = 256;

// Calls f(plane, i, left) for the vectors of the planes [first, first + count) of statistic s that
// this thread of a group of kThreads has: i is an offset into x.
template <class T, int kThreads = kPlaneThreads, class F>
__device__ __forceinline__ void each_of_planes(const Planes& p, int64_t s, int64_t first,
                                               int64_t count, F f) {
  const int64_t per_plane = ceil_div(p.size, kVec<T>);
  for (int64_t j = threadIdx.x % kThreads; j < count * per_plane; j += kThreads) {
    const int64_t plane = j / per_plane, i = (j - plane * per_plane) * kVec<T>;
    f(first + plane, p.offset(s, first + plane) + i, p.size - i);
  }
}

template <class T>
__device__ __forceinline__ Statistics plane_statistics(const T* x, const Planes& p, int64_t s,
                                                       bool aligned) {
  const double shift = shift_of(to_float(x[p.offset(s, 0)]));
  double sums[2] = {0, 0};
  each_of_planes<T>(p, s, 0, p.count, [&](int64_t, int64_t i, int64_t left) {
    const auto v = load<kVec<T>>(x + i, left, aligned);
    FASTNN_UNROLL
    for (int k = 0; k < kVec<T>; ++k) {
      const double d = k < left ? static_cast<double>(to_float(v.v[k])) - shift : 0.0;
      sums[0] += d;
      sums[1] += d * d;
    }
  });
  group_sum<kPlaneThreads>(sums);
  return statistics(shift, sums[0], sums[1], static_cast<double>(p.count * p.size));
}

template <class T>
__global__ void __launch_bounds__(kPlaneThreads, 1) plane_norm_fwd_kernel(ChannelNormFwdArgs args) {
  const Planes p(args.batch, args.channels, args.size, args.groups);
  const auto* x = static_cast<const T*>(args.x);
  auto* y = static_cast<T*>(args.y);
  const bool x_aligned = rows_aligned(x, p.size), y_aligned = rows_aligned(y, p.size);
  for (int64_t s = blockIdx.x; s < p.statistics; s += gridDim.x) {
    Statistics stats = {0, 0};
    if (args.running_mean != nullptr)
      stats = {static_cast<double>(args.running_mean[s]), static_cast<double>(args.running_var[s])};
    else if (p.count * p.size > 0)
      stats = plane_statistics(x, p, s, x_aligned);
    if (threadIdx.x == 0) {
      args.mean[s] = stats.mean;
      args.var[s] = stats.var;
    }
    each_of_planes<T>(p, s, 0, p.count, [&](int64_t plane, int64_t i, int64_t left) {
      const auto f =
          normalizer<T>(args.w, args.b, p.channel(s, plane), stats.mean, stats.var, args.eps);
      auto v = load<kVec<T>>(x + i, left, x_aligned);
      FASTNN_UNROLL
      for (int k = 0; k < kVec<T>; ++k) v.v[k] = from_float<T>(f(to_float(v.v[k])));
      store(y + i, v, left, y_aligned);
    });
  }
}

// Sums of dy and dy xhat over some planes of one channel, by a group of threads.
template <class T, int kThreads>
__device__ __forceinline__ void plane_sums(const ChannelNormBwdArgs& args, const Planes& p,
                                           int64_t s, int64_t first, int64_t count,
                                           const Normalizer& f, bool aligned, double (&sums)[2]) {
  const auto *x = static_cast<const T*>(args.x), *dy = static_cast<const T*>(args.dy);
  sums[0] = sums[1] = 0;
  each_of_planes<T, kThreads>(p, s, first, count, [&](int64_t, int64_t i, int64_t left) {
    const auto v = load<kVec<T>>(x + i, left, aligned), d = load<kVec<T>>(dy + i, left, aligned);
    FASTNN_UNROLL
    for (int k = 0; k < kVec<T>; ++k) {
      const double g = static_cast<double>(to_float(d.v[k]));
      sums[0] += g;
      sums[1] += k < left ? g * static_cast<double>(f.xhat(to_float(v.v[k]))) : 0.0;
    }
  });
  group_sum<kThreads>(sums);
}

// A statistic's planes are all of one channel for batch norm: the block adds them up together. Else
// each is of a channel of its own, and a warp's.
template <class T, int kThreads>
__global__ void __launch_bounds__(kPlaneThreads, 1) plane_norm_bwd_kernel(ChannelNormBwdArgs args) {
  const Planes p(args.batch, args.channels, args.size, args.groups);
  const auto *x = static_cast<const T*>(args.x), *dy = static_cast<const T*>(args.dy);
  auto* dx = static_cast<T*>(args.dx);
  const bool aligned = rows_aligned(x, p.size) && rows_aligned(dy, p.size);
  const bool dx_aligned = rows_aligned(dx, p.size);
  constexpr bool kTogether = kThreads == kPlaneThreads;
  constexpr int kGroups = kPlaneThreads / kThreads;
  const int64_t group = threadIdx.x / kThreads;
  const double scale = args.constant ? 0.0 : 1.0 / static_cast<double>(p.count * p.size);
  for (int64_t s = blockIdx.x; s < p.statistics; s += gridDim.x) {
    const auto of_plane = [&](int64_t plane) {
      return normalizer<T>(args.w, args.b, p.channel(s, plane), args.mean[s], args.var[s],
                           args.eps);
    };
    double means[2] = {0, 0};
    for (int64_t first = group; first < p.count; first += kTogether ? p.count : kGroups) {
      const Normalizer f = of_plane(first);
      double sums[2];
      plane_sums<T, kThreads>(args, p, s, first, kTogether ? p.count : 1, f, aligned, sums);
      if (threadIdx.x % kThreads == 0) {
        store_sums(args, p.sample(s), p.channel(s, first), sums);
        means[0] += static_cast<double>(f.w) * sums[0];
        means[1] += static_cast<double>(f.w) * sums[1];
      }
    }
    if (p.count == 0 && threadIdx.x == 0) store_sums(args, p.sample(s), p.channel(s, 0), means);
    group_sum<kPlaneThreads>(means);
    if (dx == nullptr) continue;
    const auto mean_g = static_cast<float>(means[0] * scale),
               mean_gx = static_cast<float>(means[1] * scale);
    each_of_planes<T>(p, s, 0, p.count, [&](int64_t plane, int64_t i, int64_t left) {
      const Normalizer f = of_plane(plane);
      const auto v = load<kVec<T>>(x + i, left, aligned), d = load<kVec<T>>(dy + i, left, aligned);
      Vec<T, kVec<T>> out;
      FASTNN_UNROLL
      for (int k = 0; k < kVec<T>; ++k)
        out.v[k] = from_float<T>(normalize_dx(to_float(d.v[k]) * f.w, f.xhat(to_float(v.v[k])),
                                              mean_g, mean_gx, f.rstd));
      store(dx + i, out, left, dx_aligned);
    });
  }
}

// ---- columns: a lane per statistic -------------------------------------------------------------
template <class T>
__global__ void __launch_bounds__(kColumnThreads, 1)
    column_norm_fwd_kernel(ChannelNormFwdArgs args) {
  FASTNN_SHARED(double, part, 2 * kColumnThreads);
  const auto* x = static_cast<const T*>(args.x);
  each_column(args.channels, [&](int64_t c, bool has, int64_t first) {
    Statistics stats = {0, 0};
    if (args.running_mean != nullptr) {
      if (has)
        stats = {static_cast<double>(args.running_mean[c]),
                 static_cast<double>(args.running_var[c])};
    } else if (args.batch > 0) {
      const double shift = has ? shift_of(to_float(x[c])) : 0.0;
      double sums[2] = {0, 0};
      for (int64_t r = first; has && r < args.batch; r += kColumnWarps) {
        const double d = static_cast<double>(to_float(x[r * args.channels + c])) - shift;
        sums[0] += d;
        sums[1] += d * d;
      }
      sum_over_warps(sums, part);
      stats = statistics(shift, sums[0], sums[1], static_cast<double>(args.batch));
    }
    if (!has) return;
    if (first == 0) {
      args.mean[c] = stats.mean;
      args.var[c] = stats.var;
    }
    const auto f = normalizer<T>(args.w, args.b, c, stats.mean, stats.var, args.eps);
    for (int64_t r = first; r < args.batch; r += kColumnWarps)
      static_cast<T*>(args.y)[r * args.channels + c] =
          from_float<T>(f(to_float(x[r * args.channels + c])));
  });
}

template <class T>
__global__ void __launch_bounds__(kColumnThreads, 1)
    column_norm_bwd_kernel(ChannelNormBwdArgs args) {
  FASTNN_SHARED(double, part, 2 * kColumnThreads);
  const auto *x = static_cast<const T*>(args.x), *dy = static_cast<const T*>(args.dy);
  const double scale = args.constant ? 0.0 : 1.0 / static_cast<double>(args.batch);
  each_column(args.channels, [&](int64_t c, bool has, int64_t first) {
    Normalizer f = {};
    if (has) f = normalizer<T>(args.w, args.b, c, args.mean[c], args.var[c], args.eps);
    double sums[2] = {0, 0};
    for (int64_t r = first; has && r < args.batch; r += kColumnWarps) {
      const int64_t i = r * args.channels + c;
      const double g = static_cast<double>(to_float(dy[i]));
      sums[0] += g;
      sums[1] += g * static_cast<double>(f.xhat(to_float(x[i])));
    }
    sum_over_warps(sums, part);
    if (!has) return;
    if (first == 0) store_sums(args, 0, c, sums);
    if (args.dx == nullptr) return;
    const double w = static_cast<double>(f.w);
    const auto mean_g = static_cast<float>(w * sums[0] * scale),
               mean_gx = static_cast<float>(w * sums[1] * scale);
    for (int64_t r = first; r < args.batch; r += kColumnWarps) {
      const int64_t i = r * args.channels + c;
      static_cast<T*>(args.dx)[i] = from_float<T>(
          normalize_dx(to_float(dy[i]) * f.w, f.xhat(to_float(x[i])), mean_g, mean_gx, f.rstd));
    }
  });
}

template <class T>
void plane_norm_fwd(const ChannelNormFwdArgs& args, Slice s) {
  const Planes p(args.batch, args.channels, args.size, args.groups);
  if (p.statistics > 0)
    FASTNN_LAUNCH(plane_norm_fwd_kernel<T>, grid_for(p.statistics), kPlaneThreads, s.stream, args);
}
template <class T>
void plane_norm_bwd(const ChannelNormBwdArgs& args, Slice s) {
  const Planes p(args.batch, args.channels, args.size, args.groups);
  if (p.statistics <= 0) return;
  if (args.groups == 0)
    FASTNN_LAUNCH((plane_norm_bwd_kernel<T, kPlaneThreads>), grid_for(p.statistics), kPlaneThreads,
                  s.stream, args);
  else
    FASTNN_LAUNCH((plane_norm_bwd_kernel<T, kWarp>), grid_for(p.statistics), kPlaneThreads,
                  s.stream, args);
}
template <class T>
void column_norm_fwd(const ChannelNormFwdArgs& args, Slice s) {
  if (args.channels > 0)
    FASTNN_LAUNCH(column_norm_fwd_kernel<T>, column_grid(args.channels), kColumnThreads, s.stream,
                  args);
}
template <class T>
void column_norm_bwd(const ChannelNormBwdArgs& args, Slice s) {
  if (args.channels > 0)
    FASTNN_LAUNCH(column_norm_bwd_kernel<T>, column_grid(args.channels), kColumnThreads, s.stream,
                  args);
}

// ---- running statistics ------------------------------------------------------------------------
__global__ void __launch_bounds__(kPlaneThreads, 1) running_stats_kernel(RunningStatsArgs args) {
  if (args.count != nullptr && threadIdx.x == 0) ++*args.count;
  __syncthreads();
  const double momentum =
      args.momentum < 0 ? 1.0 / static_cast<double>(*args.count) : args.momentum;
  const double n = static_cast<double>(args.n), samples = static_cast<double>(args.samples);
  const auto update = [=](float& running, double value) {
    running = static_cast<float>((1 - momentum) * static_cast<double>(running) +
                                 momentum * (value / samples));
  };
  for (int64_t c = threadIdx.x; c < args.channels; c += kPlaneThreads) {
    double mean = 0, var = 0;
    for (int64_t i = 0; i < args.samples; ++i) {
      mean += args.mean[i * args.channels + c];
      var += args.var[i * args.channels + c] * (n / (n - 1));
    }
    update(args.running_mean[c], mean);
    update(args.running_var[c], var);
  }
}
inline void running_stats(const RunningStatsArgs& args, Slice s) {
  FASTNN_LAUNCH(running_stats_kernel, 1, kPlaneThreads, s.stream, args);
}

}  // namespace
}  // namespace fastnn
