// Products of float32 by products of TF32 ("3xTF32"): x = high + low, TF32 numbers both, so that
//   A B = high(A) high(B) + high(A) low(B) + low(A) high(B)   to 22 bits of the mantissa,
// which is one product of three times the depth, [high, high, low] [high, low, high]^T. Both
// factors are written so, contiguous along k, a part of k at a time, as the workspace has room.
// What is left out is less than 8u |A| |B|; how the tensor cores round their sums comes to it. An
// infinite factor gives NaN, since infinity times low may be.
#include <algorithm>

#include "../engine.cuh"
#include "products.h"

namespace fastnn::wgmma {
namespace {

// A part of a factor of `side` rows or columns: of k, `depth`, and zeros up to `width`.
struct Part {
  const float* x;
  int64_t side, depth, width;
  int64_t side_step, k_step;
  float* to;            // side rows of 3 width
  int32_t low_is_last;  // A's order; else the low part is in the middle
};

// To nearest, ties to even, but never to infinity.
__device__ __forceinline__ float high_of(float x) {
  const auto bits = static_cast<uint32_t>(to_bits(x));
  const uint32_t rounded = (bits + 0xfff + (bits >> 13 & 1)) & ~0x1fffu;
  const bool overflows = (rounded & 0x7fffffff) >= 0x7f800000;
  const bool finite = (bits & 0x7fffffff) < 0x7f800000;
  return from_bits(static_cast<int32_t>(!finite ? bits : overflows ? bits & ~0x1fffu : rounded));
}

__global__ void __launch_bounds__(kElementwiseThreads) split_kernel(Part part) {
  const bool k_first = part.k_step == 1;
  each_element(part.side * part.width, [&](int64_t e) {
    const int64_t i = k_first ? e / part.width : e % part.side;
    const int64_t k = k_first ? e % part.width : e / part.side;
    const float x = k < part.depth ? part.x[i * part.side_step + k * part.k_step] : 0.f;
    const float high = high_of(x), rest = x - high;
    const float low = rest == rest ? rest : 0.f;  // of infinities and NaN
    float* row = part.to + i * 3 * part.width + k;
    row[0] = high;
    row[part.width] = part.low_is_last ? high : low;
    row[2 * part.width] = part.low_is_last ? low : high;
  });
}

void split(const Part& part, void* stream) {
  FASTNN_LAUNCH(split_kernel, element_grid(part.side * part.width), kElementwiseThreads, stream,
                part);
}

}  // namespace

bool can_split(const blas::Product& p) {
  return p.type == blas::kFloat32 && p.compute == blas::kExact && p.items == 1 && p.ldc >= p.n;
}

std::string make_split(const blas::Product& p, Cut cut, Workspace workspace, void* stream) {
  constexpr int64_t kLine = 32;  // of k in a stage of the ring
  const int64_t bytes_of_k = 3 * (p.m + p.n) * int64_t{sizeof(float)};
  const int64_t most = static_cast<int64_t>(workspace.bytes) / bytes_of_k / kLine * kLine;
  if (most < kLine) return "its factors are too large for the workspace";
  auto* a = static_cast<float*>(workspace.memory);
  for (int64_t k = 0; k < p.k; k += most) {
    const int64_t depth = std::min(most, p.k - k), width = (depth + 3) / 4 * 4;
    float* b = a + p.m * 3 * width;
    split({static_cast<const float*>(p.a) + k * p.a_col, p.m, depth, width, p.a_row, p.a_col, a, 1},
          stream);
    split({static_cast<const float*>(p.b) + k * p.b_row, p.n, depth, width, p.b_col, p.b_row, b, 0},
          stream);
    blas::Product q = p;
    q.a = a, q.a_row = 3 * width, q.a_col = 1;
    q.b = b, q.b_row = 1, q.b_col = 3 * width;
    q.k = 3 * width, q.a_step = q.b_step = 0, q.compute = blas::kAsTf32;
    if (k > 0) q.c = p.d;
    if (k + most < p.k) q = blas::without_ending(q), q.bias = nullptr;
    if (const std::string why = make(q, cut, stream); !why.empty()) return why;
  }
  return "";
}

}  // namespace fastnn::wgmma
