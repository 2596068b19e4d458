// Where wgmma finds a factor in shared memory: the 64-bit matrix descriptor of the PTX ISA (section
// "Asynchronous Warpgroup Level Matrix Shared Memory Layout"), for tiles that TMA has written with
// its swizzle of 128 bytes. Such a tile is lines of 128 bytes, and the eight 16-byte parts of line
// i change places by part ^ (i % 8): the bits 4 to 6 of an address are xor-ed with its bits 7 to 9.
#pragma once
#include <cstdint>

#include "../port.h"

namespace fastnn::wgmma {

inline constexpr uint32_t kLineBytes = 128;
inline constexpr uint32_t kAtomBytes = 8 * kLineBytes;  // after so many the pattern repeats
inline constexpr uint64_t kSwizzle128 = 1;              // in the bits 62 and 63

// 16 bytes are the unit of all three fields, which have 14 bits each.
__host__ __device__ __forceinline__ constexpr uint64_t field(uint32_t bytes) {
  return (bytes & 0x3ffff) >> 4;
}

// `stride` lies between groups of 8 lines. `leading` lies between the blocks of 128 bytes that a
// factor is cut to whose lines do not run along k; where they do, it is not read.
__host__ __device__ __forceinline__ constexpr uint64_t descriptor(uint32_t address,
                                                                  uint32_t leading,
                                                                  uint32_t stride) {
  return field(address) | field(leading) << 16 | field(stride) << 32 | kSwizzle128 << 62;
}

// A factor of `kSide` rows or columns and 128 bytes of k, of elements of `kSize` bytes. Along k: a
// line is 128 bytes of k of one row or column. Else a line is 128 bytes of rows or columns at one
// k, and blocks of such lines follow one another.
template <int kSize, int kSide, bool kAlongK>
struct Factor {
  static constexpr bool kIsAlongK = kAlongK;
  static constexpr int kDepth = kLineBytes / kSize;  // of k in a tile
  static constexpr int kStep = 32 / kSize;           // of k in one instruction
  static constexpr int kBlock = kLineBytes / kSize;  // of rows or columns, where not along k
  static constexpr uint32_t kBlockBytes = kDepth * kLineBytes;
  static constexpr uint32_t kBytes = kSide * kLineBytes;
  static constexpr int kBlocks = kSide / kBlock;
  static_assert(kSide % kBlock == 0);

  // From row or column `first`, a multiple of 64, and the step `step` of k on.
  __device__ __forceinline__ static uint64_t at(uint32_t tile, int first, int step) {
    const auto side = static_cast<uint32_t>(first), k = static_cast<uint32_t>(step);
    if constexpr (kAlongK) return descriptor(tile + side * kLineBytes + k * 32, 0, kAtomBytes);
    return descriptor(tile + side / kBlock * kBlockBytes + k * kStep * kLineBytes, kBlockBytes,
                      kAtomBytes);
  }
};

}  // namespace fastnn::wgmma
