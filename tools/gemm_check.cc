// GEMM alone, without Python: exactness, accuracy and path independence of one instruction set.
//   g++ -std=c++20 -O3 -fno-math-errno -fno-trapping-math -ffp-contract=fast -march=x86-64-v4
//       -mprefer-vector-width=512 tools/gemm_check.cc -o gemm_check && ./gemm_check
// Two builds must print the same hash.
#include <sys/mman.h>

#include <algorithm>
#include <array>
#include <cmath>
#include <cstdio>
#include <cstring>
#include <random>
#include <set>
#include <string>
#include <vector>

#include "gemm_arrays.h"

namespace fastnn {
namespace {

constexpr float kGuard = -7.25e33f;
constexpr size_t kShapes = 20'000;

// An array that ends, or begins, at an unmapped page; the rest of its own pages holds guard words.
class Guarded {
 public:
  Guarded(size_t size, bool at_end) : size_(size) {
    room_ = (size * 4 / 4096 + 1) * 1024;
    map_ = static_cast<char*>(mmap(nullptr, room_ * 4 + 8192, PROT_READ | PROT_WRITE,
                                   MAP_PRIVATE | MAP_ANONYMOUS, -1, 0));
    mprotect(map_, 4096, PROT_NONE);
    mprotect(map_ + 4096 + room_ * 4, 4096, PROT_NONE);
    floats_ = reinterpret_cast<float*>(map_ + 4096);
    std::fill_n(floats_, room_, kGuard);
    data_ = at_end ? floats_ + room_ - size : floats_;
  }
  ~Guarded() { munmap(map_, room_ * 4 + 8192); }
  float* data() { return data_; }
  float& operator[](size_t i) { return data_[i]; }
  bool intact() const {
    for (const float* p = floats_; p < floats_ + room_; ++p)
      if ((p < data_ || p >= data_ + size_) && *p != kGuard) return false;
    return true;
  }

 private:
  size_t size_, room_;
  char* map_;
  float *floats_, *data_;
};

// In spans where the plan for this shape is that, unless packed.
void run_split(GemmArgs g, bool packed, int64_t split) {
  const GemmPlan plan = gemm_plan_as(packed, g);
  const int64_t spans = !packed && gemm_splits(g) ? gemm_span_cut(g.k).parts : 0;
  const int64_t floats = plan.scratch() + spans * g.m * g.n;
  const AlignedScratch scratch(floats);
  g.scratch = floats ? scratch.p : nullptr;
  const auto phase = [&](auto f, int64_t tasks) {
    for (int64_t end = tasks; end > 0; end -= split)  // last tasks first
      f({std::max<int64_t>(0, end - split), end, nullptr});
  };
  if (spans > 0) {
    const GemmBatchArgs alone{.one = g, .items = 1, .terms = 1};
    phase([&](Slice s) { gemm_spans(alone, s); }, spans * plan.tasks());
    return phase([&](Slice s) { gemm_span_sums(alone, s); }, plan.rows.parts);
  }
  if (packed) phase([&](Slice s) { gemm_pack(g, s); }, plan.pack_tasks());
  phase([&](Slice s) { packed ? gemm_packed(g, s) : gemm_small(g, s); }, plan.tasks());
}

template <class... F>
float activate(ActivationList<F...>, int index, float x, float param) {
  const auto fwd = std::to_array<float (*)(float, float)>({F::fwd...});
  return fwd[index](x, param);
}

size_t extent(int64_t rows, int64_t cols, int64_t row, int64_t col) {
  return rows && cols ? (rows - 1) * row + (cols - 1) * col + 1 : 0;
}

// ---- exactness ---------------------------------------------------------------------------------

struct ExactCase {
  int64_t m, n, k;
  bool ta, tb, packed, accumulate, bias, z;
  int activation;
  int64_t pad, split;
};

// How many products went across, along k and in spans of k.
struct Ways {
  int64_t across, along, spans;
};

std::string run_exact(const ExactCase& x, std::mt19937& rng, Ways& ways) {
  std::uniform_int_distribution<int> ints(-8, 8);
  GemmArgs g{};
  g.m = x.m, g.n = x.n, g.k = x.k, g.ldc = x.n + x.pad;
  g.activation = x.activation, g.activation_param = 0.25f, g.accumulate = x.accumulate;
  set_transposes(g, x.ta, x.tb, x.pad);
  const bool at_end = rng() & 1;
  Guarded a(extent(x.m, x.k, g.a_row, g.a_col), at_end);
  Guarded b(extent(x.k, x.n, g.b_row, g.b_col), at_end);
  Guarded c(extent(x.m, x.n, g.ldc, 1), at_end), z(extent(x.m, x.n, g.ldc, 1), at_end);
  Guarded bias(x.n, at_end);
  for (int64_t p = 0; p < x.k; ++p) {
    for (int64_t i = 0; i < x.m; ++i) a[i * g.a_row + p * g.a_col] = ints(rng);
    for (int64_t j = 0; j < x.n; ++j) b[p * g.b_row + j * g.b_col] = ints(rng);
  }
  for (int64_t j = 0; j < x.n; ++j) bias[j] = ints(rng);
  std::vector<int64_t> sums(x.m * x.n);
  for (int64_t i = 0; i < x.m; ++i)
    for (int64_t j = 0; j < x.n; ++j) {
      const int64_t old = ints(rng);
      c[i * g.ldc + j] = x.accumulate ? old : NAN;
      z[i * g.ldc + j] = NAN;
      int64_t sum = (x.accumulate ? old : 0) + (x.bias ? int64_t(bias[j]) : 0);
      for (int64_t p = 0; p < x.k; ++p)
        sum += int64_t(a[i * g.a_row + p * g.a_col]) * int64_t(b[p * g.b_row + j * g.b_col]);
      sums[i * x.n + j] = sum;
    }
  g.a = a.data(), g.b = b.data(), g.c = c.data();
  g.bias = x.bias ? bias.data() : nullptr;
  g.z = x.z ? z.data() : nullptr;
  run_split(g, x.packed, x.split);
  const GemmPlan plan = gemm_plan_as(x.packed, g);
  ways.across += plan.across, ways.along += plan.along;
  ways.spans += !x.packed && gemm_splits(g);
  for (int64_t i = 0; i < x.m; ++i)
    for (int64_t j = 0; j < x.n; ++j) {
      const float sum = sums[i * x.n + j];
      // Vectorised formulas may round differently from scalar ones; relu and identity may not.
      const float want = activate(Activations{}, x.activation, sum, 0.25f);
      const float got = c[i * g.ldc + j];
      if (!(x.activation < 2 ? got == want : std::abs(got - want) <= 1e-5f * (1 + std::abs(want))))
        return "C differs at " + std::to_string(i) + ", " + std::to_string(j) + ": got " +
               std::to_string(got) + ", want " + std::to_string(want);
      if (x.z && z[i * g.ldc + j] != sum) return "z differs";
    }
  for (int64_t i = 0; i + 1 < x.m; ++i)
    for (int64_t j = x.n; j < g.ldc && x.n; ++j)
      if (c[i * g.ldc + j] != kGuard || z[i * g.ldc + j] != kGuard) return "wrote between rows";
  for (const Guarded* array : {&a, &b, &c, &z, &bias})
    if (!array->intact()) return "wrote outside an array";
  return "";
}

int check_exact() {
  std::mt19937 rng(1);
  const auto pick = [&](int64_t small, std::initializer_list<int64_t> large) {
    return rng() % 8 ? int64_t(rng() % (small + 1)) : large.begin()[rng() % large.size()];
  };
  std::set<std::array<int64_t, 5>> shapes;  // m, n, k and the transposes
  Ways ways{};
  for (int64_t turn = 0; shapes.size() < kShapes; ++turn) {
    ExactCase x{};
    x.m = pick(2 * kGemmRows + 1, {29, 37, 53, 97, 101, 193, 211});
    x.n = pick(2 * kGemmCols + 1, {71, 97, 103, 131, 193, 397});
    x.k = pick(20, {31, 61, 127, 128, 129, 255, 256, 257, 509, 512, 521});
    if (turn % 400 < 4) x.k = 2 * kGemmSpan + pick(20, {384, 500, 1000});
    if (turn % 1000 < 4) x.m = 17 + rng() % 60, x.n = 1024;  // B's rows in one set of L1
    if (turn % 5000 < 4) x.m = 401, x.n = 811, x.k = 523;
    x.ta = turn & 1, x.tb = turn & 2;
    if (!shapes.insert({x.m, x.n, x.k, x.ta, x.tb}).second) continue;
    for (const bool packed : {false, true}) {
      x.packed = packed;
      x.accumulate = rng() & 1, x.bias = rng() & 1, x.z = rng() & 1;
      x.activation = rng() % 3 ? rng() % 2 : rng() % Activations::kSize;
      x.pad = rng() % 2 ? 0 : rng() % 5;
      x.split = 1 + rng() % 3;
      const std::string error = run_exact(x, rng, ways);
      if (error.empty()) continue;
      std::printf("FAIL %s: m %ld n %ld k %ld %s%s packed %d acc %d bias %d act %d pad %ld\n",
                  error.c_str(), x.m, x.n, x.k, x.ta ? "T" : "N", x.tb ? "T" : "N", packed,
                  x.accumulate, x.bias, x.activation, x.pad);
      return 1;
    }
  }
  std::printf("exact: %zu shapes, packed and not, %ld of them across, %ld along k, %ld in spans\n",
              shapes.size(), ways.across, ways.along, ways.spans);
  return ways.across < 100 || ways.along < 100 || ways.spans < 100;
}

// ---- accuracy and path independence ------------------------------------------------------------

std::vector<float> random_floats(size_t size, int kind, std::mt19937& rng) {
  std::vector<float> x(size);
  std::normal_distribution<float> normal;
  std::uniform_real_distribution<float> uniform(0, 1);
  for (float& v : x)
    v = kind == 0 ? normal(rng) : kind == 1 ? uniform(rng) : std::exp(2 * normal(rng));
  return x;
}

uint64_t hash_bits(uint64_t hash, const std::vector<float>& x) {
  for (float v : x) {
    uint32_t bits;
    std::memcpy(&bits, &v, 4);
    hash = (hash ^ bits) * 0x100000001b3;
  }
  return hash;
}

// Largest |error| / (u |A||B|).
double error_units(const GemmArgs& g, const std::vector<float>& c) {
  double worst = 0;
  for (int64_t i = 0; i < g.m; i += 1 + g.m / 40)
    for (int64_t j = 0; j < g.n; j += 1 + g.n / 40) {
      double sum = 0, bound = 0;
      for (int64_t p = 0; p < g.k; ++p) {
        const double x = double(g.a[i * g.a_row + p * g.a_col]) * g.b[p * g.b_row + j * g.b_col];
        sum += x, bound += std::abs(x);
      }
      if (bound > 0) worst = std::max(worst, std::abs(c[i * g.ldc + j] - sum) / bound * 0x1p24);
    }
  return worst;
}

int check_floats() {
  std::mt19937 rng(2);
  uint64_t hash = 0xcbf29ce484222325;
  double worst = 0;
  const int64_t shapes[][3] = {{5, 7, 300},    {13, 33, 255},   {32, 512, 784}, {128, 10, 256},
                               {97, 101, 513}, {200, 300, 600}, {64, 64, 64},   {256, 256, 2048},
                               {39, 7, 1100},  {20, 1, 513},    {33, 16, 600}};
  for (const auto& s : shapes)
    for (int bits = 0; bits < 12; ++bits) {
      GemmArgs g{};
      g.m = s[0], g.n = s[1], g.k = s[2], g.ldc = s[1];
      set_transposes(g, bits & 1, bits & 2, 0);
      const auto a = random_floats(g.m * g.k, bits / 4, rng);
      const auto b = random_floats(g.k * g.n, bits / 4, rng);
      std::vector<float> first, c(g.m * g.n);
      g.a = a.data(), g.b = b.data(), g.c = c.data();
      const bool along = gemm_goes_along(g);  // in an order of its own
      for (bool packed : {false, true})
        for (int64_t split : {1, 2, 1000}) {
          if (packed && along) continue;
          std::fill(c.begin(), c.end(), NAN);
          run_split(g, packed, split);
          if (first.empty()) first = c;
          if (std::memcmp(first.data(), c.data(), c.size() * 4))
            return std::printf("FAIL bits differ: %ld %ld %ld\n", g.m, g.n, g.k), 1;
        }
      worst = std::max(worst, error_units(g, c));
      hash = hash_bits(hash, c);
      g.m = g.m / 2, g.a += 2 * g.a_row;  // rows of a taller product
      std::fill(c.begin(), c.end(), NAN);
      run_split(g, !along && bits & 1, 1);
      if (std::memcmp(first.data() + 2 * g.ldc, c.data(), g.m * g.n * 4))
        return std::printf("FAIL rows depend on m: %ld %ld %ld\n", g.m, g.n, g.k), 1;
    }
  std::printf("floats: error %.2f u(|A||B|) of 16, hash %016lx\n", worst, hash);
  return worst > 16;
}

}  // namespace
}  // namespace fastnn

int main() { return fastnn::check_exact() || fastnn::check_floats(); }
