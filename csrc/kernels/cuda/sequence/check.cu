// The small sequence that a class of sequences is checked by: made as one launch and by the kernels
// of its steps, which every device has.
#include <cmath>
#include <vector>

#include "../table.h"
#include "sequences.h"

namespace fastnn::sequence {
namespace {

constexpr int64_t kSteps = 5, kRows = 6, kLengths[kRows] = {5, 0, 3, 1, 5, 2};

// Arrays of floats, one after the other; the lengths of the rows come first.
enum Array { kW, kBias, kH0, kC0, kDy, kGates, kHidden, kH, kY, kHn, kC, kCn, kDh, kDc, kArrays };

struct Sample {
  CudaSequence of;
  int64_t gates, width, cells;
  int64_t begins[kArrays + 1];

  Sample(const CudaSequence& shape, int32_t cluster)
      : of(shape),
        gates(shape.cell == kLstmSequence  ? 4
              : shape.cell == kGruSequence ? 3
                                           : 1),
        // More than a chain, and a block that lacks a unit; of one block, what fits.
        width(least(cluster * ceil_div(70, cluster) - 1, 63 * cluster)),
        cells(kRows * width) {
    of.rows = kRows, of.width = width;
    const int64_t history = kSteps * cells;
    const int64_t counts[] = {gates * width * width,
                              gates * width,
                              cells,
                              cells,
                              history,
                              gates * history,
                              history,
                              history,
                              history,
                              cells,
                              history,
                              cells,
                              cells,
                              cells};
    begins[0] = 2 * kRows;
    for (int i = 0; i < kArrays; ++i) begins[i + 1] = begins[i] + counts[i];
  }
  bool is_output(int i) const {
    return !of.backward && (i == kHidden || i == kH || i == kY || i == kHn || i == kC || i == kCn);
  }
  // Multiples of 1/16, which bfloat16 has; NaN where a pass writes.
  std::vector<float> numbers() const {
    std::vector<float> host(static_cast<size_t>(begins[kArrays]));
    std::memcpy(host.data(), kLengths, sizeof kLengths);
    uint32_t random = 1;
    for (int i = 0; i < kArrays; ++i)
      for (int64_t at = begins[i]; at < begins[i + 1]; ++at) {
        random = random * 1664525 + 1013904223;
        const auto number = static_cast<float>(static_cast<int>(random >> 24) % 9 - 4) / 16;
        host[static_cast<size_t>(at)] = is_output(i) ? NAN : number;
      }
    return host;
  }
  // Whether both ways made the same of array i: past its end a row's gates are anything.
  bool same(int i, const float* x, const float* z) const {
    for (int64_t at = 0; at < begins[i + 1] - begins[i]; ++at) {
      const float u = x[begins[i] + at], v = z[begins[i] + at];
      // With bfloat16 weights 16 bits of the state are multiplied.
      const float unit = of.bf16_weights ? 0x1p-11f : 0x1p-16f;
      if (u == v || (u != u && v != v) || std::abs(u - v) <= unit * std::max(1.f, std::abs(u)))
        continue;
      const int64_t row = at / (gates * width);
      const bool past = i == kGates && row / kRows >= kLengths[row % kRows];
      const bool sums = i == kGates && (past || gates == 1);
      if (of.backward || !sums) return false;
    }
    return true;
  }
};

// Where the arrays are on the device.
struct Memory {
  const Sample& sample;
  float* base;

  float* operator()(Array i) const { return base + sample.begins[i]; }
  const int64_t* lengths() const { return reinterpret_cast<const int64_t*>(base); }
  // Of step s of [steps, rows, count * width]; the sequence is reversed.
  float* at(Array i, int64_t s, int64_t count = 1) const {
    return (*this)(i) + (kSteps - 1 - s) * sample.cells * count;
  }
  const float* before(Array i, int64_t s, Array initial) const {
    return s == 0 ? (*this)(initial) : at(i, s - 1);
  }
  RecurrentStep step(int64_t s) const { return {lengths(), kSteps - 1 - s, kRows, sample.width}; }
  Sequence sequence() const {
    return {static_cast<SequenceCell>(sample.of.cell),
            lengths(),
            kSteps,
            kRows,
            sample.width,
            true,
            sample.of.bf16_weights};
  }
};

cudaError_t in_one(const Memory& m, const Cut& cut, void* stream) {
  if (m.sample.of.backward)
    return run(SequenceBwdArgs{m.sequence(), m(kW), m(kDy), m(kH), m(kH0), m(kC), m(kC0), m(kGates),
                               m(kHidden), m(kDh), m(kDc), 1.f, true},
               cut, stream);
  return run(SequenceFwdArgs{m.sequence(), m(kW), m(kBias), m(kH0), m(kC0), m(kGates), m(kHidden),
                             m(kH), m(kY), m(kHn), m(kC), m(kCn), 1.f},
             cut, stream);
}

// ---- by steps ----------------------------------------------------------------------------------

const RecurrentKernels& cells() { return cuda::Table<RecurrentKernels>::of_dtype[0]; }
// a [kRows, k] with rows ld apart, by b [k, n] with these strides.
GemmArgs product(const float* a, int64_t ld, const float* b, int64_t b_row, int64_t b_col,
                 int64_t n, int64_t k) {
  GemmArgs g{};
  g.a = a, g.a_row = ld, g.a_col = 1;
  g.b = b, g.b_row = b_row, g.b_col = b_col;
  g.m = kRows, g.n = n, g.k = k;
  return g;
}
void multiply(const GemmArgs& args, void* stream) {
  cuda::Table<LinearKernels>::of_dtype[0].gemm_small(args, {0, 1, stream});
}

// c = or += h W[begin : end]^T + bias[begin : end]
void hidden_sums(const Memory& m, int64_t begin, int64_t end, const float* h, float* c, int64_t ldc,
                 bool accumulate, void* stream) {
  const int64_t width = m.sample.width;
  GemmArgs g =
      product(h, width, m(kW) + begin * width * width, 1, width, (end - begin) * width, width);
  g.c = c, g.ldc = ldc, g.accumulate = accumulate;
  g.bias = m(kBias) + begin * width;
  multiply(g, stream);
}
// dh += d W[begin : end]
void state_gradient(const Memory& m, int64_t begin, int64_t end, const float* d, int64_t ld,
                    void* stream) {
  const int64_t width = m.sample.width;
  GemmArgs g =
      product(d, ld, m(kW) + begin * width * width, width, 1, width, (end - begin) * width);
  g.c = m(kDh), g.ldc = width, g.accumulate = true;
  multiply(g, stream);
}

void step(const Memory& m, int64_t s, Slice all) {
  const int64_t gates = m.sample.gates, width = m.sample.width;
  const bool last = s == kSteps - 1;
  float* z = m.at(kGates, s, gates);
  const float* h_prev = m.before(kH, s, kH0);
  const RecurrentOutputs out{m.at(kH, s), m.at(kY, s), last ? m(kHn) : nullptr};
  const int64_t together = gates == 3 ? 2 : gates;
  hidden_sums(m, 0, together, h_prev, z, gates * width, true, all.stream);
  if (gates == 4) {
    cells().lstm_fwd(
        {m.step(s), z, h_prev, m.before(kC, s, kC0), out, m.at(kC, s), last ? m(kCn) : nullptr},
        all);
  } else if (gates == 3) {
    hidden_sums(m, 2, 3, h_prev, m.at(kHidden, s), width, false, all.stream);
    cells().gru_fwd({m.step(s), z, m.at(kHidden, s), h_prev, out, 1.f, true}, all);
  } else {
    cells().rnn_fwd[m.sample.of.cell]({m.step(s), z, h_prev, out}, all);
  }
}

void step_back(const Memory& m, int64_t s, Slice all) {
  const int64_t gates = m.sample.gates, width = m.sample.width;
  float* d = m.at(kGates, s, gates);
  const RecurrentGradients grads{m.at(kDy, s), m(kDh)};
  if (gates == 4) {
    cells().lstm_bwd({m.step(s), grads, d, m.at(kC, s), m.before(kC, s, kC0), m(kDc)}, all);
  } else if (gates == 3) {
    cells().gru_bwd(
        {m.step(s), grads, d, m.at(kHidden, s), m.before(kH, s, kH0), nullptr, 1.f, true}, all);
  } else {
    cells().rnn_bwd[m.sample.of.cell]({m.step(s), grads, m.at(kH, s), d}, all);
  }
  state_gradient(m, 0, gates == 3 ? 2 : gates, d, gates * width, all.stream);
  if (gates == 3) state_gradient(m, 2, 3, m.at(kHidden, s), width, all.stream);
}

void by_steps(const Memory& m, void* stream) {
  const Slice all{0, 1, stream};
  for (int64_t s = 0; s < kSteps; ++s)
    m.sample.of.backward ? step_back(m, kSteps - 1 - s, all) : step(m, s, all);
}

// Both ways on the device, whose memory has room for two samples.
std::string compare(const Sample& sample, const Cut& cut, float* memory, void* stream) {
  const auto on = static_cast<cudaStream_t>(stream);
  const std::vector<float> numbers = sample.numbers();
  const size_t count = numbers.size(), bytes = count * sizeof(float);
  for (const size_t from : {size_t{0}, count})
    cudaMemcpyAsync(memory + from, numbers.data(), bytes, cudaMemcpyHostToDevice, on);
  if (const cudaError_t error = in_one({sample, memory}, cut, stream); error != cudaSuccess)
    return cudaGetErrorString(error);
  by_steps({sample, memory + count}, stream);
  std::vector<float> results(2 * count);
  cudaMemcpyAsync(results.data(), memory, 2 * bytes, cudaMemcpyDeviceToHost, on);
  if (const cudaError_t error = cudaStreamSynchronize(on); error != cudaSuccess)
    return cudaGetErrorString(error);
  for (int i = 0; i < kArrays; ++i)
    if (!sample.same(i, results.data(), results.data() + count))
      return "a wrong result in its check";
  return "";
}

}  // namespace

std::string check(const CudaSequence& shape, int32_t cluster, void* stream) {
  const Sample sample(shape, cluster);
  const Cut cut = cut_of(sample.of, cluster);
  if (cut.cluster == 0) return "its check does not fit the device";
  const auto on = static_cast<cudaStream_t>(stream);
  void* memory = nullptr;
  const size_t bytes = 2 * static_cast<size_t>(sample.begins[kArrays]) * sizeof(float);
  if (const cudaError_t error = cudaMallocAsync(&memory, bytes, on); error != cudaSuccess) {
    cudaGetLastError();
    return cudaGetErrorString(error);
  }
  const std::string why = compare(sample, cut, static_cast<float*>(memory), stream);
  cudaFreeAsync(memory, on);
  return why;
}

}  // namespace fastnn::sequence
