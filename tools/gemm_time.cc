// The speed of GEMM alone, without Python, of one instruction set.
//   g++ -std=c++20 -O3 -fno-math-errno -fno-trapping-math -ffp-contract=fast -march=x86-64-v4
//       -mprefer-vector-width=512 -pthread tools/gemm_time.cc -o gemm_time && ./gemm_time
// Speeds are ratios to the FMA peak of the same run, over rounds in which nothing else disturbed
// the cores (tile_rate), because the machine may be shared.
#include <algorithm>
#include <atomic>
#include <cstdio>
#include <cstdlib>
#include <ctime>
#include <functional>
#include <random>
#include <string>
#include <thread>
#include <vector>

#include "gemm_arrays.h"

namespace fastnn {
namespace {

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
    for (int i = 0; i < kTimes; ++i) kTiles.of[kInColumns][kNV - 1].of_rows[kMR - 1](t);
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

// gemm_time [all THREADS LARGEST | shape THREADS TA TB M N K PACKED(0, 1, -1)]
int main(int argc, char** argv) {
  using namespace fastnn;
  const std::string what = argc > 1 ? argv[1] : "all";
  const auto number = [&](int i, int or_else) { return i < argc ? std::atoi(argv[i]) : or_else; };
  if (what == "all") time_all(number(2, 1), number(3, 1024));
  if (what == "shape") {
    Team team(number(2, 1));
    time_shape(team, number(2, 1), "", number(3, 0), number(4, 0), number(5, 512), number(6, 512),
               number(7, 512), number(8, -1));
  }
}
