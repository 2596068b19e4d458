// What a launch of wgmma kernels is told, how C is cut to tiles, and what shared memory holds.
#pragma once
#include "../ending.cuh"
#include "instructions.h"

namespace fastnn::wgmma {

inline constexpr int kGroup = 128;  // threads of a warpgroup
inline constexpr int kReaders = 2;  // warpgroups that multiply, of 64 rows each
inline constexpr int kThreads = kGroup * (1 + kReaders);  // the first warpgroup has tiles filled
inline constexpr int kReaderWarps = kReaders * kGroup / kWarp;
inline constexpr int kRows = 64 * kReaders;  // of a tile of C
// Registers of a thread: those of the launch are shared out anew.
inline constexpr int kWriterRegisters = 40, kReaderRegisters = 232;
static_assert(kGroup * (kWriterRegisters + kReaders * kReaderRegisters) <= 65536);

// D = A B + C + bias and what follows; the maps have axes (contiguous, the other one, item).
template <class T>
struct Job {
  TensorMap a, b;
  const T *c, *bias;  // null: nothing is added
  T* d;
  Ending<T> ending;
  float* sums;  // of D's columns, for each kGemmSumRows rows; or null
  int64_t m, n, k, ldc, items, c_step;
  int32_t a_items, b_items;  // 0: the same factor for all items
  bool in_registers;         // no more than a bias and ReLU follows the sums
};

// A tile of kRows x kCols, and how much of k is in shared memory at a time.
template <class T, int kCols, bool kAAlongK, bool kBAlongK>
struct Tile {
  using A = Factor<sizeof(T), kRows, kAAlongK>;
  using B = Factor<sizeof(T), kCols, kBAlongK>;
  static constexpr int kWidth = kCols;
  static constexpr int kStages = kCols == 256 ? 3 : 4;
  static constexpr uint32_t kStageBytes = A::kBytes + B::kBytes;

  // The end of a tile goes through shared memory, 128 columns at a time, 16 rows for each warp.
  // The pitch lets rows start in other banks, as 16-bit numbers and as float32.
  static constexpr int kSlab = 128, kPitch = kSlab + 8;
  static constexpr uint32_t kStagedBytes = 16 * kPitch * sizeof(float);
  static constexpr uint32_t kStagedAt = kStages * kStageBytes;
  static constexpr uint32_t kBarriersAt = kStagedAt + kReaderWarps * kStagedBytes;
  static constexpr uint32_t kSharedBytes = kBarriersAt + 2 * kStages * sizeof(Barrier);
  static_assert(kSharedBytes <= 227 << 10);
};

// Where a tile lies. Eight rows of tiles are taken together, column by column, so that blocks that
// run at one time share tiles of both factors in L2.
struct Place {
  int64_t item, row, col;
};
__host__ __device__ __forceinline__ Place place_of(int64_t tile, int64_t down, int64_t across,
                                                   int width) {
  constexpr int64_t kTogether = 8;
  const int64_t in_item = tile % (down * across), band = in_item / (kTogether * across);
  const int64_t first = band * kTogether, in_band = in_item - first * across;
  const int64_t high = down - first < kTogether ? down - first : kTogether;
  return {tile / (down * across), (first + in_band % high) * kRows, in_band / high * width};
}

}  // namespace fastnn::wgmma
