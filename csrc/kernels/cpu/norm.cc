// Layer normalisation: statistics in float64, one row at a time; the parameters' gradients as
// partial sums per task, added in order by a second phase.
#include "../families/norm.h"

#include "../formulas/norm.h"
#include "loops.h"
#include "table.h"

namespace fastnn {
namespace {

FASTNN_FN Range row_range(Slice s, int64_t rows, int64_t cols) {
  return elements(s, rows_per_task(cols), rows);
}

template <class T>
struct RowStatistics {
  double mean;
  float rstd;
  RowStatistics(const T* x, int64_t n, float eps) {
    double m = 0, acc[kBlockLanes] = {};
    m = sum(x, n, 0.f, [](float v) __attribute__((always_inline)) { return v; }) /
        static_cast<double>(n);
    for_blocks(n, [&](int64_t i, int lanes) __attribute__((always_inline)) {
      float v[kBlockLanes];
      load_block(x + i, lanes, 0.f, v);
      for (int l = 0; l < kBlockLanes; ++l) {
        const double d = l < lanes ? static_cast<double>(v[l]) - m : 0.0;
        acc[l] += d * d;
      }
    });
    mean = m;
    rstd = static_cast<float>(
        1.0 / __builtin_sqrt(combine(acc) / static_cast<double>(n) + static_cast<double>(eps)));
  }
};

template <class T>
void layer_norm_fwd(const LayerNormFwdArgs& args, Slice s) {
  const Range rows = row_range(s, args.rows, args.cols);
  const auto* w = static_cast<const T*>(args.w);
  const auto* b = static_cast<const T*>(args.b);
  for (int64_t r = rows.begin; r < rows.end; ++r) {
    const auto* x = static_cast<const T*>(args.x) + r * args.cols;
    auto* y = static_cast<T*>(args.y) + r * args.cols;
    const RowStatistics<T> row(x, args.cols, args.eps);
    const SplitMean mean = split(row.mean);
    const float rstd = row.rstd;
#pragma GCC ivdep
    for (int64_t i = 0; i < args.cols; ++i)
      y[i] = from_float<T>(affine(normalize(to_float(x[i]), mean, rstd), w ? to_float(w[i]) : 1.f,
                                  b ? to_float(b[i]) : 0.f));
    args.mean[r] = row.mean;
    args.rstd[r] = rstd;
  }
}

// Means over the row of g = dy w and of g xhat.
struct RowGradient {
  float mean_g, mean_gx;
};
template <class T>
FASTNN_FN RowGradient row_gradient(const T* dy, const T* x, const T* w, int64_t n, SplitMean mean,
                                   float rstd) {
  double g_sum[kBlockLanes] = {}, gx_sum[kBlockLanes] = {};
  for_blocks(n, [&](int64_t i, int lanes) __attribute__((always_inline)) {
    float d[kBlockLanes], v[kBlockLanes], u[kBlockLanes];
    load_block(dy + i, lanes, 0.f, d);
    load_block(x + i, lanes, 0.f, v);
    if (w != nullptr) load_block(w + i, lanes, 0.f, u);
    for (int l = 0; l < kBlockLanes; ++l) {
      const double g = static_cast<double>(w != nullptr ? d[l] * u[l] : d[l]);
      const double xhat = l < lanes ? static_cast<double>(normalize(v[l], mean, rstd)) : 0.0;
      g_sum[l] += g;
      gx_sum[l] += g * xhat;
    }
  });
  const double scale = 1.0 / static_cast<double>(n);
  return {static_cast<float>(combine(g_sum) * scale), static_cast<float>(combine(gx_sum) * scale)};
}

template <class T>
void layer_norm_bwd(const LayerNormBwdArgs& args, Slice s) {
  const auto* w = static_cast<const T*>(args.w);
  const int64_t n = args.cols;
  for (int64_t task = s.begin; task < s.end; ++task) {
    const Range rows = row_range({task, task + 1, nullptr}, args.rows, n);
    double* dw = args.partials + (args.partials ? task * 2 * n : 0);
    double* db = dw + (args.partials ? n : 0);
    if (args.partials != nullptr)
      __builtin_memset(dw, 0, sizeof(double) * 2 * static_cast<uint64_t>(n));
    for (int64_t r = rows.begin; r < rows.end; ++r) {
      const auto* dy = static_cast<const T*>(args.dy) + r * n;
      const auto* x = static_cast<const T*>(args.x) + r * n;
      const SplitMean mean = split(args.mean[r]);
      const float rstd = args.rstd[r];
      if (args.dx != nullptr) {
        auto* dx = static_cast<T*>(args.dx) + r * n;
        const RowGradient row = row_gradient(dy, x, w, n, mean, rstd);
#pragma GCC ivdep
        for (int64_t i = 0; i < n; ++i) {
          const float g = w ? to_float(dy[i]) * to_float(w[i]) : to_float(dy[i]);
          dx[i] = from_float<T>(normalize_dx(g, normalize(to_float(x[i]), mean, rstd), row.mean_g,
                                             row.mean_gx, rstd));
        }
      }
      if (args.partials != nullptr) {
#pragma GCC ivdep
        for (int64_t i = 0; i < n; ++i) {
          const float d = to_float(dy[i]);
          dw[i] += static_cast<double>(d * normalize(to_float(x[i]), mean, rstd));
          db[i] += static_cast<double>(d);
        }
      }
    }
  }
}

// Phase 2; tasks are chunks of kColumnChunk columns.
template <class T>
void layer_norm_bwd_params(const LayerNormBwdArgs& args, Slice s) {
  const Range columns = elements(s, kColumnChunk, args.cols);
  const int64_t tasks = ceil_div(args.rows, rows_per_task(args.cols));
  for (int64_t i = columns.begin; i < columns.end; ++i) {
    double dw = 0, db = 0;
    for (int64_t t = 0; t < tasks; ++t) {
      dw += args.partials[t * 2 * args.cols + i];
      db += args.partials[(t * 2 + 1) * args.cols + i];
    }
    if (args.dw != nullptr) static_cast<T*>(args.dw)[i] = from_float<T>(static_cast<float>(dw));
    if (args.db != nullptr) static_cast<T*>(args.db)[i] = from_float<T>(static_cast<float>(db));
  }
}

template <class T>
constexpr NormKernels kernels() {
  return {
      .layer_norm_fwd = layer_norm_fwd<T>,
      .layer_norm_bwd = layer_norm_bwd<T>,
      .layer_norm_bwd_params = layer_norm_bwd_params<T>,
  };
}

}  // namespace

template <>
constinit const NormKernels FASTNN_LEVEL::Table<NormKernels>::of_dtype[kNumTableDTypes] = {
    kernels<float>(), kernels<bf16>(), {}, {}};

}  // namespace fastnn
