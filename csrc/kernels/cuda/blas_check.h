// The small product that a class of products is checked by: of integers so small that no precision
// rounds them, nor their sums, so that the results are exact whoever makes them; but for
// activations, of which two compilations may round differently.
#pragma once
#include <algorithm>
#include <cmath>
#include <cstring>
#include <string>
#include <vector>

#include "blas.h"
#include "port.h"

namespace fastnn::blas {
namespace {

// The bits of a number that the type has.
inline uint32_t bits_of(Type type, float x) {
  uint32_t bits;
  std::memcpy(&bits, &x, sizeof bits);
  if (type == kFloat32) return bits;
  if (type == kBFloat16) return bits >> 16;
  if (x == 0) return 0;
  return (bits >> 16 & 0x8000) | ((bits >> 23 & 0xff) - 112) << 10 | (bits >> 13 & 0x3ff);
}
constexpr uint32_t kNanBits[] = {0x7fc00000, 0x7e00, 0x7fc0};  // float32, float16, bfloat16
inline uint32_t nan_bits(Type type) {
  return kNanBits[type == kFloat32 ? 0 : type == kFloat16 ? 1 : 2];
}
inline size_t size_of(Type type) { return type == kFloat32 ? 4 : 2; }

inline float value_of(Type type, uint32_t bits) {
  if (type == kFloat32 || type == kBFloat16) {
    float x;
    bits <<= type == kFloat32 ? 0 : 16;
    std::memcpy(&x, &bits, sizeof x);
    return x;
  }
  const int exponent = static_cast<int>(bits >> 10 & 31), fraction = static_cast<int>(bits & 0x3ff);
  const float size = exponent == 31 ? (fraction != 0 ? NAN : INFINITY)
                     : exponent == 0
                         ? std::ldexp(static_cast<float>(fraction), -24)
                         : std::ldexp(1024.f + static_cast<float>(fraction), exponent - 25);
  return (bits & 0x8000) != 0 ? -size : size;
}

// Whether two results are the same numbers, or as near as `relative` says; all NaNs are the same.
inline bool same(Type type, const unsigned char* x, const unsigned char* z, int64_t count,
                 float relative) {
  const size_t size = size_of(type);
  for (int64_t i = 0; i < count; ++i, x += size, z += size) {
    uint32_t bits_u = 0, bits_v = 0;
    std::memcpy(&bits_u, x, size), std::memcpy(&bits_v, z, size);
    const float u = value_of(type, bits_u), v = value_of(type, bits_v);
    if (u == v || (u != u && v != v)) continue;
    if (!(std::abs(u - v) <= relative * std::max(1.f, std::abs(u)))) return false;
  }
  return true;
}

// A small product in memory of its own: what is read, then the results of each side.
enum Part { kOfA, kOfB, kOfC, kOfBias, kOfResidual, kOfSaved, kOfDraw, kOfPartialSums, kResults };
enum Result { kOfZ, kOfD, kOfSums, kNumResults };
constexpr int kParts = kResults + 2 * kNumResults;
struct Sample {
  Product product;
  int64_t begins[kParts + 1];  // in bytes
  std::vector<unsigned char> host;
};

struct Sizes {
  int64_t m, n, k;
};
// The small product that stands for a class: of its types and transposes, as large as `p` and as
// `most` at most, with rows of 16 bytes. Activations may hide what is wrong before them, so z is
// looked at as well.
inline Product small(const Product& p, Sizes most) {
  const auto round_up = [](int64_t x) { return (x + 7) / 8 * 8; };
  Product q = p;
  q.m = std::min(p.m, most.m), q.n = std::min(p.n, most.n), q.k = std::min(p.k, most.k);
  q.items = std::min<int64_t>(p.items, 2);
  const bool a_rows = p.a_col == 1, b_rows = p.b_col == 1;
  q.a_row = a_rows ? round_up(q.k) : 1, q.a_col = a_rows ? 1 : round_up(q.m);
  q.b_row = b_rows ? round_up(q.n) : 1, q.b_col = b_rows ? 1 : round_up(q.k);
  q.ldc = q.n;
  if (p.activation > kReluActivation && p.saved == nullptr && p.z == nullptr)
    q.z = q.d, q.z_is_activated = false;  // any but null: there is memory for it later
  if (p.draw != nullptr) q.keep = {1 << 11, 2.f, -0.f, 0.f};  // rounds nothing, hides little
  q.a_step = a_rows ? q.m * q.a_row : q.k * q.a_col;
  q.b_step = b_rows ? q.k * q.b_row : q.n * q.b_col;
  q.c_step = q.m * q.n;
  return q;
}

inline Sample sample_of(const Product& p, Sizes most) {
  Sample sample{small(p, most), {}, {}};
  const Product& q = sample.product;
  const auto size = static_cast<int64_t>(size_of(p.type));
  const int64_t results = q.items * q.c_step;
  const auto if_any = [](const void* array, int64_t count) { return array ? count : 0; };
  const int64_t of_side[] = {if_any(q.z, results), results, if_any(q.column_sums, q.n)};
  int64_t counts[kParts] = {q.items * q.a_step,          q.items * q.b_step,      results, q.n,
                            if_any(q.residual, results), if_any(q.saved, results)};
  for (int i = 0; i < 2 * kNumResults; ++i) counts[kResults + i] = of_side[i % kNumResults];
  int64_t bytes[kParts];
  for (int i = 0; i < kParts; ++i) bytes[i] = counts[i] * size;
  bytes[kOfDraw] = sizeof(RngDraw);
  bytes[kOfPartialSums] = if_any(q.column_sums, gemm_sums(q.m, q.n)) * int64_t{sizeof(float)};
  for (int i = 0; i < kParts; ++i)
    sample.begins[i + 1] = sample.begins[i] + (bytes[i] + 255) / 256 * 256;
  sample.host.resize(static_cast<size_t>(sample.begins[kParts]));
  const auto put = [&](int i, int64_t at, uint32_t bits) {
    std::memcpy(sample.host.data() + sample.begins[i] + at * size, &bits,
                static_cast<size_t>(size));
  };
  uint32_t random = 1;
  for (int i = 0; i < kOfDraw; ++i) {
    const int least = i == kOfSaved ? 0 : 4;  // most slopes of ReLU hide nothing
    for (int64_t at = 0; at < counts[i]; ++at) {
      random = random * 1664525 + 1013904223;
      put(i, at, bits_of(p.type, static_cast<float>(static_cast<int>(random >> 24) % 9 - least)));
    }
  }
  const RngDraw draw{random, uint64_t{2} << 56};
  std::memcpy(sample.host.data() + sample.begins[kOfDraw], &draw, sizeof draw);
  // A NaN, which no activation may hide, in a row or column that is not the only one; in a column
  // where columns are summed.
  const bool in_row = q.m > 1 && q.column_sums == nullptr;
  if (in_row || q.n > 1) put(in_row ? kOfA : kOfB, 0, nan_bits(p.type));
  // A row of one factor that float32 has the bits for, and TF32 and bfloat16 have not.
  for (int64_t at = 0; q.m > 2 && at < q.k && p.type == kFloat32 && p.compute == kExact; ++at)
    put(kOfA, 2 * q.a_row + at * q.a_col, bits_of(kFloat32, at == 0 ? 1 + 0x1p-12f : 0.f));
  return sample;
}

// Whether the sums of columns are alike: within `relative` of the sum of the absolute values.
inline bool same_sums(const Product& q, const unsigned char* d, const unsigned char* x,
                      const unsigned char* z, float relative) {
  const size_t size = size_of(q.type);
  const auto at = [&](const unsigned char* array, int64_t i) {
    uint32_t bits = 0;
    std::memcpy(&bits, array + static_cast<size_t>(i) * size, size);
    return value_of(q.type, bits);
  };
  for (int64_t col = 0; col < q.n; ++col) {
    double total = 0;
    for (int64_t row = 0; row < q.m; ++row) total += std::abs(double{at(d, row * q.ldc + col)});
    const float u = at(x, col), v = at(z, col);
    if (u == v || (u != u && v != v)) continue;
    if (!(std::abs(double{u} - double{v}) <= double{relative} * total)) return false;
  }
  return true;
}

// Makes the small product both ways on the device, whose memory begins at `memory`.
inline std::string compare(Sample& sample, unsigned char* memory, void* stream, OwnTiles own,
                           const Maker& make) {
  const auto on = static_cast<cudaStream_t>(stream);
  const size_t bytes = sample.host.size();
  const int64_t* begins = sample.begins;
  cudaMemcpyAsync(memory, sample.host.data(), bytes, cudaMemcpyHostToDevice, on);
  Product q = sample.product;
  const auto place = [&](auto& pointer, int part) {
    if (pointer != nullptr)
      pointer = reinterpret_cast<std::remove_reference_t<decltype(pointer)>>(memory + begins[part]);
  };
  place(q.a, kOfA), place(q.b, kOfB), place(q.c, kOfC), place(q.bias, kOfBias);
  place(q.residual, kOfResidual), place(q.saved, kOfSaved), place(q.draw, kOfDraw);
  q.partial_sums = reinterpret_cast<float*>(memory + begins[kOfPartialSums]);
  const auto results_to = [&](int side) {
    const int first = kResults + side * kNumResults;
    place(q.z, first + kOfZ), place(q.d, first + kOfD), place(q.column_sums, first + kOfSums);
  };
  results_to(0);
  own(q, stream);
  results_to(1);
  if (const std::string why = make(q); !why.empty()) return why;
  cudaMemcpyAsync(sample.host.data(), memory, bytes, cudaMemcpyDeviceToHost, on);
  if (const cudaError_t error = cudaStreamSynchronize(on); error != cudaSuccess)
    return cudaGetErrorString(error);
  const auto result = [&](int side, Result which) {
    return sample.host.data() + begins[kResults + side * kNumResults + which];
  };
  const int64_t count = q.items * q.c_step;
  const float unit = q.type == kFloat32 ? 0x1p-20f : q.type == kFloat16 ? 0x1p-10f : 0x1p-7f;
  const bool exact = q.activation == 0 || q.activation == kReluActivation;
  const float off = exact ? 0 : unit;
  const bool right =
      same(q.type, result(0, kOfD), result(1, kOfD), count, off) &&
      (q.z == nullptr ||
       same(q.type, result(0, kOfZ), result(1, kOfZ), count, q.z_is_activated ? off : 0)) &&
      (q.column_sums == nullptr || same_sums(q, result(0, kOfD), result(0, kOfSums),
                                             result(1, kOfSums), q.type == kFloat32 ? unit : off));
  return right ? "" : "a wrong result in its check";
}

// Why what makes products of the class of `p` cannot be used; empty if it can.
inline std::string check(const Product& p, Sizes most, void* stream, OwnTiles own,
                         const Maker& make) {
  Sample sample = sample_of(p, most);
  void* memory = nullptr;
  const auto on = static_cast<cudaStream_t>(stream);
  if (const cudaError_t error = cudaMallocAsync(&memory, sample.host.size(), on);
      error != cudaSuccess) {
    cudaGetLastError();
    return cudaGetErrorString(error);
  }
  const std::string why = compare(sample, static_cast<unsigned char*>(memory), stream, own, make);
  cudaFreeAsync(memory, on);
  return why;
}

}  // namespace
}  // namespace fastnn::blas
