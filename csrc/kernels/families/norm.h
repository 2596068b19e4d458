// Normalisation. Tasks: chunks of rows, of statistics (Planes) or of columns.
#pragma once
#include "../formulas/dropout.h"
#include "../kernel.h"
#include "random.h"

namespace fastnn {

// What follows the norm: an activation, by its index in Activations, and dropout. 0, the identity,
// and no draw cost nothing. Only the CPU's kernels know them: elsewhere they are ops of their own.
struct NormEpilogue {
  int32_t activation;
  float activation_param;
  const RngDraw* draw;  // null without dropout
  Keep keep;
};

struct LayerNormFwdArgs {
  const void *x, *w, *b;
  void* y;
  double* mean;  // float64, since at an offset of 1e8 a rounded mean is off by whole standard
                 // deviations; 0 for rms_norm
  float* rstd;
  int64_t rows, cols;
  float eps;
  NormEpilogue after = {};
};
struct LayerNormBwdArgs {
  const void *dy, *x, *w;
  const double* mean;
  const float* rstd;
  void* dx;          // may be null
  double* partials;  // [tasks, 2, cols] of dw and db, or null
  void *dw, *db;     // written by the second phase, either may be null
  int64_t rows, cols;
  const void* b = nullptr;  // for the activation's input, computed again
  NormEpilogue after = {};
};

// Columns of x [batch, channels] per task: rows of that many are read as streams, while those of a
// few cache lines, a power of two apart, would compete for the same places in the cache.
inline constexpr int64_t kNormColumns = 256;

// x is [batch, channels, size], and weight and bias are per channel. A statistic is over a channel
// of the whole batch (groups == 0: batch norm), or over one of `groups` runs of channels of a
// sample (group norm; groups == channels: instance norm). Either way it is over `count` planes of
// `size` elements, at a fixed distance.
struct Planes {
  int64_t statistics, count, size;
  int64_t groups, first_step, step;  // in elements: from a statistic, or plane, to the next
  constexpr Planes(int64_t batch, int64_t channels, int64_t plane_size, int64_t per_sample)
      : statistics(per_sample > 0 ? batch * per_sample : channels),
        count(per_sample > 0 ? channels / per_sample : batch),
        size(plane_size),
        groups(per_sample),
        first_step(per_sample > 0 ? count * size : size),
        step(per_sample > 0 ? size : channels * size) {}
  constexpr int64_t per_task() const { return rows_per_task(count * size); }
  constexpr int64_t tasks() const { return ceil_div(statistics, per_task()); }
  constexpr int64_t offset(int64_t statistic, int64_t plane) const {
    return statistic * first_step + plane * step;
  }
  constexpr int64_t channel(int64_t statistic, int64_t plane) const {
    return groups > 0 ? statistic % groups * count + plane : statistic;
  }
  constexpr int64_t sample(int64_t statistic) const { return groups > 0 ? statistic / groups : 0; }
};

// The same with the channels last: columns. A task has whole groups of at most kNormColumns columns
// of one sample, or for batch norm of all samples, whose places are its rows.
struct ColumnTasks {
  int64_t per_statistic, columns, strips, samples, rows;
  constexpr ColumnTasks(int64_t batch, int64_t channels, int64_t plane_size, int64_t groups)
      : per_statistic(groups > 0 && channels > 0 ? channels / groups : 1),
        columns(kNormColumns / per_statistic * per_statistic),
        strips(ceil_div(channels, columns)),
        samples(groups > 0 ? batch : 1),
        rows(groups > 0 ? plane_size : batch * plane_size) {}
  constexpr int64_t tasks() const { return samples * strips; }
};

struct ChannelNormFwdArgs {
  const void *x, *w, *b;
  void* y;
  double *mean, *var;                       // of each statistic, for backward
  const float *running_mean, *running_var;  // used instead of those of x, or null
  int64_t batch, channels, size, groups;
  float eps;
  NormEpilogue after;
};
struct ChannelNormBwdArgs {
  const void *dy, *x, *w, *b;
  const double *mean, *var;
  void* dx;          // may be null
  double* partials;  // [batch, 2, channels] of dw and db, [1, 2, channels] for batch norm
  void *dw, *db;     // written by the second phase, either may be null
  int64_t batch, channels, size, groups;
  float eps;
  bool constant;  // the statistics do not depend on x
  NormEpilogue after;
};

// running = (1 - momentum) running + momentum statistic, the mean over `samples` of them; the
// variance of n elements as n / (n - 1) of itself. The count lives in memory, so that a replayed
// step counts; it is the momentum's denominator where that is negative.
struct RunningStatsArgs {
  const double *mean, *var;  // [samples, channels]
  float *running_mean, *running_var;
  int64_t* count;  // may be null
  int64_t samples, channels, n;
  double momentum;
};

struct NormKernels {
  Kernel<LayerNormFwdArgs> layer_norm_fwd, rms_norm_fwd;
  Kernel<LayerNormBwdArgs> layer_norm_bwd, rms_norm_bwd, layer_norm_bwd_params;
  Kernel<ChannelNormFwdArgs> plane_norm_fwd, column_norm_fwd;
  Kernel<ChannelNormBwdArgs> plane_norm_bwd, column_norm_bwd, channel_norm_bwd_params;
  Kernel<RunningStatsArgs> running_stats;
};

}  // namespace fastnn
