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

// Rows that are in the first cache together: their statistics are made before the first is
// normalised, so that the square roots and divisions of one are not waited for, and in backward
// a column of all of them is added to the parameters' gradients at once.
constexpr int kRowsTogether = 3;

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
  const auto* x = static_cast<const T*>(args.x);
  auto* y = static_cast<T*>(args.y);
  for (int64_t row = rows.begin; row < rows.end; row += kRowsTogether) {
    const int64_t end = least(row + kRowsTogether, rows.end);
    for (int64_t r = row; r < end; ++r) {
      const Statistics stats = Norm::of(x + r * args.cols, args.cols);
      args.mean[r] = stats.mean;
      args.rstd[r] = reciprocal_std(stats.var, args.eps);
    }
    for (int64_t r = row; r < end; ++r) {
      const RowNormalizer<T> f{split(args.mean[r]), args.rstd[r], w, b};
      const int64_t at = r * args.cols;
      normalize_row(x + at, y + at, args.cols, at, f, epilogue);
    }
  }
}

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

  // The sums of R rows from `row` on, whose gradients d come in chunks of n columns from `first`
  // on, each times w; and dw and db of all of them unless null.
  template <int R>
  FASTNN_FN void add_chunk(int64_t row, int64_t first, int64_t n, const float* const (&d)[R],
                           GradientSums (&of_rows)[R], double* dw, double* db) const {
    GradientSums sums[R];  // in registers
    const T* v[R];
    double mean[R], rstd[R];
    FASTNN_UNROLL for (int r = 0; r < R; ++r) {
      sums[r] = of_rows[r];
      v[r] = x(row + r) + first;
      mean[r] = args.mean[row + r];
      rstd[r] = static_cast<double>(args.rstd[row + r]);
    }
    for_blocks(n, [&](int64_t i, int lanes) __attribute__((always_inline)) {
      const Lanes u = w != nullptr ? load_lanes(w + first + i, lanes, 0.f) : Lanes(1.0);
      Lanes of_w, of_b;
      FASTNN_UNROLL for (int r = 0; r < R; ++r) {
        const Lanes g = load_lanes(d[r] + i, lanes, 0.f);
        const Lanes gx = g * (load_lanes(v[r] + i, lanes, 0.f) - Lanes(mean[r]));
        sums[r].dy += g * u;
        sums[r].dy_x += gx * u;
        of_w += gx * Lanes(rstd[r]);
        of_b += g;
      }
      if (dw == nullptr) return;
      add_to(dw + first + i, lanes, of_w);
      add_to(db + first + i, lanes, of_b);
    });
    FASTNN_UNROLL for (int r = 0; r < R; ++r) of_rows[r] = sums[r];
  }

  template <int R>
  FASTNN_FN void rows(int64_t row, double* dw, double* db) const {
    GradientSums sums[R];
    for_chunks(args.cols, [&](int64_t first, int64_t n) __attribute__((always_inline)) {
      float buffer[R][kNormChunk];
      const float* d[R];
      for (int r = 0; r < R; ++r)
        d[r] = gradient_chunk(dy(row + r), x(row + r), first, n, (row + r) * args.cols,
                              normalizer(row + r), epilogue, buffer[r]);
      add_chunk(row, first, n, d, sums, dw, db);
    });
    for (int r = 0; args.dx != nullptr && r < R; ++r) write_dx(row + r, sums[r]);
  }

  FASTNN_FN void write_dx(int64_t row, const GradientSums& sums) const {
    const double scale = 1.0 / static_cast<double>(args.cols);
    const RowNormalizer<T> f = normalizer(row);
    const auto mean_g = static_cast<float>(Norm::kCentred ? combine(sums.dy) * scale : 0.0),
               mean_gx =
                   static_cast<float>(combine(sums.dy_x) * static_cast<double>(f.rstd) * scale);
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
    int64_t row = rows.begin;
    for (; row + kRowsTogether <= rows.end; row += kRowsTogether)
      backward.template rows<kRowsTogether>(row, dw, db);
    for (; row < rows.end; ++row) backward.template rows<1>(row, dw, db);
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
