// Registers every microbenchmark for every instruction set of this processor and runs those that
// --benchmark_filter names: fastnn_bench --benchmark_filter='gemm/1024.*v4'.
#include "bench.h"

namespace fastnn::bench {

const std::vector<Level>& levels() {
#if defined(__x86_64__)
  static const std::vector<Level> all = [] {
    __builtin_cpu_init();
    std::vector<Level> found;
    if (__builtin_cpu_supports("x86-64-v4")) found.push_back({"v4", &kernels_v4});
    if (__builtin_cpu_supports("x86-64-v3")) found.push_back({"v3", &kernels_v3});
    found.push_back({"v2", &kernels_v2});
    return found;
  }();
#else
  static const std::vector<Level> all = {{"arm", &kernels_arm}};
#endif
  return all;
}

}  // namespace fastnn::bench

int main(int argc, char** argv) {
  fastnn::bench::register_gemm();
  fastnn::bench::register_elementwise();
  fastnn::bench::register_rows();
  fastnn::bench::register_optim();
  benchmark::Initialize(&argc, argv);
  if (benchmark::ReportUnrecognizedArguments(argc, argv)) return 1;
  benchmark::RunSpecifiedBenchmarks();
  return 0;
}
