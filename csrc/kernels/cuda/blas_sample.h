// The small product that a class of cuBLASLt's products is checked by: of integers so small that no
// precision rounds them, nor their sums, so that the results are exact whoever makes them.
#pragma once
#include <algorithm>
#include <cstring>
#include <vector>

#include "blas.h"

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

// Whether two results are the same numbers; all NaNs are, and so are both zeros.
inline bool same(Type type, const unsigned char* x, const unsigned char* z, int64_t count) {
  const size_t size = size_of(type);
  const uint32_t sign = type == kFloat32 ? 0x80000000 : 0x8000;
  const uint32_t infinity = type == kFloat32 ? 0x7f800000 : type == kFloat16 ? 0x7c00 : 0x7f80;
  for (int64_t i = 0; i < count; ++i, x += size, z += size) {
    uint32_t u = 0, v = 0;
    std::memcpy(&u, x, size), std::memcpy(&v, z, size);
    const bool nan_u = (u & ~sign) > infinity, nan_v = (v & ~sign) > infinity;
    if (nan_u != nan_v || (!nan_u && u != v && ((u | v) & ~sign) != 0)) return false;
  }
  return true;
}

// A small product in memory of its own: A, B, C, bias, and two results.
struct Sample {
  Product product;
  int64_t begins[7];  // in bytes
  std::vector<unsigned char> host;
};

// The small product that stands for a class: of its types and transposes, as large as `p` at most.
inline Product small(const Product& p) {
  Product q = p;
  q.m = std::min<int64_t>(p.m, 70), q.n = std::min<int64_t>(p.n, 66);
  q.k = std::min<int64_t>(p.k, 100), q.items = std::min<int64_t>(p.items, 2);
  const bool a_rows = p.a_col == 1, b_rows = p.b_col == 1;
  q.a_row = a_rows ? q.k : 1, q.a_col = a_rows ? 1 : q.m;
  q.b_row = b_rows ? q.n : 1, q.b_col = b_rows ? 1 : q.k;
  q.ldc = q.n, q.a_step = q.m * q.k, q.b_step = q.k * q.n, q.c_step = q.m * q.n;
  return q;
}

inline Sample sample_of(const Product& p) {
  Sample sample{small(p), {}, {}};
  const Product& q = sample.product;
  const int64_t counts[] = {q.items * q.a_step, q.items * q.b_step, q.items * q.c_step, q.n,
                            q.items * q.c_step, q.items * q.c_step};
  const auto size = static_cast<int64_t>(size_of(p.type));
  for (int i = 0; i < 6; ++i)
    sample.begins[i + 1] = sample.begins[i] + (counts[i] * size + 255) / 256 * 256;
  sample.host.resize(static_cast<size_t>(sample.begins[6]));
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

}  // namespace
}  // namespace fastnn::blas
