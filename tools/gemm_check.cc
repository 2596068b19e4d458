// GEMM alone, without Python: exactness, accuracy, path independence and speed of one instruction
// set.
//   g++ -std=c++20 -O3 -fno-math-errno -fno-trapping-math -ffp-contract=fast -march=x86-64-v4
//       -mprefer-vector-width=512 -pthread tools/gemm_check.cc -o gemm_check && ./gemm_check
// Speeds are ratios to the FMA peak of the same run, over rounds in which nothing else disturbed
// the cores (tile_rate), because the machine may be shared. Two builds must print the same hash.
#include <sys/mman.h>

#include <algorithm>
#include <array>
#include <atomic>
#include <cmath>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <ctime>
#include <functional>
#include <random>
#include <string>
#include <thread>
#include <vector>

#include "../csrc/kernels/cpu/gemm.h"

namespace fastnn {
namespace {

constexpr float kGuard = -7.25e33f;

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

struct AlignedScratch {  // aligned and in huge pages, as core/allocator.cc does it
  explicit AlignedScratch(int64_t floats) {
    const size_t bytes = floats * 4 + 64, unit = bytes < 1 << 21 ? 64 : 1 << 21;
    const size_t whole = (bytes + unit - 1) / unit * unit;
    p = static_cast<float*>(std::aligned_alloc(unit, whole));
    if (unit > 64) madvise(p, whole, MADV_HUGEPAGE);
    std::memset(p, 0xff, floats * 4);  // NaN
  }
  ~AlignedScratch() { std::free(p); }
  float* p;
};

// `split` tasks per call: a stand-in for threads, which only choose who runs which tasks.
void run_split(GemmArgs g, bool packed, int64_t split) {
  const GemmPlan plan = gemm_plan_as(packed, g);
  const AlignedScratch scratch(plan.scratch());
  g.scratch = plan.scratch() ? scratch.p : nullptr;
  const auto phase = [&](void (*f)(const GemmArgs&, Slice), int64_t tasks) {
    for (int64_t end = tasks; end > 0; end -= split)  // last tasks first
      f(g, {std::max<int64_t>(0, end - split), end, nullptr});
  };
  if (packed) phase(gemm_pack, plan.pack_tasks());
  phase(packed ? gemm_packed : gemm_small, plan.tasks());
}

template <class... F>
float activate(ActivationList<F...>, int index, float x, float param) {
  const auto fwd = std::to_array<float (*)(float, float)>({F::fwd...});
  return fwd[index](x, param);
}

void set_transposes(GemmArgs& g, bool ta, bool tb, int64_t pad) {
  g.a_row = ta ? 1 : g.k + pad;
  g.a_col = ta ? g.m + pad : 1;
  g.b_row = tb ? 1 : g.n + pad;
  g.b_col = tb ? g.k + pad : 1;
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

std::string run_exact(const ExactCase& x, std::mt19937& rng) {
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
  int64_t runs = 0, shapes = 0;
  for (; shapes < 6000; ++shapes) {
    ExactCase x{};
    x.m = pick(2 * kGemmRows + 1, {29, 37, 53, 97, 101, 193, 211});
    x.n = pick(2 * kGemmCols + 1, {71, 97, 103, 131, 193, 397});
    x.k = pick(20, {31, 61, 127, 128, 129, 255, 256, 257, 509, 512, 521});
    if (shapes % 1000 == 0) x.m = 401, x.n = 811, x.k = 523;
    for (int bits = 0; bits < 8; ++bits) {
      x.ta = bits & 1, x.tb = bits & 2, x.packed = bits & 4;
      x.accumulate = rng() & 1, x.bias = rng() & 1, x.z = rng() & 1;
      x.activation = rng() % 3 ? rng() % 2 : rng() % Activations::kSize;
      x.pad = rng() % 2 ? 0 : rng() % 5;
      x.split = 1 + rng() % 3;
      const std::string error = run_exact(x, rng);
      ++runs;
      if (error.empty()) continue;
      std::printf("FAIL %s: m %ld n %ld k %ld bits %d acc %d bias %d act %d pad %ld\n",
                  error.c_str(), x.m, x.n, x.k, bits, x.accumulate, x.bias, x.activation, x.pad);
      return 1;
    }
  }
  std::printf("exact: %ld shapes, %ld runs\n", shapes, runs);
  return 0;
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
                               {97, 101, 513}, {200, 300, 600}, {64, 64, 64},   {256, 256, 2048}};
  for (const auto& s : shapes)
    for (int bits = 0; bits < 12; ++bits) {
      GemmArgs g{};
      g.m = s[0], g.n = s[1], g.k = s[2], g.ldc = s[1];
      set_transposes(g, bits & 1, bits & 2, 0);
      const auto a = random_floats(g.m * g.k, bits / 4, rng);
      const auto b = random_floats(g.k * g.n, bits / 4, rng);
      std::vector<float> first, c(g.m * g.n);
      g.a = a.data(), g.b = b.data(), g.c = c.data();
      for (bool packed : {false, true})
        for (int64_t split : {1, 2, 1000}) {
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
      run_split(g, bits & 1, 1);
      if (std::memcmp(first.data() + 2 * g.ldc, c.data(), g.m * g.n * 4))
        return std::printf("FAIL rows depend on m: %ld %ld %ld\n", g.m, g.n, g.k), 1;
    }
  std::printf("floats: error %.2f u(|A||B|) of 16, hash %016lx\n", worst, hash);
  return worst > 16;
}

// ---- speed -------------------------------------------------------------------------------------

// Threads that spin between jobs: the split of a launch without the project's pool.
class Team {
 public:
  explicit Team(int threads) : threads_(threads) {
    for (int i = 1; i < threads; ++i) workers_.emplace_back([this, i] { work(i); });
  }
  ~Team() {
    stop_ = true;
    ++round_;
    for (std::thread& t : workers_) t.join();
  }
  void run(const std::function<void(int)>& job) {
    job_ = &job;
    running_ = threads_ - 1;
    ++round_;
    job(0);
    while (running_) continue;
  }
  void launch(void (*f)(const GemmArgs&, Slice), const GemmArgs& g, int64_t tasks) {
    run([&](int i) { f(g, {tasks * i / threads_, tasks * (i + 1) / threads_, nullptr}); });
  }

 private:
  void work(int i) {
    for (int seen = 0;;) {
      while (round_ == seen) continue;
      ++seen;
      if (stop_) return;
      (*job_)(i);
      --running_;
    }
  }
  int threads_;
  std::atomic<int> round_{0}, running_{0};
  std::atomic<bool> stop_{false};
  const std::function<void(int)>* job_ = nullptr;
  std::vector<std::thread> workers_;
};

double seconds() {
  timespec t;
  clock_gettime(CLOCK_MONOTONIC, &t);
  return t.tv_sec + 1e-9 * t.tv_nsec;
}

// Independent chains of fma in registers: what the cores can do at this moment, in FLOP/s.
double fma_peak(Team& team, int threads) {
  constexpr int kChains = 12, kSteps = 20000;
  const double start = seconds();
  team.run([](int) {
    float zero = 0;
    asm volatile("" : "+m"(zero));
    Vec acc[kChains];  // all different, or the compiler computes one
    for (int i = 0; i < kChains; ++i) acc[i] = Vec{} + (zero + i);
    const Vec x = Vec{} + (zero + 0.5f);
    for (int s = 0; s < kSteps; ++s)
      for (int i = 0; i < kChains; ++i) acc[i] = acc[i] * x + x;
    float sum = 0;
    for (const Vec& v : acc) sum += v[0];
    asm volatile("" : : "m"(sum));
  });
  return 2.0 * kLanes * kChains * kSteps * threads / (seconds() - start);
}

// The register tile on panels that stay in L1, in FLOP/s. It comes within a few percent of the peak
// unless something else runs on the cores: whatever it is takes loads, not fma, so that the peak
// alone does not show it.
double tile_rate(Team& team, int threads) {
  constexpr int kTimes = 500;
  const double start = seconds();
  team.run([](int) {
    alignas(64) static thread_local float a[kMR * kGemmChain], b[kNR * kGemmChain], c[kMR * kNR];
    TileArgs t{};
    t.a = a, t.a_row = 1, t.a_col = kMR, t.b = b, t.b_row = kNR, t.k = kGemmChain;
    t.c = c, t.ldc = kNR;
    for (int i = 0; i < kTimes; ++i) kTiles.of[1][kNV - 1].of_rows[kMR - 1](t);
  });
  return 2.0 * kMR * kNR * kGemmChain * kTimes * threads / (seconds() - start);
}

void time_shape(Team& team, int threads, const char* name, bool ta, bool tb, int64_t m, int64_t n,
                int64_t k, int path = -1) {
  GemmArgs g{};
  g.m = m, g.n = n, g.k = k, g.ldc = n;
  set_transposes(g, ta, tb, 0);
  const bool packed = path < 0 ? gemm_plan(g).packed : path;
  const GemmPlan plan = gemm_plan_as(packed, g);
  std::mt19937 rng(3);
  const auto fill = [&](const AlignedScratch& x, int64_t size) {
    for (int64_t i = 0; i < size; ++i) x.p[i] = int(rng() % 2001) / 1000.0f - 1;
  };
  const AlignedScratch a(m * k), b(k * n), c(m * n), scratch(plan.scratch());
  fill(a, m * k), fill(b, k * n);
  g.a = a.p, g.b = b.p, g.c = c.p, g.scratch = scratch.p;
  const auto once = [&] {
    if (packed) team.launch(gemm_pack, g, plan.pack_tasks());
    team.launch(packed ? gemm_packed : gemm_small, g, plan.tasks());
  };
  const double flops = 2.0 * m * n * k;
  const int64_t reps = 1 + static_cast<int64_t>(2e7 * threads / flops);
  std::vector<double> rates;
  double peak = fma_peak(team, threads);
  int rounds = 0;
  once();
  for (const double begin = seconds(); rates.size() < 15 && seconds() - begin < 20; ++rounds) {
    const double before = tile_rate(team, threads), start = seconds();
    for (int64_t i = 0; i < reps; ++i) once();
    const double rate = flops * reps / (seconds() - start);
    if (std::min(before, tile_rate(team, threads)) < 0.9 * peak) continue;  // disturbed
    rates.push_back(rate);
    peak = std::max(peak, fma_peak(team, threads));
  }
  std::printf("T%d %-4s %c%c %5ldx%5ldx%5ld %-6s ", threads, name, ta ? 'T' : 'N', tb ? 'T' : 'N',
              m, n, k, packed ? "packed" : "small");
  if (rates.empty()) return static_cast<void>(std::printf("no quiet round of %d\n", rounds));
  std::sort(rates.begin(), rates.end());
  const double median = rates[rates.size() / 2];
  std::printf("%8.2f us %7.1f GFLOP/s %5.1f %% of peak (best %5.1f %%, %zu of %d rounds quiet)\n",
              flops / median * 1e6, median * 1e-9, 100 * median / peak, 100 * rates.back() / peak,
              rates.size(), rounds);
}

// A layer [out, in] on a batch: Y = X W^T, dX = dY W, dW = dY^T X.
void time_layer(Team& team, int threads, int64_t batch, int64_t in, int64_t out) {
  time_shape(team, threads, "fwd", false, true, batch, out, in);
  time_shape(team, threads, "dx", false, false, batch, in, out);
  time_shape(team, threads, "dw", true, false, out, in, batch);
}

void time_all(int threads, int64_t largest) {
  Team team(threads);
  std::printf("FMA peak of %d thread(s): %.1f GFLOP/s\n", threads, fma_peak(team, threads) * 1e-9);
  for (int64_t s : {64, 128, 256, 512, 1024, 2048})
    if (s <= largest) time_layer(team, threads, s, s, s);
  time_layer(team, threads, 32, 64, 64);
  time_layer(team, threads, 32, 64, 10);
  for (int64_t batch : {32, 128}) {
    time_layer(team, threads, batch, 784, 512);
    time_layer(team, threads, batch, 512, 256);
    time_layer(team, threads, batch, 256, 10);
  }
}

}  // namespace
}  // namespace fastnn

// gemm_check [check | time THREADS LARGEST | shape THREADS TA TB M N K PACKED(0, 1, -1)]
int main(int argc, char** argv) {
  using namespace fastnn;
  const std::string what = argc > 1 ? argv[1] : "all";
  const auto number = [&](int i, int or_else) { return i < argc ? std::atoi(argv[i]) : or_else; };
  if ((what == "check" || what == "all") && (check_exact() || check_floats())) return 1;
  if (what == "all") time_all(1, 1024);
  if (what == "time") time_all(number(2, 1), number(3, 2048));
  if (what == "shape") {
    Team team(number(2, 1));
    time_shape(team, number(2, 1), "", number(3, 0), number(4, 0), number(5, 512), number(6, 512),
               number(7, 512), number(8, -1));
  }
}
