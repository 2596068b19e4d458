// Few columns of C = A B where k is contiguous in both factors, as in a layer of few outputs: each
// element is a dot product in sixteen lanes along k. Lanes along so few columns would be empty, and
// lanes along rows would cost a transpose of A. Invariant: the order of gemm_plan.h's sums along k,
// whatever the tile and the width of a register.
#pragma once
#include "lane_tree.h"

namespace fastnn {
namespace {

// Dot products of one block of k, stored at c, or added to it.
struct AlongTile {
  const float* a;
  int64_t a_row;
  const float* b;
  int64_t b_col, k;
  float* c;
  int64_t ldc;
  bool add;
  int64_t tiles;  // one below the other, in one call
};

// A tile has as many sums as one tree brings together, if the registers hold their lanes, in four,
// two or one column: loads are fewest where it is square.
inline constexpr int kAlongCols = kPieces == 1 ? 4 : kPieces == 2 ? 2 : 1;
inline constexpr int kAlongSums = kPieces == 1 ? 16 : kPieces == 2 ? 6 : 3, kAlongTall = 8;
constexpr int along_rows(int cols) {
  return kAlongSums / cols < kAlongTall ? kAlongSums / cols : kAlongTall;
}

template <int R, int C>
FASTNN_INLINE void along_products(const AlongTile& t, const float* a, float* sums) {
  const float* b = t.b;
  const int64_t a_row = t.a_row, b_col = t.b_col;
  Vec acc[R][C][kPieces];
  FASTNN_UNROLL for (int i = 0; i < R; ++i) {
    FASTNN_UNROLL for (int j = 0; j < C; ++j) {
      FASTNN_UNROLL for (int p = 0; p < kPieces; ++p) acc[i][j][p] = Vec{};
    }
  }
  const auto add_products = [&](auto load_lanes) __attribute__((always_inline)) {
    FASTNN_UNROLL for (int p = 0; p < kPieces; ++p) {
      Vec bv[C];
      FASTNN_UNROLL for (int j = 0; j < C; ++j) {
        bv[j] = load_lanes(b + j * b_col, p * kLanes);
        FASTNN_LOAD_ONCE(bv[j]);
      }
      FASTNN_UNROLL for (int i = 0; i < R; ++i) {
        Vec av = load_lanes(a + i * a_row, p * kLanes);
        FASTNN_LOAD_ONCE(av);  // where C is 1 as well: GCC gives a tail other bits on AVX2 without
        FASTNN_UNROLL for (int j = 0; j < C; ++j) acc[i][j][p] += av * bv[j];
      }
    }
  };
  int64_t left = t.k;
  for (; left >= kBlockLanes; left -= kBlockLanes, a += kBlockLanes, b += kBlockLanes)
    add_products([](const float* x, int lane)
                     __attribute__((always_inline)) { return load(x + lane); });
  if (left > 0)
    add_products([left](const float* x, int lane)
                     __attribute__((always_inline)) { return load_first(x + lane, left - lane); });
  sum_lanes(acc, sums);
}

template <int R, int C>
__attribute__((noinline)) void along_tile(const AlongTile& given) {
  const AlongTile t = given;  // a copy stays in registers: a store to C might change `given`
  const float* a = t.a;
  float* c = t.c;
  for (int64_t tiles = t.tiles; tiles > 0; --tiles, a += R * t.a_row) {
    alignas(64) float sums[R * C + kLanes];
    along_products<R, C>(t, a, sums);
    FASTNN_UNROLL for (int i = 0; i < R; ++i, c += t.ldc) {
      for (int j = 0; j < C && t.add; ++j) sums[i * C + j] = c[j] + sums[i * C + j];
      __builtin_memcpy(c, sums + i * C, sizeof(float) * C);
    }
  }
}

using RunAlongTile = void (*)(const AlongTile&);

// Every height up to along_rows: [log2 C][R - 1].
struct AlongTilesOfWidth {
  RunAlongTile of_rows[kAlongTall];
};
template <int C, int... I>
constexpr AlongTilesOfWidth along_tiles_of_width(Indices<I...>) {
  return {{along_tile < (I < along_rows(C) ? I + 1 : 1), C <= kAlongCols ? C : 1 > ...}};
}
struct AlongTiles {
  AlongTilesOfWidth of[3];
};
inline constexpr AlongTiles kAlongTiles = {{
    along_tiles_of_width<1>(MakeIndices<kAlongTall>::Type{}),
    along_tiles_of_width<2>(MakeIndices<kAlongTall>::Type{}),
    along_tiles_of_width<4>(MakeIndices<kAlongTall>::Type{}),
}};

// Rows that stay in L1 while they meet all columns: whole tiles.
inline constexpr int64_t kAlongRows = round_up(16, along_rows(kAlongCols));

// c[rows][n] = rows from i on of A B.
inline void along_block(const GemmArgs& g, int64_t i, int64_t rows, float* c) {
  AlongTile t{};
  t.a_row = g.a_row, t.b_col = g.b_col, t.ldc = g.n;
  for (int64_t p = 0; p < g.k; p += kGemmAlongK) {
    t.k = least(kGemmAlongK, g.k - p), t.add = p > 0;
    for (int64_t j = 0, cols; j < g.n; j += cols) {
      int log = kAlongCols == 4 ? 2 : kAlongCols == 2 ? 1 : 0;
      while (j + (1 << log) > g.n) --log;
      cols = 1 << log;
      t.b = g.b + j * g.b_col + p;
      const Heights heights = equal_heights(rows, along_rows(1 << log));
      t.a = g.a + i * g.a_row + p, t.c = c + j;
      heights.each([&](int64_t height, int64_t tiles) {
        t.tiles = tiles;
        kAlongTiles.of[log].of_rows[height - 1](t);
        t.a += tiles * height * g.a_row, t.c += tiles * height * g.n;
      });
    }
  }
}

}  // namespace
}  // namespace fastnn
