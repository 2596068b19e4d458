// GEMM through its plan, as ops/linear.cc launches it: squares, and the shapes of small networks.
#include "bench.h"

namespace fastnn::bench {
namespace {

enum class Form { kNN, kNT, kTN };

void add_gemm(const std::string& name, Form form, int64_t m, int64_t n, int64_t k) {
  const Work work{2.0 * static_cast<double>(m * n * k),
                  4.0 * static_cast<double>(m * k + k * n + m * n)};
  add(name, work, [=](const Kernels& kernels) -> std::function<void()> {
    const auto a = std::make_shared<Floats>(m * k), b = std::make_shared<Floats>(k * n),
               c = std::make_shared<Floats>(m * n);
    GemmArgs args{};
    args.a = a->get();
    args.b = b->get();
    args.c = c->get();
    args.m = m;
    args.n = n;
    args.k = k;
    args.a_row = form == Form::kTN ? 1 : k;
    args.a_col = form == Form::kTN ? m : 1;
    args.b_row = form == Form::kNT ? 1 : n;
    args.b_col = form == Form::kNT ? k : 1;
    args.ldc = n;
    const GemmPlan plan = gemm_plan(args);
    const auto scratch = std::make_shared<Floats>(plan.scratch() + 16);
    args.scratch = scratch->get();
    return [=, &kernels] {
      (void)a, (void)b, (void)c, (void)scratch;  // kept alive by the copy
      if (plan.packed) {
        kernels.gemm_pack(args, all(plan.pack_tasks()));
        kernels.gemm_packed(args, all(plan.tasks()));
      } else {
        kernels.gemm_small(args, all(plan.tasks()));
      }
    };
  });
}

}  // namespace

void register_gemm() {
  for (const int64_t n : {64, 256, 512, 1024, 2048}) {
    const std::string size = std::to_string(n);
    add_gemm("gemm/" + size + "/NN", Form::kNN, n, n, n);
    add_gemm("gemm/" + size + "/NT", Form::kNT, n, n, n);
    add_gemm("gemm/" + size + "/TN", Form::kTN, n, n, n);
  }
  for (const int64_t batch : {32, 128, 512}) {
    const std::string name = "gemm/" + std::to_string(batch) + "x784x512";
    add_gemm(name + "/fwd", Form::kNT, batch, 512, 784);
    add_gemm(name + "/dx", Form::kNN, batch, 784, 512);
    add_gemm(name + "/dw", Form::kTN, 512, 784, batch);
  }
  add_gemm("gemm/32x64x64/fwd", Form::kNT, 32, 64, 64);
  add_gemm("gemm/32x64x64/dx", Form::kNN, 32, 64, 64);
  add_gemm("gemm/32x64x64/dw", Form::kTN, 64, 64, 32);
  add_gemm("gemm/128x256x10/fwd", Form::kNT, 128, 10, 256);
}

}  // namespace fastnn::bench
