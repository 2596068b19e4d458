// The scalar primitives every formula is made of: bits, bf16, min/max, elementary functions.
// Invariants: no branches, libm or intrinsics (selects only), so plain loops vectorise and CUDA
// runs the same text; right for all 2^32 inputs (tools/ulp_sweep.cc). Where the rounding of a*b+c
// matters it is written mad(a, b, c), so that every ISA with FMA gives the same bits. Coefficients
// are minimax fits, rounded to float one at a time with the rest refitted.
#pragma once

#include <cstdint>
#include <cstring>

#ifdef __CUDACC__
#define FASTNN_FN __host__ __device__ __forceinline__
#define FASTNN_PART FASTNN_FN
#else
#define FASTNN_FN [[gnu::always_inline]] inline
#define FASTNN_PART \
  inline  // larger: inlined as the compiler likes, but on a GPU, where calls need a stack
#endif

namespace fastnn {

// Outside of the anonymous namespace: arguments of kernels name it, and it has no code.
struct bf16 {
  uint16_t bits;
};

namespace {

constexpr float kInf = __builtin_inff();
constexpr float kNaN = __builtin_nanf("");

// ---- Bits ---------------------------------------------------------------------------------------

FASTNN_FN int32_t to_bits(float x) {
  int32_t i;
  memcpy(&i, &x, sizeof i);
  return i;
}

FASTNN_FN float from_bits(int32_t i) {
  float x;
  memcpy(&x, &i, sizeof x);
  return x;
}

FASTNN_FN float to_float(float x) { return x; }

FASTNN_FN float to_float(bf16 x) { return from_bits(static_cast<int32_t>(uint32_t{x.bits} << 16)); }

template <class T>
FASTNN_FN T from_float(float x);

template <>
FASTNN_FN float from_float<float>(float x) {
  return x;
}

// Nearest, ties to even. The carry of the rounding may overflow to inf, as it should; a NaN must
// not join in (its payload could carry into inf or into -0), so it is truncated and made quiet
// instead.
template <>
FASTNN_FN bf16 from_float<bf16>(float x) {
  const uint32_t u = static_cast<uint32_t>(to_bits(x));
  const uint32_t rounded = u + 0x7fffu + ((u >> 16) & 1u);
  const uint32_t quiet = u | 0x400000u;
  return bf16{static_cast<uint16_t>((x == x ? rounded : quiet) >> 16)};
}

FASTNN_FN float abs(float x) { return from_bits(to_bits(x) & 0x7fffffff); }

FASTNN_FN float copysign(float magnitude, float sign) {
  return from_bits((to_bits(magnitude) & 0x7fffffff) | (to_bits(sign) & INT32_MIN));
}

// Unlike the hardware's min and max, a NaN on either side is the result.
FASTNN_FN float min(float a, float b) { return (a < b) | (a != a) ? a : b; }
FASTNN_FN float max(float a, float b) { return (a > b) | (a != a) ? a : b; }

// ---- Building blocks ----------------------------------------------------------------------------

// The emulator rounds as the device does, if need be in software.
#if defined(__CUDA_ARCH__) || defined(__FMA__) || defined(__ARM_FEATURE_FMA) || \
    defined(FASTNN_EMULATOR)
#define FASTNN_HAS_FMA 1
#endif

// a * b + c: one rounding wherever the hardware has FMA, two where it has not (x86-64-v2).
FASTNN_FN float mad(float a, float b, float c) {
#if defined(__CUDA_ARCH__)
  return __fmaf_rn(a, b, c);
#elif defined(FASTNN_HAS_FMA)
  return __builtin_fmaf(a, b, c);
#else
  return a * b + c;
#endif
}

FASTNN_FN double mad(double a, double b, double c) {
#if defined(__CUDA_ARCH__)
  return __fma_rn(a, b, c);
#elif defined(FASTNN_HAS_FMA)
  return __builtin_fma(a, b, c);
#else
  return a * b + c;
#endif
}

// c[0] + c[1] x + c[2] x^2 + ... (Horner; vectorised loops hide its latency).
FASTNN_FN float poly(float, float c0) { return c0; }

template <class... C>
FASTNN_FN float poly(float x, float c0, C... rest) {
  return mad(poly(x, rest...), x, c0);
}

// Clamps that let NaN through. Two one-sided ones in a row would be merged into a three-way branch,
// which vectorises into twice the instructions, so both sides at once go through the magnitude.
FASTNN_FN float at_least(float x, float lo) { return x < lo ? lo : x; }
FASTNN_FN float at_most(float x, float hi) { return x > hi ? hi : x; }
FASTNN_FN float within(float x, float limit) { return copysign(at_most(abs(x), limit), x); }

FASTNN_FN int32_t at_least(int32_t n, int32_t lo) { return n < lo ? lo : n; }
FASTNN_FN int32_t at_most(int32_t n, int32_t hi) { return n > hi ? hi : n; }

// hi + lo == a * b. Without FMA the factors are cut into 12-bit halves, whose products are exact.
struct Sum2 {
  float hi, lo;
};

FASTNN_FN Sum2 two_product(float a, float b) {
  const float p = a * b;
#if defined(FASTNN_HAS_FMA)
  return {p, mad(a, b, -p)};
#else
  const float ah = from_bits(to_bits(a) & -4096), al = a - ah;
  const float bh = from_bits(to_bits(b) & -4096), bl = b - bh;
  return {p, ((ah * bh - p) + ah * bl + al * bh) + al * bl};
#endif
}

// a * b + c for |c| < |a * b| and all but one rounding even where there is no FMA; for the place
// that needs it.
FASTNN_FN float mad_once(float a, float b, float c) {
#if defined(FASTNN_HAS_FMA)
  return mad(a, b, c);
#else
  const Sum2 p = two_product(a, b);
  return p.hi + (c + p.lo);
#endif
}

// 2^n for -127 <= n <= 127 (n = -127 gives 0).
FASTNN_FN float pow2(int32_t n) { return from_bits((n + 127) << 23); }

// y 2^n for -250 <= n <= 250: in two steps, of which only the last can round, so denormal results
// are right.
FASTNN_FN float scale2(float y, int32_t n) { return y * pow2(n >> 1) * pow2(n - (n >> 1)); }

// m x = n ln 2 + m r, |m r| <= ln(2)/2, for m = kTimes, a power of two. Adding 1.5 * 2^23 rounds to
// an integer and leaves it in the low bits. kLn2Hi has 10 bits, so n * kLn2Hi is exact for |n| <
// 2^14 and no FMA is needed for an accurate r. s = 2^(n + bias) for -127 <= n + bias <= 127: what
// was added holds the exponent's own bias too, so a shift is all it takes.
struct Reduced {
  float r, s;
  int32_t n;
};

constexpr float kLog2e = 1.442695e+00f;
constexpr float kLn2 = 6.931472e-01f;
constexpr float kLn2Hi = 0.693359375f;
constexpr float kLn2Lo = -2.1219444e-04f;

template <int kBias>
constexpr float kRoundOff = 12582912.f + 127.f + kBias;

// The argument is hi + lo; the default is -0 because x + -0 is x to the compiler, and x + 0 is not.
template <int kBias, int kTimes>
FASTNN_FN Reduced reduce_near(float guess, float hi, float lo) {
  constexpr float kRound = kRoundOff<kBias>;
  const float t = mad(guess, kTimes * kLog2e, kRound);
  const float n = t - kRound;
  const float r = mad(n, -kLn2Hi / kTimes, hi);
  const int32_t bits = to_bits(t);
  return {mad(n, -kLn2Lo / kTimes, r) + lo, from_bits(bits << 23), bits - to_bits(kRound)};
}

template <int kBias = 0>
FASTNN_FN Reduced reduce(float hi, float lo = -0.f) {
  return reduce_near<kBias, 1>(hi + lo, hi, lo);
}

// For e^(-x/2) of x = hi + lo >= 0: x = r - 2 n ln 2, so it is 2^n e^(-r/2). One rounding of r
// instead of two, for the one place that needs it.
template <int kBias>
FASTNN_FN Reduced reduce_minus_half(Sum2 x) {
  constexpr float kRound = kRoundOff<kBias>;
  const float t = mad(x.hi, -0.5f * kLog2e, kRound);
  const float n = t - kRound;
  const float r = mad(n, 2.f * kLn2Hi, x.hi) + mad(n, 2.f * kLn2Lo, x.lo);
  const int32_t bits = to_bits(t);
  return {r, from_bits(bits << 23), bits - to_bits(kRound)};
}

// e^r - 1 = r + r^2 P(r) for |r| <= ln(2)/2, relative error 2^-26; this is P. With kOver, which is
// 1 or a power of two, e^(r / kOver) - 1 = r (1 / kOver + r P(r)) for r so many times as large.
template <int kOver = 1>
FASTNN_FN float expm1_coeffs(float r) {
  constexpr float k = 1.f / kOver, k2 = k * k, k4 = k2 * k2;
  return poly(r, 4.9999997e-01f * k2, 1.6666545e-01f * k2 * k, 4.1667465e-02f * k4,
              8.366424e-03f * k4 * k, 1.3868316e-03f * k4 * k2);
}

FASTNN_FN float expm1_poly(float r) { return mad(r * r, expm1_coeffs(r), r); }
FASTNN_FN float exp_poly(float r) { return mad(mad(r, expm1_coeffs(r), 1.f), r, 1.f); }

// log(1 + f) - f for 1 + f in [sqrt(1/2), sqrt(2)] as f^2 P(f), relative error 2^-27 of the
// logarithm.
FASTNN_FN float log1p_poly(float f) {
  const float p =
      poly(f, -4.9999988e-01f, 3.3333325e-01f, -2.500161e-01f, 2.0002005e-01f, -1.6608411e-01f,
           1.4180854e-01f, -1.3248068e-01f, 1.2912941e-01f, -7.6190524e-02f);
  return f * f * p;
}

// The k of x = 2^k (1 + f) with sqrt(1/2) <= 1 + f < sqrt(2), and that scale taken off the
// exponent. Unsigned, because inputs below zero (whose result is replaced) wrap around.
FASTNN_FN int32_t log_exponent(float x) {
  return static_cast<int32_t>(static_cast<uint32_t>(to_bits(x)) - 0x3f3504f3u) >> 23;
}

FASTNN_FN float unscale(float x, int32_t k) {
  return from_bits(
      static_cast<int32_t>(static_cast<uint32_t>(to_bits(x)) - (static_cast<uint32_t>(k) << 23)));
}

// k ln 2 + log(1 + f)
FASTNN_FN float log_sum(float k, float f) {
  return mad(k, kLn2Hi, f + mad(k, kLn2Lo, log1p_poly(f)));
}

// ---- Elementary functions -----------------------------------------------------------------------

FASTNN_FN float sqrt(float x) {
#ifdef __CUDA_ARCH__
  return __fsqrt_rn(x);
#else
  return __builtin_sqrtf(x);
#endif
}

FASTNN_FN float rsqrt(float x) { return 1.f / sqrt(x); }

// e^x = 2^n (1 + q). At the limit the result is surely 0 or inf.
FASTNN_FN float exp(float x) {
  const Reduced e = reduce(within(x, 104.f));
  return scale2(1.f + expm1_poly(e.r), e.n);
}

// 2^64 e^x for x <= 0: a normal number wherever e^x is a float, and 0 beyond. Sums of these, and
// their use as factors, never meet subnormals, for which some processors need a hundred cycles.
// Times kExpScale it is e^x, rounded once more only where that is subnormal.
constexpr float kExpScale = 0x1p-64f;
FASTNN_FN float exp_scaled(float x) {
  const Reduced e = reduce<64>(x);
  return x < -106.f ? 0.f : exp_poly(e.r) * e.s;
}

// e^x - 1 = 2^n q + (2^n - 1), with half the scale so that n = 128 does not overflow early. Below n
// = -64 it is -1.
FASTNN_FN float expm1(float x) {
  const Reduced e = reduce(within(x, 89.f));
  const float s = pow2(at_least(e.n, -64) - 1);
  const float y = 2.f * mad(s, expm1_poly(e.r), s - 0.5f);
  return abs(x) < 0x1p-26f ? x : y;
}

// x = 2^k (1 + f); log x = k ln 2 + log(1 + f). Denormals are scaled into the normal range first.
FASTNN_FN float log(float x) {
  const int32_t shift = x < 0x1p-126f ? 23 : 0;
  const float normal = x * pow2(shift);
  const int32_t k = log_exponent(normal);
  const float f = unscale(normal, k) - 1.f;
  const float y = log_sum(static_cast<float>(k - shift), f);
  const float finite = x < kInf ? y : kInf;
  return x > 0.f ? finite : (x == 0.f ? -kInf : kNaN);
}

// 1 + x = 2^k (1 + f) with f = 2^-k x + (2^-k - 1), which does not use the rounded 1 + x and is
// exact where it has to be.
FASTNN_FN float log1p(float x) {
  const int32_t k = log_exponent(1.f + x);
  const float f = unscale(x, k) + mad(0.25f, pow2(2 - k), -1.f);
  const float y = log_sum(static_cast<float>(k), f);
  const float finite = x < kInf ? y : kInf;
  const float inside = x > -1.f ? finite : (x == -1.f ? -kInf : kNaN);
  return x == 0.f ? x : inside;
}

// y * sigmoid(z + lo) = y / (1 + e^-(z+lo)) for z >= -128. Where the power is large it and the 1
// are scaled by c, which a denormal result, so rounded once, gets back at the end.
FASTNN_FN float mul_sigmoid(float y, float z, float lo = 0.f) {
  const bool far = z < -64.f;
  const float c = far ? kExpScale : 1.f;
  const Reduced e = reduce(-at_most(z, 64.f), -lo);
  // Unsigned: far below -128, where nobody looks at the result, it wraps.
  const auto bits = static_cast<uint32_t>(to_bits(e.s)) - (far ? 64u << 23 : 0u);
  const float s = from_bits(static_cast<int32_t>(bits));
  return y / (mad(s, expm1_poly(e.r), c) + s) * c;
}

FASTNN_FN float sigmoid(float x) { return x < -128.f ? 0.f : mul_sigmoid(1.f, x); }

// d/dz sigmoid = e / (1 + e)^2 with e = e^-|z|, times a power of two c.
FASTNN_FN float sigmoid_slope_at(float z, float c = 1.f) {
  const float scaled = exp_scaled(-abs(z));
  const float e = scaled * kExpScale;
  return scaled / mad(e, 2.f + e, 1.f) * (c * kExpScale);
}

// With 2|x| = n ln 2 + 2 r, s = 2^n and h = tanh r = r + r^3 P(r^2), by the theorem of addition
// tanh |x| = y / (y + 2 (1 - h)), y = s - 1 + (s + 1) h. For n = 0, where small |x| are, it is h;
// where it is near 1 the rounding error of y cancels.
FASTNN_FN float tanh(float x) {
  const float t = at_most(abs(x), 10.f);
  const Reduced e = reduce_near<0, 2>(t - 0.0825f, t, -0.f);
  const float r2 = e.r * e.r;
  const float h = mad(e.r * r2, poly(r2, -0.33333224f, 0.13323228f, -0.051294666f), e.r);
  const float y = mad(e.s + 1.f, h, e.s - 1.f);
  return copysign(y / (y + mad(-2.f, h, 2.f)), x);
}

// log(1 + e^-t) for t >= 0. With e = e^-t in [0, 1]: k is 0 or 1 and f = e or (e - 1) / 2, both
// exact.
FASTNN_FN float log1p_exp_neg(float t) {
  const float e = exp_scaled(-t) * kExpScale;
  const bool upper = e > 0.41421356f;
  const float f = upper ? mad(0.5f, e, -0.5f) : e;
  return (upper ? kLn2 : 0.f) + (f + log1p_poly(f));
}

// log(1 + e^x) without overflow or cancellation on either side.
FASTNN_FN float softplus(float x) { return at_least(x, 0.f) + log1p_exp_neg(abs(x)); }

// The upper tail of the normal distribution is P(X > t) = e^(-t^2/2) N / 2 / (1 + t (k N + E)) with
// N = 1 + t M; M and E, which are here, are polynomials of positive coefficients (relative error
// 2^-26.8 on [0, 15]). Where t is large the rounding errors of N cancel.
struct NormalTail {
  static constexpr float kN = 1.2533f;
  float m, e;
  FASTNN_FN explicit NormalTail(float t)
      : m(poly(t, 8.7625944e-01f, 3.66139e-01f, 8.112958e-02f, 8.20484e-03f)),
        e(poly(t, 4.2084426e-01f, 1.03693165e-01f, 1.0140104e-02f, 7.4720347e-06f)) {}
};

// Small |x|: x + x P(x^2). Otherwise 1 - e^-g with g = -log erfc(|x|), itself a polynomial.
FASTNN_FN float erf(float x) {
  const float t = at_most(abs(x), 4.f);
  const float p = poly(t * t, 1.2837917e-01f, -3.7612608e-01f, 1.1283162e-01f, -2.6822243e-02f,
                       5.0868657e-03f, -6.5422495e-04f);
  const float g = poly(t, 5.6848887e-05f, 1.1282713e+00f, 6.3614213e-01f, 1.0487641e-01f,
                       -2.2697425e-02f, 3.1649226e-03f, -2.0870629e-04f);
  const Reduced e = reduce(-g);
  const float s = pow2(e.n);
  const float large = mad(-s, expm1_poly(e.r), 1.f - s);
  return copysign(t < 0.8f ? mad(t, p, t) : large, x);
}

}  // namespace
}  // namespace fastnn
