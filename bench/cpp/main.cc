// Registers every microbenchmark for every instruction set of this processor and runs those that
// --benchmark_filter names: fastnn_bench --benchmark_filter='gemm/1024.*v4'.
#include "bench.h"

namespace fastnn::bench {

const std::vector<Level>& levels() {
#if defined(__x86_64__)
  static const std::vector<Level> all = [] {
    __builtin_cpu_init();
    std::vector<Level> found;
    if (__builtin_cpu_supports("x86-64-v4")) found.push_back({"v4", &v4::kernels()});
    if (__builtin_cpu_supports("x86-64-v3")) found.push_back({"v3", &v3::kernels()});
    found.push_back({"v2", &v2::kernels()});
    return found;
  }();
#else
  static const std::vector<Level> all = {{"arm", &arm::kernels()}};
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
