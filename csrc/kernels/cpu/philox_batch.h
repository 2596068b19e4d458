// Loops that give each element its own random bits, which are a function of (seed, offset,
// element): any split over threads draws the same, and drawing again gives the same.
#pragma once
#include "../families/random.h"
#include "../philox.h"
#include "loops.h"

namespace fastnn {
namespace {

// Sixteen Philox blocks side by side, so that the rounds vectorise; their 64 words, block by block,
// are 128 16-bit lanes in memory order (little endian).
struct PhiloxBatch {
  static constexpr int kBlocks = 16;
  uint32_t words[kBlocks * 4];
  FASTNN_FN PhiloxBatch(uint64_t first_block, RngDraw draw) {
    uint32_t w0[kBlocks], w1[kBlocks], w2[kBlocks], w3[kBlocks];
    for (int i = 0; i < kBlocks; ++i) {
      const PhiloxBlock block =
          philox(first_block + static_cast<uint64_t>(i), draw.offset, draw.seed);
      w0[i] = block.word[0];
      w1[i] = block.word[1];
      w2[i] = block.word[2];
      w3[i] = block.word[3];
    }
    for (int i = 0; i < kBlocks; ++i) {
      words[4 * i] = w0[i];
      words[4 * i + 1] = w1[i];
      words[4 * i + 2] = w2[i];
      words[4 * i + 3] = w3[i];
    }
  }
};

// Calls f(i, word) for the elements of a range that starts at a multiple of 64: element i has the
// 32-bit word i & 3 of block i >> 2. The calls are independent of each other.
template <class F>
FASTNN_FN void for_words(Range r, RngDraw draw, F f) {
  constexpr int kBatch = PhiloxBatch::kBlocks * 4;
  for (int64_t i = r.begin; i < r.end; i += kBatch) {
    const PhiloxBatch batch(static_cast<uint64_t>(i / 4), draw);
    const int count = static_cast<int>(r.end - i < kBatch ? r.end - i : kBatch);
#pragma GCC ivdep
    for (int l = 0; l < count; ++l) f(i + l, batch.words[l]);
  }
}

// The same for a range that starts at a multiple of 128 and elements that take 16 bits: lane i & 7
// of block i >> 3.
template <class F>
FASTNN_FN void for_lanes(Range r, RngDraw draw, F f) {
  constexpr int kBatch = PhiloxBatch::kBlocks * kLanesPerBlock;
  for (int64_t i = r.begin; i < r.end; i += kBatch) {
    const PhiloxBatch batch(static_cast<uint64_t>(i / kLanesPerBlock), draw);
    uint16_t lanes[kBatch];
    __builtin_memcpy(lanes, batch.words, sizeof lanes);
    const int count = static_cast<int>(r.end - i < kBatch ? r.end - i : kBatch);
#pragma GCC ivdep
    for (int l = 0; l < count; ++l) f(i + l, lanes[l]);
  }
}

}  // namespace
}  // namespace fastnn
