// Philox4x32 with 7 rounds (Salmon et al. 2011, "Parallel random numbers: as easy as 1, 2, 3"):
// the 128-bit counter and the 64-bit key determine four 32-bit words, so that any element of any
// stream can be drawn alone, on any thread and any device, and nothing is stored.
//
//   key     = (seed low, seed high)
//   counter = (block low, block high, offset low, offset high); the top byte of the offset names
//   the
//             stream, the rest counts draws
#pragma once
#include "primitives.h"

namespace fastnn {

enum class Stream : uint8_t { kInit, kShuffle, kDropout, kAugment };

namespace {

constexpr int kPhiloxRounds = 7;
constexpr int64_t kLanesPerBlock = 8;  // 16-bit lanes, low half of each word first

struct PhiloxBlock {
  uint32_t word[4];
};

FASTNN_FN PhiloxBlock philox(uint64_t block, uint64_t offset, uint64_t seed) {
  uint32_t c0 = uint32_t(block), c1 = uint32_t(block >> 32);
  uint32_t c2 = uint32_t(offset), c3 = uint32_t(offset >> 32);
  uint32_t k0 = uint32_t(seed), k1 = uint32_t(seed >> 32);
  for (int round = 0; round < kPhiloxRounds; ++round) {
    const uint64_t p0 = uint64_t{0xD2511F53} * c0, p1 = uint64_t{0xCD9E8D57} * c2;
    c0 = uint32_t(p1 >> 32) ^ c1 ^ k0;
    c1 = uint32_t(p1);
    c2 = uint32_t(p0 >> 32) ^ c3 ^ k1;
    c3 = uint32_t(p0);
    k0 += 0x9E3779B9;
    k1 += 0xBB67AE85;
  }
  return {{c0, c1, c2, c3}};
}

// Uniform on [0, 1): the top 24 bits, so that every value is a float.
FASTNN_FN float uniform01(uint32_t word) { return float(int32_t(word >> 8)) * 0x1p-24f; }

}  // namespace
}  // namespace fastnn
