// Optimizer updates over one table of chunks, and the check of the gradients before them.
#include "bench.h"

namespace fastnn::bench {
namespace {

struct State {
  explicit State(int64_t n) : p(n), g(n), m(n), v(n) {
    for (int64_t i = 0; i < n; ++i) v.get()[i] = v.get()[i] * v.get()[i];
    for (int64_t at = 0; at < n; at += kOptimChunk)
      chunks.push_back({p.get() + at, g.get() + at, m.get() + at, v.get() + at,
                        n - at < kOptimChunk ? n - at : kOptimChunk, at});
    args.chunks = chunks.data();
    args.state = &state;
    args.status = &status;
    args.num_chunks = static_cast<int32_t>(chunks.size());
    args.beta1 = 0.9;
    args.beta2 = 0.999;
    args.eps = 1e-8f;
    args.momentum = 0.9f;
  }
  Floats p, g, m, v;
  std::vector<TensorChunk> chunks;
  // A rate of 0 keeps the numbers where they are, however long it runs.
  OptimState state{0.0, 10, 0.65, 0.01};
  Status status{kStatusOk};
  OptimArgs args{};
};

void add_update(const std::string& name, Kernel<OptimArgs> Kernels::* update, double flops,
                double streams, int64_t n) {
  const auto elements = static_cast<double>(n);
  add(name + "/" + std::to_string(n), {flops * elements, 4 * streams * elements},
      [=](const Kernels& kernels) -> std::function<void()> {
        const auto s = std::make_shared<State>(n);
        return [=, &kernels] { (kernels.*update)(s->args, all(s->args.num_chunks)); };
      });
}

}  // namespace

void register_optim() {
  for (const int64_t n : {9'000, 100'000, 10'000'000}) {
    add_update("adam", &Kernels::adam, 12, 7, n);
    add_update("sgd", &Kernels::sgd, 5, 5, n);
    add_update("optim_check", &Kernels::optim_check, 1, 1, n);
    add_update("grad_norm", &Kernels::grad_norm_chunks, 2, 1, n);
  }
}

}  // namespace fastnn::bench
