// GEMM: its arguments, and how a product is cut into tasks, as pure functions of shape. Neither the
// number of threads nor the instruction set enters, and every element is summed in the same order
// on every path, so all plans give the same bits: changing one can only change the speed. The
// exceptions are products along k and those in spans of k, which have orders of their own.
#pragma once
#include <cstdint>

#include "families/random.h"
#include "formulas/dropout.h"
#include "primitives.h"

namespace fastnn {

// C[m, n] = drop(act(A[m, k] B[k, n] + bias + residual)), with C + A B for A B when `accumulate`.
// Strides are in elements, and of a factor's two one is 1, so a transpose is a swap of them. C is
// row-major, and it is not read unless `accumulate`. C overlaps no input. Sums are float32 whatever
// T is, and C is rounded once, after the activation.
template <class T>
struct GemmArgsOf {
  const T *a, *b;
  T* c;
  int64_t m, n, k;
  int64_t a_row, a_col, b_row, b_col, ldc;
  const T* bias;       // [n], or null
  T* z;                // the pre-activation is stored here too, [m, n] with ldc; or null
  int32_t activation;  // index in Activations; 0 is the identity and costs nothing
  float activation_param;
  bool accumulate;
  float* scratch;  // gemm_plan().scratch() floats, 64-byte aligned; may be null if that is 0
  // Not of a batch:
  const T* residual;    // [m, n] with ldc, or null
  bool z_is_activated;  // z is what dropout is of
  const RngDraw* draw;  // of dropout, for elements as they lie in memory; or null
  Keep keep;
  // On CUDA only, and not of a batch. Where `saved` is given, [m, n] with ldc, A B is the gradient
  // of a result of this activation and dropout, and C that of what they were of:
  // C = drop(A B) act'(saved), with neither bias, residual nor z.
  const T* saved;
  T* column_sums;  // [n], the sums of C as it is stored; or null. Then scratch has gemm_sums(m, n)
};
using GemmArgs = GemmArgsOf<float>;
using GemmBf16Args = GemmArgsOf<bf16>;

// The sum over k: blocks of kGemmKC, added to C in order; within a block chains of kGemmChain fma,
// each from zero, added in order. This is the contract that makes all paths equal, so these two are
// part of the results. A chain of 64 keeps the error within 16u |A||B| on log-normal data, where
// one of 128 does not; a block of several chains touches C less often.
inline constexpr int64_t kGemmKC = 384, kGemmChain = 64;
// Along k (gemm_goes_along) lane l of sixteen sums the products l, l + 16, ... of a block of
// kGemmAlongK, in order, from zero; blocks are added in order, then lanes in the tree l + 8, l + 4,
// l + 2, l + 1.
inline constexpr int64_t kGemmAlongK = 512, kGemmAlongCols = 16;
// In spans (gemm_splits): k is cut into nearly equal ones, whole blocks up to kGemmSpan; each is
// summed as a product of its own is, and the sums are added in order.
inline constexpr int64_t kGemmSpan = 4 * kGemmKC, kGemmSplitCols = 128;
// Panels of A are packed in groups of kGemmRows rows, those of B in groups of kGemmCols columns.
// Every instruction set's register tile divides them.
inline constexpr int64_t kGemmRows = 12, kGemmCols = 64;
// The rows of A, and the columns of B, of one k block that one task of gemm_pack packs at most.
inline constexpr int64_t kGemmPackRows = 128, kGemmPackCols = 128;
// The largest tile of C that one task of gemm_packed computes: its rows of A stay in L2, and it is
// wide, since rows of C a power of two apart share the sets of a cache. Narrower down to kGemmMinNC
// while there are fewer than kGemmTasks; a C of one row of tiles, down to kGemmCols.
inline constexpr int64_t kGemmMC = 144, kGemmNC = 1024, kGemmMinNC = 256, kGemmTasks = 32;
// The same of bfloat16, whose tiles may be 32 rows high: as many rows as hold kGemmBf16Values,
// which stay in L2, between the two.
inline constexpr int64_t kGemmBf16Rows = 96, kGemmBf16MC = 288, kGemmBf16Values = 96 * 4096;
// The same of gemm_small, which keeps one strip of B on its stack; and of gemm_small across, which
// keeps a strip of A: as many columns as leave kGemmAcrossTasks tasks, between the two.
inline constexpr int64_t kGemmSmallMC = 192, kGemmSmallNC = 64;
inline constexpr int64_t kGemmAcrossMC = 64, kGemmAcrossNC = 240, kGemmAcrossTasks = 4;

// Sums of columns are made in two: of this many rows each, by who makes them; then in order.
inline constexpr int64_t kGemmSumRows = 16;

// Internal linkage: the kernels of every instruction set include this, and must not share code.
namespace {

// The floats of scratch that sums of columns take.
constexpr int64_t gemm_sums(int64_t m, int64_t n) {
  return (m + kGemmSumRows - 1) / kGemmSumRows * n;
}

// `size` items in `parts` nearly equal, consecutive ranges of whole units.
struct GemmCut {
  int64_t size, unit, parts;
  constexpr int64_t begin(int64_t part) const {
    const int64_t at = (size + unit - 1) / unit * part / parts * unit;
    return at < size ? at : size;
  }
};
constexpr GemmCut gemm_cut(int64_t size, int64_t unit, int64_t largest) {
  return {size, unit, size > 0 ? (size + largest - 1) / largest : 0};
}

struct GemmPlan {
  bool packed;  // launch gemm_pack, then gemm_packed; else gemm_small alone
  bool across;  // gemm_small computes the transpose, C^T = B^T A^T
  bool along;   // gemm_small computes dot products
  // Of as many parts: a task of gemm_pack packs one of each, of one k block. A's are empty where it
  // is not packed, as float32 rows that are contiguous are not: tiles read them in place.
  GemmCut pack_a, pack_b;
  int64_t k_blocks;          // at least 1: an empty product still writes C
  GemmCut rows, cols;        // of C, over tasks
  int64_t a_block, b_block;  // floats of scratch per k block
  constexpr int64_t pack_tasks() const { return pack_b.parts * k_blocks; }
  constexpr int64_t tasks() const { return rows.parts * cols.parts; }
  // Tasks are numbered down the columns of C, as those that pack B are: who packs a part of B is
  // who multiplies with it.
  constexpr int64_t row(int64_t task) const { return task % rows.parts; }
  constexpr int64_t col(int64_t task) const { return task / rows.parts; }
  constexpr int64_t scratch() const { return (a_block + b_block) * k_blocks; }
};

// Packing pays when the panels are read often enough: A once per strip of kGemmCols columns of C, B
// once per kGemmRows rows. It pays early for a transposed A too large for L2, whose tiles would
// read a line of each of many pages, and for one whose rows all begin in one set of the L1 cache.
constexpr bool gemm_packs(const GemmArgs& g) {
  const bool across_rows = g.a_col != 1 && g.m >= 512;
  if (across_rows && g.m * g.k >= int64_t{1} << 21 && g.n >= kGemmCols) return true;
  if (across_rows && g.a_col % 1024 == 0 && g.n >= 512 && g.k >= 16) return true;
  return g.m >= 192 && g.n >= 192 && g.k >= 64 && g.m * g.n * g.k > (int64_t{1} << 24);
}

// Whether gemm_small goes along k, as it does for the few outputs of a layer: an element costs its
// k and, measured, 50 more; a row of a tile 16 k, and what it pays for columns it has not, 3 k. How
// many rows there are does not enter: a row's bits do not depend on its batch.
constexpr bool gemm_goes_along(const GemmArgs& g) {
  return g.a_col == 1 && g.b_row == 1 && g.n <= kGemmAlongCols && g.n * (g.k + 50) <= 19 * g.k;
}
constexpr bool gemm_goes_along(const GemmBf16Args&) { return false; }

// Whether the product is made in spans: few columns and a long k, as in the gradient of a narrow
// layer's weights over a long batch, leave threads too few tasks of C. How many rows of A there are
// does not enter where they are contiguous (none of these is packed): a row's bits do not depend on
// its batch.
constexpr bool gemm_splits(const GemmArgs& g) {
  return g.n > 0 && g.n <= kGemmSplitCols && g.k > 2 * kGemmSpan && !gemm_goes_along(g) &&
         !gemm_packs(g);
}
constexpr GemmCut gemm_span_cut(int64_t k) { return gemm_cut(k, kGemmKC, kGemmSpan); }

// The columns that one task of gemm_small takes across.
constexpr int64_t gemm_across_cols(int64_t n) {
  const int64_t cols = (n + kGemmAcrossTasks - 1) / kGemmAcrossTasks;
  return cols < kGemmSmallNC ? kGemmSmallNC : cols > kGemmAcrossNC ? kGemmAcrossNC : cols;
}

// Whether gemm_small goes across: the columns of B, contiguous as a layer's weights are, then stay
// where they are, and the few rows of A are packed in their place. In products of one element:
// packing one costs 14, bringing one of C^T into C costs 30, and both fill vectors of 16.
template <class T>
constexpr bool gemm_goes_across(const GemmArgsOf<T>& g) {
  if (g.b_row != 1 || g.b_col == 1 || g.k < kGemmChain) return false;
  const int64_t strips = (g.n + gemm_across_cols(g.n) - 1) / gemm_across_cols(g.n);
  const int64_t down = g.k * (g.m * ((g.n + 15) / 16 * 16) + 14 * g.n);
  const int64_t across = g.k * (g.n * ((g.m + 15) / 16 * 16) + 14 * g.m * strips) + 30 * g.m * g.n;
  return across < down;
}

// The largest height of a tile of C of bfloat16.
constexpr int64_t gemm_bf16_rows(int64_t k) {
  const int64_t rows = kGemmBf16Values / (k > 0 ? k : 1) / kGemmBf16Rows * kGemmBf16Rows;
  return rows < kGemmBf16Rows ? kGemmBf16Rows : rows < kGemmBf16MC ? rows : kGemmBf16MC;
}

template <class T>
constexpr GemmPlan gemm_plan_as(bool packed, const GemmArgsOf<T>& g) {
  GemmPlan plan{};
  plan.packed = packed;
  plan.k_blocks = g.k > 0 ? (g.k + kGemmKC - 1) / kGemmKC : 1;
  if (packed) {
    const bool packs_a = g.a_col != 1 || sizeof(T) != sizeof(float);
    plan.pack_a = gemm_cut(packs_a ? g.m : 0,
                           sizeof(T) != sizeof(float) ? kGemmBf16Rows : kGemmRows, kGemmPackRows);
    plan.a_block = (plan.pack_a.size + kGemmRows - 1) / kGemmRows * kGemmRows * kGemmKC;
    plan.pack_b = gemm_cut(g.n, kGemmCols, kGemmPackCols);
    if (plan.pack_a.parts < plan.pack_b.parts) plan.pack_a.parts = plan.pack_b.parts;
    plan.pack_b.parts = plan.pack_a.parts;
    plan.b_block = (g.n + kGemmCols - 1) / kGemmCols * kGemmCols * kGemmKC;
  }
  plan.along = !packed && gemm_goes_along(g);
  if (!packed && !plan.along && gemm_goes_across(g)) {
    plan.across = true;
    plan.rows = gemm_cut(g.m, kGemmAcrossMC, kGemmAcrossMC);
    plan.cols = gemm_cut(g.n, kGemmRows, gemm_across_cols(g.n));
    return plan;
  }
  if (sizeof(T) != sizeof(float))
    plan.rows = gemm_cut(g.m, kGemmBf16Rows, gemm_bf16_rows(g.k));
  else
    plan.rows = gemm_cut(g.m, kGemmRows, packed ? kGemmMC : kGemmSmallMC);
  plan.cols = gemm_cut(g.n, kGemmCols, packed ? kGemmNC : kGemmSmallNC);
  const int64_t narrowest = plan.rows.parts > 1 ? kGemmMinNC : kGemmCols;
  for (int64_t nc = kGemmNC / 2; packed && nc >= narrowest && plan.tasks() < kGemmTasks; nc /= 2)
    plan.cols = gemm_cut(g.n, kGemmCols, nc);
  return plan;
}

constexpr GemmPlan gemm_plan(const GemmArgs& g) { return gemm_plan_as(gemm_packs(g), g); }
// bfloat16 has no tile that reads it in place: it is widened, or paired, on the way.
constexpr GemmPlan gemm_plan(const GemmBf16Args& g) { return gemm_plan_as(true, g); }

}  // namespace
}  // namespace fastnn
