// A sequence as one kernel of clusters. In each step a block multiplies its weights by what all
// blocks have left in its shared memory, its threads make a unit of a row each, and write that to
// all blocks of the cluster; then these meet. Global memory is written, and read for the next step,
// between arriving and waiting: to arrive is to wait for what was stored before. Clusters have
// nothing to do with one another, so any number of them may run at a time.
#pragma once
#include "cells.cuh"
#include "product.cuh"

namespace fastnn::sequence {

template <class Cell, class T>
constexpr Form form_of(bool backward) {
  const int32_t each = sizeof(T) == 2 ? mma::kRows : backward ? 4 : Cell::kEach;
  return {Cell::kGates,
          each,
          sizeof(T) == 2 ? mma::kCols : kRowsEach,
          backward,
          backward && Cell::kLastApart,
          static_cast<int32_t>(sizeof(T))};
}

#ifdef FASTNN_HAS_CLUSTERS
namespace {

template <class T>
struct Memory {
  T* w;         // as the product wants it
  float* v;     // two of [terms, rows]
  float* sums;  // [chains, outputs, rows]
  __device__ __forceinline__ Memory(unsigned char* shared, const Geometry& g)
      : w(reinterpret_cast<T*>(shared)),
        v(reinterpret_cast<float*>(shared + g.weight_bytes())),
        sums(v + 2 * g.terms * g.rows) {}
  // That of step s.
  __device__ __forceinline__ float* of(const Geometry& g, int64_t s) const {
    return v + s % 2 * g.terms * g.rows;
  }
};

// What a thread is responsible for, if anything: neighbours have neighbouring rows, as v has.
struct Own {
  int32_t row, unit;   // of the cluster, of the block
  int64_t r, j, cell;  // of the batch, of the layer; the place in [rows, width]
  bool valid;
  __device__ __forceinline__ Own(const Sequence& sequence, const Cut& cut)
      : row(static_cast<int32_t>(threadIdx.x) % cut.rows),
        unit(static_cast<int32_t>(threadIdx.x) / cut.rows),
        r(int64_t{blockIdx.x} / cut.cluster * cut.rows + row),
        j(int64_t{cluster::rank()} * cut.units + unit),
        cell(r * sequence.width + j),
        valid(unit < cut.units && r < sequence.rows && j < sequence.width) {}

  __device__ __forceinline__ Place at(const Sequence& sequence, int64_t s) const {
    const int64_t t = sequence.reverse ? sequence.steps - 1 - s : s;
    const int64_t cells = sequence.rows * sequence.width, at = t * cells + cell;
    const int64_t before = s == 0 ? -1 - cell : sequence.reverse ? at + cells : at - cells;
    return {t * sequence.rows + r,
            at,
            sequence.width,
            before,
            sequence.lengths == nullptr || t < sequence.lengths[r],
            s == sequence.steps - 1};
  }
};

// x to element (k, row) of v, in all blocks.
__device__ __forceinline__ void give(float* at, const Cut& cut, float x) {
  for (uint32_t to = 0; to < static_cast<uint32_t>(cut.cluster); ++to) cluster::store(at, to, x);
}

}  // namespace
#endif  // FASTNN_HAS_CLUSTERS

template <class Cell, class T>
__global__ void __launch_bounds__(kMostThreads, 1)
    sequence_fwd_kernel(SequenceFwdArgs args, Cut cut) {
#ifdef FASTNN_HAS_CLUSTERS
  FASTNN_DYNAMIC_SHARED(unsigned char, shared);
  const Sequence& sequence = args.sequence;
  const int64_t width = sequence.width, steps = sequence.steps;
  constexpr Form kForm = form_of<Cell, T>(false);
  using Multiply = Product<T, kForm.each>;
  const Geometry g(kForm, width, cut);
  const Memory<T> memory(shared, g);
  const Own own(sequence, cut);
  Multiply::load(g, {args.w, width, int64_t{cluster::rank()} * cut.units, kForm, cut.units},
                 memory.w);
  const int64_t first_row = own.r - own.row;
  for (int e = static_cast<int>(threadIdx.x); e < g.terms * g.rows;
       e += static_cast<int>(blockDim.x)) {
    const int64_t r = first_row + e % g.rows;
    memory.v[e] =
        r < sequence.rows ? Multiply::encode(or_zero(args.h_0, r * width + e / g.rows)) : 0.f;
  }
  typename Cell::State state{};
  float bias[Cell::kGates] = {}, z[Cell::kGates] = {};
  Place place{};
  const auto load = [&](int64_t s) {
    place = own.at(sequence, s);
    FASTNN_UNROLL
    for (int k = 0; k < Cell::kGates; ++k) z[k] = args.gates[place.gate(Cell::kGates, k)];
  };
  if (own.valid) {
    state = Cell::first(args, own.cell);
    FASTNN_UNROLL
    for (int k = 0; k < Cell::kGates; ++k) bias[k] = or_zero(args.bias, k * width + own.j);
    load(0);
  }
  cluster::arrive();
  cluster::wait();
  for (int64_t s = 0; s < steps; ++s) {
    const bool from_zeros = s == 0 && args.h_0 == nullptr;
    if (!from_zeros) {
      Multiply::multiply(g, memory.w, memory.of(g, s), memory.sums);
      __syncthreads();
    }
    typename Cell::Result made{};
    if (own.valid) {
      const float n = z[Cell::kGates - 1];
      if (Cell::kLastApart) z[Cell::kGates - 1] = 0.f;
      FASTNN_UNROLL
      for (int k = 0; k < Cell::kGates; ++k) {
        if (!from_zeros) z[k] = add_sums(g, memory.sums, k * cut.units + own.unit, own.row, z[k]);
        z[k] += bias[k];
      }
      made = Cell::step(place, z, n, args.sign, state);
      if (!place.last)
        give(memory.of(g, s + 1) + own.j * g.rows + own.row, cut, Multiply::encode(state.h));
    }
    if (s + 1 < steps) cluster::arrive();
    if (own.valid) {
      Cell::put(args, place, own.cell, state, made);
      args.h[place.at] = state.h;
      if (args.y != nullptr) args.y[place.at] = place.inside ? state.h : 0.f;
      if (place.last) args.h_n[own.cell] = state.h;
      if (!place.last) load(s + 1);
    }
    if (s + 1 < steps) cluster::wait();
  }
#endif
}

template <class Cell, class T>
__global__ void __launch_bounds__(kMostThreads, 1)
    sequence_bwd_kernel(SequenceBwdArgs args, Cut cut) {
#ifdef FASTNN_HAS_CLUSTERS
  FASTNN_DYNAMIC_SHARED(unsigned char, shared);
  constexpr Form kForm = form_of<Cell, T>(true);
  using Multiply = Product<T, kForm.each>;
  const Sequence& sequence = args.sequence;
  const int64_t width = sequence.width;
  const Geometry g(kForm, width, cut);
  const Memory<T> memory(shared, g);
  const Own own(sequence, cut);
  Multiply::load(g, {args.w, width, int64_t{cluster::rank()} * cut.units, kForm, cut.units},
                 memory.w);
  typename Cell::StateGradient d{};
  typename Cell::Saved saved{};
  Place place{};
  const auto load = [&](int64_t s) {
    place = own.at(sequence, s);
    saved = Cell::load(args, place);
  };
  if (own.valid) {
    d.dh = args.dh[own.cell];
    if constexpr (requires { d.dc; }) d.dc = args.dc[own.cell];
    load(sequence.steps - 1);
  }
  cluster::arrive();
  cluster::wait();
  for (int64_t s = sequence.steps - 1; s >= 0; --s) {
    float* v = memory.of(g, s);
    const bool goes_back = s > 0 || args.to_state;
    float dz[Cell::kGates] = {}, n = 0.f;
    if (own.valid) {
      Cell::step_back(place, saved, args.sign, d, dz, n);
      FASTNN_UNROLL
      for (int k = 0; k < Cell::kGates; ++k)
        if (goes_back)
          give(v + (k * width + own.j) * g.rows + own.row, cut, Multiply::encode(dz[k]));
    }
    if (goes_back) cluster::arrive();
    if (own.valid) {
      Cell::put_back(args, place, dz, n);
      if (s > 0) load(s - 1);
    }
    if (!goes_back) break;
    cluster::wait();
    Multiply::multiply(g, memory.w, v, memory.sums);
    __syncthreads();
    if (own.valid) d.dh = add_sums(g, memory.sums, own.unit, own.row, d.dh);
  }
  if (!own.valid) return;
  args.dh[own.cell] = d.dh;
  if constexpr (requires { d.dc; }) args.dc[own.cell] = d.dc;
#endif
}

}  // namespace fastnn::sequence
