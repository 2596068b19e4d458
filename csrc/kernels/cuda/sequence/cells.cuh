// The cells of a sequence: what one unit of one row does in a step besides the products, with its
// state in registers. A row past its end keeps its state, as in recurrent.cu.
#pragma once
#include "../../formulas/recurrent.h"
#include "../engine.cuh"
#include "cut.h"

namespace fastnn::sequence {
namespace {

// A unit of a row in one step.
struct Place {
  int64_t row, at, width;  // `row` of [steps * rows], `at` in [steps, rows, width]
  int64_t before;          // `at` of the step before; -1 - the place in [rows, width] at the first
  bool inside, last;       // inside its sequence; the last step

  __device__ __forceinline__ int64_t gate(int64_t gates, int64_t k) const {
    return at + (row * (gates - 1) + k) * width;
  }
  // Of the step before, or the initial state; null is zeros.
  __device__ __forceinline__ float previous(const float* states, const float* initial) const {
    if (before >= 0) return states[before];
    return initial != nullptr ? initial[-1 - before] : 0.f;
  }
};
__device__ __forceinline__ float or_zero(const float* x, int64_t at) {
  return x != nullptr ? x[at] : 0.f;
}

// Every cell has: State, what goes on from step to step; Result, what else a step leaves in memory;
// step(), which makes both, from the gates' sums z (n is that of GRU's inputs, whose hidden part is
// z[2]), and put(). Backward StateGradient, Saved, step_back() and put_back() are the same. So what
// the other blocks wait for can be made before anything is stored.
template <class A>
struct RnnCell {
  static constexpr int kGates = 1, kEach = 4;
  static constexpr bool kLastApart = false;
  struct State {
    float h;
  };
  struct Result {};
  struct StateGradient {
    float dh;
  };
  struct Saved {
    float h, dy;
  };
  static __device__ __forceinline__ State first(const SequenceFwdArgs& args, int64_t cell) {
    return {or_zero(args.h_0, cell)};
  }
  static __device__ __forceinline__ Result step(const Place& p, const float (&z)[kGates], float,
                                                float, State& state) {
    if (p.inside) state.h = A::fwd(z[0]);
    return {};
  }
  static __device__ __forceinline__ void put(const SequenceFwdArgs&, const Place&, int64_t,
                                             const State&, const Result&) {}

  static __device__ __forceinline__ Saved load(const SequenceBwdArgs& args, const Place& p) {
    return {args.h[p.at], or_zero(args.dy, p.at)};
  }
  static __device__ __forceinline__ void step_back(const Place& p, const Saved& saved, float,
                                                   StateGradient& d, float (&dz)[kGates], float&) {
    if (p.inside) dz[0] = A::bwd(d.dh + saved.dy, saved.h), d.dh = 0.f;
  }
  static __device__ __forceinline__ void put_back(const SequenceBwdArgs& args, const Place& p,
                                                  const float (&dz)[kGates], float) {
    args.gates[p.at] = dz[0];
  }
};

struct LstmCell {
  static constexpr int kGates = 4, kEach = 4;
  static constexpr bool kLastApart = false;
  struct State {
    float h, c;
  };
  using Result = Lstm::Gates;
  struct StateGradient {
    float dh, dc;
  };
  struct Saved {
    Lstm::Gates a;
    float c, c_prev, dy;
  };
  static __device__ __forceinline__ State first(const SequenceFwdArgs& args, int64_t cell) {
    return {or_zero(args.h_0, cell), or_zero(args.c_0, cell)};
  }
  static __device__ __forceinline__ Result step(const Place& p, const float (&z)[kGates], float,
                                                float, State& state) {
    const Lstm::Gates a = Lstm::activate({z[0], z[1], z[2], z[3]});
    const Lstm::State now = Lstm::fwd(a, state.c);
    if (p.inside) state = {now.h, now.c};
    return a;
  }
  static __device__ __forceinline__ void put(const SequenceFwdArgs& args, const Place& p,
                                             int64_t cell, const State& state, const Result& a) {
    if (p.inside) {
      args.gates[p.gate(4, 0)] = a.i;
      args.gates[p.gate(4, 1)] = a.f;
      args.gates[p.gate(4, 2)] = a.g;
      args.gates[p.gate(4, 3)] = a.o;
    }
    args.c[p.at] = state.c;
    if (p.last) args.c_n[cell] = state.c;
  }

  static __device__ __forceinline__ Saved load(const SequenceBwdArgs& args, const Place& p) {
    const float* a = args.gates;
    return {{a[p.gate(4, 0)], a[p.gate(4, 1)], a[p.gate(4, 2)], a[p.gate(4, 3)]},
            args.c[p.at],
            p.previous(args.c, args.c_0),
            or_zero(args.dy, p.at)};
  }
  static __device__ __forceinline__ void step_back(const Place& p, const Saved& saved, float,
                                                   StateGradient& d, float (&dz)[kGates], float&) {
    if (!p.inside) return;
    const Lstm::Gradients now = Lstm::bwd(d.dh + saved.dy, d.dc, saved.a, saved.c, saved.c_prev);
    d = {0.f, now.c_prev};
    dz[0] = now.z.i, dz[1] = now.z.f, dz[2] = now.z.g, dz[3] = now.z.o;
  }
  static __device__ __forceinline__ void put_back(const SequenceBwdArgs& args, const Place& p,
                                                  const float (&dz)[kGates], float) {
    FASTNN_UNROLL
    for (int k = 0; k < kGates; ++k) args.gates[p.gate(kGates, k)] = dz[k];
  }
};

// Where r is applied after the product.
struct GruCell {
  static constexpr int kGates = 3, kEach = 3;
  static constexpr bool kLastApart = true;
  struct State {
    float h;
  };
  struct Result {
    Gru::Gates a;
    float hidden;
  };
  struct StateGradient {
    float dh;
  };
  struct Saved {
    Gru::Gates a;
    float hidden, h_prev, dy;
  };
  static __device__ __forceinline__ State first(const SequenceFwdArgs& args, int64_t cell) {
    return {or_zero(args.h_0, cell)};
  }
  static __device__ __forceinline__ Result step(const Place& p, const float (&z)[kGates], float n,
                                                float sign, State& state) {
    const Gru::Gates a = Gru::activate({z[0], z[1], n}, z[2]);
    if (p.inside) state.h = Gru::fwd(a.z, a.n, state.h, sign);
    return {a, z[2]};
  }
  static __device__ __forceinline__ void put(const SequenceFwdArgs& args, const Place& p, int64_t,
                                             const State&, const Result& made) {
    args.hidden[p.at] = made.hidden;
    if (!p.inside) return;
    args.gates[p.gate(3, 0)] = made.a.r;
    args.gates[p.gate(3, 1)] = made.a.z;
    args.gates[p.gate(3, 2)] = made.a.n;
  }

  static __device__ __forceinline__ Saved load(const SequenceBwdArgs& args, const Place& p) {
    const float* a = args.gates;
    return {{a[p.gate(3, 0)], a[p.gate(3, 1)], a[p.gate(3, 2)]},
            args.hidden[p.at],
            p.previous(args.h, args.h_0),
            or_zero(args.dy, p.at)};
  }
  // dz[2] is of the product, n of the sum.
  static __device__ __forceinline__ void step_back(const Place& p, const Saved& saved, float sign,
                                                   StateGradient& d, float (&dz)[kGates],
                                                   float& n) {
    if (!p.inside) return;
    const Gru::Gradients now = Gru::bwd(d.dh + saved.dy, saved.a.z, saved.a.n, saved.h_prev, sign);
    d.dh = now.h_prev, n = now.n;
    dz[0] = Gru::reset_bwd(now.n, saved.hidden, saved.a.r);
    dz[1] = now.z, dz[2] = now.n * saved.a.r;
  }
  static __device__ __forceinline__ void put_back(const SequenceBwdArgs& args, const Place& p,
                                                  const float (&dz)[kGates], float n) {
    args.gates[p.gate(3, 0)] = dz[0];
    args.gates[p.gate(3, 1)] = dz[1];
    args.gates[p.gate(3, 2)] = n;
    args.hidden[p.at] = dz[2];
  }
};

}  // namespace
}  // namespace fastnn::sequence
