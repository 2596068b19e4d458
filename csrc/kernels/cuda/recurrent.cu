// Recurrent cells: a thread per unit of a row. A row past its end keeps its state: it is copied,
// never multiplied by 0, so what stands in the padding cannot enter.
#include "../families/recurrent.h"
#include "../formulas/recurrent.h"
#include "engine.cuh"
#include "sequence/sequences.h"

namespace fastnn {
namespace {

// Unit j of row r, `at` in [rows, width]; whether the row is inside its sequence.
struct Unit {
  int64_t at, r, j, width;
  bool inside;
  // Gate k of [rows, gates * width].
  __device__ __forceinline__ int64_t gate(int64_t gates, int64_t k) const {
    return (r * gates + k) * width + j;
  }
};
template <class F>
__device__ __forceinline__ void each_unit(const RecurrentStep& step, F use) {
  each_element(step.rows * step.width, [&](int64_t e) {
    const int64_t r = e / step.width;
    use(Unit{e, r, e - r * step.width, step.width,
             step.lengths == nullptr || step.t < step.lengths[r]});
  });
}

// The state h, to where else it is to stand; the old one of a row past its end.
__device__ __forceinline__ void put_out(const RecurrentOutputs& out, const Unit& u, float h) {
  out.h[u.at] = h;
  if (out.y != nullptr) out.y[u.at] = u.inside ? h : 0.f;
  if (out.h_n != nullptr) out.h_n[u.at] = h;
}

// ---- tanh and relu cells -----------------------------------------------------------------------
template <class A>
struct RnnForward {
  RnnFwdArgs args;
  __device__ __forceinline__ void operator()(const Unit& u) const {
    put_out(args.out, u, u.inside ? A::fwd(args.z[u.at]) : args.h_prev[u.at]);
  }
};
template <class A>
struct RnnBackward {
  RnnBwdArgs args;
  __device__ __forceinline__ void operator()(const Unit& u) const {
    float *dh = args.grads.dh + u.at, dz = 0.f;
    if (u.inside) {
      dz = A::bwd(*dh + args.grads.dy[u.at], args.h[u.at]);
      *dh = 0.f;
    }
    args.dz[u.at] = dz;
  }
};

// ---- LSTM --------------------------------------------------------------------------------------
__device__ __forceinline__ Lstm::Gates load_gates(const float* gates, const Unit& u) {
  return {gates[u.gate(4, 0)], gates[u.gate(4, 1)], gates[u.gate(4, 2)], gates[u.gate(4, 3)]};
}
__device__ __forceinline__ void store_gates(float* gates, const Unit& u, const Lstm::Gates& a) {
  gates[u.gate(4, 0)] = a.i;
  gates[u.gate(4, 1)] = a.f;
  gates[u.gate(4, 2)] = a.g;
  gates[u.gate(4, 3)] = a.o;
}
struct LstmForward {
  LstmFwdArgs args;
  __device__ __forceinline__ void operator()(const Unit& u) const {
    Lstm::State state{args.h_prev[u.at], args.c_prev[u.at]};
    if (u.inside) {
      const Lstm::Gates a = Lstm::activate(load_gates(args.gates, u));
      state = Lstm::fwd(a, state.c);
      store_gates(args.gates, u, a);
    }
    put_out(args.out, u, state.h);
    args.c[u.at] = state.c;
    if (args.c_n != nullptr) args.c_n[u.at] = state.c;
  }
};
struct LstmBackward {
  LstmBwdArgs args;
  __device__ __forceinline__ void operator()(const Unit& u) const {
    Lstm::Gradients d{};
    if (u.inside) {
      float* dh = args.grads.dh + u.at;
      d = Lstm::bwd(*dh + args.grads.dy[u.at], args.dc[u.at], load_gates(args.gates, u),
                    args.c[u.at], args.c_prev[u.at]);
      *dh = 0.f;
      args.dc[u.at] = d.c_prev;
    }
    store_gates(args.gates, u, d.z);
  }
};

struct LstmOutputForward {
  LstmOutputFwdArgs args;
  __device__ __forceinline__ void operator()(const Unit& u) const {
    put_out(args.out, u,
            u.inside ? Lstm::output(args.gates[u.gate(4, 3)], args.n[u.at]) : args.h_prev[u.at]);
  }
};
struct LstmOutputBackward {
  LstmOutputBwdArgs args;
  __device__ __forceinline__ void operator()(const Unit& u) const {
    Lstm::OutputGradients d{};
    if (u.inside) {
      float *dh = args.grads.dh + u.at, *o = args.gates + u.gate(4, 3);
      d = Lstm::output_bwd(*dh + args.grads.dy[u.at], *o, args.n[u.at]);
      *o = d.z_o;
      *dh = 0.f;
    }
    args.n[u.at] = d.n;
  }
};
struct LstmCellBackward {
  LstmCellBwdArgs args;
  __device__ __forceinline__ void operator()(const Unit& u) const {
    Lstm::Gradients d{};
    if (u.inside) {
      const Lstm::Gates a = load_gates(args.gates, u);
      d = Lstm::cell_bwd(args.dc[u.at] + args.dc_output[u.at], a, args.c_prev[u.at]);
      d.z.o = a.o;
      args.dc[u.at] = d.c_prev;
    }
    store_gates(args.gates, u, d.z);
  }
};

// ---- GRU ---------------------------------------------------------------------------------------
struct GruGates {
  float *r, *z, *n;
  __device__ __forceinline__ GruGates(float* gates, const Unit& u)
      : r(gates + u.gate(3, 0)), z(gates + u.gate(3, 1)), n(gates + u.gate(3, 2)) {}
};
// r and z, and r h' for the product that makes n.
struct GruReset {
  GruFwdArgs args;
  __device__ __forceinline__ void operator()(const Unit& u) const {
    float reset = 0.f;
    if (u.inside) {
      const GruGates gates(args.gates, u);
      *gates.r = sigmoid(*gates.r);
      *gates.z = sigmoid(*gates.z);
      reset = *gates.r * args.h_prev[u.at];
    }
    args.hidden[u.at] = reset;
  }
};
struct GruForward {
  GruFwdArgs args;
  __device__ __forceinline__ void operator()(const Unit& u) const {
    float h = args.h_prev[u.at];
    if (u.inside) {
      const GruGates gates(args.gates, u);
      Gru::Gates a{*gates.r, *gates.z, *gates.n};
      if (args.after) {
        a = Gru::activate(a, args.hidden[u.at]);
        *gates.r = a.r;
        *gates.z = a.z;
      } else {
        a.n = tanh(a.n);
      }
      *gates.n = a.n;
      h = Gru::fwd(a.z, a.n, h, args.sign);
    }
    put_out(args.out, u, h);
  }
};
struct GruBackward {
  GruBwdArgs args;
  __device__ __forceinline__ void operator()(const Unit& u) const {
    const GruGates gates(args.gates, u);
    if (!u.inside) {
      *gates.r = *gates.z = *gates.n = 0.f;
      if (args.after) args.hidden[u.at] = 0.f;
      return;
    }
    float* dh = args.grads.dh + u.at;
    const Gru::Gradients d =
        Gru::bwd(*dh + args.grads.dy[u.at], *gates.z, *gates.n, args.h_prev[u.at], args.sign);
    *gates.z = d.z;
    *gates.n = d.n;
    *dh = d.h_prev;
    if (!args.after) return;
    const float reset = *gates.r;
    *gates.r = Gru::reset_bwd(d.n, args.hidden[u.at], reset);
    args.hidden[u.at] = d.n * reset;
  }
};
struct GruResetBackward {
  GruBwdArgs args;
  __device__ __forceinline__ void operator()(const Unit& u) const {
    if (!u.inside) return;
    const GruGates gates(args.gates, u);
    const float reset = *gates.r, d = args.dreset[u.at];
    *gates.r = Gru::reset_bwd(d, args.h_prev[u.at], reset);
    args.grads.dh[u.at] = mad(d, reset, args.grads.dh[u.at]);
  }
};

// ------------------------------------------------------------------------------------------------
template <class Cell>
__global__ void __launch_bounds__(kElementwiseThreads) cell_kernel(Cell cell) {
  each_unit(cell.args.step, cell);
}
template <class Cell, class Args>
void run(const Args& args, Slice s) {
  const int64_t n = args.step.rows * args.step.width;
  if (n > 0)
    FASTNN_LAUNCH(cell_kernel<Cell>, element_grid(n), kElementwiseThreads, s.stream, Cell{args});
}

__global__ void __launch_bounds__(kElementwiseThreads) check_lengths_kernel(CheckLengthsArgs args) {
  each_element(args.rows, [&](int64_t r) {
    if (args.lengths[r] < 0 || args.lengths[r] > args.steps)
      report(args.status, args.site, r, DataError::kIndexOutOfRange);
  });
}
inline void check_lengths(const CheckLengthsArgs& args, Slice s) {
  if (args.rows > 0)
    FASTNN_LAUNCH(check_lengths_kernel, element_grid(args.rows), kElementwiseThreads, s.stream,
                  args);
}

constexpr RecurrentKernels kernels() {
  return {
      .rnn_fwd = {run<RnnForward<RnnTanh>>, run<RnnForward<RnnRelu>>},
      .rnn_bwd = {run<RnnBackward<RnnTanh>>, run<RnnBackward<RnnRelu>>},
      .lstm_fwd = run<LstmForward>,
      .lstm_bwd = run<LstmBackward>,
      .lstm_output_fwd = run<LstmOutputForward>,
      .lstm_output_bwd = run<LstmOutputBackward>,
      .lstm_cell_bwd = run<LstmCellBackward>,
      .gru_reset = run<GruReset>,
      .gru_fwd = run<GruForward>,
      .gru_bwd = run<GruBackward>,
      .gru_reset_bwd = run<GruResetBackward>,
      .check_lengths = check_lengths,
      .sequence_fwd = sequence::forward,
      .sequence_bwd = sequence::backward,
  };
}

}  // namespace

template <>
constinit const RecurrentKernels cuda::Table<RecurrentKernels>::of_dtype[kNumTableDTypes] = {
    kernels(), {}, {}, {}};

}  // namespace fastnn
