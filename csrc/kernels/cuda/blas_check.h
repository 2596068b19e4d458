// The small product that a class of products is checked by: of integers so small that no precision
// rounds them, nor their sums, so that the results are exact whoever makes them; but for
// activations, of which two compilations may round differently.
#pragma once
#include <algorithm>
#include <cmath>
#include <cstring>
#include <functional>
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

// A small product in memory of its own: A, B, C, bias, then z and the result of each side.
struct Sample {
  Product product;
  int64_t begins[9];  // in bytes
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
  if (p.activation > kReluActivation) q.z = q.d;  // any but null: there is memory for it later
  q.a_step = a_rows ? q.m * q.a_row : q.k * q.a_col;
  q.b_step = b_rows ? q.k * q.b_row : q.n * q.b_col;
  q.c_step = q.m * q.n;
  return q;
}

inline Sample sample_of(const Product& p, Sizes most) {
  Sample sample{small(p, most), {}, {}};
  const Product& q = sample.product;
  const int64_t results = q.items * q.c_step, z = q.z != nullptr ? results : 0;
  const int64_t counts[] = {
      q.items * q.a_step, q.items * q.b_step, results, q.n, z, results, z, results};
  const auto size = static_cast<int64_t>(size_of(p.type));
  for (int i = 0; i < 8; ++i)
    sample.begins[i + 1] = sample.begins[i] + (counts[i] * size + 255) / 256 * 256;
  sample.host.resize(static_cast<size_t>(sample.begins[8]));
  const auto put = [&](int i, int64_t at, uint32_t bits) {
    std::memcpy(sample.host.data() + sample.begins[i] + at * size, &bits,
                static_cast<size_t>(size));
  };
  uint32_t random = 1;
  for (int i = 0; i < 4; ++i)
    for (int64_t at = 0; at < counts[i]; ++at) {
      random = random * 1664525 + 1013904223;
      put(i, at, bits_of(p.type, static_cast<float>(static_cast<int>(random >> 24) % 9 - 4)));
    }
  // A NaN, which no activation may hide, in a row or column that is not the only one.
  if (q.m > 1 || q.n > 1) put(q.m > 1 ? 0 : 1, 0, nan_bits(p.type));
  // A row of one factor that float32 has the bits for, and TF32 and bfloat16 have not.
  for (int64_t at = 0; q.m > 2 && at < q.k && p.type == kFloat32 && p.compute == kExact; ++at)
    put(0, 2 * q.a_row + at * q.a_col, bits_of(kFloat32, at == 0 ? 1 + 0x1p-12f : 0.f));
  return sample;
}

// Makes a product, or says why not.
using Maker = std::function<std::string(const Product& product)>;

// Makes the small product both ways on the device, whose memory begins at `memory`.
inline std::string compare(Sample& sample, unsigned char* memory, void* stream, OwnTiles own,
                           const Maker& make) {
  const auto on = static_cast<cudaStream_t>(stream);
  const size_t bytes = sample.host.size();
  const int64_t* begins = sample.begins;
  cudaMemcpyAsync(memory, sample.host.data(), bytes, cudaMemcpyHostToDevice, on);
  Product q = sample.product;
  q.a = memory, q.b = memory + begins[1];
  if (q.c != nullptr) q.c = memory + begins[2];
  if (q.bias != nullptr) q.bias = memory + begins[3];
  if (q.z != nullptr) q.z = memory + begins[4];
  q.d = memory + begins[5];
  own(q, stream);
  if (q.z != nullptr) q.z = memory + begins[6];
  q.d = memory + begins[7];
  if (const std::string why = make(q); !why.empty()) return why;
  cudaMemcpyAsync(sample.host.data(), memory, bytes, cudaMemcpyDeviceToHost, on);
  if (const cudaError_t error = cudaStreamSynchronize(on); error != cudaSuccess)
    return cudaGetErrorString(error);
  const unsigned char* results = sample.host.data();
  const int64_t count = q.items * q.c_step;
  const float unit = q.type == kFloat32 ? 0x1p-20f : q.type == kFloat16 ? 0x1p-10f : 0x1p-7f;
  const bool exact = q.activation == 0 || q.activation == kReluActivation;
  const bool right =
      same(q.type, results + begins[5], results + begins[7], count, exact ? 0 : unit) &&
      (q.z == nullptr || same(q.type, results + begins[4], results + begins[6], count, 0));
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
