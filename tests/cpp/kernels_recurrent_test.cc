// The recurrent cells: one step, with rows inside and past their end.
#include "kernels_test.h"

namespace fastnn {
namespace {

constexpr int64_t kRows = 5;
const int64_t kLengths[kRows] = {1, 0, 3, 0, 2};

struct Step {
  explicit Step(int64_t width, bool ragged)
      : step{ragged ? kLengths : nullptr, 0, kRows, width},
        h_prev(kRows * width),
        h(kRows * width, true),
        y(kRows * width, true),
        h_n(kRows * width, true),
        dy(kRows * width),
        dh(kRows * width) {}
  RecurrentStep step;
  Buffer<float> h_prev, h, y, h_n, dy, dh;

  Slice all() const { return {0, ceil_div(kRows, recurrent_rows(step.width)), nullptr}; }
  RecurrentOutputs out() {
    return {h.get(), step.lengths != nullptr ? y.get() : nullptr, h_n.get()};
  }
  RecurrentGradients grads() { return {dy.get(), dh.get()}; }
  Bytes bytes() {
    Bytes out;
    for (const auto* buffer : {&h, &h_n, &dh}) append(out, *buffer);
    if (step.lengths != nullptr) append(out, y);
    return out;
  }
};

Bytes rnn(const Kernels& k, int64_t n, bool ragged, int kind) {
  Step s(n, ragged);
  Buffer<float> z(kRows * n), dz(kRows * n, true);
  k.rnn_fwd[kind]({s.step, z.get(), s.h_prev.get(), s.out()}, s.all());
  k.rnn_bwd[kind]({s.step, s.grads(), s.h.get(), dz.get()}, s.all());
  Bytes out = s.bytes();
  append(out, dz);
  return out;
}

Bytes lstm(const Kernels& k, int64_t n, bool ragged) {
  Step s(n, ragged);
  Buffer<float> gates(4 * kRows * n), c_prev(kRows * n), c(kRows * n, true), c_n(kRows * n, true),
      dc(kRows * n);
  k.lstm_fwd({s.step, gates.get(), s.h_prev.get(), c_prev.get(), s.out(), c.get(), c_n.get()},
             s.all());
  Bytes out;
  append(out, gates);
  k.lstm_bwd({s.step, s.grads(), gates.get(), c.get(), c_prev.get(), dc.get()}, s.all());
  for (const auto* buffer : {&gates, &c, &c_n, &dc}) append(out, *buffer);
  const Bytes rest = s.bytes();
  out.insert(out.end(), rest.begin(), rest.end());
  return out;
}

Bytes lstm_of_norm(const Kernels& k, int64_t n, bool ragged) {
  Step s(n, ragged);
  Buffer<float> gates(4 * kRows * n), norm(kRows * n), c_prev(kRows * n), dc_output(kRows * n),
      dc(kRows * n);
  k.lstm_output_fwd({s.step, gates.get(), norm.get(), s.h_prev.get(), s.out()}, s.all());
  k.lstm_output_bwd({s.step, s.grads(), gates.get(), norm.get()}, s.all());
  k.lstm_cell_bwd({s.step, gates.get(), c_prev.get(), dc_output.get(), dc.get()}, s.all());
  Bytes out = s.bytes();
  for (const auto* buffer : {&gates, &norm, &dc}) append(out, *buffer);
  return out;
}

Bytes gru(const Kernels& k, int64_t n, bool ragged, bool after) {
  Step s(n, ragged);
  Buffer<float> gates(3 * kRows * n), hidden(kRows * n), dreset(kRows * n);
  const float sign = after ? 1.f : -1.f;
  const GruFwdArgs fwd{s.step, gates.get(), hidden.get(), s.h_prev.get(), s.out(), sign, after};
  if (!after) k.gru_reset(fwd, s.all());
  k.gru_fwd(fwd, s.all());
  Bytes out;
  for (const auto* buffer : {&gates, &hidden}) append(out, *buffer);
  const GruBwdArgs bwd{s.step,         s.grads(),    gates.get(), hidden.get(),
                       s.h_prev.get(), dreset.get(), sign,        after};
  k.gru_bwd(bwd, s.all());
  if (!after) k.gru_reset_bwd(bwd, s.all());
  for (const auto* buffer : {&gates, &hidden}) append(out, *buffer);
  const Bytes rest = s.bytes();
  out.insert(out.end(), rest.begin(), rest.end());
  return out;
}

Bytes lengths(const Kernels& k, int64_t steps) {
  Status status{kStatusOk};
  k.check_lengths({kLengths, kRows, steps, &status, 7}, {0, 1, nullptr});
  EXPECT((status.word == kStatusOk) == (steps >= 3), "lengths in %ld steps", long(steps));
  if (steps < 3) EXPECT(status_index(status.word) == (steps < 1 ? 0 : 2), "the first is named");
  return {};
}

void compare_all() {
  const DType f32 = DType::kFloat32;
  for (const int64_t n : sizes()) {
    if (n > 2000 && n != 16385) continue;
    const std::string at = " n=" + std::to_string(n);
    for (const bool ragged : {false, true}) {
      for (const int kind : {0, 1})
        compare("rnn" + at, [=](const Kernels& k) { return rnn(k, n, ragged, kind); }, f32);
      compare("lstm" + at, [=](const Kernels& k) { return lstm(k, n, ragged); }, f32);
      compare(
          "lstm of norm" + at, [=](const Kernels& k) { return lstm_of_norm(k, n, ragged); }, f32);
      for (const bool after : {false, true})
        compare("gru" + at, [=](const Kernels& k) { return gru(k, n, ragged, after); }, f32);
    }
  }
  for (const int64_t steps : {0, 1, 2, 3, 4})
    compare("lengths", [=](const Kernels& k) { return lengths(k, steps); }, f32);
}

}  // namespace
}  // namespace fastnn

int main() {
  fastnn::compare_all();
  return report_tests();
}
