// The product of a block in each step, y[o, row] = sum over k of w[k, o] v[k, row]: of float32 by
// FMA, in the order of gemm_plan.h; of bfloat16 weights by tensor cores, where v is two bfloat16,
// whose sum has 16 bits of a number. Chains of k are made apart, each from zero.
#pragma once
#include "../engine.cuh"
#include "../mma.h"
#include "cut.h"

namespace fastnn::sequence {
#ifdef FASTNN_HAS_CLUSTERS
namespace {

// Terms [begin, end) of a chain.
struct Chain {
  int begin, end;
  __device__ __forceinline__ Chain(const Geometry& g, int chain) {
    const int first_chains = g.first_chains();
    const bool first = chain < first_chains;
    constexpr int kLength = static_cast<int>(kGemmChain);
    begin = first ? chain * kLength : g.first_terms + (chain - first_chains) * kLength;
    end = at_most(begin + kLength, first ? g.first_terms : g.terms);
  }
};

// Element (k, o) of the weights of this block's units; 0 where there is none.
struct WeightsOfBlock {
  const float* from;
  int64_t width, first;
  const Form& form;
  int units;
  __device__ __forceinline__ float operator()(int k, int o) const {
    const int gate = o / units;
    const int64_t j = first + o % units;
    if (j >= width || gate >= (form.backward ? 1 : form.gates)) return 0.f;
    return from[form.backward ? k * width + j : (gate * width + j) * width + k];
  }
};

template <class T, int kEach>
struct Product;

// w is [terms, lanes, each], so that a lane's weights are neighbours; output o is number o / lanes
// of lane o % lanes. A thread has some outputs of kRowsEach rows.
template <int kEach>
struct Product<float, kEach> {
  static __device__ __forceinline__ float encode(float x) { return x; }

  static __device__ __forceinline__ void load(const Geometry& g, const WeightsOfBlock& weights,
                                              float* w) {
    const int lanes = g.outputs / kEach;
    for (int e = static_cast<int>(threadIdx.x); e < g.terms * g.outputs;
         e += static_cast<int>(blockDim.x)) {
      const int place = e % g.outputs;
      w[e] = weights(e / g.outputs, place % kEach * lanes + place / kEach);
    }
  }
  // In one access where they are as many as one may have.
  static __device__ __forceinline__ void load_each(const float* x, float (&weights)[kEach]) {
    if constexpr (kEach == 4) {
      const auto all = *reinterpret_cast<const Vec<float, kEach>*>(x);
      FASTNN_UNROLL
      for (int e = 0; e < kEach; ++e) weights[e] = all.v[e];
    } else {
      FASTNN_UNROLL
      for (int e = 0; e < kEach; ++e) weights[e] = x[e];
    }
  }

  static __device__ __forceinline__ void multiply(const Geometry& g, const float* w, const float* v,
                                                  float* sums) {
    const int lanes = g.outputs / kEach, of_chain = lanes * (g.rows / kRowsEach);
    const int tasks = of_chain * g.chains();
    FASTNN_NO_UNROLL
    for (int task = static_cast<int>(threadIdx.x); task < tasks;
         task += static_cast<int>(blockDim.x)) {
      const int chain = task / of_chain, lane = task % lanes;
      const int row = task % of_chain / lanes * kRowsEach;
      const Chain terms(g, chain);
      const float* x = w + terms.begin * g.outputs + lane * kEach;
      const float* u = v + terms.begin * g.rows + row;
      Vec<float, kRowsEach> sum[kEach] = {};
      FASTNN_UNROLL_BY(4)
      for (int k = terms.begin; k < terms.end; ++k, x += g.outputs, u += g.rows) {
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
};

// w is [chains, depth / 16, outputs / 16, lanes], each the 8 weights that a lane has of A (mma.h).
// A warp has 16 outputs of 8 rows of a chain.
template <int kEach>
struct Product<bf16, kEach> {
  static constexpr int kTiles = static_cast<int>(kGemmChain) / mma::kDepth;  // of a chain

  // The number, and what that leaves of it, as a pair in the place of a float.
  static __device__ __forceinline__ float encode(float x) {
    const bf16 high = from_float<bf16>(x), low = from_float<bf16>(x - to_float(high));
    return from_bits(static_cast<int32_t>(uint32_t{high.bits} | uint32_t{low.bits} << 16));
  }

  static __device__ __forceinline__ void load(const Geometry& g, const WeightsOfBlock& weights,
                                              bf16* w) {
    const int across = g.outputs / mma::kRows;
    const int count = g.chains() * kTiles * across * kWarp * 8;
    for (int e = static_cast<int>(threadIdx.x); e < count; e += static_cast<int>(blockDim.x)) {
      const int i = e / 2 % 4, lane = e / 8 % kWarp, tile = e / (8 * kWarp);
      const int depth = 2 * (lane % 4) + e % 2 + 8 * (i / 2);
      const int o = tile % across * mma::kRows + lane / 4 + 8 * (i % 2), step = tile / across;
      const Chain terms(g, step / kTiles);
      const int k = terms.begin + step % kTiles * mma::kDepth + depth;
      w[e] = from_float<bf16>(k < terms.end ? weights(k, o) : 0.f);
    }
  }

  static __device__ __forceinline__ void multiply(const Geometry& g, const bf16* w, const float* v,
                                                  float* sums) {
    const int across = g.outputs / mma::kRows, of_chain = across * (g.rows / mma::kCols);
    const int lane = static_cast<int>(threadIdx.x) % kWarp, group = lane / 4, in_group = lane % 4;
    const int warps = static_cast<int>(blockDim.x) / kWarp, tasks = of_chain * g.chains();
    FASTNN_NO_UNROLL
    for (int task = static_cast<int>(threadIdx.x) / kWarp; task < tasks; task += warps) {
      const int chain = task / of_chain, at = task % across;
      const int row = task % of_chain / across * mma::kCols;
      const Chain terms(g, chain);
      float d[4] = {};
      FASTNN_UNROLL
      for (int tile = 0; tile < kTiles; ++tile) {
        const int k = terms.begin + tile * mma::kDepth + 2 * in_group;
        const auto a = *reinterpret_cast<const Vec<uint32_t, 4>*>(
            w + (((chain * kTiles + tile) * across + at) * kWarp + lane) * 8);
        uint32_t high[2], low[2];
        FASTNN_UNROLL
        for (int i = 0; i < 2; ++i) {
          const uint32_t x = pair(g, v, k + 8 * i, terms.end, row + group);
          const uint32_t y = pair(g, v, k + 8 * i + 1, terms.end, row + group);
          high[i] = (x & 0xffff) | y << 16, low[i] = x >> 16 | (y & 0xffff0000);
        }
        mma::multiply(d, a.v, low);
        mma::multiply(d, a.v, high);
      }
      float* to =
          sums + (chain * g.outputs + at * mma::kRows + group) * g.rows + row + 2 * in_group;
      to[0] = d[0], to[1] = d[1];
      to[8 * g.rows] = d[2], to[8 * g.rows + 1] = d[3];
    }
  }

 private:
  static __device__ __forceinline__ uint32_t pair(const Geometry& g, const float* v, int k, int end,
                                                  int row) {
    return k < end ? static_cast<uint32_t>(to_bits(v[k * g.rows + row])) : 0;
  }
};

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

}  // namespace
#endif  // FASTNN_HAS_CLUSTERS
}  // namespace fastnn::sequence
