// C = A B on the tensor cores of sm_90: a block keeps a ring of tiles of both factors in shared
// memory. One thread of the first warpgroup has TMA fill them, the two others multiply, each 64
// rows of the block's tile of C. Tiles beyond the edges are zeros, so every size is served. While
// the end of a tile of C is written, those of the next one arrive. Invariant: a stage is filled
// again when all its readers' products are done, which the barriers say.
#pragma once
#include "epilogue.cuh"
#include "ring.h"

namespace fastnn::wgmma {
namespace {

#ifdef FASTNN_HAS_WGMMA

// Calls each(place) for the tiles of this block, on both sides in the same order.
template <class T, class Tile, class F>
__device__ __forceinline__ void each_tile(const Job<T>& job, F each) {
  const int64_t down = ceil_div(job.m, kRows), across = ceil_div(job.n, Tile::kWidth);
  for (int64_t t = blockIdx.x; t < job.items * down * across; t += gridDim.x)
    each(place_of(t, down, across, Tile::kWidth));
}

template <class Factor>
__device__ __forceinline__ void load_factor(unsigned char* to, const TensorMap* map, Barrier* full,
                                            int64_t first, int64_t k, int64_t item) {
  const auto side = static_cast<int32_t>(first), depth = static_cast<int32_t>(k),
             of = static_cast<int32_t>(item);
  if constexpr (Factor::kIsAlongK) {
    load_tile(to, map, full, depth, side, of);
  } else {
    FASTNN_UNROLL
    for (int i = 0; i < Factor::kBlocks; ++i)
      load_tile(to + i * Factor::kBlockBytes, map, full, side + i * Factor::kBlock, depth, of);
  }
}

template <class T, class Tile>
__device__ __forceinline__ void fill(const Job<T>& job, unsigned char* shared,
                                     Ring<Tile::kStages> ring) {
  each_tile<T, Tile>(job, [&](const Place& at) {
    for (int64_t k = 0; k < job.k; k += Tile::A::kDepth) {
      ring.wait_empty();
      arrive_expecting(ring.full(), Tile::kStageBytes);
      unsigned char* stage = shared + ring.stage * Tile::kStageBytes;
      load_factor<typename Tile::A>(stage, &job.a, ring.full(), at.row, k, at.item * job.a_items);
      load_factor<typename Tile::B>(stage + Tile::A::kBytes, &job.b, ring.full(), at.col, k,
                                    at.item * job.b_items);
      ring.next();
    }
  });
}

template <class T, class Tile>
__device__ __forceinline__ void multiply_all(const Job<T>& job, unsigned char* shared,
                                             Ring<Tile::kStages> ring) {
  const int rows = (static_cast<int>(threadIdx.x) - kGroup) / kGroup * 64;
  const bool speaks = threadIdx.x % kWarp == 0;
  const uint32_t stages = shared_address(shared);
  each_tile<T, Tile>(job, [&](const Place& at) {
    float d[Tile::kWidth / 2];
    FASTNN_UNROLL
    for (float& sum : d) sum = 0.f;
    int last = -1;
    for (int64_t k = 0; k < job.k; k += Tile::A::kDepth) {
      const uint32_t a = stages + static_cast<uint32_t>(ring.stage) * Tile::kStageBytes;
      ring.wait_full();
      fence();
      FASTNN_UNROLL
      for (int step = 0; step < Tile::A::kDepth / Tile::A::kStep; ++step)
        multiply<T, Tile::kWidth, Tile::A::kIsAlongK, Tile::B::kIsAlongK>(
            d, Tile::A::at(a, rows, step), Tile::B::at(a + Tile::A::kBytes, 0, step));
      commit();
      wait_products<1>();  // those of the stage before
      if (last >= 0 && speaks) ring.release(last);
      last = ring.stage;
      ring.next();
    }
    wait_products<0>();
    settle(d);
    if (speaks) ring.release(last);
    finish<T, Tile>(job, at, d, shared);
  });
}

#endif  // FASTNN_HAS_WGMMA

template <class T, class Tile>
__global__ void __launch_bounds__(kThreads, 1) wgmma_kernel(const FASTNN_GRID_CONSTANT Job<T> job) {
#ifdef FASTNN_HAS_WGMMA
  FASTNN_DYNAMIC_SHARED(unsigned char, shared);
  Ring<Tile::kStages> ring{reinterpret_cast<Barrier*>(shared + Tile::kBarriersAt)};
  if (threadIdx.x == 0) ring.initialise_all(kReaderWarps);
  __syncthreads();
  if (threadIdx.x < kGroup) {
    give_registers<kWriterRegisters>();
    if (threadIdx.x == 0) fill<T, Tile>(job, shared, ring);
  } else {
    take_registers<kReaderRegisters>();
    multiply_all<T, Tile>(job, shared, ring);
  }
#endif
}

}  // namespace
}  // namespace fastnn::wgmma
