// Batch, group and instance norm: statistics over planes (NCHW: a channel's data stays in the cache
// between the passes), and over columns for x [batch, channels] and channels-last. A statistic
// belongs to one task.
#pragma once
#include "../families/norm.h"
#include "norm_parts.h"

namespace fastnn {
namespace {

FASTNN_FN Planes planes_of(const auto& args) {
  return {args.batch, args.channels, args.size, args.groups};
}

// What one plane's elements have in common.
struct Normalizer {
  SplitMean mean;
  float rstd, w, b;
  FASTNN_FN float xhat(float x) const { return normalize(x, mean, rstd); }
  FASTNN_FN float operator()(int64_t, float x) const { return affine(xhat(x), w, b); }
};
template <class T>
FASTNN_FN Normalizer normalizer(const void* w, const void* b, int64_t channel, double mean,
                                float rstd) {
  return {split(mean), rstd, value_or(static_cast<const T*>(w), channel, 1.f),
          value_or(static_cast<const T*>(b), channel, 0.f)};
}

FASTNN_FN Statistics running_statistics(const ChannelNormFwdArgs& args, int64_t channel) {
  return {static_cast<double>(args.running_mean[channel]),
          static_cast<double>(args.running_var[channel])};
}

// ---- planes ---------------------------------------------------------------------------------
template <class T>
Statistics plane_statistics(const T* x, const Planes& p, int64_t s) {
  if (p.count * p.size == 0) return {0, 0};
  Moments m = Moments::of_row(to_float(x[p.offset(s, 0)]));
  for (int64_t plane = 0; plane < p.count; ++plane) add_row(m, x + p.offset(s, plane), p.size);
  return m.combined(static_cast<double>(p.count * p.size));
}

template <class T>
void plane_norm_fwd(const ChannelNormFwdArgs& args, Slice slice) {
  const Planes p = planes_of(args);
  const Epilogue epilogue(args.after);
  const Range range = elements(slice, p.per_task(), p.statistics);
  for (int64_t s = range.begin; s < range.end; ++s) {
    const Statistics stats = args.running_mean != nullptr
                                 ? Statistics{static_cast<double>(args.running_mean[s]),
                                              static_cast<double>(args.running_var[s])}
                                 : plane_statistics(static_cast<const T*>(args.x), p, s);
    args.mean[s] = stats.mean;
    args.var[s] = stats.var;
    const float rstd = reciprocal_std(stats.var, args.eps);
    for (int64_t plane = 0; plane < p.count; ++plane) {
      const auto f = normalizer<T>(args.w, args.b, p.channel(s, plane), stats.mean, rstd);
      const int64_t at = p.offset(s, plane);
      normalize_row(static_cast<const T*>(args.x) + at, static_cast<T*>(args.y) + at, p.size, at, f,
                    epilogue);
    }
  }
}

// Sums over a plane of dy and of dy xhat, dy before the activation.
struct PlaneSums {
  double d, dx;
};
template <class T>
PlaneSums plane_sums(const T* dy, const T* x, int64_t size, int64_t at, double mean,
                     const Normalizer& f, const Epilogue& epilogue) {
  GradientSums all;
  for_gradient_chunks(
      dy, x, size, at, f, epilogue,
      [&](int64_t, int64_t n, const T* v, const float* d) __attribute__((always_inline)) {
        GradientSums sums = all;  // in registers
        for_blocks(n, [&](int64_t i, int lanes) __attribute__((always_inline)) {
          sums.add(load_lanes(d + i, lanes, 0.f), load_lanes(v + i, lanes, 0.f) - Lanes(mean));
        });
        all = sums;
      });
  return {combine(all.dy), combine(all.dy_x) * static_cast<double>(f.rstd)};
}

// Sample 0 is the whole batch for batch norm.
inline void store_sums(const ChannelNormBwdArgs& args, int64_t sample, int64_t channel,
                       PlaneSums sums) {
  if (args.partials == nullptr) return;
  double* row = args.partials + sample * 2 * args.channels;
  row[channel] = sums.dx;
  row[args.channels + channel] = sums.d;
}

template <class T>
void plane_norm_bwd(const ChannelNormBwdArgs& args, Slice slice) {
  const Planes p = planes_of(args);
  const Epilogue epilogue(args.after);
  const Range range = elements(slice, p.per_task(), p.statistics);
  const auto* x = static_cast<const T*>(args.x);
  const auto* dy = static_cast<const T*>(args.dy);
  for (int64_t s = range.begin; s < range.end; ++s) {
    const float rstd = reciprocal_std(args.var[s], args.eps);
    const auto of_plane = [&](int64_t plane) {
      return normalizer<T>(args.w, args.b, p.channel(s, plane), args.mean[s], rstd);
    };
    PlaneSums means{0, 0}, channel{0, 0};
    for (int64_t plane = 0; plane < p.count; ++plane) {
      const Normalizer f = of_plane(plane);
      const int64_t at = p.offset(s, plane);
      const PlaneSums sums = plane_sums(dy + at, x + at, p.size, at, args.mean[s], f, epilogue);
      const double w = static_cast<double>(f.w);
      means = {means.d + w * sums.d, means.dx + w * sums.dx};
      channel = {channel.d + sums.d, channel.dx + sums.dx};
      if (p.groups > 0) store_sums(args, p.sample(s), p.channel(s, plane), sums);
    }
    if (p.groups == 0) store_sums(args, 0, s, channel);
    if (args.dx == nullptr) continue;
    const double scale = args.constant ? 0.0 : 1.0 / static_cast<double>(p.count * p.size);
    const auto mean_g = static_cast<float>(means.d * scale),
               mean_gx = static_cast<float>(means.dx * scale);
    for (int64_t plane = 0; plane < p.count; ++plane) {
      const Normalizer f = of_plane(plane);
      const int64_t at = p.offset(s, plane);
      T* dx = static_cast<T*>(args.dx) + at;
      for_gradient_chunks(dy + at, x + at, p.size, at, f, epilogue,
                          [&](int64_t i, int64_t n, const T* v, const float* d)
                              __attribute__((always_inline)) {
                                T* out = dx + i;
#pragma GCC ivdep
                                for (int64_t j = 0; j < n; ++j)
                                  out[j] = from_float<T>(normalize_dx(
                                      d[j] * f.w, f.xhat(to_float(v[j])), mean_g, mean_gx, f.rstd));
                              });
    }
  }
}

// ---- columns --------------------------------------------------------------------------------
// A task has kNormColumns columns, as strips of kBlockLanes. Sums of a strip are loaded for some
// rows at a time, which are in the first cache together. The second pass goes from the last row to
// the first: what was read last is the most likely to be in the cache still.
constexpr int kRowBlock = 4;
constexpr int kStrips = kNormColumns / kBlockLanes;
static_assert(kNormColumns <= kNormChunk);

// Calls use(first row, rows) for blocks of rows.
template <class F>
FASTNN_FN void for_row_blocks(int64_t batch, F use) {
  for (int64_t r = 0; r < batch; r += kRowBlock) use(r, least(kRowBlock, batch - r));
}

// The columns of one task, for both directions. Each `per` of them share a statistic, of which
// `statistic` is the first.
template <class T>
struct Columns {
  int64_t sample, first, rows, stride, per, statistic;
  int width;
  template <class Args>
  Columns(const Args& args, int64_t task) : stride(args.channels) {
    const ColumnTasks tasks(args.batch, args.channels, args.size, args.groups);
    sample = task / tasks.strips;
    first = task % tasks.strips * tasks.columns;
    rows = tasks.rows;
    per = tasks.per_statistic;
    statistic = (sample * stride + first) / per;
    width = static_cast<int>(least(args.channels - first, tasks.columns));
  }
  int64_t index(int64_t row) const { return (sample * rows + row) * stride + first; }
  const T* at(const void* x) const { return static_cast<const T*>(x) + index(0); }
  T* at(void* x) const { return static_cast<T*>(x) + index(0); }
};

// The columns of a task: Normalizers side by side.
struct ColumnNormalizers {
  double mean[kNormColumns] = {};
  float hi[kNormColumns] = {}, lo[kNormColumns] = {}, rstd[kNormColumns] = {}, w[kNormColumns] = {},
        b[kNormColumns] = {};
  // Of the columns that share statistic g of the task.
  template <class Args, class T>
  void set(const Args& args, const Columns<T>& columns, int64_t g, Statistics of) {
    const float of_std = reciprocal_std(of.var, args.eps);
    for (int64_t c = g * columns.per; c < (g + 1) * columns.per; ++c) {
      const auto f = normalizer<T>(args.w, args.b, columns.first + c, of.mean, of_std);
      mean[c] = of.mean;
      hi[c] = f.mean.hi;
      lo[c] = f.mean.lo;
      rstd[c] = f.rstd;
      w[c] = f.w;
      b[c] = f.b;
    }
  }
  FASTNN_FN float xhat(int64_t c, float x) const { return normalize(x, {hi[c], lo[c]}, rstd[c]); }
  FASTNN_FN float operator()(int64_t c, float x) const { return affine(xhat(c, x), w[c], b[c]); }
};

template <class T>
void column_statistics(const T* x, const Columns<T>& columns, Statistics (&stats)[kNormColumns]) {
  Moments moments[kStrips];
  for_blocks(columns.width, [&](int64_t c, int lanes) __attribute__((always_inline)) {
    float v[kBlockLanes];
    load_block(x + c, lanes, 0.f, v);
    moments[c / kBlockLanes] = Moments(v);
  });
  for_row_blocks(columns.rows, [&](int64_t first, int64_t rows) __attribute__((always_inline)) {
    const T* block = x + first * columns.stride;
    for_blocks(columns.width, [&](int64_t c, int lanes) __attribute__((always_inline)) {
      Moments m = moments[c / kBlockLanes];  // in registers
      for (int64_t r = 0; r < rows; ++r)
        m.add(load_lanes(block + r * columns.stride + c, lanes, 0.f));
      moments[c / kBlockLanes] = m;
    });
  });
  for (int c = 0; c < columns.width; ++c)
    stats[c] = moments[c / kBlockLanes].lane(c % kBlockLanes, static_cast<double>(columns.rows));
}

template <class T>
void column_norm_fwd(const ChannelNormFwdArgs& args, Slice s) {
  const Epilogue epilogue(args.after);
  for (int64_t task = s.begin; task < s.end; ++task) {
    const Columns<T> columns(args, task);
    const T* x = columns.at(args.x);
    T* y = columns.at(args.y);
    Statistics stats[kNormColumns] = {};
    if (args.running_mean == nullptr && columns.rows > 0) column_statistics(x, columns, stats);
    ColumnNormalizers f;
    for (int64_t g = 0; g < columns.width / columns.per; ++g) {
      const int64_t c = g * columns.per, at = columns.statistic + g;
      const Statistics of = args.running_mean != nullptr
                                ? running_statistics(args, columns.first + c)
                            : columns.per > 1 ? statistics_of(stats + c, columns.per)
                                              : stats[c];
      args.mean[at] = of.mean;
      args.var[at] = of.var;
      f.set(args, columns, g, of);
    }
    for (int64_t r = columns.rows; r-- > 0;)
      normalize_row(x + r * columns.stride, y + r * columns.stride, columns.width, columns.index(r),
                    f, epilogue);
  }
}

// The sums of a task's columns.
template <class T>
void column_sums(const T* dy, const T* x, const Columns<T>& columns, const ColumnNormalizers& f,
                 const Epilogue& epilogue, GradientSums (&sums)[kStrips]) {
  for_row_blocks(columns.rows, [&](int64_t first, int64_t rows) __attribute__((always_inline)) {
    const int64_t start = first * columns.stride;
    float buffer[kRowBlock][kNormChunk];
    const float* d[kRowBlock];
    for (int64_t r = 0; r < rows; ++r) {
      const int64_t at = start + r * columns.stride;
      d[r] = gradient_chunk(dy + at, x + at, 0, columns.width, columns.index(first + r), f,
                            epilogue, buffer[r]);
    }
    for_blocks(columns.width, [&](int64_t c, int lanes) __attribute__((always_inline)) {
      GradientSums strip = sums[c / kBlockLanes];  // in registers
      const Lanes centre = Lanes(f.mean + c);
      for (int64_t r = 0; r < rows; ++r)
        strip.add(load_lanes(d[r] + c, lanes, 0.f),
                  load_lanes(x + start + r * columns.stride + c, lanes, 0.f) - centre);
      sums[c / kBlockLanes] = strip;
    });
  });
}

// What the gradients of a task's columns have in common, and their sums for the parameters.
struct ColumnMeans {
  float g[kNormColumns] = {}, gx[kNormColumns] = {};
  template <class T>
  ColumnMeans(const ChannelNormBwdArgs& args, const Columns<T>& columns, const ColumnNormalizers& f,
              const GradientSums (&sums)[kStrips]) {
    const double scale =
        args.constant ? 0.0 : 1.0 / static_cast<double>(columns.rows * columns.per);
    for (int64_t first = 0; first < columns.width; first += columns.per) {
      PlaneSums means{0, 0};
      for (int64_t c = first; c < first + columns.per; ++c) {
        const GradientSums& sum = sums[c / kBlockLanes];
        const int lane = static_cast<int>(c % kBlockLanes);
        const PlaneSums of{sum.dy[lane], sum.dy_x[lane] * static_cast<double>(f.rstd[c])};
        const double w = static_cast<double>(f.w[c]);
        means = {means.d + w * of.d, means.dx + w * of.dx};
        store_sums(args, columns.sample, columns.first + c, of);
      }
      for (int64_t c = first; c < first + columns.per; ++c) {
        g[c] = static_cast<float>(means.d * scale);
        gx[c] = static_cast<float>(means.dx * scale);
      }
    }
  }
};

template <class T>
void column_norm_bwd(const ChannelNormBwdArgs& args, Slice s) {
  const Epilogue epilogue(args.after);
  for (int64_t task = s.begin; task < s.end; ++task) {
    const Columns<T> columns(args, task);
    const T *x = columns.at(args.x), *dy = columns.at(args.dy);
    ColumnNormalizers f;
    for (int64_t g = 0; g < columns.width / columns.per; ++g)
      f.set(args, columns, g, {args.mean[columns.statistic + g], args.var[columns.statistic + g]});
    GradientSums sums[kStrips];
    column_sums(dy, x, columns, f, epilogue, sums);
    const ColumnMeans mean(args, columns, f, sums);
    if (args.dx == nullptr) continue;
    for (int64_t r = columns.rows; r-- > 0;) {
      const int64_t at = r * columns.stride;
      T* dx = columns.at(args.dx) + at;
      for_gradient_chunks(
          dy + at, x + at, columns.width, columns.index(r), f, epilogue,
          [&](int64_t, int64_t n, const T* v, const float* d) __attribute__((always_inline)) {
#pragma GCC ivdep
            for (int64_t c = 0; c < n; ++c)
              dx[c] = from_float<T>(normalize_dx(d[c] * f.w[c], f.xhat(c, to_float(v[c])),
                                                 mean.g[c], mean.gx[c], f.rstd[c]));
          });
    }
  }
}

}  // namespace
}  // namespace fastnn
