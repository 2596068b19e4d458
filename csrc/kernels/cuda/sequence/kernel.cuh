// A sequence as one kernel of clusters. In each step a block multiplies its weights by what all
// blocks have left in its shared memory, its threads make a unit of a row each, and write that to
// all blocks of the cluster; then these meet. Global memory is written, and read for the next step,
// between arriving and waiting: to arrive is to wait for what was stored before. Clusters have
// nothing to do with one another, so any number of them may run at a time.
#pragma once
#include "cells.cuh"

namespace fastnn::sequence {

template <class Cell, class T>
constexpr Form form_of(bool backward) {
  return {Cell::kGates, backward ? 4 : Cell::kEach, backward, backward && Cell::kLastApart,
          static_cast<int32_t>(sizeof(T))};
}

#ifdef FASTNN_HAS_CLUSTERS
namespace {

template <class T>
struct Memory {
  T* w;         // [terms, lanes, each]: output o is number o / lanes of lane o % lanes
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

// The weights of a lane, in one access where they are as many as one may have.
template <int kEach, class T>
__device__ __forceinline__ void load_each(const T* x, float (&weights)[kEach]) {
  if constexpr (kEach == 4) {
    const auto all = *reinterpret_cast<const Vec<T, kEach>*>(x);
    FASTNN_UNROLL
    for (int e = 0; e < kEach; ++e) weights[e] = to_float(all.v[e]);
  } else {
    FASTNN_UNROLL
    for (int e = 0; e < kEach; ++e) weights[e] = to_float(x[e]);
  }
}

// y[o, row] by chains of k, each from zero.
template <int kEach, class T>
__device__ __forceinline__ void multiply(const Geometry& g, const T* w, const float* v,
                                         float* sums) {
  const int lanes = g.outputs / kEach, of_chain = lanes * (g.rows / kRowsEach);
  const int tasks = of_chain * g.chains(), first_chains = g.first_chains();
  FASTNN_NO_UNROLL
  for (int task = static_cast<int>(threadIdx.x); task < tasks;
       task += static_cast<int>(blockDim.x)) {
    const int chain = task / of_chain, lane = task % lanes;
    const int row = task % of_chain / lanes * kRowsEach;
    const bool first = chain < first_chains;
    const int begin = first ? chain * static_cast<int>(kGemmChain)
                            : g.first_terms + (chain - first_chains) * static_cast<int>(kGemmChain);
    const int end = at_most(begin + static_cast<int>(kGemmChain), first ? g.first_terms : g.terms);
    const T* x = w + begin * g.outputs + lane * kEach;
    const float* u = v + begin * g.rows + row;
    Vec<float, kRowsEach> sum[kEach] = {};
    FASTNN_UNROLL_BY(4)
    for (int k = begin; k < end; ++k, x += g.outputs, u += g.rows) {
      const auto rows = *reinterpret_cast<const Vec<float, kRowsEach>*>(u);
      float weights[kEach];
      load_each(x, weights);
      FASTNN_UNROLL
      for (int e = 0; e < kEach; ++e) {
        FASTNN_UNROLL
        for (int i = 0; i < kRowsEach; ++i) sum[e].v[i] = mad(rows.v[i], weights[e], sum[e].v[i]);
      }
    }
    float* to = sums + (chain * g.outputs + lane) * g.rows + row;
    FASTNN_UNROLL
    for (int e = 0; e < kEach; ++e)
      *reinterpret_cast<Vec<float, kRowsEach>*>(to + e * lanes * g.rows) = sum[e];
  }
}

// total + y[o, row], in the order of gemm_plan.h.
__device__ __forceinline__ float add_sums(const Geometry& g, const float* sums, int o, int row,
                                          float total) {
  constexpr int kOfBlock = static_cast<int>(kGemmKC / kGemmChain);
  const int first_chains = g.first_chains(), chains = g.chains();
  const float* from = sums + o * g.rows + row;
  float block = 0.f;
  for (int c = 0; c < chains; ++c, from += g.outputs * g.rows) {
    const int i = c < first_chains ? c : c - first_chains;
    if (i % kOfBlock == 0) {
      if (c > 0) total += block;
      block = *from;
    } else {
      block += *from;
    }
  }
  return total + block;
}

// The weights of this block's units; zeros where there is no such unit.
template <class T>
__device__ __forceinline__ void load_weights(const Geometry& g, const Cut& cut, const Form& form,
                                             const float* from, int64_t width, T* w) {
  const int64_t first = int64_t{cluster::rank()} * cut.units;
  const int lanes = g.outputs / form.each;
  for (int e = static_cast<int>(threadIdx.x); e < g.terms * g.outputs;
       e += static_cast<int>(blockDim.x)) {
    const int k = e / g.outputs, place = e % g.outputs;
    const int o = place % form.each * lanes + place / form.each, gate = o / cut.units;
    const int64_t j = first + o % cut.units;
    const bool valid = j < width && gate < (form.backward ? 1 : form.gates);
    const int64_t at = form.backward ? k * width + j : (gate * width + j) * width + k;
    w[e] = from_float<T>(valid ? from[at] : 0.f);
  }
}

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
  const Geometry g(kForm, width, cut);
  const Memory<T> memory(shared, g);
  const Own own(sequence, cut);
  load_weights(g, cut, kForm, args.w, width, memory.w);
  const int64_t first_row = own.r - own.row;
  for (int e = static_cast<int>(threadIdx.x); e < g.terms * g.rows;
       e += static_cast<int>(blockDim.x)) {
    const int64_t r = first_row + e % g.rows;
    memory.v[e] = r < sequence.rows ? or_zero(args.h_0, r * width + e / g.rows) : 0.f;
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
      multiply<Cell::kEach>(g, memory.w, memory.of(g, s), memory.sums);
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
      if (!place.last) give(memory.of(g, s + 1) + own.j * g.rows + own.row, cut, state.h);
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
  const Sequence& sequence = args.sequence;
  const int64_t width = sequence.width;
  const Geometry g(kForm, width, cut);
  const Memory<T> memory(shared, g);
  const Own own(sequence, cut);
  load_weights(g, cut, kForm, args.w, width, memory.w);
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
        if (goes_back) give(v + (k * width + own.j) * g.rows + own.row, cut, dz[k]);
    }
    if (goes_back) cluster::arrive();
    if (own.valid) {
      Cell::put_back(args, place, dz, n);
      if (s > 0) load(s - 1);
    }
    if (!goes_back) break;
    cluster::wait();
    multiply<kForm.each>(g, memory.w, v, memory.sums);
    __syncthreads();
    if (own.valid) d.dh = add_sums(g, memory.sums, own.unit, own.row, d.dh);
  }
  if (!own.valid) return;
  args.dh[own.cell] = d.dh;
  if constexpr (requires { d.dc; }) args.dc[own.cell] = d.dc;
#endif
}

}  // namespace fastnn::sequence
