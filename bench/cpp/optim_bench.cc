// Optimizer updates over one table of chunks, and the check of the gradients before them.
#include "bench.h"

namespace fastnn::bench {
namespace {

struct State {
  explicit State(int64_t n) : p(n), g(n), m(n), v(n), u(n) {
    for (int64_t i = 0; i < n; ++i) v.get()[i] = v.get()[i] * v.get()[i];
    for (int64_t at = 0; at < n; at += kOptimChunk)
      chunks.push_back({p.get() + at,
                        g.get() + at,
                        {m.get() + at, v.get() + at, u.get() + at},
                        &count,
                        n - at < kOptimChunk ? n - at : kOptimChunk,
                        at});
    args.chunks = chunks.data();
    args.rates = &rates;
    args.status = &status;
    args.num_chunks = static_cast<int32_t>(chunks.size());
    args.options.beta2 = 0.999;
    args.options.eps = 1e-8;
    args.options.bias_correction = 1;
    args.squares = Squares::kMean;
    norm.chunks = chunks.data();
    norm.sums = sums.data();
    norm.norm_type = 2;
  }
  Floats p, g, m, v, u;
  std::vector<TensorChunk> chunks;
  std::vector<double> sums = std::vector<double>(10'000);
  OptimRates rates{0, 0.9};  // so that the numbers stay where they are, however long it runs
  OptimState count{10, 0.65, 0.01, 0.5};
  Status status{kStatusOk};
  OptimArgs args{};
  GradNormArgs norm{};
};

void add_optim(const std::string& name, double flops, double streams, int64_t n,
               const std::function<void(const Kernels&, const State&)>& run) {
  const auto elements = static_cast<double>(n);
  add(name + "/" + std::to_string(n), {flops * elements, 4 * streams * elements},
      [=](const Kernels& kernels) -> std::function<void()> {
        const auto s = std::make_shared<State>(n);
        return [=, &kernels] { run(kernels, *s); };
      });
}

template <class... R>
void add_updates(OptimRuleList<R...>, int64_t n) {
  int rule = 0;
  (add_optim(R::kName, 12, 3 + 2 * R::kSlots, n,
             [i = rule++](const Kernels& kernels, const State& s) {
               kernels.optim_update[i](s.args, all(s.args.num_chunks));
             }),
   ...);
}

}  // namespace

void register_optim() {
  for (const int64_t n : {9'000, 100'000, 10'000'000}) {
    add_updates(OptimRules{}, n);
    add_optim("optim_check", 1, 1, n, [](const Kernels& kernels, const State& s) {
      kernels.optim_check(s.args, all(s.args.num_chunks));
    });
    add_optim("grad_norm", 2, 1, n, [](const Kernels& kernels, const State& s) {
      kernels.grad_norm_sum(s.norm, all(s.args.num_chunks));
    });
  }
}

}  // namespace fastnn::bench
