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

// A word by a number that is only known at run time, without an address: GPUs would need memory.
FASTNN_FN uint32_t word_of(const PhiloxBlock& b, int64_t i) {
  const uint32_t low = i == 0 ? b.word[0] : b.word[1], high = i == 2 ? b.word[2] : b.word[3];
  return i < 2 ? low : high;
}
FASTNN_FN uint32_t lane_of(const PhiloxBlock& b, int64_t i) {
  return (word_of(b, i / 2) >> (i % 2 * 16)) & 0xffff;
}

// From the counter c to the words, for one block or for many side by side: multiply(word, factor)
// is the product as {its high word, its low word}.
template <class Word, class Multiply>
FASTNN_FN void philox_rounds(Word (&c)[4], uint64_t seed, Multiply multiply) {
  uint32_t k0 = uint32_t(seed), k1 = uint32_t(seed >> 32);
  for (int round = 0; round < kPhiloxRounds; ++round) {
    const auto p0 = multiply(c[0], 0xD2511F53u), p1 = multiply(c[2], 0xCD9E8D57u);
    c[0] = p1.high ^ c[1] ^ k0;
    c[1] = p1.low;
    c[2] = p0.high ^ c[3] ^ k1;
    c[3] = p0.low;
    k0 += 0x9E3779B9;
    k1 += 0xBB67AE85;
  }
}

struct PhiloxMultiply {
  struct Product {
    uint32_t high, low;
  };
  FASTNN_FN Product operator()(uint32_t word, uint32_t factor) const {
    const uint64_t p = uint64_t{word} * factor;
    return {uint32_t(p >> 32), uint32_t(p)};
  }
};

FASTNN_FN PhiloxBlock philox(uint64_t block, uint64_t offset, uint64_t seed) {
  PhiloxBlock b{{uint32_t(block), uint32_t(block >> 32), uint32_t(offset), uint32_t(offset >> 32)}};
  philox_rounds(b.word, seed, PhiloxMultiply{});
  return b;
}

// Uniform on [0, 1): the top 24 bits, so that every value is a float.
FASTNN_FN float uniform01(uint32_t word) { return float(int32_t(word >> 8)) * 0x1p-24f; }

// Standard normal, by the inverse of its distribution function: the sign is the top bit, and |z| is
// exceeded with probability q, 23 more bits in the middle of their intervals, so that q and 1 - q
// are exact floats. The polynomials are those of Giles 2012, "Approximating the erfinv function".
FASTNN_FN float standard_normal(uint32_t word) {
  const float q = (float(int32_t(word >> 8 & 0x7fffff)) + 0.5f) * 0x1p-23f;
  const float w = -log(q * (2.f - q)), central = w - 2.5f, tail = sqrt(w) - 3.f;
  const float p =
      poly(central, 1.50140941f, 0.246640727f, -0.00417768164f, -0.00125372503f, 0.00021858087f,
           -4.39150654e-06f, -3.5233877e-06f, 3.43273939e-07f, 2.81022636e-08f);
  const float t =
      poly(tail, 2.83297682f, 1.00167406f, 0.00943887047f, -0.0076224613f, 0.00573950773f,
           -0.00367342844f, 0.00134934322f, 0.000100950558f, -0.000200214257f);
  return copysign(1.41421356f * (1.f - q) * (w < 5.f ? p : t), from_bits(int32_t(word)));
}

}  // namespace
}  // namespace fastnn
