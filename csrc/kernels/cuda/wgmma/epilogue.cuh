// The end of a tile of C: what follows the sums, and rows of it to memory. Each warp has 16 rows;
// they go through its own part of shared memory, so that whole rows are read from C and written.
// 16-bit results of no more than bias and ReLU are rounded in registers and stored there as
// matrices; others go as float32, and one text has the choice of activations. Invariant: nothing
// outside of C is touched, however it is cut and aligned.
#pragma once
#include "job.h"

#ifdef FASTNN_HAS_WGMMA
namespace fastnn::wgmma {
namespace {

template <class T>
__device__ __forceinline__ uint32_t pair_of(float low, float high) {
  return from_float<T>(low).bits | uint32_t{from_float<T>(high).bits} << 16;
}
// bias[col], zero where there is none.
template <class T>
__device__ __forceinline__ float bias_at(const Job<T>& job, int64_t col) {
  return job.bias != nullptr && col < job.n ? to_float(job.bias[col]) : 0.f;
}

// Of the slab kFrom / 64: sums + bias, rounded.
template <class T, class Tile, int kFrom, int kCount>
__device__ __forceinline__ void stage_rounded(const Job<T>& job, const float (&d)[kCount],
                                              int64_t col, T* staged) {
  const int lane = static_cast<int>(threadIdx.x) % kWarp;
  T* row = staged + (lane % 8 + lane / 8 % 2 * 8) * Tile::kPitch + lane / 16 * 8;
  FASTNN_UNROLL
  for (int q = 0; q < 8; ++q) {
    uint32_t x[4];
    FASTNN_UNROLL
    for (int half = 0; half < 2; ++half) {
      const int64_t c = col + 16 * q + 8 * half + lane % 4 * 2;
      const float b0 = bias_at(job, c), b1 = bias_at(job, c + 1);
      FASTNN_UNROLL
      for (int down = 0; down < 2; ++down) {
        const int i = kFrom + 8 * q + 4 * half + 2 * down;
        float v0 = d[i] + b0, v1 = d[i + 1] + b1;
        if (job.ending.activation == blas::kReluActivation)
          v0 = Relu::fwd(v0, 0.f), v1 = Relu::fwd(v1, 0.f);
        x[2 * half + down] = pair_of<T>(v0, v1);
      }
    }
    store_matrices(row + 16 * q, x);
  }
}

// The sums as they are.
template <class Tile, int kFrom, int kCount>
__device__ __forceinline__ void stage_sums(const float (&d)[kCount], float* staged) {
  const int lane = static_cast<int>(threadIdx.x) % kWarp;
  float* at = staged + lane / 4 * Tile::kPitch + lane % 4 * 2;
  FASTNN_UNROLL
  for (int i = 0; i < 64; i += 2)
    *reinterpret_cast<Vec<float, 2>*>(at + i / 2 % 2 * 8 * Tile::kPitch +
                                      i / 4 * 8) = {{d[kFrom + i], d[kFrom + i + 1]}};
}

// Rows that are rounded: two at a time, 16 bytes for each lane.
template <class T, class Tile>
__device__ __forceinline__ void write_rounded(const Job<T>& job, int64_t row, int64_t col, T* to,
                                              const T* staged) {
  constexpr int kCount = 8, kLanes = Tile::kSlab / kCount;
  const int lane = static_cast<int>(threadIdx.x) % kWarp, x = lane % kLanes * kCount;
  FASTNN_UNROLL
  for (int i = 0; i < 16; i += kWarp / kLanes) {
    const int r = i + lane / kLanes;
    if (row + r >= job.m || col + x >= job.n) continue;
    T* at = to + (row + r) * job.ldc + col + x;
    store(at, *reinterpret_cast<const Vec<T, kCount>*>(staged + r * Tile::kPitch + x),
          job.n - col - x, aligned_for<Vec<T, kCount>>(at));
  }
}

// `left` of four numbers, rounded.
template <class T>
__device__ __forceinline__ void put(T* to, const float (&v)[4], int64_t left) {
  uint32_t words[sizeof(T)];
  FASTNN_UNROLL
  for (int j = 0; j < 4; j += 4 / sizeof(T))
    if constexpr (sizeof(T) == 2)
      words[j / 2] = pair_of<T>(v[j], v[j + 1]);
    else
      words[j] = static_cast<uint32_t>(to_bits(v[j]));
  if (left >= 4 && reinterpret_cast<uintptr_t>(to) % sizeof words == 0)
    return store_words(to, words);
  FASTNN_UNROLL
  for (int j = 0; j < 4; ++j)
    if (j < left) to[j] = from_float<T>(v[j]);
}

// Rows of sums: one at a time, four numbers for each lane, which so has sums of its columns.
template <class T, class Tile>
__device__ __forceinline__ void write_sums(const Job<T>& job, const Place& at, int64_t row,
                                           int64_t col, const float* staged) {
  constexpr int kCount = 4;
  const int x = static_cast<int>(threadIdx.x) % kWarp * kCount;
  const int64_t left = job.n - col - x;
  if (left <= 0) return;
  float bias[kCount];
  FASTNN_UNROLL
  for (int j = 0; j < kCount; ++j) bias[j] = bias_at(job, col + x + j);
  float total[kCount] = {};
  FASTNN_NO_UNROLL
  for (int r = 0; r < kGemmSumRows && row + r < job.m; ++r) {
    const auto sums = *reinterpret_cast<const Vec<float, kCount>*>(staged + r * Tile::kPitch + x);
    const int64_t place = at.item * job.c_step + (row + r) * job.ldc + col + x;
    float v[kCount];
    FASTNN_UNROLL
    for (int j = 0; j < kCount; ++j) v[j] = sums.v[j];
    if (job.c != nullptr) {
      const T* from = job.c + place;
      const auto c = load<kCount>(from, left, aligned_for<Vec<T, kCount>>(from));
      FASTNN_UNROLL
      for (int j = 0; j < kCount; ++j) v[j] = to_float(c.v[j]) + v[j];
    }
    FASTNN_UNROLL
    for (int j = 0; j < kCount; ++j) v[j] += bias[j];
    end(job.ending, place, left, v, put<T>);
    put(job.d + place, v, left);
    FASTNN_UNROLL
    for (int j = 0; j < kCount; ++j) total[j] += to_float(from_float<T>(v[j]));
  }
  if (job.sums != nullptr && row < job.m)
    put(job.sums + row / kGemmSumRows * job.n + col + x, total, left);
}

// The 16 rows of this warp, from the sums `d` of the tile at `at`.
template <class T, class Tile, int kCount>
__device__ __forceinline__ void finish(const Job<T>& job, const Place& at, const float (&d)[kCount],
                                       unsigned char* shared) {
  const int warp = (static_cast<int>(threadIdx.x) - kGroup) / kWarp;
  auto* staged = reinterpret_cast<float*>(shared + Tile::kStagedAt) + warp * 16 * Tile::kPitch;
  const int64_t row = at.row + 16 * warp;
  FASTNN_NO_UNROLL
  for (int slab = 0; slab < Tile::kWidth / Tile::kSlab; ++slab) {
    const int64_t col = at.col + slab * Tile::kSlab;
    __syncwarp();  // the last slab has been read
    if constexpr (sizeof(T) == 2) {
      if (job.in_registers) {
        auto* as_rounded = reinterpret_cast<T*>(staged);
        if (slab == 0) stage_rounded<T, Tile, 0>(job, d, col, as_rounded);
        if constexpr (kCount > 64)
          if (slab == 1) stage_rounded<T, Tile, 64>(job, d, col, as_rounded);
        __syncwarp();
        write_rounded<T, Tile>(job, row, col, job.d + at.item * job.c_step, as_rounded);
        continue;
      }
    }
    if (slab == 0) stage_sums<Tile, 0>(d, staged);
    if constexpr (kCount > 64)
      if (slab == 1) stage_sums<Tile, 64>(d, staged);
    __syncwarp();
    write_sums<T, Tile>(job, at, row, col, staged);
  }
}

}  // namespace
}  // namespace fastnn::wgmma
#endif
