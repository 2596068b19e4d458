// A few rows of C = A B where the columns of B are contiguous, as a layer's weights are for one
// sample: they are transposed in registers on their way into the sums, and packed nowhere.
#pragma once
#include "gemm_pack.h"

namespace fastnn {
namespace {

inline constexpr int kFewRows = 4;     // at most
inline constexpr int kFewVectors = 2;  // their columns at a time: one alone waits for its fma
static_assert(kNV % kFewVectors == 0 && kGemmChain % 4 == 0);

// A block of k of kFewVectors vectors of columns, added to c if `add`; col: where each begins.
struct FewArgs {
  const float* a;
  int64_t a_row, a_col;
  const float* col[kFewVectors][kLanes];
  int64_t k;
  float* c;  // rows of kNR
  bool add;
};

template <int R>
__attribute__((noinline)) void few_rows(const FewArgs& t) {
  // What is left of four k, as columns of four.
  float rest[kFewVectors][kLanes][4] = {};
  const float* rest_of[kFewVectors][kLanes];
  const int64_t whole = t.k / 4 * 4;
  for (int v = 0; v < kFewVectors && whole < t.k; ++v)
    for (int l = 0; l < kLanes; ++l) {
      for (int64_t q = whole; q < t.k; ++q) rest[v][l][q - whole] = t.col[v][l][q];
      rest_of[v][l] = rest[v][l];
    }
  const float* a = t.a;
  const int64_t a_row = t.a_row, a_col = t.a_col;
  const float* const(*col)[kLanes] = t.col;
  int64_t left = t.k, p = 0;
  Vec acc[R][kFewVectors];
  sum_chains<kGemmChain / 4>(
      acc, ceil_div(t.k, 4), [] {},
      [&]() __attribute__((always_inline)) {
        if (left < 4) col = rest_of, p = 0;
        FASTNN_UNROLL for (int v = 0; v < kFewVectors; ++v) {
          Vec b[4];
          FASTNN_UNROLL for (int q = 0; q < 4; ++q) b[q] = load_quads(col[v] + q, p);
          transpose_quads(b, MakeIndices<kLanes>::Type{});
          FASTNN_UNROLL for (int q = 0; q < 4; ++q) {
            if (q >= left) break;
            FASTNN_UNROLL for (int r = 0; r < R; ++r) acc[r][v] += a[r * a_row + q * a_col] * b[q];
          }
        }
        a += 4 * a_col, p += 4, left -= 4;
      });
  FASTNN_UNROLL for (int r = 0; r < R; ++r) {
    FASTNN_UNROLL for (int v = 0; v < kFewVectors; ++v) {
      float* c = t.c + r * kNR + v * kLanes;
      store(c, t.add ? load(c) + acc[r][v] : acc[r][v]);
    }
  }
}

using RunFewRows = void (*)(const FewArgs&);
struct FewRows {
  RunFewRows of_rows[kFewRows];
};
template <int... I>
constexpr FewRows all_few_rows(Indices<I...>) {
  return {{few_rows<I + 1>...}};
}
inline constexpr FewRows kFew = all_few_rows(MakeIndices<kFewRows>::Type{});

// Whether it is the path of gemm_small, at any of its plans.
FASTNN_INLINE bool has_few_rows(const GemmArgs& g) {
  return g.m <= kFewRows && g.n >= 32 && g.b_row == 1 && g.b_col != 1;
}

// sums[rows of kNR] (+)= columns [j, j + cols) of A B, cols <= kNR.
FASTNN_INLINE void few_strip(const GemmArgs& g, int64_t j, int64_t cols, float* sums) {
  constexpr int64_t kCols = kFewVectors * kLanes;
  for (int64_t first = 0; first < cols; first += kCols, sums += kCols) {
    FewArgs t{};
    t.a_row = g.a_row, t.a_col = g.a_col, t.c = sums;
    for (int64_t p = 0; p < g.k || p == 0; p += kGemmKC) {
      for (int v = 0; v < kFewVectors; ++v)
        for (int l = 0; l < kLanes; ++l)
          t.col[v][l] = g.b + (j + least(first + v * kLanes + l, cols - 1)) * g.b_col + p;
      t.a = g.a + p * g.a_col, t.k = least(kGemmKC, g.k - p), t.add = g.accumulate || p > 0;
      kFew.of_rows[g.m - 1](t);
    }
  }
}

}  // namespace
}  // namespace fastnn
