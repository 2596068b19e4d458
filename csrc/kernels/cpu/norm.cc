// Layer and RMS norm, one row at a time; the parameters' gradients as partial sums per task, added
// in order by a second phase. The norms over channels are in channel_norm.h. Statistics are
// float64.
#include "../families/norm.h"

#include "channel_norm.h"
#include "norm_parts.h"
#include "table.h"

namespace fastnn {
namespace {

FASTNN_FN Range row_range(Slice s, int64_t rows, int64_t cols) {
  return elements(s, rows_per_task(cols), rows);
}

struct LayerNorm {
  static constexpr bool kCentred = true;
  template <class T>
  FASTNN_FN static Statistics of(const T* x, int64_t n) {
    Moments m = Moments::of_row(to_float(x[0]));
    add_row(m, x, n);
    return m.combined(static_cast<double>(n));
  }
};
// The second moment in the variance's place, and no mean.
struct RmsNorm {
  static constexpr bool kCentred = false;
  template <class T>
  FASTNN_FN static Statistics of(const T* x, int64_t n) {
    Moments m = Moments::of_row(0.f);
    add_row(m, x, n);
    return {0, combine(m.squares) / static_cast<double>(n)};
  }
};

template <class T>
struct RowNormalizer {
  SplitMean mean;
  float rstd;
  const T *w, *b;
  FASTNN_FN float xhat(float x) const { return normalize(x, mean, rstd); }
  FASTNN_FN float operator()(int64_t i, float x) const {
    return affine(xhat(x), value_or(w, i, 1.f), value_or(b, i, 0.f));
  }
};

template <class T, class Norm>
void row_norm_fwd(const LayerNormFwdArgs& args, Slice s) {
  const Range rows = row_range(s, args.rows, args.cols);
  const Epilogue epilogue(args.after);
  const auto *w = static_cast<const T*>(args.w), *b = static_cast<const T*>(args.b);
  for (int64_t r = rows.begin; r < rows.end; ++r) {
    const auto* x = static_cast<const T*>(args.x) + r * args.cols;
    auto* y = static_cast<T*>(args.y) + r * args.cols;
    const Statistics stats = Norm::of(x, args.cols);
    const RowNormalizer<T> f{split(stats.mean), reciprocal_std(stats.var, args.eps), w, b};
    normalize_row(x, y, args.cols, r * args.cols, f, epilogue);
    args.mean[r] = stats.mean;
    args.rstd[r] = f.rstd;
  }
}

// Rows that go through backward together, chunk by chunk, so that a chunk of the parameters'
// gradients stays in the first cache for all of them.
constexpr int kRowsTogether = 4;

template <class T, class Norm>
struct RowsBackward {
  const LayerNormBwdArgs& args;
  const Epilogue epilogue{args.after};
  const T *w = static_cast<const T*>(args.w), *b = static_cast<const T*>(args.b);

  const T* dy(int64_t row) const { return static_cast<const T*>(args.dy) + row * args.cols; }
  const T* x(int64_t row) const { return static_cast<const T*>(args.x) + row * args.cols; }
  RowNormalizer<T> normalizer(int64_t row) const {
    return {split(args.mean[row]), args.rstd[row], w, b};
  }

  // The sums of `count` rows from `row` on, and dw and db of all of them unless null.
  FASTNN_FN void add_rows(int64_t row, int count, GradientSums (&sums)[kRowsTogether], double* dw,
                          double* db) const {
    for_chunks(args.cols, [&](int64_t first, int64_t n) __attribute__((always_inline)) {
      for (int r = 0; r < count; ++r) {
        const RowNormalizer<T> f = normalizer(row + r);
        float buffer[kNormChunk];
        const float* d = gradient_chunk(dy(row + r), x(row + r), first, n, (row + r) * args.cols, f,
                                        epilogue, buffer);
        const T* v = x(row + r) + first;
        if (args.dx != nullptr)
          add_row_gradient(d, v, w ? w + first : w, n, f.mean, f.rstd, sums[r]);
        if (dw == nullptr) continue;
#pragma GCC ivdep
        for (int64_t i = 0; i < n; ++i) {
          dw[first + i] += static_cast<double>(d[i] * f.xhat(to_float(v[i])));
          db[first + i] += static_cast<double>(d[i]);
        }
      }
    });
  }

  FASTNN_FN void write_dx(int64_t row, const GradientSums& sums) const {
    const double scale = 1.0 / static_cast<double>(args.cols);
    const auto mean_g = static_cast<float>(Norm::kCentred ? combine(sums.d) * scale : 0.0),
               mean_gx = static_cast<float>(combine(sums.dx) * scale);
    const RowNormalizer<T> f = normalizer(row);
    T* dx = static_cast<T*>(args.dx) + row * args.cols;
    for_gradient_chunks(
        dy(row), x(row), args.cols, row * args.cols, f, epilogue,
        [&](int64_t first, int64_t n, const T* v, const float* d) __attribute__((always_inline)) {
#pragma GCC ivdep
          for (int64_t i = 0; i < n; ++i) {
            const float g = d[i] * value_or(w, first + i, 1.f);
            dx[first + i] =
                from_float<T>(normalize_dx(g, f.xhat(to_float(v[i])), mean_g, mean_gx, f.rstd));
          }
        });
  }
};

template <class T, class Norm>
void row_norm_bwd(const LayerNormBwdArgs& args, Slice s) {
  const RowsBackward<T, Norm> backward{args};
  for (int64_t task = s.begin; task < s.end; ++task) {
    const Range rows = row_range({task, task + 1, nullptr}, args.rows, args.cols);
    double *dw = nullptr, *db = nullptr;
    if (args.partials != nullptr) {
      dw = args.partials + task * 2 * args.cols;
      db = dw + args.cols;
      __builtin_memset(dw, 0, sizeof(double) * 2 * static_cast<uint64_t>(args.cols));
    }
    for (int64_t row = rows.begin; row < rows.end; row += kRowsTogether) {
      const int count = static_cast<int>(least(kRowsTogether, rows.end - row));
      GradientSums sums[kRowsTogether];
      backward.add_rows(row, count, sums, dw, db);
      for (int r = 0; args.dx != nullptr && r < count; ++r) backward.write_dx(row + r, sums[r]);
    }
  }
}

// ---- the second phase -----------------------------------------------------------------------
// Sums rows of partials [rows, 2, cols]; tasks are chunks of kColumnChunk columns.
template <class T>
void sum_partials(const double* partials, int64_t rows, int64_t cols, void* dw, void* db, Slice s) {
  for (int64_t task = s.begin; task < s.end; ++task) {
    const Range columns = elements({task, task + 1, nullptr}, kColumnChunk, cols);
    const int64_t n = columns.end - columns.begin;
    double w[kColumnChunk] = {}, b[kColumnChunk] = {};
    for (int64_t r = 0; r < rows; ++r) {
      const double* of_w = partials + r * 2 * cols + columns.begin;
      const double* of_b = of_w + cols;
      for (int64_t i = 0; i < n; ++i) w[i] += of_w[i], b[i] += of_b[i];
    }
    const auto store = [&](const double* sums, void* to) {
      auto* out = static_cast<T*>(to) + columns.begin;
      for (int64_t i = 0; i < n; ++i) out[i] = from_float<T>(static_cast<float>(sums[i]));
    };
    if (dw != nullptr) store(w, dw);
    if (db != nullptr) store(b, db);
  }
}
template <class T>
void layer_norm_bwd_params(const LayerNormBwdArgs& args, Slice s) {
  const int64_t tasks = ceil_div(args.rows, rows_per_task(args.cols));
  sum_partials<T>(args.partials, tasks, args.cols, args.dw, args.db, s);
}
template <class T>
void channel_norm_bwd_params(const ChannelNormBwdArgs& args, Slice s) {
  const int64_t rows = args.groups > 0 ? args.batch : 1;
  sum_partials<T>(args.partials, rows, args.channels, args.dw, args.db, s);
}

// ---- running statistics ---------------------------------------------------------------------
void running_stats(const RunningStatsArgs& args, Slice) {
  if (args.count != nullptr) ++*args.count;
  const double momentum =
      args.momentum < 0 ? 1.0 / static_cast<double>(*args.count) : args.momentum;
  const double n = static_cast<double>(args.n), samples = static_cast<double>(args.samples);
  for (int64_t c = 0; c < args.channels; ++c) {
    double mean = 0, var = 0;
    for (int64_t i = 0; i < args.samples; ++i) {
      mean += args.mean[i * args.channels + c];
      var += args.var[i * args.channels + c] * (n / (n - 1));
    }
    const auto update = [=](float& running, double value) {
      running = static_cast<float>((1 - momentum) * static_cast<double>(running) +
                                   momentum * (value / samples));
    };
    update(args.running_mean[c], mean);
    update(args.running_var[c], var);
  }
}

template <class T>
constexpr NormKernels kernels() {
  return {
      .layer_norm_fwd = row_norm_fwd<T, LayerNorm>,
      .rms_norm_fwd = row_norm_fwd<T, RmsNorm>,
      .layer_norm_bwd = row_norm_bwd<T, LayerNorm>,
      .rms_norm_bwd = row_norm_bwd<T, RmsNorm>,
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
constinit const NormKernels FASTNN_LEVEL::Table<NormKernels>::of_dtype[kNumTableDTypes] = {
    kernels<float>(), kernels<bf16>(), {}, {}};

}  // namespace fastnn
