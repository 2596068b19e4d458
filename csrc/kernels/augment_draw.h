// What a transform draws, word by word, and the little mathematics that turns words into angles,
// sides and rates. In float64: an image of 2^16 pixels is not placed by a float. A product that is
// added to something is a mad, with 0 where it is to be rounded, so that no compiler has a choice.
#pragma once
#include "families/augment.h"
#include "philox.h"

// Before a loop that is not worth unrolling: draws take much code, and are few.
#ifdef __CUDACC__
#define FASTNN_ROLLED _Pragma("unroll 1")
#else
#define FASTNN_ROLLED
#endif

namespace fastnn {
namespace {

constexpr int kSampleBits = 24;  // blocks of a transform and sample
constexpr int kSlotBits = 48;    // of the offset: what lies below is the epoch
constexpr double kPi = 3.141592653589793;

// The words of one transform (its `slot` in the program) for one sample.
struct Words {
  uint64_t block, offset, seed;
  PhiloxBlock current{};
  int used = 4;
  FASTNN_PART Words(const RngDraw& draw, int64_t sample, int slot)
      : block(static_cast<uint64_t>(sample) << kSampleBits),
        offset(draw.offset + (static_cast<uint64_t>(slot) << kSlotBits)),
        seed(draw.seed) {}
  FASTNN_PART uint32_t next() {
    if (used == 4) {
      current = philox(block++, offset, seed);
      used = 0;
    }
    return word_of(current, used++);
  }
  FASTNN_PART float uniform() { return uniform01(next()); }
  FASTNN_PART bool happens(float p) { return uniform() < p; }
  FASTNN_PART double range(float lo, float hi) {
    return mad(static_cast<double>(hi) - lo, static_cast<double>(uniform()),
               static_cast<double>(lo));
  }
  FASTNN_PART int below(int n) {
    return static_cast<int>((static_cast<uint64_t>(next()) * static_cast<uint64_t>(n)) >> 32);
  }
  // exp(U(log lo, log hi))
  FASTNN_PART double ratio(float lo, float hi) {
    return exp(mad(log(hi) - log(lo), uniform(), log(lo)));
  }
  // Pixels have blocks of their own: 4 words each, from here on.
  FASTNN_PART RngDraw pixels() const { return {seed, offset}; }
  FASTNN_PART uint64_t first_pixel_block() const {
    return (block >> kSampleBits << kSampleBits) + 256;
  }
};

FASTNN_PART double floor(double x) {
  const double whole = static_cast<double>(static_cast<int64_t>(x));
  return whole > x ? whole - 1 : whole;
}
FASTNN_PART int round_half_up(double x) { return static_cast<int>(floor(x + 0.5)); }
FASTNN_PART double square_root(double x) {
#ifdef __CUDA_ARCH__
  return __dsqrt_rn(x);
#else
  return __builtin_sqrt(x);
#endif
}

// sin(x) for any angle worth the name: x less whole turns, then the Taylor series on [-pi/2, pi/2],
// whose first missing term is below 1e-13.
FASTNN_PART double sine(double x) {
  const double turns = floor(x / (2 * kPi) + 0.5);
  double r = mad(-turns, 2 * kPi, x);
  r = r > kPi / 2 ? kPi - r : r < -kPi / 2 ? -kPi - r : r;
  const double r2 = r * r;
  double sum = 1;
  FASTNN_ROLLED
  for (int k = 8; k > 0; --k) sum = 1 - sum * r2 / (2 * k * (2 * k + 1));
  return r * sum;
}
FASTNN_PART double cosine(double x) { return sine(x + kPi / 2); }

// Numbers 0 ... n - 1 in random order, n <= kMostInOrder: digits of 4 bits.
constexpr int kMostInOrder = 16;
struct Order {
  uint64_t digits = 0xfedcba9876543210;
  int n;
  FASTNN_PART Order(Words& words, int n) : n(n) {
    FASTNN_ROLLED
    for (int i = n - 1; i > 0; --i) {
      const int j = words.below(i + 1);
      const uint64_t differ = (digits >> 4 * i ^ digits >> 4 * j) & 0xf;
      digits ^= differ << 4 * i | differ << 4 * j;
    }
  }
  FASTNN_PART int operator[](int i) const { return static_cast<int>(digits >> 4 * i & 0xf); }
  FASTNN_PART int after(int number) const {  // n after the last one
    int i = 0;
    while ((*this)[i] != number) ++i;
    return i + 1 < n ? (*this)[i + 1] : n;
  }
};

// A policy's value: base + sign (lo + (hi - lo) u), u uniform, or one of `bins` even steps.
constexpr int kSigned = 2;
FASTNN_PART double draw_value(const AugmentOp& op, Words& words) {
  const auto bins = static_cast<int>(op.v[3]);
  double value = op.v[1];
  if (bins > 1)
    value += (static_cast<double>(op.v[2]) - op.v[1]) * words.below(bins) / (bins - 1);
  else if (op.v[1] != op.v[2])
    value = words.range(op.v[1], op.v[2]);
  if ((op.flags & kSigned) && words.happens(0.5f)) value = -value;
  return op.v[0] + value;
}

struct Box {
  int top, left, height, width;
};

// A box of a random share of the area and a random ratio of its sides, w / h; ten tries to make it
// fit. None: a height of 0. (Szegedy et al. 2015, "Going deeper with convolutions"; as
// torchvision.)
FASTNN_PART Box random_box(Words& words, const float* v, int height, int width, bool tall) {
  FASTNN_ROLLED
  for (int tries = 0; tries < 10; ++tries) {
    const double area = words.range(v[0], v[1]) * height * width;
    const double aspect = words.ratio(v[2], v[3]);
    const int a = round_half_up(square_root(area * aspect)),
              b = round_half_up(square_root(area / aspect));
    const int h = tall ? a : b, w = tall ? b : a;
    if (h < 1 || w < 1 || h > height || w > width || (tall && (h == height || w == width)))
      continue;
    const int top = words.below(height - h + 1), left = words.below(width - w + 1);
    return {top, left, h, w};
  }
  return {0, 0, 0, 0};
}

// The logarithm of a Gamma(alpha, 1) draw: Marsaglia and Tsang 2000, "A simple method for
// generating gamma variables"; below 1 it is Gamma(alpha + 1) u^(1 / alpha), whose logarithm does
// not underflow.
FASTNN_PART float log_gamma_draw(Words& words, float alpha) {
  const float a = alpha < 1 ? alpha + 1 : alpha;
  const float d = a - 1.f / 3, c = 1 / sqrt(9 * d);
  float result = log(d);
  FASTNN_ROLLED
  for (int tries = 0; tries < 64; ++tries) {
    const float x = standard_normal(words.next()), v1 = mad(c, x, 1.f);
    const float u = (float(int32_t(words.next() >> 8)) + 0.5f) * 0x1p-24f;
    if (v1 <= 0) continue;
    const float log_v1 = log(v1), rest = mad(3.f, log_v1, mad(-v1 * v1, v1, 1.f));
    if (log(u) < mad(d, rest, 0.5f * x * x)) {
      result = mad(3.f, log_v1, result);
      break;
    }
  }
  if (alpha >= 1) return result;
  const float u = (float(int32_t(words.next() >> 8)) + 0.5f) * 0x1p-24f;
  return result + log(u) / alpha;
}

// Beta(alpha, alpha) = G1 / (G1 + G2).
FASTNN_PART float beta_draw(Words& words, float alpha) {
  const float first = log_gamma_draw(words, alpha), second = log_gamma_draw(words, alpha);
  return sigmoid(first - second);
}

}  // namespace
}  // namespace fastnn
