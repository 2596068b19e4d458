// Sequences as one launch of clusters, under the emulator: against float64 and by steps, whatever
// the cut and the schedule; and a small kernel of the same parts that is wrong on purpose, in each
// way that the emulator must catch.
#include "cuda_emulator_test.h"
#include "kernels/cuda/sequence/sequences.h"

namespace fastnn::test {
namespace {

using sequence::Cut, sequence::Form;

struct Case {
  SequenceCell cell;
  int64_t steps, rows, width;
  bool reverse = false, lengths = false, initial = true, bf16_weights = false;
};
int64_t gates_of(const Case& t) {
  return t.cell == kLstmSequence ? 4 : t.cell == kGruSequence ? 3 : 1;
}

// The arrays of a case, all of them drawn; what a pass writes is written over.
struct Layer {
  const Case t;
  int64_t gates, cells, history;
  std::vector<double> w, bias, sums, h_0, c_0;  // what `states` needs
  Buffer<float> w_d, bias_d, h_0_d, c_0_d, dy;
  Buffer<int64_t> lengths;

  explicit Layer(const Case& it)
      : t(it),
        gates(gates_of(it)),
        cells(it.rows * it.width),
        history(it.steps * cells),
        w(drawn(gates * it.width * it.width, 0.3)),
        bias(drawn(gates * it.width, 0.3)),
        sums(drawn(gates * history, 1)),
        h_0(drawn(cells, it.initial ? 1 : 0)),
        c_0(drawn(cells, it.initial ? 1 : 0)),
        w_d(w, 1),
        bias_d(bias, 1),
        h_0_d(h_0, 1),
        c_0_d(c_0, 1),
        dy(drawn(history, 1), 1),
        lengths(it.rows) {
    for (int64_t r = 0; r < t.rows; ++r) lengths.data()[r] = (3 * r + 1) % (t.steps + 1);
  }
  static std::vector<double> drawn(int64_t n, double scale) {
    return normal<bf16>(n, 0, scale > 0 ? scale : 1e-30);
  }
  Sequence sequence() {
    return {
        t.cell,        t.lengths ? lengths.data() : nullptr, t.steps, t.rows, t.width, t.reverse,
        t.bf16_weights};
  }
  float* initial(Buffer<float>& state) { return t.initial ? state.data() : nullptr; }

  // The bits of all that a pass makes, in clusters of that many blocks.
  std::string forward(int32_t cluster, std::vector<double>* h_of) {
    Buffer<float> z(sums, 1), hidden(history), h(history), y(history), h_n(cells), c(history),
        c_n(cells);
    const Cut cut = sequence::cut_of({t.cell, false, t.bf16_weights, t.rows, t.width}, cluster);
    sequence::run(
        SequenceFwdArgs{sequence(), w_d.data(), bias_d.data(), initial(h_0_d), initial(c_0_d),
                        z.data(), hidden.data(), h.data(), t.lengths ? y.data() : nullptr,
                        h_n.data(), c.data(), c_n.data(), 1.f},
        cut, nullptr);
    if (const char* error = library().take_error()) return error;
    for (int64_t i = 0; i < history; ++i) h_of->push_back(h[i]);
    return z.bits() + hidden.bits() + h.bits() + y.bits() + h_n.bits() + c.bits() + c_n.bits();
  }
  std::string backward(int32_t cluster) {
    Buffer<float> d(sums, 1), hidden(dy.size()), h(history), c(history), dh(cells), dc(cells);
    for (auto* buffer : {&hidden, &h, &c, &dh, &dc})
      for (int64_t i = 0; i < buffer->size(); ++i)
        buffer->set(i, sums[size_t(i * 7 + buffer->size()) % sums.size()]);
    const Cut cut = sequence::cut_of({t.cell, true, t.bf16_weights, t.rows, t.width}, cluster);
    sequence::run(SequenceBwdArgs{sequence(), w_d.data(), t.reverse ? nullptr : dy.data(), h.data(),
                                  initial(h_0_d), c.data(), initial(c_0_d), d.data(), hidden.data(),
                                  dh.data(), dc.data(), 1.f, t.initial},
                  cut, nullptr);
    if (const char* error = library().take_error()) return error;
    return d.bits() + hidden.bits() + dh.bits() + dc.bits();
  }
  // All states [steps, rows, width], from the textbook, and the terms of the largest gate's sum.
  struct States {
    std::vector<double> h, size;
  };
  States states();
};

double logistic(double x) { return 1 / (1 + std::exp(-x)); }

Layer::States Layer::states() {
  States all{std::vector<double>(size_t(history)), std::vector<double>(size_t(history))};
  std::vector<double> h = h_0, c = c_0;
  const int64_t n = t.width;
  for (int64_t s = 0; s < t.steps; ++s) {
    const int64_t time = t.reverse ? t.steps - 1 - s : s;
    const std::vector<double> before = h;
    for (int64_t r = 0; r < t.rows; ++r)
      for (int64_t j = 0; j < n; ++j) {
        double x[4], y[4], size = 0;  // of the input, of the state
        for (int64_t g = 0; g < gates; ++g) {
          x[g] = sums[size_t(((time * t.rows + r) * gates + g) * n + j)];
          y[g] = bias[size_t(g * n + j)];
          double terms = std::abs(x[g]) + std::abs(y[g]);
          for (int64_t k = 0; k < n; ++k) {
            const double term = w[size_t((g * n + j) * n + k)] * before[size_t(r * n + k)];
            y[g] += term, terms += std::abs(term);
          }
          size = std::max(size, terms);
        }
        const size_t at = size_t(r * n + j);
        if (!t.lengths || time < lengths.data()[r]) {
          if (t.cell == kLstmSequence) {
            c[at] = logistic(x[1] + y[1]) * c[at] + logistic(x[0] + y[0]) * std::tanh(x[2] + y[2]);
            h[at] = logistic(x[3] + y[3]) * std::tanh(c[at]);
          } else if (t.cell == kGruSequence) {
            const double update = logistic(x[1] + y[1]);
            const double fresh = std::tanh(x[2] + logistic(x[0] + y[0]) * y[2]);
            h[at] = update * before[at] + (1 - update) * fresh;
          } else {
            const double z = x[0] + y[0];
            h[at] = t.cell == kTanhSequence ? std::tanh(z) : std::max(z, 0.);
          }
        }
        all.h[size_t(time * cells) + at] = h[at];
        all.size[size_t(time * cells) + at] = std::max(1., size);
      }
  }
  return all;
}

void test_sequence(const Case& t, std::initializer_list<int32_t> clusters) {
  Layer layer(t);
  const Layer::States states = layer.states();
  const std::vector<double>& want = states.h;
  std::string first[2];
  for (const int32_t cluster : clusters) {
    const std::string name = text("cell %d, %ld steps of %ld x %ld, %d blocks", t.cell,
                                  long(t.steps), long(t.rows), long(t.width), cluster);
    std::vector<double> got;
    const auto passes = [&](const char* schedule) {
      setenv("FASTNN_EMULATOR_SCHEDULE", schedule, 1);
      got.clear();
      const std::string made[2] = {layer.forward(cluster, &got), layer.backward(cluster)};
      for (int i = 0; i < 2; ++i) {
        if (first[i].empty()) first[i] = made[i];
        expect(made[i] == first[i], name + text(", pass %d, schedule %s: the same bits: %.80s", i,
                                                schedule, made[i].c_str()));
      }
    };
    for (const char* schedule : {"forward", "reverse", "random:1"}) passes(schedule);
    setenv("FASTNN_EMULATOR_SCHEDULE", "forward", 1);
    // With bfloat16 weights 16 bits of the state are multiplied.
    const double unit = t.bf16_weights ? 0x1p-17 : 16 * 0x1p-24;
    bool right = got.size() == want.size();
    for (size_t i = 0; right && i < want.size(); ++i)
      right = check(close(got[i], want[i], unit * states.size[i]), [&] {
        return text("%s: state %ld: %g, not %g", name.c_str(), long(i), got[i], want[i]);
      });
    expect(right, name);
  }
}

void test_sequences() {
  test_sequence({kLstmSequence, 3, 5, 9}, {1, 2, 8});
  test_sequence({kLstmSequence, 4, 9, 70, true, true}, {2, 4});
  test_sequence({kGruSequence, 3, 6, 67, false, true}, {1, 4});
  test_sequence({kGruSequence, 2, 13, 17, true, false, false, true}, {1, 16});
  test_sequence({kLstmSequence, 2, 9, 67, false, true, true, true}, {4});
  test_sequence({kTanhSequence, 4, 3, 33, false, false, false}, {1, 8});
  test_sequence({kReluSequence, 1, 1, 1, false, true}, {1});
  test_sequence({kTanhSequence, 2, 2, 400, true}, {4});
  for (const SequenceCell cell : {kTanhSequence, kReluSequence, kLstmSequence, kGruSequence})
    for (const bool backward : {false, true}) {
      const CudaSequence shape{cell, backward, (cell == kGruSequence) != backward, 6, 40};
      for (const int32_t cluster : {1, 4}) {
        const std::string why = sequence::check(shape, cluster, nullptr);
        expect(why.empty(),
               text("by steps, cell %d %d, %d blocks: %s", cell, backward, cluster, why.c_str()));
      }
    }
}

void test_cuts() {
  constexpr Form kLstm{4, 4, 4, false, false, 4}, kHalf{4, 16, 8, false, false, 2},
      kBack{3, 4, 4, true, true, 4};
  const auto cut = [](const Form& form, int64_t width, int64_t rows, int64_t together) {
    return sequence::find_cut(form, width, rows, [=](const cluster::Shape& shape) {
      expect(shape.threads <= 512 && shape.shared_bytes <= (227 << 10), "a cut fits a block");
      return together / shape.cluster;
    });
  };
  expect(cut(kLstm, 512, 32, 132).cluster == 0, "float32 of 512 units is too much for 16 blocks");
  const Cut half = cut(kHalf, 512, 32, 132);
  expect(half.cluster == 16 && half.units == 32 && half.rows == 8, "as bfloat16 it fits");
  expect(cut(kLstm, 8, 4, 132).cluster == 1, "a small layer needs no cluster");
  expect(cut(kLstm, 256, 32, 8).cluster == 8, "where 16 blocks do not fit the device, 8 do");
  expect(cut(kLstm, 100000, 1, 132).cluster == 0, "too wide");
  const Cut back = cut(kBack, 300, 64, 132);
  const sequence::Geometry g(kBack, 300, back);
  expect(g.terms == 900 && g.first_terms == 600 && g.chains() == 10 + 5, "two sums, two chains");
}

// ---- wrong on purpose --------------------------------------------------------------------------

enum Bug {
  kNoBug,
  kNoBarrier,
  kNoFirstBarrier,
  kReadsBeforeWait,
  kOneBuffer,
  kWrongRank,
  kNoSuchRank,
  kOutside,
  kEndsEarly,
  kWritesLast,
  kArrivesTwice,
  kOnlyWaits,
  kOneDoesNotArrive,
  kStatic,
};
constexpr uint32_t kBlocks = 4, kThreads = 64;
constexpr int kSteps = 5;

// Each step a thread mixes what the threads of its number have left, one of each block.
__global__ void mixing_kernel(float* y, Bug bug) {
  FASTNN_DYNAMIC_SHARED(float, shared);  // [2, blocks, threads]
  const uint32_t rank = cluster::rank(), thread = threadIdx.x;
  const auto at = [&](int s, uint32_t of) {
    return shared + ((bug == kOneBuffer ? 0u : uint32_t(s % 2)) * kBlocks + of) * kThreads + thread;
  };
  if (bug == kStatic) {
    FASTNN_SHARED(float, own, kThreads);
    own[thread] = 0;
  }
  for (uint32_t of = 0; of < kBlocks; ++of) *at(0, of) = float(of + thread);
  if (bug != kNoFirstBarrier) cluster::arrive(), cluster::wait();
  float mix = 0;
  for (int s = 0; s < kSteps; ++s) {
    mix = float(rank);
    for (uint32_t of = 0; of < kBlocks; ++of) mix += float(of + 1) * *at(s, of);
    mix *= 0.125f;
    __syncthreads();
    const bool last = s + 1 == kSteps;
    if (last && bug != kWritesLast) break;
    for (uint32_t to = 0; to < kBlocks; ++to)
      cluster::store(at(s + 1, bug == kWrongRank ? to : rank) + (bug == kOutside ? 512 : 0),
                     bug == kNoSuchRank ? to + 1 : to, mix);
    if (last || (bug == kEndsEarly && s == 1 && rank == 2)) break;
    if (bug == kNoBarrier && s == 1) continue;
    if (bug != kOnlyWaits && !(bug == kOneDoesNotArrive && rank == 1 && thread >= 32))
      cluster::arrive();
    if (bug == kArrivesTwice) cluster::arrive();
    if (bug == kReadsBeforeWait) *at(s, 0) = *at(s + 1, 3), *at(s + 1, 0) += *at(s, 0);
    if (!(bug == kOneDoesNotArrive && rank == 1 && thread >= 32)) cluster::wait();
  }
  y[rank * kThreads + thread] = mix;
}

// The first error of all schedules; "wrong" where results are, and empty where all is well.
std::string outcome(Bug bug) {
  Buffer<float> y(kBlocks * kThreads);
  std::string first;
  for (const char* schedule : {"forward", "reverse", "random:1", "random:2"}) {
    setenv("FASTNN_EMULATOR_SCHEDULE", schedule, 1);
    cluster::launch(mixing_kernel, {kBlocks, kThreads, kBlocks, 2 * kBlocks * kThreads * 4},
                    nullptr, y.data(), bug);
    const char* error = library().take_error();
    std::string found = error != nullptr ? error : "";
    for (uint32_t t = 0; found.empty() && t < kThreads; ++t) {
      double v[kBlocks], mix[kBlocks];
      for (uint32_t r = 0; r < kBlocks; ++r) v[r] = r + t;
      for (int s = 0; s < kSteps; ++s) {
        for (uint32_t r = 0; r < kBlocks; ++r) {
          mix[r] = r;
          for (uint32_t of = 0; of < kBlocks; ++of) mix[r] += (of + 1) * v[of];
          mix[r] *= 0.125;
        }
        std::copy(mix, mix + kBlocks, v);
      }
      for (uint32_t r = 0; r < kBlocks; ++r)
        if (!close(y[r * kThreads + t], v[r], 1e-5 * v[r])) found = "wrong";
    }
    if (first.empty()) first = found;
  }
  setenv("FASTNN_EMULATOR_SCHEDULE", "forward", 1);
  return first;
}

void test_bugs() {
  const auto finds = [](Bug bug, const char* part) { expect_found(bug, outcome(bug), part); };
  finds(kNoBug, "");
  finds(kNoBarrier, "wrong");
  finds(kNoFirstBarrier, "is written before a barrier tells that the block has begun");
  finds(kReadsBeforeWait, "wrong");
  finds(kOneBuffer, "wrong");
  finds(kWrongRank, "wrong");
  finds(kNoSuchRank, "shared memory of rank 4 in a cluster of 4");
  finds(kOutside, "is written outside of it");
  finds(kEndsEarly, "shared memory of rank 2 is written after the block has ended");
  finds(kWritesLast, "is written after the block has ended");
  finds(kArrivesTwice, "arrives at the cluster's barrier twice, without a wait");
  finds(kOnlyWaits, "waits at the cluster's barrier, and has not arrived");
  finds(kOneDoesNotArrive, "waits for what never comes");
  finds(kStatic, "static shared memory of clusters is not emulated");
  Buffer<float> y(1);
  cluster::launch(mixing_kernel, {6, kThreads, kBlocks, 4096}, nullptr, y.data(), kNoBug);
  const char* error = library().take_error();
  expect(error != nullptr && std::strstr(error, "invalid configuration") != nullptr,
         "a grid that is not of whole clusters");
}

}  // namespace

void test_clusters() {
  test_sequences();
  test_cuts();
  test_bugs();
}

}  // namespace fastnn::test
