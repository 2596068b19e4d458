// Adam and the check of gradients, over parameters of many lengths and alignments: against the
// paper in float64, and the promise that nothing changes once bad data was seen.
#include "cuda_emulator_test.h"
#include "kernels/formulas/optim.h"

namespace fastnn::test {
namespace {

template <class T>
struct Optimizer {
  static constexpr int kParams = 5;
  std::vector<std::unique_ptr<Buffer<T>>> p, g;
  std::vector<std::unique_ptr<Buffer<float>>> m, v;
  std::vector<TensorChunk> rows;
  Buffer<OptimState> state{1};
  Buffer<Status> status{1};
  std::unique_ptr<Buffer<TensorChunk>> chunks;
  OptimArgs args{};

  Optimizer() {
    int64_t first = 0;
    for (const int64_t n : {1, 37, 16384, 16385, 40003}) {
      const int64_t shift = int64_t(p.size()) % 2;  // every second parameter is unaligned
      p.push_back(std::make_unique<Buffer<T>>(normal<T>(n), shift));
      g.push_back(std::make_unique<Buffer<T>>(normal<T>(n), 0));
      m.push_back(std::make_unique<Buffer<float>>(std::vector<double>(size_t(n)), shift));
      v.push_back(std::make_unique<Buffer<float>>(std::vector<double>(size_t(n)), 0));
      for (int64_t i = 0; i < n; i += kOptimChunk, first += kOptimChunk)
        rows.push_back({p.back()->data() + i, g.back()->data() + i, m.back()->data() + i,
                        v.back()->data() + i, std::min(kOptimChunk, n - i), first});
    }
    chunks = std::make_unique<Buffer<TensorChunk>>(int64_t(rows.size()));
    for (size_t i = 0; i < rows.size(); ++i) chunks->data()[i] = rows[i];
    *state.data() = {0.01, 0, 0, 0};
    status.data()->word = kStatusOk;
    args.chunks = chunks->data();
    args.state = state.data();
    args.status = status.data();
    args.site = 3;
    args.num_chunks = static_cast<int32_t>(rows.size());
    args.beta1 = 0.9f, args.beta2 = 0.99f, args.eps = 1e-8f;
  }
  void step() {
    const Slice all{0, args.num_chunks, nullptr};
    kernels<T>().optim_begin({state.data(), double{args.beta1}, double{args.beta2}, status.data()},
                             {0, 1, nullptr});
    kernels<T>().optim_check(args, all);
    kernels<T>().adam(args, all);
  }
  std::string bits() {
    std::string all = state.bits();
    for (int i = 0; i < kParams; ++i) all += p[i]->bits() + m[i]->bits() + v[i]->bits();
    return all;
  }
};

// One step from known moments: Adam as in the paper, with coupled or decoupled decay.
template <class T>
void test_adam(float weight_decay, bool decoupled, bool maximize) {
  const std::string what = text("adam %s decay=%g decoupled=%d maximize=%d", kName<T>,
                                double(weight_decay), decoupled, maximize);
  Optimizer<T> o;
  o.args.weight_decay = weight_decay, o.args.decoupled = decoupled, o.args.maximize = maximize;
  for (int step = 1; step <= 3; ++step) {
    std::vector<std::vector<double>> p, m, v;
    for (int j = 0; j < o.kParams; ++j) {
      p.emplace_back(), m.emplace_back(), v.emplace_back();
      for (int64_t i = 0; i < o.p[j]->size(); ++i)
        p[j].push_back((*o.p[j])[i]), m[j].push_back((*o.m[j])[i]), v[j].push_back((*o.v[j])[i]);
    }
    o.step();
    bool ok = expect(o.state.data()->step == step && o.status.data()->word == kStatusOk,
                     what + ": state");
    const double b1 = double{o.args.beta1}, b2 = double{o.args.beta2}, lr = 0.01,
                 decay = double{weight_decay};
    for (int j = 0; j < o.kParams; ++j)
      for (int64_t i = 0; i < o.p[j]->size() && ok; ++i) {
        const double w = p[j][i],
                     g = (maximize ? -1 : 1) * (*o.g[j])[i] + (decoupled ? 0 : decay * w);
        const double m1 = b1 * m[j][i] + (1 - b1) * g, v1 = b2 * v[j][i] + (1 - b2) * g * g;
        const double mhat = m1 / (1 - std::pow(b1, step)), vhat = v1 / (1 - std::pow(b2, step));
        const double update = lr * mhat / (std::sqrt(vhat) + 1e-8),
                     kept = decoupled ? w * (1 - lr * decay) : w;
        const double size_m = std::abs(m[j][i]) + std::abs(g) + std::abs(decay * w);
        const double size =
            std::abs(w) + lr * size_m / (1 - std::pow(b1, step)) / (std::sqrt(vhat) + 1e-8);
        ok = check(
            close((*o.p[j])[i], kept - update, tolerance<T>(kept - update, size, 16)) &&
                close((*o.m[j])[i], m1, 4 * 0x1p-24 * size_m) &&
                close((*o.v[j])[i], v1, 8 * 0x1p-24 * (v1 + size_m * size_m * (1 - b2)) + 0x1p-126),
            [&] {
              return what + text(" step %d [%d, %ld]: p %.9g, not %.9g", step, j, long(i),
                                 (*o.p[j])[i], kept - update);
            });
      }
    expect(ok, what);
  }
}

template <class T>
void test_optimizer() {
  test_adam<T>(0.f, false, false);
  test_adam<T>(0.1f, false, true);
  test_adam<T>(0.1f, true, false);
  expect(same_on_all_schedules([] {
           random_bits.seed(5);
           Optimizer<T> o;
           o.step();
           o.step();
           return o.bits();
         }),
         text("adam %s: schedules differ", kName<T>));
  // The first bad gradient is named, and a step that has met one changes nothing.
  for (const double bad : {double(NAN), double(INFINITY), 1e30}) {
    if (bad == 1e30 && std::is_same_v<T, f16>) continue;
    Optimizer<T> o;
    o.step();
    o.g[4]->set(20000, bad), o.g[4]->set(39000, NAN), o.g[2]->set(16383, bad), o.g[3]->set(0, NAN);
    kernels<T>().optim_check(o.args, {0, o.args.num_chunks, nullptr});
    const uint64_t word = o.status.data()->word;
    expect(status_site(word) == 3 && status_index(word) == 2 * kOptimChunk + 16383 &&
               status_code(word) == (bad == 1e30 ? DataError::kOverflow : DataError::kBadGradient),
           text("optim_check %s %g: site %d index %ld", kName<T>, bad, status_site(word),
                long(status_index(word))));
    const std::string before = o.bits();
    o.step();
    expect(o.bits() == before, text("optim %s: nothing changes after %g", kName<T>, bad));
  }
  Optimizer<T> big;  // beta2 < 0: there is no second moment that could overflow
  big.g[0]->set(0, 60000), big.g[1]->set(36, std::is_same_v<T, f16> ? 60000 : 1e30),
      big.args.beta2 = -1;
  kernels<T>().optim_check(big.args, {0, big.args.num_chunks, nullptr});
  expect(big.status.data()->word == kStatusOk, "optim_check without a second moment");
}

}  // namespace

void test_optimizers() {
  test_optimizer<float>();
  test_optimizer<bf16>();
  test_optimizer<f16>();
}

}  // namespace fastnn::test
