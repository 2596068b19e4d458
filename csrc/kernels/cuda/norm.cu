// Layer and RMS norm: statistics in float64, by a warp or a block per row. Rows of up to a few
// thousand columns stay in registers between the passes, longer ones are read again. The
// parameters' gradients are partial sums per task, in float64, added in order by a second phase;
// the tasks are those of the CPU (rows_per_task), so no result depends on the device's size.
#include "../formulas/norm.h"
#include "channel_norm.cuh"
#include "column.cuh"
#include "row.cuh"

namespace fastnn {
namespace {

struct LayerNorm {
  static constexpr bool kCentred = true;
};
// The second moment in the variance's place, and no mean.
struct RmsNorm {
  static constexpr bool kCentred = false;
};

// ---- forward -----------------------------------------------------------------------------------
template <class Norm, class T, int kThreads, int kVecs>
__global__ void __launch_bounds__(kThreads > kRowThreads ? kThreads : kRowThreads)
    row_norm_fwd_kernel(LayerNormFwdArgs args) {
  using Columns = Row<T, kThreads, kVecs>;
  constexpr int kCount = kVec<T>;
  const int64_t cols = args.cols;
  const auto* x = static_cast<const T*>(args.x);
  const auto* w = static_cast<const T*>(args.w);
  const auto* b = static_cast<const T*>(args.b);
  auto* y = static_cast<T*>(args.y);
  const bool x_aligned = rows_aligned(x, cols), y_aligned = rows_aligned(y, cols);
  const bool w_aligned = is_aligned(w), b_aligned = is_aligned(b);
  const int64_t groups = blockDim.x / kThreads;
  for (int64_t r = blockIdx.x * groups + threadIdx.x / kThreads; r < args.rows;
       r += gridDim.x * groups) {
    const Columns row(x + r * cols, cols, x_aligned);
    double mean = 0;
    if constexpr (Norm::kCentred) {
      Columns::each(cols, [&](int i, int64_t, int64_t) {
        const auto v = row.vec(i);
        FASTNN_UNROLL
        for (int k = 0; k < kCount; ++k) mean += static_cast<double>(to_float(v.v[k]));
      });
      mean = group_sum<kThreads>(mean) / static_cast<double>(cols);
    }
    double squares = 0;
    Columns::each(cols, [&](int i, int64_t, int64_t left) {
      const auto v = row.vec(i);
      FASTNN_UNROLL
      for (int k = 0; k < kCount; ++k) {
        const double d = k < left ? static_cast<double>(to_float(v.v[k])) - mean : 0.0;
        squares += d * d;
      }
    });
    const double variance = group_sum<kThreads>(squares) / static_cast<double>(cols);
    const float rstd = reciprocal_std(variance, args.eps);
    const SplitMean split_mean = split(mean);
    Columns::each(cols, [&](int i, int64_t c, int64_t left) {
      const auto v = row.vec(i);
      Vec<T, kCount> scale, shift, out;
      if (w != nullptr) scale = load<kCount>(w + c, left, w_aligned);
      if (b != nullptr) shift = load<kCount>(b + c, left, b_aligned);
      FASTNN_UNROLL
      for (int k = 0; k < kCount; ++k)
        out.v[k] = from_float<T>(affine(normalize(to_float(v.v[k]), split_mean, rstd),
                                        w != nullptr ? to_float(scale.v[k]) : 1.f,
                                        b != nullptr ? to_float(shift.v[k]) : 0.f));
      store(y + r * cols + c, out, left, y_aligned);
    });
    if (threadIdx.x % kThreads == 0) {
      args.mean[r] = mean;
      args.rstd[r] = rstd;
    }
  }
}

template <class Norm, class T, int kThreads, int kVecs>
void launch_row_norm_fwd(const LayerNormFwdArgs& args, Slice s) {
  constexpr int kBlock = kThreads > kRowThreads ? kThreads : kRowThreads;
  const int64_t grid = grid_for(ceil_div(args.rows, kBlock / kThreads));
  FASTNN_LAUNCH((row_norm_fwd_kernel<Norm, T, kThreads, kVecs>), grid, kBlock, s.stream, args);
}

template <class Norm, class T>
void row_norm_fwd(const LayerNormFwdArgs& args, Slice s) {
  if (args.rows <= 0) return;
  const int64_t vecs = ceil_div(args.cols, kVec<T>);
  if (vecs <= 32) return launch_row_norm_fwd<Norm, T, kWarp, 1>(args, s);
  if (vecs <= 64) return launch_row_norm_fwd<Norm, T, kWarp, 2>(args, s);
  if (vecs <= 128) return launch_row_norm_fwd<Norm, T, kWarp, 4>(args, s);
  if (vecs <= 256) return launch_row_norm_fwd<Norm, T, kRowThreads, 1>(args, s);
  if (vecs <= 512) return launch_row_norm_fwd<Norm, T, kRowThreads, 2>(args, s);
  if (vecs <= 1024) return launch_row_norm_fwd<Norm, T, kRowThreads, 4>(args, s);
  if (vecs <= 2048) return launch_row_norm_fwd<Norm, T, kLongRowThreads, 4>(args, s);
  launch_row_norm_fwd<Norm, T, kLongRowThreads, 0>(args, s);
}

// ---- backward: dx, and dw and db summed over the rows of each task -----------------------------
// The columns of a thread are the same for every row, so it adds up their gradients in registers:
// in float64, or where that takes too many, in float32 over the at most 8 rows that its group then
// has.
template <class T, int kThreads, int kVecs>
struct ColumnSums {
  static constexpr int kCount = kVec<T>, kSlots = kVecs > 0 ? kVecs : 1;
  using Sum = std::conditional_t<(kVecs * kCount <= 8), double, float>;
  static constexpr int kGroups = kThreads < kRowThreads ? kRowThreads / kThreads : 1;
  Sum dw[kSlots][kCount] = {}, db[kSlots][kCount] = {};

  // Writes the sums over all groups of the block to out[2, cols].
  __device__ __forceinline__ void write(double* out, int64_t cols) const {
    using Columns = Row<T, kThreads, kVecs>;
    if constexpr (kGroups == 1) {
      Columns::each(cols, [&](int i, int64_t c, int64_t left) {
        FASTNN_UNROLL
        for (int k = 0; k < kCount; ++k) {
          if (k >= left) continue;
          out[c + k] = static_cast<double>(dw[i][k]);
          out[cols + c + k] = static_cast<double>(db[i][k]);
        }
      });
    } else {
      constexpr int kColumns = kThreads * kVecs * kCount;
      FASTNN_SHARED(double, total, 2 * kColumns);
      const int group = static_cast<int>(threadIdx.x) / kThreads;
      for (int g = 0; g < kGroups; ++g) {  // one after the other: the order of the sum is fixed
        __syncthreads();
        if (group != g) continue;
        FASTNN_UNROLL
        for (int i = 0; i < kVecs; ++i) {
          const int c = static_cast<int>(Columns::at(i));
          FASTNN_UNROLL
          for (int k = 0; k < kCount; ++k) {
            total[c + k] = (g > 0 ? total[c + k] : 0.0) + static_cast<double>(dw[i][k]);
            total[kColumns + c + k] =
                (g > 0 ? total[kColumns + c + k] : 0.0) + static_cast<double>(db[i][k]);
          }
        }
      }
      __syncthreads();
      for (int64_t c = threadIdx.x; c < cols; c += blockDim.x) {
        out[c] = total[c];
        out[cols + c] = total[kColumns + c];
      }
    }
  }
};

// Means over the row of g = dy w and of g xhat.
struct RowGradient {
  float mean_g, mean_gx;
};
template <class T, int kThreads, int kVecs>
__device__ __forceinline__ RowGradient row_gradient(const Row<T, kThreads, kVecs>& x,
                                                    const Row<T, kThreads, kVecs>& dy, const T* w,
                                                    bool w_aligned, int64_t cols, SplitMean mean,
                                                    float rstd) {
  constexpr int kCount = kVec<T>;
  double sums[2] = {0, 0};
  Row<T, kThreads, kVecs>::each(cols, [&](int i, int64_t c, int64_t left) {
    const auto xv = x.vec(i), dv = dy.vec(i);
    Vec<T, kCount> scale;
    if (w != nullptr) scale = load<kCount>(w + c, left, w_aligned);
    FASTNN_UNROLL
    for (int k = 0; k < kCount; ++k) {
      const float d = to_float(dv.v[k]), xhat = normalize(to_float(xv.v[k]), mean, rstd);
      const double g = static_cast<double>(w != nullptr ? d * to_float(scale.v[k]) : d);
      sums[0] += g;
      sums[1] += k < left ? g * static_cast<double>(xhat) : 0.0;
    }
  });
  group_sum<kThreads>(sums);
  const double scale = 1.0 / static_cast<double>(cols);
  return {static_cast<float>(sums[0] * scale), static_cast<float>(sums[1] * scale)};
}

template <class Norm, class T, int kThreads, int kVecs>
__global__ void __launch_bounds__(kThreads > kRowThreads ? kThreads : kRowThreads)
    row_norm_bwd_kernel(LayerNormBwdArgs args, int64_t tasks, int64_t rows_of_task) {
  using Columns = Row<T, kThreads, kVecs>;
  using Sums = ColumnSums<T, kThreads, kVecs>;
  constexpr int kCount = kVec<T>;
  const int64_t cols = args.cols;
  const auto* x = static_cast<const T*>(args.x);
  const auto* dy = static_cast<const T*>(args.dy);
  const auto* w = static_cast<const T*>(args.w);
  auto* dx = static_cast<T*>(args.dx);
  const bool x_aligned = rows_aligned(x, cols), dy_aligned = rows_aligned(dy, cols);
  const bool dx_aligned = rows_aligned(dx, cols), w_aligned = is_aligned(w);
  for (int64_t task = blockIdx.x; task < tasks; task += gridDim.x) {
    double* partials = args.partials != nullptr ? args.partials + task * 2 * cols : nullptr;
    const int64_t first = task * rows_of_task;
    const int64_t last = first + rows_of_task < args.rows ? first + rows_of_task : args.rows;
    Sums sums;
    for (int64_t r = first + threadIdx.x / kThreads; r < last; r += Sums::kGroups) {
      const Columns x_row(x + r * cols, cols, x_aligned), dy_row(dy + r * cols, cols, dy_aligned);
      const SplitMean mean = split(args.mean[r]);
      const float rstd = args.rstd[r];
      RowGradient means = {};
      if (dx != nullptr) means = row_gradient(x_row, dy_row, w, w_aligned, cols, mean, rstd);
      if constexpr (!Norm::kCentred) means.mean_g = 0;
      Columns::each(cols, [&](int i, int64_t c, int64_t left) {
        const auto xv = x_row.vec(i), dv = dy_row.vec(i);
        Vec<T, kCount> scale, out;
        if (w != nullptr) scale = load<kCount>(w + c, left, w_aligned);
        FASTNN_UNROLL
        for (int k = 0; k < kCount; ++k) {
          const float d = to_float(dv.v[k]), xhat = normalize(to_float(xv.v[k]), mean, rstd);
          const float g = w != nullptr ? d * to_float(scale.v[k]) : d;
          out.v[k] = from_float<T>(normalize_dx(g, xhat, means.mean_g, means.mean_gx, rstd));
          if constexpr (kVecs > 0) {
            sums.dw[i][k] += static_cast<typename Sums::Sum>(d * xhat);
            sums.db[i][k] += static_cast<typename Sums::Sum>(d);
          } else if (partials != nullptr && k < left) {  // long rows: few per task
            partials[c + k] = (r > first ? partials[c + k] : 0.0) + static_cast<double>(d * xhat);
            partials[cols + c + k] =
                (r > first ? partials[cols + c + k] : 0.0) + static_cast<double>(d);
          }
        }
        if (dx != nullptr) store(dx + r * cols + c, out, left, dx_aligned);
      });
    }
    if constexpr (kVecs > 0)
      if (partials != nullptr) sums.write(partials, cols);
  }
}

template <class Norm, class T, int kThreads, int kVecs>
void launch_row_norm_bwd(const LayerNormBwdArgs& args, Slice s) {
  constexpr int kBlock = kThreads > kRowThreads ? kThreads : kRowThreads;
  const int64_t rows_of_task = rows_per_task(args.cols), tasks = ceil_div(args.rows, rows_of_task);
  FASTNN_LAUNCH((row_norm_bwd_kernel<Norm, T, kThreads, kVecs>), grid_for(tasks), kBlock, s.stream,
                args, tasks, rows_of_task);
}

template <class Norm, class T>
void row_norm_bwd(const LayerNormBwdArgs& args, Slice s) {
  if (args.rows <= 0) return;
  const int64_t vecs = ceil_div(args.cols, kVec<T>);
  if (vecs <= 32) return launch_row_norm_bwd<Norm, T, kWarp, 1>(args, s);
  if (vecs <= 64) return launch_row_norm_bwd<Norm, T, kWarp, 2>(args, s);
  if (vecs <= 128) return launch_row_norm_bwd<Norm, T, kWarp, 4>(args, s);
  if (vecs <= 256) return launch_row_norm_bwd<Norm, T, kRowThreads, 1>(args, s);
  if (vecs <= 512) return launch_row_norm_bwd<Norm, T, kRowThreads, 2>(args, s);
  if (vecs <= 1024) return launch_row_norm_bwd<Norm, T, kRowThreads, 4>(args, s);
  launch_row_norm_bwd<Norm, T, kLongRowThreads, 0>(args, s);
}

// ---- the second phase: the sums over tasks, and over samples ----------------------------------
// Of partials [rows, 2, cols] of dw and db.
template <class T>
void sum_partials(const double* partials, int64_t rows, int64_t cols, void* dw, void* db, Slice s) {
  if (dw != nullptr) sum_columns(partials, 2 * cols, static_cast<T*>(dw), rows, cols, s);
  if (db != nullptr) sum_columns(partials + cols, 2 * cols, static_cast<T*>(db), rows, cols, s);
}
template <class T>
void layer_norm_bwd_params(const LayerNormBwdArgs& args, Slice s) {
  const int64_t tasks = ceil_div(args.rows, rows_per_task(args.cols));
  sum_partials<T>(args.partials, tasks, args.cols, args.dw, args.db, s);
}
template <class T>
void channel_norm_bwd_params(const ChannelNormBwdArgs& args, Slice s) {
  sum_partials<T>(args.partials, args.groups > 0 ? args.batch : 1, args.channels, args.dw, args.db,
                  s);
}

template <class T>
constexpr NormKernels kernels() {
  return {
      .layer_norm_fwd = row_norm_fwd<LayerNorm, T>,
      .rms_norm_fwd = row_norm_fwd<RmsNorm, T>,
      .layer_norm_bwd = row_norm_bwd<LayerNorm, T>,
      .rms_norm_bwd = row_norm_bwd<RmsNorm, T>,
      .layer_norm_bwd_params = layer_norm_bwd_params<T>,
      .plane_norm_fwd = plane_norm_fwd<T>,
      .column_norm_fwd = column_norm_fwd<T>,
      .plane_norm_bwd = plane_norm_bwd<T>,
      .column_norm_bwd = column_norm_bwd<T>,
      .channel_norm_bwd_params = channel_norm_bwd_params<T>,
      .running_stats = float32_only<T, RunningStatsArgs>(running_stats),
  };
}

}  // namespace

template <>
constinit const NormKernels cuda::Table<NormKernels>::of_dtype[kNumTableDTypes] = {
    kernels<float>(), kernels<bf16>(), kernels<f16>(), {}};

}  // namespace fastnn
