// Recurrent cells. A row past its end keeps its state: it is copied, never multiplied by 0, so what
// stands in the padding cannot enter.
#include "../families/recurrent.h"

#include "../formulas/recurrent.h"
#include "loops.h"
#include "table.h"

namespace fastnn {
namespace {

// Calls row(r, at) for the rows of some tasks that are inside their sequence, and past(r, at) for
// the others; at is the row's first element.
template <class Row, class Past>
void for_rows(const RecurrentStep& step, Slice s, Row row, Past past) {
  const Range rows = elements(s, recurrent_rows(step.width), step.rows);
  for (int64_t r = rows.begin; r < rows.end; ++r) {
    const int64_t at = r * step.width;
    if (step.lengths == nullptr || step.t < step.lengths[r]) {
      row(r, at);
    } else {
      past(r, at);
    }
  }
}

// Arrays of nothing may be null.
void copy(const float* x, float* y, int64_t n) {
  if (x != y && n > 0) __builtin_memcpy(y, x, 4 * static_cast<uint64_t>(n));
}
void clear(float* y, int64_t n) {
  if (n > 0) __builtin_memset(y, 0, 4 * static_cast<uint64_t>(n));
}

// The state of a row to where else it is to stand.
void put_out(const RecurrentOutputs& out, int64_t at, int64_t n) {
  if (out.y != nullptr) copy(out.h + at, out.y + at, n);
  if (out.h_n != nullptr) copy(out.h + at, out.h_n + at, n);
}
// A row past its end.
void keep(const RecurrentOutputs& out, const float* h_prev, int64_t at, int64_t n) {
  copy(h_prev + at, out.h + at, n);
  if (out.y != nullptr) clear(out.y + at, n);
  if (out.h_n != nullptr) copy(h_prev + at, out.h_n + at, n);
}

// ---- tanh and relu cells -----------------------------------------------------------------------

template <class A>
void rnn_fwd(const RnnFwdArgs& args, Slice s) {
  const int64_t n = args.step.width;
  for_rows(
      args.step, s,
      [&](int64_t, int64_t at) {
        map(args.z + at, args.out.h + at, {0, n},
            [](float z) __attribute__((always_inline)) { return A::fwd(z); });
        put_out(args.out, at, n);
      },
      [&](int64_t, int64_t at) { keep(args.out, args.h_prev, at, n); });
}

template <class A>
void rnn_bwd(const RnnBwdArgs& args, Slice s) {
  const int64_t n = args.step.width;
  for_rows(
      args.step, s,
      [&](int64_t, int64_t at) {
        const float *dy = args.grads.dy + at, *h = args.h + at;
        float *dh = args.grads.dh + at, *dz = args.dz + at;
#pragma GCC ivdep
        for (int64_t j = 0; j < n; ++j) {
          dz[j] = A::bwd(dh[j] + dy[j], h[j]);
          dh[j] = 0;
        }
      },
      [&](int64_t, int64_t at) { clear(args.dz + at, n); });
}

// ---- LSTM --------------------------------------------------------------------------------------

void lstm_fwd(const LstmFwdArgs& args, Slice s) {
  const int64_t n = args.step.width;
  for_rows(
      args.step, s,
      [&](int64_t, int64_t at) {
        float *i = args.gates + 4 * at, *f = i + n, *g = f + n, *o = g + n;
        const float* c_prev = args.c_prev + at;
        float *h = args.out.h + at, *c = args.c + at;
#pragma GCC ivdep
        for (int64_t j = 0; j < n; ++j) {
          const Lstm::Gates a = Lstm::activate({i[j], f[j], g[j], o[j]});
          const Lstm::State state = Lstm::fwd(a, c_prev[j]);
          i[j] = a.i, f[j] = a.f, g[j] = a.g, o[j] = a.o;
          h[j] = state.h, c[j] = state.c;
        }
        put_out(args.out, at, n);
        if (args.c_n != nullptr) copy(c, args.c_n + at, n);
      },
      [&](int64_t, int64_t at) {
        keep(args.out, args.h_prev, at, n);
        copy(args.c_prev + at, args.c + at, n);
        if (args.c_n != nullptr) copy(args.c_prev + at, args.c_n + at, n);
      });
}

void lstm_bwd(const LstmBwdArgs& args, Slice s) {
  const int64_t n = args.step.width;
  for_rows(
      args.step, s,
      [&](int64_t, int64_t at) {
        float *i = args.gates + 4 * at, *f = i + n, *g = f + n, *o = g + n;
        const float *dy = args.grads.dy + at, *c = args.c + at, *c_prev = args.c_prev + at;
        float *dh = args.grads.dh + at, *dc = args.dc + at;
#pragma GCC ivdep
        for (int64_t j = 0; j < n; ++j) {
          const Lstm::Gradients d =
              Lstm::bwd(dh[j] + dy[j], dc[j], {i[j], f[j], g[j], o[j]}, c[j], c_prev[j]);
          i[j] = d.z.i, f[j] = d.z.f, g[j] = d.z.g, o[j] = d.z.o;
          dh[j] = 0, dc[j] = d.c_prev;
        }
      },
      [&](int64_t, int64_t at) { clear(args.gates + 4 * at, 4 * n); });
}

void lstm_output_fwd(const LstmOutputFwdArgs& args, Slice s) {
  const int64_t width = args.step.width;
  for_rows(
      args.step, s,
      [&](int64_t, int64_t at) {
        const float *o = args.gates + 4 * at + 3 * width, *n = args.n + at;
        float* h = args.out.h + at;
#pragma GCC ivdep
        for (int64_t j = 0; j < width; ++j) h[j] = Lstm::output(o[j], n[j]);
        put_out(args.out, at, width);
      },
      [&](int64_t, int64_t at) { keep(args.out, args.h_prev, at, width); });
}

void lstm_output_bwd(const LstmOutputBwdArgs& args, Slice s) {
  const int64_t width = args.step.width;
  for_rows(
      args.step, s,
      [&](int64_t, int64_t at) {
        const float* dy = args.grads.dy + at;
        float *o = args.gates + 4 * at + 3 * width, *n = args.n + at, *dh = args.grads.dh + at;
#pragma GCC ivdep
        for (int64_t j = 0; j < width; ++j) {
          const Lstm::OutputGradients d = Lstm::output_bwd(dh[j] + dy[j], o[j], n[j]);
          o[j] = d.z_o, n[j] = d.n, dh[j] = 0;
        }
      },
      [&](int64_t, int64_t at) { clear(args.n + at, width); });
}

void lstm_cell_bwd(const LstmCellBwdArgs& args, Slice s) {
  const int64_t n = args.step.width;
  for_rows(
      args.step, s,
      [&](int64_t, int64_t at) {
        float *i = args.gates + 4 * at, *f = i + n, *g = f + n, *dc = args.dc + at;
        const float *c_prev = args.c_prev + at, *more = args.dc_output + at;
#pragma GCC ivdep
        for (int64_t j = 0; j < n; ++j) {
          const Lstm::Gradients d =
              Lstm::cell_bwd(dc[j] + more[j], {i[j], f[j], g[j], 0.f}, c_prev[j]);
          i[j] = d.z.i, f[j] = d.z.f, g[j] = d.z.g, dc[j] = d.c_prev;
        }
      },
      [&](int64_t, int64_t at) { clear(args.gates + 4 * at, 4 * n); });
}

// ---- GRU ---------------------------------------------------------------------------------------

// r and z, and r h' for the product that makes n.
void gru_reset(const GruFwdArgs& args, Slice s) {
  const int64_t n = args.step.width;
  for_rows(
      args.step, s,
      [&](int64_t, int64_t at) {
        float *r = args.gates + 3 * at, *z = r + n, *reset = args.hidden + at;
        const float* h_prev = args.h_prev + at;
#pragma GCC ivdep
        for (int64_t j = 0; j < n; ++j) {
          r[j] = sigmoid(r[j]), z[j] = sigmoid(z[j]);
          reset[j] = r[j] * h_prev[j];
        }
      },
      [&](int64_t, int64_t at) { clear(args.hidden + at, n); });
}

template <bool kAfter>
void gru_row(const GruFwdArgs& args, int64_t at) {
  const int64_t n = args.step.width;
  const float sign = args.sign;
  float *r = args.gates + 3 * at, *z = r + n, *c = z + n, *h = args.out.h + at;
  const float *h_prev = args.h_prev + at, *hidden = args.hidden + at;
#pragma GCC ivdep
  for (int64_t j = 0; j < n; ++j) {
    if constexpr (kAfter) {
      const Gru::Gates a = Gru::activate({r[j], z[j], c[j]}, hidden[j]);
      r[j] = a.r, z[j] = a.z, c[j] = a.n;
    } else {
      c[j] = tanh(c[j]);
    }
    h[j] = Gru::fwd(z[j], c[j], h_prev[j], sign);
  }
}

void gru_fwd(const GruFwdArgs& args, Slice s) {
  const int64_t n = args.step.width;
  for_rows(
      args.step, s,
      [&](int64_t, int64_t at) {
        args.after ? gru_row<true>(args, at) : gru_row<false>(args, at);
        put_out(args.out, at, n);
      },
      [&](int64_t, int64_t at) { keep(args.out, args.h_prev, at, n); });
}

template <bool kAfter>
void gru_bwd_row(const GruBwdArgs& args, int64_t at) {
  const int64_t n = args.step.width;
  const float sign = args.sign;
  float *r = args.gates + 3 * at, *z = r + n, *c = z + n, *hidden = args.hidden + at;
  const float *h_prev = args.h_prev + at, *dy = args.grads.dy + at;
  float* dh = args.grads.dh + at;
#pragma GCC ivdep
  for (int64_t j = 0; j < n; ++j) {
    const Gru::Gradients d = Gru::bwd(dh[j] + dy[j], z[j], c[j], h_prev[j], sign);
    z[j] = d.z, c[j] = d.n, dh[j] = d.h_prev;
    if constexpr (kAfter) {
      const float reset = r[j];
      r[j] = Gru::reset_bwd(d.n, hidden[j], reset);
      hidden[j] = d.n * reset;
    }
  }
}

void gru_bwd(const GruBwdArgs& args, Slice s) {
  const int64_t n = args.step.width;
  for_rows(
      args.step, s,
      [&](int64_t, int64_t at) {
        args.after ? gru_bwd_row<true>(args, at) : gru_bwd_row<false>(args, at);
      },
      [&](int64_t, int64_t at) {
        clear(args.gates + 3 * at, 3 * n);
        if (args.after) clear(args.hidden + at, n);
      });
}

void gru_reset_bwd(const GruBwdArgs& args, Slice s) {
  const int64_t n = args.step.width;
  for_rows(
      args.step, s,
      [&](int64_t, int64_t at) {
        float *r = args.gates + 3 * at, *dh = args.grads.dh + at;
        const float *h_prev = args.h_prev + at, *dreset = args.dreset + at;
#pragma GCC ivdep
        for (int64_t j = 0; j < n; ++j) {
          const float reset = r[j];
          r[j] = Gru::reset_bwd(dreset[j], h_prev[j], reset);
          dh[j] = mad(dreset[j], reset, dh[j]);
        }
      },
      [](int64_t, int64_t) {});
}

// ------------------------------------------------------------------------------------------------

void check_lengths(const CheckLengthsArgs& args, Slice) {
  for (int64_t r = 0; r < args.rows; ++r)
    if (args.lengths[r] < 0 || args.lengths[r] > args.steps)
      report(args.status, args.site, r, DataError::kIndexOutOfRange);
}

constexpr RecurrentKernels kernels() {
  return {
      .rnn_fwd = {rnn_fwd<RnnTanh>, rnn_fwd<RnnRelu>},
      .rnn_bwd = {rnn_bwd<RnnTanh>, rnn_bwd<RnnRelu>},
      .lstm_fwd = lstm_fwd,
      .lstm_bwd = lstm_bwd,
      .lstm_output_fwd = lstm_output_fwd,
      .lstm_output_bwd = lstm_output_bwd,
      .lstm_cell_bwd = lstm_cell_bwd,
      .gru_reset = gru_reset,
      .gru_fwd = gru_fwd,
      .gru_bwd = gru_bwd,
      .gru_reset_bwd = gru_reset_bwd,
      .check_lengths = check_lengths,
      .sequence_fwd = nullptr,
      .sequence_bwd = nullptr,
  };
}

}  // namespace

template <>
constinit const RecurrentKernels FASTNN_LEVEL::Table<RecurrentKernels>::of_dtype[kNumTableDTypes] =
    {kernels(), {}, {}, {}};

}  // namespace fastnn
