// What the microbenchmarks share: a level is an instruction set's table, a benchmark is registered
// once per level that this processor has, and memory is aligned as the allocator aligns it. Kernels
// are called directly, on one thread, with all their tasks: no pool, no dispatch, no Python.
#pragma once
#include <benchmark/benchmark.h>

#include <cstdint>
#include <cstdlib>
#include <functional>
#include <memory>
#include <random>
#include <string>
#include <vector>

#include "kernels/kernels.h"

namespace fastnn::bench {

struct Level {
  const char* name;
  const KernelTable* table;
};
const std::vector<Level>& levels();  // those this processor runs, the best first

// Aligned floats: normal numbers, the same in every run.
class Floats {
 public:
  explicit Floats(int64_t n, float scale = 1.f)
      : data_(static_cast<float*>(
                  std::aligned_alloc(64, (static_cast<size_t>(n) * 4 + 63) / 64 * 64)),
              &std::free) {
    std::mt19937 bits(1);
    std::normal_distribution<float> normal;
    for (int64_t i = 0; i < n; ++i) data_.get()[i] = scale * normal(bits);
  }
  float* get() const { return data_.get(); }

 private:
  std::unique_ptr<float, decltype(&std::free)> data_;
};

// Work of one iteration, for the counters GFLOP/s and GB/s.
struct Work {
  double flops, bytes;
};

// `make` gets the float32 kernels and returns the function to time. Arrays belong in the function.
using Make = std::function<std::function<void()>(const Kernels&)>;

inline void add(const std::string& name, Work work, Make make) {
  for (const Level& level : levels()) {
    const Kernels& kernels = (*level.table)[static_cast<int>(DType::kFloat32)];
    benchmark::RegisterBenchmark(
        (name + "/" + level.name).c_str(), [&kernels, work, make](benchmark::State& state) {
          const std::function<void()> run = make(kernels);
          for (auto _ : state) {
            run();
            benchmark::ClobberMemory();
          }
          using benchmark::Counter;
          state.counters["flops"] = Counter(work.flops, Counter::kIsIterationInvariantRate);
          state.counters["bytes"] = Counter(work.bytes, Counter::kIsIterationInvariantRate);
        });
  }
}

inline Slice all(int64_t tasks) { return {0, tasks, nullptr}; }

// One per file.
void register_gemm();
void register_elementwise();
void register_rows();
void register_optim();

}  // namespace fastnn::bench
