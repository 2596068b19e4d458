// GEMM on the CPU: gemm_pack then gemm_packed for large products, gemm_small alone for the others.
// Both cut k into blocks of kGemmKC, run the same register tile over C and finish each tile, while
// it is hot, with bias and activation. Nothing outside the arrays is read or written.
#pragma once
#include <cstdint>

#include "../gemm_plan.h"
#include "../slice.h"
#include "activate_tile.h"
#include "gemm_along.h"
#include "gemm_batch.h"
#include "gemm_few.h"
#include "gemm_micro.h"
#include "gemm_pack.h"

namespace fastnn {
namespace {

// ---- tiles ------------------------------------------------------------------------------------

// Every height up to tile_rows, so that the last rows need no padding: [kind][NV - 1][R - 1].
enum TileKind { kInRows, kInRowsFetching, kInColumns, kTileKinds };  // how A lies
struct TilesOfWidth {
  Tile of_rows[kMaxRows];
};
template <int NV, TileKind kKind, int... I>
constexpr TilesOfWidth tiles_of_width(Indices<I...>) {
  constexpr bool kFetch = kKind == kInRowsFetching && NV == kNV;
  return {{tile<(I < tile_rows(NV) ? I + 1 : 1), NV, kKind == kInColumns, kFetch>...}};
}
struct Tiles {
  TilesOfWidth of[kTileKinds][kNV];
};
template <int... V>
constexpr Tiles all_tiles(Indices<V...>) {
  using Rows = MakeIndices<kMaxRows>::Type;
  return {{{tiles_of_width<V + 1, kInRows>(Rows{})...},
           {tiles_of_width<V + 1, kInRowsFetching>(Rows{})...},
           {tiles_of_width<V + 1, kInColumns>(Rows{})...}}};
}
inline constexpr Tiles kTiles = all_tiles(MakeIndices<kNV>::Type{});

// ---- one tile of C -----------------------------------------------------------------------------

// Where tiles are, and which of the k blocks they add.
struct TileAt {
  int64_t i, j, rows, cols;  // cols <= kNR
  bool first, last;
};

// Everything after the sums, for a tile at c. bias is added by the tile itself.
FASTNN_INLINE void finish_tile(const GemmArgs& g, float* c, int64_t ldc, const TileAt& at,
                               int64_t width) {
  const auto keep_z = [&] {
    for (int64_t r = 0; r < at.rows; ++r)
      __builtin_memcpy(g.z + (at.i + r) * g.ldc + at.j, c + r * ldc, 4 * at.cols);
  };
  for (int64_t r = 0; r < at.rows && g.residual; ++r) {
    const float* residual = g.residual + (at.i + r) * g.ldc + at.j;
    for (int64_t x = 0; x < at.cols; ++x) c[r * ldc + x] += residual[x];
  }
  if (g.z && !g.z_is_activated) keep_z();
  if (g.activation) kActivate.tile[g.activation](c, ldc, at.rows, width, g.activation_param);
  if (g.z && g.z_is_activated) keep_z();
  if (g.draw) drop_tile(g, c, ldc, at.i, at.j, at.rows, at.cols);
}

// What stays in L1 until it is finished, or copied.
inline constexpr int64_t kTilesAtOnce = 8;

// Tiles narrower than their vectors are computed in a padded copy.
__attribute__((noinline)) void run_narrow_tiles(const GemmArgs& g, TileArgs t, const TileAt& at,
                                                Tile tile, int64_t width) {
  alignas(64) float padded[kTilesAtOnce * kMaxRows * kNR], bias[kNR] = {};
  float* c = g.c + at.i * g.ldc + at.j;
  if (t.add) {
    __builtin_memset(padded, 0, 4 * at.rows * width);
    for (int64_t r = 0; r < at.rows; ++r) copy_few(padded + r * width, c + r * g.ldc, at.cols);
  }
  if (t.bias) {
    copy_few(bias, t.bias, at.cols);
    t.bias = bias;
  }
  t.c = padded;
  t.ldc = width;
  tile(t);
  if (at.last) finish_tile(g, padded, width, at, width);
  for (int64_t r = 0; r < at.rows; ++r) copy_few(c + r * g.ldc, padded + r * width, at.cols);
}

// t holds the operands and the number of tiles; their C, bias and add are set here.
FASTNN_INLINE void run_tiles(const GemmArgs& g, TileArgs& t, const TileAt& at, int64_t height) {
  const int64_t vectors = (at.cols + kLanes - 1) / kLanes;
  const TileKind kind = t.a_row == 1 ? kInColumns : t.k > kGemmChain ? kInRowsFetching : kInRows;
  const Tile tile = kTiles.of[kind][vectors - 1].of_rows[height - 1];
  t.add = !at.first || g.accumulate;
  t.bias = at.last && g.bias ? g.bias + at.j : nullptr;
  if (at.cols != vectors * kLanes) return run_narrow_tiles(g, t, at, tile, vectors * kLanes);
  t.c = g.c + at.i * g.ldc + at.j;
  t.ldc = g.ldc;
  tile(t);
  if (at.last) finish_tile(g, t.c, g.ldc, at, at.cols);
}

// Those of packed panels of A.
FASTNN_INLINE Heights panel_heights(int64_t rows) {
  return {kMR, rows / kMR, rows % kMR, rows % kMR > 0};
}

// All tiles of a strip of C. a_step: from a row of A to the next, from tile to tile.
FASTNN_INLINE void run_strip_of_tiles(const GemmArgs& g, TileArgs& t, TileAt at,
                                      const Heights& heights, int64_t a_step) {
  const bool finishes = at.last && (g.residual || g.z || g.activation || g.draw);
  const int64_t most = finishes || at.cols % kLanes != 0 ? kTilesAtOnce : heights.tiles();
  heights.each([&](int64_t height, int64_t tiles) {
    for (t.a_step = height * a_step; tiles > 0; tiles -= t.tiles) {
      t.tiles = least(tiles, most);
      at.rows = height * t.tiles;
      run_tiles(g, t, at, height);
      at.i += at.rows;
      t.a += t.tiles * t.a_step;
      t.ahead += t.tiles * t.ahead_lines * kLineFloats * ceil_div(t.k, kGemmChain);
    }
  });
}

// C += 0 leaves C as it is, even its negative zeros.
FASTNN_INLINE bool leaves_c(const GemmArgs& g) {
  return g.k == 0 && g.accumulate && !g.bias && !g.residual && !g.z && !g.activation && !g.draw;
}

// ---- kernels -----------------------------------------------------------------------------------

// The rows [i_begin, i_end) of the columns [j_begin, j_end) of C.
void multiply_packed(const GemmArgs& g, const GemmPlan& plan, int64_t i_begin, int64_t i_end,
                     int64_t j_begin, int64_t j_end) {
  const int64_t rows = i_end - i_begin;
  const bool in_panels = plan.a_block > 0;  // of kMR rows, but for the last
  const Heights heights = in_panels ? panel_heights(rows) : equal_heights(rows, kMR);
  // Each tile of a strip fetches its part of the panel of the next strip into L2.
  const int64_t lines = ceil_div(kNR * kGemmChain / kLineFloats, heights.tiles());
  for (int64_t block = 0; block < plan.k_blocks; ++block) {
    const int64_t p = block * kGemmKC, depth = least(kGemmKC, g.k - p);
    const float* b = g.scratch + plan.k_blocks * plan.a_block + block * plan.b_block;
    TileArgs t{};
    t.a_row = g.a_row, t.a_col = g.a_col, t.b_row = kNR, t.k = depth;
    const float* a = g.a + p * g.a_col;
    int64_t a_step = g.a_row;  // from row to row
    if (in_panels) a = g.scratch + block * plan.a_block, a_step = depth, t.a_row = 1, t.a_col = kMR;
    for (int64_t j = j_begin; j < j_end; j += kNR) {
      t.a = a + i_begin * a_step;
      t.b = b + j * depth;
      t.ahead = t.b + kNR * depth;
      t.ahead_lines = j + kNR < j_end ? lines : 0;
      const TileAt at{
          i_begin, j, rows, least(kNR, g.n - j), block == 0, block == plan.k_blocks - 1};
      run_strip_of_tiles(g, t, at, heights, a_step);
    }
  }
}

// How many rows of A stay in L2 while tiles read them in place: they may be a power of two apart,
// and caches of CPUs with AVX2 alone are small (512 KiB, 8 ways), so that 144 crowd few sets. With
// one block of k, where C is not read, fewer cost half a percent.
inline constexpr int64_t kRowsInPlace = kVectorBytes == 32 ? kGemmMC / 2 : kGemmMC;

// Tasks: tiles of C.
void gemm_packed(const GemmArgs& g, Slice slice) {
  if (leaves_c(g)) return;
  const GemmPlan plan = gemm_plan_as(true, g);
  const int64_t most = plan.a_block == 0 && g.k > kGemmKC ? kRowsInPlace : kGemmMC;
  for (int64_t task = slice.begin; task < slice.end; ++task) {
    const int64_t row = plan.row(task), col = plan.col(task);
    const int64_t i_begin = plan.rows.begin(row), rows = plan.rows.begin(row + 1) - i_begin;
    const GemmCut parts = gemm_cut(rows, kGemmRows, most);
    for (int64_t part = 0; part < parts.parts; ++part)
      multiply_packed(g, plan, i_begin + parts.begin(part), i_begin + parts.begin(part + 1),
                      plan.cols.begin(col), plan.cols.begin(col + 1));
  }
}

// What is left to do with the sums of rows of kNR, and on to C.
void finish_strip(const GemmArgs& g, float* strip, const TileAt& at) {
  if (g.bias) {
    alignas(64) float bias[kNR] = {};
    copy_few(bias, g.bias + at.j, at.cols);
    for (int64_t r = 0; r < at.rows; ++r)
      for (int64_t v = 0; v < kNR; v += kLanes)
        store(strip + r * kNR + v, load(strip + r * kNR + v) + load(bias + v));
  }
  finish_tile(g, strip, kNR, at, kNR);
  for (int64_t r = 0; r < at.rows; ++r)
    copy_few(g.c + (at.i + r) * g.ldc + at.j, strip + r * kNR, at.cols);
}

// Columns [j_begin, j_end) of kNR or fewer rows of C, by way of their transpose: rows of B^T lie in
// memory as rows of A do, so that packing a strip of A^T is all it needs.
void small_across(const GemmArgs& g, int64_t i, int64_t rows, int64_t j_begin, int64_t j_end,
                  int64_t k_blocks) {
  alignas(64) float panel[kGemmKC * kNR], across[(kGemmAcrossNC + kGemmRows) * kNR];
  const int64_t vectors = (rows + kLanes - 1) / kLanes, width = vectors * kLanes;
  const Heights heights = equal_heights(j_end - j_begin, tile_rows(vectors));
  float* c = g.c + i * g.ldc + j_begin;
  if (g.accumulate) pack_panel(across, c, g.ldc, 1, j_end - j_begin, rows, width);
  TileArgs t{};
  t.a_row = g.b_col, t.a_col = g.b_row, t.b = panel, t.b_row = width, t.ldc = width;
  for (int64_t block = 0; block < k_blocks; ++block) {
    const int64_t p = block * kGemmKC;
    t.k = least(kGemmKC, g.k - p);
    t.add = block > 0 || g.accumulate;
    pack_panel(panel, g.a + i * g.a_row + p * g.a_col, g.a_row, g.a_col, t.k, rows, width);
    t.a = g.b + j_begin * g.b_col + p * g.b_row;
    t.c = across;
    heights.each([&](int64_t height, int64_t tiles) {
      t.tiles = tiles, t.a_step = height * g.b_col;
      kTiles.of[kInRows][vectors - 1].of_rows[height - 1](t);
      t.a += tiles * t.a_step, t.c += tiles * height * width;
    });
  }
  for (int64_t j = j_begin; j < j_end; j += kNR) {
    const int64_t cols = least(kNR, j_end - j);
    alignas(64) float strip[kNR * kNR];
    pack_panel(strip, across + (j - j_begin) * width, width, 1, rows, cols, kNR);
    finish_strip(g, strip, {i, j, rows, cols, false, true});
  }
}

// All rows of the columns [j, j + cols), when they are few.
void small_few(const GemmArgs& g, int64_t j, int64_t cols) {
  alignas(64) float strip[kFewRows * kNR];
  for (int64_t r = 0; r < g.m && g.accumulate; ++r)
    copy_few(strip + r * kNR, g.c + r * g.ldc + j, cols);
  few_strip(g, j, cols, strip);
  finish_strip(g, strip, {0, j, g.m, cols, false, true});
}

// The rows [i_begin, i_end), of few columns. Their sums lie one row after the other, in whole
// vectors.
void small_along(const GemmArgs& g, int64_t i_begin, int64_t i_end) {
  alignas(64) float sums[kAlongRows * kGemmAlongCols], bias[kAlongRows * kGemmAlongCols];
  const int64_t most = least(kAlongRows, i_end - i_begin);
  const auto copy_row = [&](float* to, const float* from) {
    for (int64_t j = 0; j < g.n; j += kNR) copy_few(to + j, from + j, least(kNR, g.n - j));
  };
  for (int64_t r = 0; r < most && g.bias; ++r) copy_row(bias + r * g.n, g.bias);
  for (int64_t i = i_begin; i < i_end; i += kAlongRows) {
    const TileAt at{i, 0, least(kAlongRows, i_end - i), g.n, false, true};
    const int64_t size = at.rows * g.n;
    along_block(g, i, at.rows, sums);
    float* c = g.c + i * g.ldc;
    for (int64_t r = 0; r < at.rows && g.accumulate; ++r)
      for (int64_t j = 0; j < g.n; ++j) sums[r * g.n + j] = c[r * g.ldc + j] + sums[r * g.n + j];
    for (int64_t x = 0; x < size && g.bias; x += kLanes)
      store(sums + x, load(sums + x) + load(bias + x));
    finish_tile(g, sums, g.n, at, g.n);
    if (g.ldc == g.n)
      __builtin_memcpy(c, sums, 4 * size);
    else
      for (int64_t r = 0; r < at.rows; ++r) copy_row(c + r * g.ldc, sums + r * g.n);
  }
}

// Whether tiles read the rows of B where they lie, which saves a copy of them. Rows far apart fall
// into few sets of the L1 cache: the next tile does not find them there, and where they are as few
// as those fetched ahead, not even this one does.
FASTNN_INLINE bool rows_in_place(const GemmArgs& g, int64_t tiles) {
  const int64_t step = g.b_row & -g.b_row;  // rows take as many sets as if this far apart
  const bool fetches = g.a_row != 1;
  if (kGemmKC * kNR > kL1Floats)  // a copy would not stay there either
    return g.b_row <= 256 || tiles < 8 || (fetches && g.k >= 192 && step < kL1Floats / kRowsAhead);
  if (fetches) return step <= kL1Floats / (4 * kRowsAhead) || tiles < 3;
  const int64_t stay = kL1Floats / (step < kLineFloats ? kLineFloats : step);
  return tiles < 8 || (g.b_row <= 256 && least(g.k, kGemmKC) <= stay);
}

// The columns [j_begin, j_end) of C, at most kGemmSmallNC, for the rows [i_begin, i_end).
void small_strips(const GemmArgs& g, int64_t i_begin, int64_t i_end, int64_t j_begin, int64_t j_end,
                  int64_t k_blocks) {
  alignas(64) float panels[kGemmKC * kGemmSmallNC];
  for (int64_t block = 0; block < k_blocks; ++block) {
    const int64_t p = block * kGemmKC, depth = least(kGemmKC, g.k - p);
    for (int64_t j = j_begin; j < j_end; j += kNR) {
      const int64_t cols = least(kNR, j_end - j), vectors = (cols + kLanes - 1) / kLanes;
      const Heights heights = equal_heights(i_end - i_begin, tile_rows(vectors));
      TileArgs t{};
      t.a = g.a + i_begin * g.a_row + p * g.a_col, t.a_row = g.a_row, t.a_col = g.a_col;
      t.b = g.b + j * g.b_col + p * g.b_row, t.b_row = g.b_row, t.k = depth;
      const bool in_place =
          g.b_col == 1 && cols == vectors * kLanes && rows_in_place(g, heights.tiles());
      if (!in_place && depth > 0) {
        const float* rows = t.b;
        t.b = panels, t.b_row = vectors * kLanes;
        if (g.b_col == 1 && cols == kNR) {
          if (j == j_begin)  // with all others as wide
            pack_rows<kNR>(panels, rows, g.b_row, depth, (j_end - j_begin) / kNR);
          t.b += (j - j_begin) * depth;
        } else {
          pack_panel(panels, rows, g.b_col, g.b_row, depth, cols, t.b_row);
        }
      }
      const TileAt at{i_begin, j, i_end - i_begin, cols, block == 0, block == k_blocks - 1};
      run_strip_of_tiles(g, t, at, heights, g.a_row);
    }
  }
}

void multiply_small(const GemmArgs& g, const GemmPlan& plan, Slice slice) {
  if (leaves_c(g)) return;
  for (int64_t task = slice.begin; task < slice.end; ++task) {
    const int64_t row = plan.row(task), col = plan.col(task);
    const int64_t i_begin = plan.rows.begin(row), i_end = plan.rows.begin(row + 1);
    const int64_t j_begin = plan.cols.begin(col), j_end = plan.cols.begin(col + 1);
    if (has_few_rows(g)) {
      for (int64_t j = j_begin; j < j_end; j += kNR) small_few(g, j, least(kNR, j_end - j));
    } else if (plan.along) {
      small_along(g, i_begin, i_end);
    } else if (plan.across) {
      for (int64_t i = i_begin; i < i_end; i += kNR)
        small_across(g, i, least(kNR, i_end - i), j_begin, j_end, plan.k_blocks);
    } else {
      small_strips(g, i_begin, i_end, j_begin, j_end, plan.k_blocks);
    }
  }
}

// Tasks: tiles of C.
void gemm_small(const GemmArgs& g, Slice slice) {
  multiply_small(g, gemm_plan_as(false, g), slice);
}

// Tasks: those of one product for each item.
void gemm_batch(const GemmBatchArgs& batch, Slice s) {
  const GemmPlan plan = gemm_plan(batch.one);
  for_items(s, plan.tasks(), [&](int64_t i, Slice part) {
    for (int64_t term = 0; term < batch.terms; ++term) {
      GemmArgs g = gemm_item(batch, plan, i * batch.terms + term);
      g.accumulate = term > 0;
      plan.packed ? gemm_packed(g, part) : gemm_small(g, part);
    }
  });
}

}  // namespace
}  // namespace fastnn
