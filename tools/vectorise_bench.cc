// Times every primitive and activation over 4096 floats in L1 and, for exp and gelu_tanh, the same
// formula written by hand on GCC vector types: a plain loop around the scalar text must be as fast.
// Built by hand: g++ -std=c++20 -O3 -fno-math-errno -fno-trapping-math -ffp-contract=fast
//     -march=x86-64-v3 tools/vectorise_bench.cc   (v4: also -mprefer-vector-width=512)
// With -fopt-info-vec GCC must report every instance of loop_over as vectorised.
#include <algorithm>
#include <chrono>
#include <cstdio>

#include "../csrc/kernels/formulas/activation.h"

namespace {

constexpr int kCount = 4096;
constexpr int kBatches = 300, kRepeats = 30;

#if defined(__AVX512F__)
constexpr int kVectorBytes = 64;
#elif defined(__AVX__)
constexpr int kVectorBytes = 32;
#else
constexpr int kVectorBytes = 16;
#endif

// ---- By hand ------------------------------------------------------------------------------------
// The formulas of primitives.h and activation.h, line for line, on vectors. a * b + c becomes FMA
// by contraction.

typedef float V __attribute__((vector_size(kVectorBytes)));
typedef int32_t I __attribute__((vector_size(kVectorBytes)));

struct ReducedV {
  V r;
  I n;
};

inline V splat(float x) { return x - V{}; }
inline V withinv(V x, float limit) {
  const V size = (V)((I)x & INT32_MAX);
  return (V)((I)(size > limit ? splat(limit) : size) | ((I)x & INT32_MIN));
}

inline ReducedV reducev(V hi, V lo) {
  const V t = (hi + lo) * fastnn::kLog2e + 12582912.f;
  const V n = t - 12582912.f;
  const V r = hi - n * fastnn::kLn2Hi;
  return {r - n * fastnn::kLn2Lo + lo, (I)t - 0x4b400000};
}

inline V expm1_polyv(V r) {
  V p = 1.3868316e-03f * r + 8.366424e-03f;
  p = p * r + 4.1667465e-02f;
  p = p * r + 1.6666545e-01f;
  p = p * r + 4.9999997e-01f;
  return r * r * p + r;
}

inline V pow2v(I n) { return (V)((n + 127) << 23); }

inline V expv(V x) {
  const V zero = splat(-0.f);
  const ReducedV e = reducev(withinv(x, 104.f), zero);
  const I half = e.n >> 1;
  return (1.f + expm1_polyv(e.r)) * pow2v(half) * pow2v(e.n - half);
}

struct Sum2V {
  V hi, lo;
};

inline Sum2V two_productv(V a, V b) {
  const V p = a * b;
#ifdef __FMA__
  V lo;
  for (unsigned i = 0; i < sizeof(V) / sizeof(float); ++i)
    lo[i] = __builtin_fmaf(a[i], b[i], -p[i]);
  return {p, lo};
#else
  const V ah = (V)((I)a & -4096), al = a - ah, bh = (V)((I)b & -4096), bl = b - bh;
  return {p, ((ah * bh - p) + ah * bl + al * bh) + al * bl};
#endif
}

inline V gelu_tanhv(V x) {
  using G = fastnn::GeluTanh;
  const V t = withinv(x, 12.f);
  const Sum2V t2 = two_productv(t, t);
  const Sum2V c = two_productv(splat(G::kC1), t2.hi);
  const V w = (G::kC1 * t2.hi + G::kC0 + 12288.f) - 12288.f;
  const V rest = ((G::kC0 - w) + c.hi) + (c.lo + (G::kC1 * t2.lo + (G::kC1Lo * t2.hi + G::kC0Lo)));
  const Sum2V z = two_productv(t, w);
  const ReducedV e = reducev(withinv(-z.hi, 128.f), -(t * rest + z.lo));
  const I all = e.n < -64 ? I{} - 64 : e.n;
  const I n = all > 126 ? I{} + 126 : all;
  const V s = pow2v(n), s1 = s + 1.f, lost = 1.f - (s1 - s);
  const V y = x < -12.f ? splat(-12.f) : x;
  return y * pow2v(n - all) / ((s * expm1_polyv(e.r) + lost) + s1);
}

// ---- Timing -------------------------------------------------------------------------------------

alignas(64) float input[kCount], output[kCount];

template <class F>
[[gnu::noinline]] void loop_over(const float* __restrict x, float* __restrict y, F f) {
  for (int i = 0; i < kCount; ++i) y[i] = f(x[i]);
}

template <class F>
[[gnu::noinline]] void vectors_over(const float* x, float* y, F f) {
  for (int i = 0; i < kCount; i += sizeof(V) / sizeof(float)) {
    *reinterpret_cast<V*>(y + i) = f(*reinterpret_cast<const V*>(x + i));
  }
}

// The best of many batches, in nanoseconds per element.
template <class Run>
double time_of(Run run) {
  double best = 1e9;
  for (int b = 0; b < kBatches; ++b) {
    const auto start = std::chrono::steady_clock::now();
    for (int r = 0; r < kRepeats; ++r) {
      run();
      asm volatile("" ::: "memory");
    }
    const std::chrono::duration<double, std::nano> d = std::chrono::steady_clock::now() - start;
    best = std::min(best, d.count() / (kRepeats * kCount));
  }
  return best;
}

template <class F>
double time_scalar(F f) {
  return time_of([f] { loop_over(input, output, f); });
}

template <class F>
void report(const char* name, const char* suffix, F f) {
  printf("| %s%s | %.3f |\n", name, suffix, time_scalar(f));
}

template <class Scalar, class Vector>
void compare(const char* name, Scalar scalar, Vector vector) {
  double a = 1e9, b = 1e9;  // interleaved, so that a change of clock hits both
  for (int round = 0; round < 5; ++round) {
    a = std::min(a, time_scalar(scalar));
    b = std::min(b, time_of([vector] { vectors_over(input, output, vector); }));
  }
  loop_over(input, output, scalar);
  alignas(64) static float other[kCount];
  vectors_over(input, other, vector);
  int different = 0;
  for (int i = 0; i < kCount; ++i) different += output[i] != other[i];
  printf("| %s | %.3f | %.3f | %.2f | %d |\n", name, a, b, a / b, different);
}

template <class... A>
void report_all(fastnn::ActivationList<A...>) {
  (report(A::kName, ".fwd", [a = A::kDefault](float x) { return A::fwd(x, a); }), ...);
  (report(A::kName, ".bwd", [a = A::kDefault](float x) { return A::bwd(1.5f, x, a); }), ...);
}

}  // namespace

int main() {
  for (int i = 0; i < kCount; ++i) input[i] = (i * 2654435761u >> 8) * 0x1p-24f * 16.f - 8.f;
  printf("| formula | scalar text, ns | vector types, ns | ratio | results that differ |\n");
  printf("|---|---|---|---|---|\n");
  compare("exp", [](float x) { return fastnn::exp(x); }, [](V x) { return expv(x); });
  compare(
      "gelu_tanh", [](float x) { return fastnn::GeluTanh::fwd(x, 0); },
      [](V x) { return gelu_tanhv(x); });
  printf("\n| function | ns/element |\n|---|---|\n");
#define REPORT(name) report(#name, "", [](float x) { return fastnn::name(x); })
  REPORT(exp);
  REPORT(expm1);
  REPORT(log);
  REPORT(log1p);
  REPORT(tanh);
  REPORT(sigmoid);
  REPORT(softplus);
  REPORT(erf);
  REPORT(sqrt);
  REPORT(rsqrt);
#undef REPORT
  report_all(fastnn::Activations{});
}
