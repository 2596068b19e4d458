// Sweeps every float through each primitive and activation and prints the worst error against a
// float64 oracle (glibc's, its vector variants with -fopenmp-simd) as a Markdown table; exit code 1
// if a bound or an exact value is missed. Invariant: no input is excluded. Built by hand:
// g++ -std=c++20 -O3 -fno-math-errno -fno-trapping-math -ffp-contract=fast -fopenmp-simd
//     -march=x86-64-v3 tools/ulp_sweep.cc -lmvec   (v4: also -mprefer-vector-width=512)
#include <cmath>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <functional>
#include <limits>
#include <numbers>
#include <string>
#include <vector>

#include "../csrc/kernels/formulas/activation.h"

// The float64 libm functions the oracles call, declared again so that GCC may use their vector
// variants.
extern "C" {
#pragma omp declare simd notinbranch
double exp(double) noexcept;
#pragma omp declare simd notinbranch
double expm1(double) noexcept;
#pragma omp declare simd notinbranch
double log(double) noexcept;
#pragma omp declare simd notinbranch
double log1p(double) noexcept;
#pragma omp declare simd notinbranch
double tanh(double) noexcept;
#pragma omp declare simd notinbranch
double erf(double) noexcept;
#pragma omp declare simd notinbranch
double erfc(double) noexcept;
}

namespace {

constexpr int kBlock = 4096;
constexpr double kNaN64 = std::numeric_limits<double>::quiet_NaN();
constexpr double kNever = 1e300;  // the error of a NaN where a number is due, or the reverse

// ---- Oracles: the textbook, in float64 ----------------------------------------------------------
// Float64 has 29 bits to spare, so a form is good enough when it does not cancel. Infinite x is
// replaced by a large one where the textbook would give inf * 0. The arguments of libm are kept in
// the range where results matter to a float: beyond, its vector variants are slow. copysign keeps
// GCC from folding the two ends into constants, which would leave libm the unclamped argument.

double clamp(double x, double limit) {
  const double size = std::fabs(x);
  return std::copysign(size > limit ? limit : size, x);
}
double exp64(double x) { return ::exp(clamp(x, 200)); }
double expm1_64(double x) { return ::expm1(clamp(x, 200)); }
double tanh64(double x) { return ::tanh(clamp(x, 30)); }
double erf64(double x) { return ::erf(clamp(x, 6)); }
double erfc64(double x) { return ::erfc(clamp(x, 15)); }
double log64(double x) { return x < 0 ? kNaN64 : ::log(std::fabs(x)); }
double log1p_64(double x) { return x < -1 ? kNaN64 : ::log1p(x < -1 ? -x : x); }
double sigmoid64(double x) { return 1 / (1 + exp64(-x)); }
double softplus64(double x) { return (x < 0 ? 0 : x) + ::log1p(exp64(-std::fabs(x))); }

template <class A>
struct Oracle;

template <>
struct Oracle<fastnn::Identity> {
  static double fwd(double x) { return x; }
  static double bwd(double) { return 1; }
};
template <>
struct Oracle<fastnn::Relu> {
  static double fwd(double x) { return x <= 0 ? 0 : x; }
  static double bwd(double x) { return x != x ? x : (x > 0 ? 1 : 0); }
};
template <>
struct Oracle<fastnn::LeakyRelu> {  // the parameter is a float: 0.01f
  static double fwd(double x) { return x > 0 ? x : static_cast<float>(double{0.01f} * x); }
  static double bwd(double x) { return x != x ? x : (x > 0 ? 1 : double{0.01f}); }
};
template <>
struct Oracle<fastnn::Elu> {
  static double fwd(double x) { return x > 0 ? x : expm1_64(x); }
  static double bwd(double x) { return x > 0 ? 1 : exp64(x); }
};
template <>
struct Oracle<fastnn::Selu> {
  static constexpr double kScale = 1.0507009873554804934193349852946;
  static constexpr double kAlpha = 1.6732632423543772848170429916717;
  static double fwd(double x) { return kScale * (x > 0 ? x : kAlpha * expm1_64(x)); }
  static double bwd(double x) { return kScale * (x > 0 ? 1 : kAlpha * exp64(x)); }
};
template <>
struct Oracle<fastnn::Sigmoid> {
  static double fwd(double x) { return sigmoid64(x); }
  static double bwd(double x) {
    const double e = exp64(-std::fabs(x));
    return e / ((1 + e) * (1 + e));
  }
};
template <>
struct Oracle<fastnn::Tanh> {
  static double fwd(double x) { return tanh64(x); }
  static double bwd(double x) { return 4 * Oracle<fastnn::Sigmoid>::bwd(2 * x); }
};
template <>
struct Oracle<fastnn::Softplus> {
  static double fwd(double x) { return softplus64(x); }
  static double bwd(double x) { return sigmoid64(x); }
};
template <>
struct Oracle<fastnn::Silu> {
  static double fwd(double x) { return x < -1e3 ? 0 : x * sigmoid64(x); }
  static double bwd(double x) {
    const double z = clamp(x, 1e3);
    return sigmoid64(z) * (1 + z * sigmoid64(-z));
  }
};
template <>
struct Oracle<fastnn::Gelu> {
  static double fwd(double x) { return x < -1e3 ? 0 : 0.5 * x * erfc64(-x / std::numbers::sqrt2); }
  static double bwd(double x) {
    const double z = clamp(x, 1e3);
    const double density = exp64(-0.5 * z * z) / std::sqrt(2 * std::numbers::pi);
    return 0.5 * erfc64(-z / std::numbers::sqrt2) + z * density;
  }
};
template <>
struct Oracle<fastnn::GeluTanh> {  // 1 + tanh(u) = 2 sigmoid(2 u)
  static double twice_u(double x) {
    return 2 * std::sqrt(2 / std::numbers::pi) * (x + 0.044715 * x * x * x);
  }
  static double slope(double x) {
    return 2 * std::sqrt(2 / std::numbers::pi) * (1 + 3 * 0.044715 * x * x);
  }
  static double fwd(double x) { return x < -1e3 ? 0 : x * sigmoid64(twice_u(clamp(x, 1e3))); }
  static double bwd(double x) {
    const double z = clamp(x, 1e3), s = sigmoid64(twice_u(z));
    return s + z * s * slope(z) * sigmoid64(-twice_u(z));
  }
};

// ---- Cases --------------------------------------------------------------------------------------

// kUlp: in units in the last place of the float nearest the truth (2^-149 for denormals). kUnit: in
// 2^-24 max(1, |truth|).
enum class Metric { kUlp, kUnit };

struct Case {
  std::string name;
  Metric metric;
  double bound;
  std::function<void(const float*, float*)> got;
  std::function<void(const float*, double*)> want;
};

template <class Got, class Want>
Case make_case(std::string name, Metric metric, double bound, Got got, Want want) {
  return {std::move(name), metric, bound,
          [got](const float* __restrict x, float* __restrict y) {
            for (int i = 0; i < kBlock; ++i) y[i] = got(x[i]);
          },
          [want](const float* __restrict x, double* __restrict y) {
#pragma omp simd
            for (int i = 0; i < kBlock; ++i) y[i] = want(static_cast<double>(x[i]));
          }};
}

template <class A>
void add_activation(std::vector<Case>& cases, double fwd_bound, Metric metric, double bwd_bound) {
  const std::string name = A::kName;
  cases.push_back(make_case(
      name + ".fwd", Metric::kUlp, fwd_bound, [](float x) { return A::fwd(x, A::kDefault); },
      [](double x) { return Oracle<A>::fwd(x); }));
  const auto bwd = [](float x) {
    const float s = A::kSaved == fastnn::Saved::kInput ? x : A::fwd(x, A::kDefault);
    return A::bwd(1.f, s, A::kDefault);
  };
  cases.push_back(
      make_case(name + ".bwd", metric, bwd_bound, bwd, [](double x) { return Oracle<A>::bwd(x); }));
}

std::vector<Case> all_cases() {
  using namespace fastnn;
  constexpr Metric kUlp = Metric::kUlp, kUnit = Metric::kUnit;
  std::vector<Case> c;
#define PRIMITIVE(name, bound, truth)                              \
  c.push_back(make_case(                                           \
      #name, kUlp, bound, [](float x) { return fastnn::name(x); }, \
      [](double x) { return truth; }))
  PRIMITIVE(exp, 2, exp64(x));
  PRIMITIVE(expm1, 2, expm1_64(x));
  PRIMITIVE(log, 2, log64(x));
  PRIMITIVE(log1p, 2, log1p_64(x));
  PRIMITIVE(tanh, 2, tanh64(x));
  PRIMITIVE(sigmoid, 2, sigmoid64(x));
  PRIMITIVE(softplus, 2, softplus64(x));
  PRIMITIVE(erf, 2, erf64(x));
  PRIMITIVE(sqrt, 0.5, std::sqrt(x));
  PRIMITIVE(rsqrt, 2, 1 / std::sqrt(x));
#undef PRIMITIVE
  c.push_back(make_case(
      "exp_scaled", kUlp, 2,
      [](float x) { return fastnn::exp_scaled(-fastnn::abs(x)) * fastnn::kExpScale; },
      [](double x) { return exp64(-std::fabs(x)); }));
  add_activation<Identity>(c, 0, kUlp, 0);
  add_activation<Relu>(c, 0, kUlp, 0);
  add_activation<LeakyRelu>(c, 0, kUlp, 0);
  add_activation<Elu>(c, 2, kUlp, 2);
  add_activation<Selu>(c, 2, kUlp, 2);
  add_activation<Sigmoid>(c, 2, kUlp, 4);
  add_activation<Tanh>(c, 2, kUlp, 4);
  add_activation<Softplus>(c, 2, kUlp, 2);
  add_activation<Silu>(c, 4, kUnit, 8);
  add_activation<Gelu>(c, 4, kUnit, 8);
  add_activation<GeluTanh>(c, 4, kUnit, 8);
  return c;
}

// ---- The sweep ----------------------------------------------------------------------------------

double from_bits64(int64_t i) {
  double d;
  memcpy(&d, &i, sizeof d);
  return d;
}

int64_t to_bits64(double d) {
  int64_t i;
  memcpy(&i, &d, sizeof i);
  return i;
}

// Float overflow counts as 2^128, on both sides, so that inf for FLT_MAX is an error of one ULP.
double error_of(float got, double want, Metric metric) {
  const double g = clamp(static_cast<double>(got), 0x1p128), w = clamp(want, 0x1p128);
  const double size = std::fabs(w);
  int64_t exponent = to_bits64(size) >> 52;
  exponent = exponent < 1023 - 126 ? 1023 - 126 : (exponent > 1023 + 127 ? 1023 + 127 : exponent);
  const double ulp = from_bits64((exponent - 23) << 52);
  const double unit = 0x1p-24 * (size > 1 ? size : 1);
  const double error = std::fabs(g - w) / (metric == Metric::kUlp ? ulp : unit);
  const bool got_nan = got != got, want_nan = want != want;
  return got_nan | want_nan ? (got_nan & want_nan ? 0 : kNever) : error;
}

struct Result {
  double worst = 0;
  float at = 0;
  uint64_t hash = 0;
};

void update_worst(const Case& c, const float* x, const float* y, Result& r) {
  alignas(64) static double want[kBlock], error[kBlock];
  c.want(x, want);
  if (c.metric == Metric::kUlp) {
    for (int i = 0; i < kBlock; ++i) error[i] = error_of(y[i], want[i], Metric::kUlp);
  } else {
    for (int i = 0; i < kBlock; ++i) error[i] = error_of(y[i], want[i], Metric::kUnit);
  }
  double worst = 0;
#pragma omp simd reduction(max : worst)
  for (int i = 0; i < kBlock; ++i) worst = error[i] > worst ? error[i] : worst;
  if (worst > r.worst) {
    int i = 0;
    while (error[i] != worst) ++i;
    r.worst = worst;
    r.at = x[i];
  }
}

Result sweep(const Case& c, uint64_t stride, bool hash_only) {
  constexpr int kLanes = 16;
  alignas(64) static float x[kBlock], y[kBlock];
  uint64_t lanes[kLanes] = {};
  Result r;
  const uint64_t total = ((uint64_t{1} << 32) + stride - 1) / stride;
  for (uint64_t begin = 0; begin < total; begin += kBlock) {
    if (begin % (uint64_t{kBlock} << 12) == 0) {
      fprintf(stderr, "\r%-16s %3d %%", c.name.c_str(), static_cast<int>(100 * begin / total));
    }
    for (int i = 0; i < kBlock; ++i) {  // past the end it wraps around, which does no harm
      x[i] = fastnn::from_bits(static_cast<int32_t>(static_cast<uint32_t>((begin + i) * stride)));
    }
    c.got(x, y);
    if (!hash_only) update_worst(c, x, y, r);
    for (int i = 0; i < kBlock; i += kLanes) {  // every NaN is the same NaN
      for (int k = 0; k < kLanes; ++k) {
        const uint32_t bits = y[i + k] != y[i + k] ? 0x7fc00000u : fastnn::to_bits(y[i + k]);
        lanes[k] = lanes[k] * 0x9e3779b97f4a7c15u + bits;
      }
    }
  }
  for (uint64_t lane : lanes) r.hash = (r.hash ^ (lane ^ (lane >> 29))) * 0xbf58476d1ce4e5b9u;
  return r;
}

// ---- Exact values, bit for bit ------------------------------------------------------------------

bool exact(const char* what, float got, float want) {
  const bool same = got != got ? want != want : fastnn::to_bits(got) == fastnn::to_bits(want);
  if (!same) printf("FAIL %s: got %.9g, expected %.9g\n", what, got, want);
  return same;
}

bool exact_values() {
  using namespace fastnn;
  bool ok = true;
#define EXACT(call, want) ok &= exact(#call, call, want)
  EXACT(fastnn::exp(88.7229f), kInf);
  EXACT(fastnn::exp(-103.98f), 0.f);
  EXACT(fastnn::exp(0.f), 1.f);
  EXACT(fastnn::exp(-kInf), 0.f);
  EXACT(fastnn::expm1(-0.f), -0.f);
  EXACT(fastnn::expm1(-kInf), -1.f);
  EXACT(fastnn::expm1(1e-42f), 1e-42f);
  EXACT(fastnn::log(0.f), -kInf);
  EXACT(fastnn::log(-0.f), -kInf);
  EXACT(fastnn::log(-1e-45f), kNaN);
  EXACT(fastnn::log(1.f), 0.f);
  EXACT(fastnn::log(kInf), kInf);
  EXACT(fastnn::log1p(-1.f), -kInf);
  EXACT(fastnn::log1p(-0.f), -0.f);
  EXACT(fastnn::log1p(1e-42f), 1e-42f);
  EXACT(fastnn::tanh(-0.f), -0.f);
  EXACT(fastnn::tanh(9.02f), 1.f);
  EXACT(fastnn::tanh(-kInf), -1.f);
  EXACT(fastnn::tanh(-1e-42f), -1e-42f);
  EXACT(fastnn::erf(-4.f), -1.f);
  EXACT(fastnn::erf(-0.f), -0.f);
  EXACT(fastnn::sigmoid(0.f), 0.5f);
  EXACT(fastnn::sigmoid(-kInf), 0.f);
  EXACT(fastnn::sigmoid(kInf), 1.f);
  EXACT(fastnn::max(kNaN, 1.f), kNaN);
  EXACT(fastnn::max(1.f, kNaN), kNaN);
  EXACT(fastnn::min(kNaN, 1.f), kNaN);
  EXACT(fastnn::min(1.f, kNaN), kNaN);
  EXACT(Relu::fwd(-0.f, 0), 0.f);
  EXACT(Relu::bwd(kNaN, 0.f, 0), kNaN);
  EXACT(Relu::bwd(kInf, 0.f, 0), 0.f);
  EXACT(Relu::bwd(1.f, kNaN, 0), kNaN);
  EXACT(Gelu::fwd(-0.f, 0), -0.f);
  EXACT(Gelu::fwd(-20.f, 0), -0.f);
  EXACT(Gelu::fwd(kNaN, 0), kNaN);
  EXACT(Gelu::bwd(1.f, -0.f, 0), 0.5f);
  EXACT(Silu::fwd(-kInf, 1), -0.f);
  EXACT(Silu::fwd(-1e30f, 1e-20f), -0.f);
  EXACT(to_float(from_float<bf16>(from_bits(0x7f800001))), kNaN);
  EXACT(to_float(from_float<bf16>(from_bits(0x7fffffff))), kNaN);
  EXACT(to_float(from_float<bf16>(from_bits(0x7f7fffff))), kInf);
  EXACT(to_float(from_float<bf16>(from_bits(0x3f808000))), 1.f);
  EXACT(to_float(from_float<bf16>(from_bits(0x3f818000))), 1.015625f);
#undef EXACT
  if (!(fastnn::exp(88.72283f) < kInf)) ok = exact("exp(88.72283f) is finite", kInf, 0x1.fffep127f);
  return ok;
}

}  // namespace

int main(int argc, char** argv) {
  uint64_t stride = 1;
  std::string only;
  bool hash_only = false;
  for (int i = 1; i < argc; ++i) {
    const std::string arg = argv[i];
    if (arg == "--hash-only") {
      hash_only = true;
    } else if (arg == "--stride" && i + 1 < argc) {
      stride = strtoull(argv[++i], nullptr, 10);
    } else if (arg == "--only" && i + 1 < argc) {
      only = argv[++i];
    } else {
      fprintf(stderr, "usage: %s [--stride N] [--only name] [--hash-only]\n", argv[0]);
      return 2;
    }
  }
  if (stride == 0) stride = 1;
  bool ok = exact_values();
  printf(
      "| function | worst error | at x | bound | | hash of all outputs "
      "|\n|---|---|---|---|---|---|\n");
  for (const Case& c : all_cases()) {
    if (!only.empty() && c.name != only) continue;
    const Result r = sweep(c, stride, hash_only);
    const auto hash = static_cast<unsigned long long>(r.hash);
    if (hash_only) {
      printf("| %s | | | | | %016llx |\n", c.name.c_str(), hash);
      fflush(stdout);
      continue;
    }
    const bool pass = r.worst <= c.bound;
    ok &= pass;
    const char* unit = c.metric == Metric::kUlp ? "ULP" : "u max(1, \\|o\\|)";
    printf("| %s | %.3f | %.9g | %g %s | %s | %016llx |\n", c.name.c_str(), r.worst, r.at, c.bound,
           unit, pass ? "PASS" : "FAIL", hash);
    fflush(stdout);
  }
  fprintf(stderr, "\r%30s\r", "");
  return ok ? 0 : 1;
}
