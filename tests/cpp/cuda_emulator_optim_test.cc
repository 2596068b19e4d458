// Every update rule and the check of gradients, over parameters of many lengths and alignments: the
// bits of the formulas called one weight at a time (which the CPU tests hold to the papers), and
// the promise that nothing changes once bad data was seen.
#include "cuda_emulator_test.h"
#include "kernels/formulas/optim.h"

namespace fastnn::test {
namespace {

template <class T>
struct Optimizer {
  static constexpr int kParams = 5;
  std::vector<std::unique_ptr<Buffer<T>>> p, g;
  std::vector<std::unique_ptr<Buffer<float>>> slots[kMaxSlots];
  std::vector<TensorChunk> rows;
  Buffer<OptimRates> rates{1};
  Buffer<OptimState> states{kParams};
  Buffer<Status> status{1};
  std::unique_ptr<Buffer<TensorChunk>> chunks;
  OptimArgs args{};

  Optimizer() {
    int64_t first = 0;
    for (const int64_t n : {1, 37, 16384, 16385, 40003}) {
      const int64_t shift = int64_t(p.size()) % 2;  // every second parameter is unaligned
      OptimState* state = states.data() + p.size();
      *state = {0, 1, 1, 1};
      p.push_back(std::make_unique<Buffer<T>>(normal<T>(n), shift));
      g.push_back(std::make_unique<Buffer<T>>(normal<T>(n), 0));
      for (auto& slot : slots)
        slot.push_back(std::make_unique<Buffer<float>>(std::vector<double>(size_t(n)), shift));
      for (int64_t i = 0; i < n; i += kOptimChunk, first += kOptimChunk)
        rows.push_back({p.back()->data() + i,
                        g.back()->data() + i,
                        {slots[0].back()->data() + i, slots[1].back()->data() + i,
                         slots[2].back()->data() + i},
                        state,
                        std::min(kOptimChunk, n - i),
                        first});
    }
    chunks = std::make_unique<Buffer<TensorChunk>>(int64_t(rows.size()));
    for (size_t i = 0; i < rows.size(); ++i) chunks->data()[i] = rows[i];
    *rates.data() = {0.01, 0.9};
    status.data()->word = kStatusOk;
    args.chunks = chunks->data();
    args.rates = rates.data();
    args.status = status.data();
    args.site = 3;
    args.num_chunks = static_cast<int32_t>(rows.size());
    args.options.beta2 = 0.99, args.options.eps = 1e-8;
    args.options.bias_correction = 1, args.options.decay_base = 0.999;
    args.squares = Squares::kMean;
  }
  void step(int rule) {
    const Slice all{0, args.num_chunks, nullptr};
    kernels<T>().optim_check(args, all);
    kernels<T>().optim_begin(args, {0, 1, nullptr});
    kernels<T>().optim_update[rule](args, all);
  }
  std::string bits() {
    std::string all = states.bits();
    for (int i = 0; i < kParams; ++i) {
      all += p[i]->bits();
      for (auto& slot : slots) all += slot[i]->bits();
    }
    return all;
  }
};

// What a step should do, written one weight at a time over the same arrays.
template <class T, class Rule>
void step_by_hand(Optimizer<T>& o) {
  const OptimArgs& args = o.args;
  const Gradient gradient(args.options, args.rates->lr, args.clip == nullptr ? 1.f : args.clip[1]);
  for (int j = 0; j < o.kParams; ++j) begin_step(o.states.data()[j], args.options, *args.rates);
  for (const TensorChunk& chunk : o.rows) {
    const Rule rule(args.options, *chunk.state, *args.rates);
    auto* p = static_cast<T*>(chunk.p);
    for (int64_t i = 0; i < chunk.n; ++i) {
      float values[kMaxSlots] = {chunk.slots[0][i], chunk.slots[1][i], chunk.slots[2][i]};
      p[i] = from_float<T>(update_weight(rule, gradient, to_float(p[i]),
                                         to_float(static_cast<const T*>(chunk.g)[i]), values));
      for (int k = 0; k < kMaxSlots; ++k) chunk.slots[k][i] = values[k];
    }
  }
}

template <class T, class Rule>
void test_rule(int rule) {
  float norm[2] = {4.f, 0.25f};
  for (const bool decoupled : {false, true}) {
    std::string results[2];
    for (const bool by_hand : {false, true}) {
      random_bits.seed(5);
      Optimizer<T> o;
      o.args.options.weight_decay = 0.1;
      o.args.options.decoupled = decoupled, o.args.options.maximize = !decoupled;
      if (decoupled) o.args.clip = norm;
      for (int step = 0; step < 3; ++step) {
        if (by_hand)
          step_by_hand<T, Rule>(o);
        else
          o.step(rule);
      }
      expect(o.status.data()->word == kStatusOk && o.states.data()[4].step == 3,
             text("%s %s: state", Rule::kName, kName<T>));
      results[by_hand] = o.bits();
    }
    expect(results[0] == results[1],
           text("%s %s decoupled=%d: not the formula", Rule::kName, kName<T>, decoupled));
  }
}
template <class T, class... R>
void test_rules(OptimRuleList<R...>) {
  int rule = 0;
  (test_rule<T, R>(rule++), ...);
}

template <class T>
void test_optimizer() {
  test_rules<T>(OptimRules{});
  constexpr int kAdam = 2;
  expect(same_on_all_schedules([] {
           random_bits.seed(5);
           Optimizer<T> o;
           o.step(kAdam);
           o.step(kAdam);
           return o.bits();
         }),
         text("optim %s: schedules differ", kName<T>));
  // The first bad gradient is named, and a step that has met one changes nothing.
  for (const double bad : {double(NAN), double(INFINITY), 1e30}) {
    if (bad == 1e30 && std::is_same_v<T, f16>) continue;
    Optimizer<T> o;
    o.step(kAdam);
    o.g[4]->set(20000, bad), o.g[4]->set(39000, NAN), o.g[2]->set(16383, bad), o.g[3]->set(0, NAN);
    kernels<T>().optim_check(o.args, {0, o.args.num_chunks, nullptr});
    const uint64_t word = o.status.data()->word;
    expect(status_site(word) == 3 && status_index(word) == 2 * kOptimChunk + 16383 &&
               status_code(word) == (bad == 1e30 ? DataError::kOverflow : DataError::kBadGradient),
           text("optim_check %s %g: site %d index %ld", kName<T>, bad, status_site(word),
                long(status_index(word))));
    const std::string before = o.bits();
    o.step(kAdam);
    expect(o.bits() == before, text("optim %s: nothing changes after %g", kName<T>, bad));
  }
  Optimizer<T> big;  // no second moment that could overflow; then a sum that does
  big.g[0]->set(0, 60000), big.g[1]->set(36, std::is_same_v<T, f16> ? 60000 : 1e30);
  big.args.squares = Squares::kNone;
  kernels<T>().optim_check(big.args, {0, big.args.num_chunks, nullptr});
  expect(big.status.data()->word == kStatusOk, "optim_check without a second moment");
  big.g[1]->set(36, 1), big.slots[0][2]->set(7, 0x1.fffffep127), big.g[2]->set(7, 30000);
  big.args.squares = Squares::kSum;
  kernels<T>().optim_check(big.args, {0, big.args.num_chunks, nullptr});
  expect(big.status.data()->word == kStatusOk, "optim_check: a sum at its limit");
  big.slots[0][2]->set(7, INFINITY);
  kernels<T>().optim_check(big.args, {0, big.args.num_chunks, nullptr});
  expect(big.status.data()->word == status_word(3, 2 * kOptimChunk + 7, DataError::kOverflow),
         "optim_check of a sum");
}

}  // namespace

void test_optimizers() {
  test_optimizer<float>();
  test_optimizer<bf16>();
  test_optimizer<f16>();
}

}  // namespace fastnn::test
