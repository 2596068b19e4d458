// Products of bfloat16 matrices: gemm_bf16_pack, then gemm_bf16. Operands are packed as float32, or
// in pairs where the processor multiplies those (by vectors, or by AMX's matrices), and sums are
// float32 throughout: a strip of a task's tile of C is summed in a buffer, over all of k and all
// terms, and rounded once. Where pairs are multiplied, products of float32 matrices may be made in
// the same way: their factors are rounded while they are packed, nothing else is.
#include "../families/linear_bf16.h"

#include "activate_tile.h"
#include "gemm_batch.h"
#include "gemm_micro.h"
#include "table.h"
#if defined(__AMX_BF16__)
#include "amx_tile.h"
#endif

namespace fastnn {
namespace {

#if defined(__AMX_BF16__)

// The rows [0, rows) of a strip, t being the first tile. Rows up to a multiple of 16 are read and
// written.
void run_strip(TileArgs t, int64_t rows, int64_t vectors) {
  const float *const a = t.a, *const b = t.b;
  float* const c = t.c;
  // Each step of the sums fetches its part of the next panel of B.
  if (t.ahead != nullptr)
    t.ahead_lines = ceil_div(16 * kNR / kLineFloats, ceil_div(rows, 32) * ceil_div(vectors, 2));
  for (int64_t v = 0; v < vectors; v += 2) {
    t.a = a, t.b = b + 16 * v, t.c = c + 16 * v;
    for (int64_t i = 0; i < rows; i += 2 * kAmxRows) {
      kAmxTiles[rows - i > kAmxRows][vectors - v > 1](t);
      t.a += 2 * kAmxRows * t.a_row, t.c += 2 * kAmxRows * t.ldc;
      t.ahead += t.k / 16 * t.ahead_lines * kLineFloats;
    }
  }
}

#else

struct AmxRegisters {};
#if defined(__AVX512BF16__)
using Step = TwoProducts;
#else
using Step = OneProduct;
#endif
static_assert(Step::kProducts == Packing<bf16>::kPerElement);

template <int... V>
Tile bf16_tile(int64_t vectors, Indices<V...>) {
  static constexpr Tile kOfWidth[] = {tile<kMR, V + 1, true, false, Step>...};
  return kOfWidth[vectors - 1];
}

// The rows [0, rows) of a strip, t being the first tile. Rows up to a multiple of kMR are read and
// written.
void run_strip(TileArgs t, int64_t rows, int64_t vectors) {
  const Tile tile = bf16_tile(vectors, MakeIndices<kNV>::Type{});
  t.a_row = 1, t.a_col = kMR;
  for (int64_t i = 0; i < rows; i += kMR, t.a += kMR * t.k, t.c += kMR * t.ldc) tile(t);
}

#endif

// Everything after the sums of the rows from i and the columns from j on.
template <class T>
void finish_strip(const GemmArgsOf<T>& g, float* sums, int64_t i, int64_t rows, int64_t j,
                  int64_t cols) {
  for (int64_t r = 0; r < rows; ++r) {
    float* sum = sums + r * kNR;
    const int64_t at = (i + r) * g.ldc + j;
    if (g.accumulate)
      for (int64_t x = 0; x < cols; ++x) sum[x] = to_float(g.c[at + x]) + sum[x];
    if (g.bias)
      for (int64_t x = 0; x < cols; ++x) sum[x] += to_float(g.bias[j + x]);
    if (g.residual)
      for (int64_t x = 0; x < cols; ++x) sum[x] += to_float(g.residual[at + x]);
  }
  const auto keep_z = [&] {
    for (int64_t r = 0; r < rows; ++r)
      for (int64_t x = 0; x < cols; ++x)
        g.z[(i + r) * g.ldc + j + x] = from_float<T>(sums[r * kNR + x]);
  };
  if (g.z && !g.z_is_activated) keep_z();
  if (g.activation) kActivate.tile[g.activation](sums, kNR, rows, cols, g.activation_param);
  if (g.z && g.z_is_activated) keep_z();
  if (g.draw) drop_tile(g, sums, kNR, i, j, rows, cols);
  for (int64_t r = 0; r < rows; ++r) {
    T* c = g.c + (i + r) * g.ldc + j;
    for (int64_t x = 0; x < cols; ++x) c[x] = from_float<T>(sums[r * kNR + x]);
  }
}

// sums = or += A B for a strip of C, at most kNR columns wide, of the rows [i_begin, i_end).
// `more`: another strip follows.
template <class T>
void add_product(const GemmArgsOf<T>& g, const GemmPlan& plan, int64_t i_begin, int64_t i_end,
                 int64_t j, bool more, bool add, float* sums) {
  for (int64_t block = 0; block < plan.k_blocks; ++block) {
    TileArgs t{};
    t.k = elements_of<bf16>(least(kGemmKC, g.k - block * kGemmKC));
    t.a = g.scratch + block * plan.a_block + i_begin * t.k, t.a_row = t.k;
    if (Packing<bf16>::kRowsOfA && reads_rows_in_place(g)) {  // pairs, as packed rows are
      t.a = reinterpret_cast<const float*>(g.a + i_begin * g.a_row + block * kGemmKC);
      t.a_row = g.a_row / 2;
    }
    t.b = g.scratch + plan.k_blocks * plan.a_block + block * plan.b_block + j * t.k;
    t.b_row = kNR, t.c = sums, t.ldc = kNR;
    t.ahead = more ? t.b + kNR * t.k : nullptr;
    t.add = add || block > 0;
    run_strip(t, i_end - i_begin, ceil_div(least(kNR, g.n - j), kLanes));
  }
}

// Tasks: tiles of C, for each item.
template <class T>
void gemm_bf16(const GemmBatchArgsOf<T>& batch, Slice slice) {
  // Of whole tiles: rows and columns too many are not read.
  alignas(64) float sums[kGemmBf16MC * kNR];
  [[maybe_unused]] const AmxRegisters registers;
  const GemmPlan plan = packed_plan<bf16>(batch.one);
  for (int64_t task = slice.begin; task < slice.end; ++task) {
    const int64_t item = task / plan.tasks(), at = task % plan.tasks();
    const int64_t row = at / plan.cols.parts, col = at % plan.cols.parts;
    const int64_t i_begin = plan.rows.begin(row), i_end = plan.rows.begin(row + 1);
    const int64_t j_end = plan.cols.begin(col + 1);
    for (int64_t j = plan.cols.begin(col); j < j_end; j += kNR) {
      for (int64_t term = 0; term < batch.terms; ++term)
        add_product(gemm_item(batch, plan, item * batch.terms + term), plan, i_begin, i_end, j,
                    j + kNR < j_end, term > 0, sums);
      const GemmArgsOf<T> g = gemm_item(batch, plan, item * batch.terms);
      finish_strip(g, sums, i_begin, i_end - i_begin, j, least(kNR, g.n - j));
    }
  }
}

// Tasks: those of gemm_pack for each product.
void gemm_medium_pack(const GemmBatchArgs& batch, Slice s) {
  const GemmPlan plan = packed_plan<bf16>(batch.one);
  for_items(s, plan.pack_tasks(), [&](int64_t i, Slice part) {
    gemm_pack<float, bf16>(gemm_item(batch, plan, i), part);
  });
}

// Widened factors would take as long as those of float32.
constexpr bool kPairs = Packing<bf16>::kPerElement == 2;

}  // namespace

template <>
constinit const LinearBf16Kernels
    FASTNN_LEVEL::Table<LinearBf16Kernels>::of_dtype[kNumTableDTypes] = {
        {
            .gemm_bf16_pack = nullptr,
            .gemm_bf16 = nullptr,
            .gemm_medium_pack = kPairs ? gemm_medium_pack : nullptr,
            .gemm_medium = kPairs ? gemm_bf16<float> : nullptr,
            .gemm_high = nullptr,
        },
        {
            .gemm_bf16_pack = gemm_batch_pack<bf16>,
            .gemm_bf16 = gemm_bf16<bf16>,
            .gemm_medium_pack = nullptr,
            .gemm_medium = nullptr,
            .gemm_high = nullptr,
        },
        {},
        {}};

}  // namespace fastnn
