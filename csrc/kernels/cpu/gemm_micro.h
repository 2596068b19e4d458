// The register tile of GEMM, for every CPU: GCC/Clang vectors, no intrinsics, the width chosen by
// the compiler's flags. Invariant: an element's sum over one k block is the same chains of fma,
// added in order, whatever the tile: all tiles give the same bits.
#pragma once
#if defined(__AVX512BF16__)
#include <immintrin.h>
#endif
#include <cstdint>

#include "../gemm_plan.h"
#include "vectors.h"

namespace fastnn {
namespace {

// A tile of packed panels has kMR x kNV vectors of sums. kMR divides kGemmRows, kNR kGemmCols.
#if defined(__AVX512F__)
inline constexpr int kRegisters = 32, kMR = 6, kNV = 4;
#elif defined(__AVX__)
inline constexpr int kRegisters = 16, kMR = 6, kNV = 2;
#elif defined(__aarch64__)
inline constexpr int kRegisters = 32, kMR = 12, kNV = 2;
#else
inline constexpr int kRegisters = 16, kMR = 4, kNV = 2;
#endif
inline constexpr int kNR = kNV * kLanes, kMaxRows = 12;
inline constexpr int kLineFloats = 16, kL1Floats = 8192;  // of the smallest L1 cache there is
static_assert(kGemmRows % kMR == 0 && kGemmCols % kNR == 0);

// Rows of the tallest tile of nv vectors: its sums, a row of B and a broadcast of A in registers.
constexpr int tile_rows(int nv) {
  const int rows = nv == kNV ? kMR : (kRegisters - nv - 2) / nv;
  return rows < kMaxRows ? rows : kMaxRows;
}

typedef float Quad __attribute__((vector_size(16)));
typedef float QuadU __attribute__((vector_size(16), aligned(4), may_alias));

// Tiles of C one below the other: in one call, since what lies between two tiles (arguments, a
// call) takes as long as a sum of 10.
struct TileArgs {
  const float* a;
  int64_t a_row, a_col;
  int64_t a_step;  // from one tile to the next
  int64_t tiles;   // 0: one
  const float* b;  // rows of whole vectors
  int64_t b_row, k;
  float* c;
  int64_t ldc;
  const float* bias;   // or null
  bool add;            // C += A B instead of C = A B
  const float* ahead;  // memory to fetch into L2 meanwhile: ahead_lines per chain
  int64_t ahead_lines;
};

// One step of the sum over k, for one element of a column of A and a vector of a row of B.
struct OneProduct {
  static constexpr int kProducts = 1;
  static FASTNN_INLINE Vec add(Vec acc, float a, Vec b) { return acc + a * b; }
};
#if defined(__AVX512BF16__)
// The elements are pairs of bfloat16: acc + a.high b.high, rounded, + a.low b.low, rounded.
// Subnormals count as zero.
struct TwoProducts {
  static constexpr int kProducts = 2;
  static FASTNN_INLINE Vec add(Vec acc, float a, Vec b) {
    return Vec(_mm512_dpbf16_ps(__m512(acc), __m512bh(_mm512_set1_ps(a)), __m512bh(b)));
  }
};
#endif

// acc = the sum of k steps, as chains of kGemmChain products, each from zero, added in order.
// step() adds one step's products to acc; before_chain() is called before each chain.
#pragma GCC diagnostic push
#if !defined(__clang__)  // GCC cannot tell that `parked` is written before it is read
#pragma GCC diagnostic ignored "-Wmaybe-uninitialized"
#endif
template <int kChain = kGemmChain, int R, int NV, class Before, class Step>
FASTNN_INLINE void sum_chains(Vec (&acc)[R][NV], int64_t k, Before before_chain, Step step) {
  FASTNN_UNROLL for (int i = 0; i < R; ++i) {
    FASTNN_UNROLL for (int v = 0; v < NV; ++v) acc[i][v] = Vec{};
  }
  Vec parked[R][NV];  // what the chains before have summed waits in memory
  for (int64_t left = k;; left -= kChain) {
    before_chain();
    // Two at a time: they share counting and adding to addresses, 2 of AVX2's 25 instructions.
#pragma GCC unroll 2
    for (int64_t p = least(kChain, left); p > 0; --p) step();
    if (left < k) {
      FASTNN_UNROLL for (int i = 0; i < R; ++i) {
        FASTNN_UNROLL for (int v = 0; v < NV; ++v) acc[i][v] = parked[i][v] + acc[i][v];
      }
    }
    if (left <= kChain) break;
    FASTNN_UNROLL for (int i = 0; i < R; ++i) {
      FASTNN_UNROLL for (int v = 0; v < NV; ++v) parked[i][v] = acc[i][v], acc[i][v] = Vec{};
    }
  }
}
#pragma GCC diagnostic pop

// One column of A, as pointers to some of its rows. kUnitRow: a_row is 1, as in packed panels and
// in A transposed; otherwise a_col is.
template <int R, bool kUnitRow>
struct Column {
  static constexpr int kPointers =
      kUnitRow ? 1 : (R + 2) / 3;  // x86 addresses three rows from one pointer
  const float* a[kPointers];
  int64_t row;
  FASTNN_INLINE Column(const float* first, int64_t a_row) : row(a_row) {
    FASTNN_UNROLL for (int i = 0; i < kPointers; ++i) a[i] = first + 3 * i * a_row;
  }
  // acc += this column times a row of B.
  template <class Step = OneProduct, int NV>
  FASTNN_INLINE void multiply(const Vec (&b)[NV], Vec (&acc)[R][NV]) const {
    FASTNN_UNROLL for (int i = 0; i < R; ++i) {
      const float s = kUnitRow ? a[0][i] : a[i / 3][i % 3 * row];
      FASTNN_UNROLL for (int v = 0; v < NV; ++v) acc[i][v] = Step::add(acc[i][v], s, b[v]);
    }
  }
  FASTNN_INLINE void advance(int64_t elements) {
    FASTNN_UNROLL for (int i = 0; i < kPointers; ++i) a[i] += elements;
  }
};

// Calls row(address, i) for R rows from c; returns the address of what follows them. One address at
// a time: the compiler would keep all of them, in vector registers too, and spill those.
template <int R, class Row>
FASTNN_INLINE float* rows_of_c(float* c, int64_t ldc, Row row) {
  FASTNN_UNROLL for (int i = 0; i < R; ++i) {
    row(c, i);
    c += ldc;
    asm volatile("" : "+r"(c));
  }
  return c;
}

// Rows of B that are fetched ahead of those in use: 100 cycles, what L2 takes while it is busy.
inline constexpr int kRowsAhead = 8;

// kFetch: B is larger than L1, and its rows come from L2 by prefetch. No prefetcher of the hardware
// follows rows that are pages apart; where B is in L1 this costs a few percent.
template <int R, int NV, bool kUnitRow, bool kFetch = false, class Step = OneProduct>
__attribute__((noinline)) void tile(const TileArgs& t) {
  constexpr int kLineVecs = kLineFloats / kLanes;
  const int64_t a_col = t.a_col, b_row = t.b_row;
  const float *first = t.a, *ahead = t.ahead;
  float* c = t.c;
  // Rows of C are fetched from chain to chain: all of them at once would hold the first sums up,
  // and where there is one chain that costs more than it brings.
  constexpr int64_t kChain = kGemmChain / Step::kProducts;
  const int64_t rows_per_chain = t.k > kChain ? ceil_div(R, ceil_div(t.k, kChain)) : 0;
  for (int64_t tiles = t.tiles;;) {
    const float* row_to_fetch = c;
    asm volatile("" ::: "memory");  // C is not read before the sums
    Column<R, kUnitRow> a(first, t.a_row);
    const float* b = t.b;
    Vec acc[R][NV];
    sum_chains<kChain>(
        acc, t.k,
        [&]() __attribute__((always_inline)) {
          for (int64_t i = 0; i < t.ahead_lines; ++i, ahead += kLineFloats)
            __builtin_prefetch(ahead, 0, 2);
          for (int64_t i = 0; i < rows_per_chain; ++i, row_to_fetch += t.ldc)
            FASTNN_UNROLL for (int v = 0; v < NV; v += kLineVecs)
                __builtin_prefetch(row_to_fetch + v * kLanes, 1);
        },
        [&]() __attribute__((always_inline)) {
          Vec bv[NV];
          FASTNN_UNROLL for (int v = 0; v < NV; ++v) bv[v] = load(b + v * kLanes);
          FASTNN_UNROLL for (int v = 0; kFetch && v < NV; v += kLineVecs)
              __builtin_prefetch(b + kRowsAhead * b_row + v * kLanes);
          a.template multiply<Step>(bv, acc);
          a.advance(kUnitRow ? a_col : 1);
          b += b_row;
        });
    const float* bias = t.bias;
    const bool add = t.add;
    c = rows_of_c<R>(c, t.ldc, [&](float* row, int i) __attribute__((always_inline)) {
      FASTNN_UNROLL for (int v = 0; v < NV; ++v) {
        if (add) acc[i][v] = load(row + v * kLanes) + acc[i][v];
        if (bias) acc[i][v] += load(bias + v * kLanes);
        store(row + v * kLanes, acc[i][v]);
      }
    });
    if (--tiles <= 0) break;
    first += t.a_step;
  }
}

using Tile = void (*)(const TileArgs&);

template <int... I>
struct Indices {};
template <int N, int... I>
struct MakeIndices : MakeIndices<N - 1, N - 1, I...> {};
template <int... I>
struct MakeIndices<0, I...> {
  using Type = Indices<I...>;
};

// Rows in tiles of two heights.
struct Heights {
  int64_t tall, tall_tiles, low, low_tiles;
  int64_t tiles() const { return tall_tiles + low_tiles; }
  int64_t of(int64_t tile) const { return tile < tall_tiles ? tall : low; }
  // Calls run(height, tiles) for those that there are, from above.
  template <class Run>
  FASTNN_INLINE void each(const Run& run) const {
    if (tall_tiles > 0) run(tall, tall_tiles);
    if (low_tiles > 0) run(low, low_tiles);
  }
};
// Nearly equal ones, since a short tile wastes latency and reads as much of B as a tall one. One
// division, since it costs a tile.
FASTNN_INLINE Heights equal_heights(int64_t rows, int64_t most) {
  const auto all = static_cast<uint32_t>(rows), count = static_cast<uint32_t>(ceil_div(rows, most));
  const int64_t low = all / count, tall_tiles = all % count;
  return {low + 1, tall_tiles, low, count - tall_tiles};
}

// Copies n <= kNR floats without a call.
FASTNN_INLINE void copy_few(float* dst, const float* src, int64_t n) {
  if (n == kNR) return static_cast<void>(__builtin_memcpy(dst, src, 4 * kNR));
  if (kNR > 32 && n & 32) __builtin_memcpy(dst, src, 128), dst += 32, src += 32;
  if (kNR > 16 && n & 16) __builtin_memcpy(dst, src, 64), dst += 16, src += 16;
  if (kNR > 8 && n & 8) __builtin_memcpy(dst, src, 32), dst += 8, src += 8;
  if (n & 4) __builtin_memcpy(dst, src, 16), dst += 4, src += 4;
  if (n & 2) __builtin_memcpy(dst, src, 8), dst += 2, src += 2;
  if (n & 1) *dst = *src;
}

}  // namespace
}  // namespace fastnn
