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
#include "amx_gemm.h"
#endif

namespace fastnn {
namespace {

#if defined(__AMX_BF16__)
inline constexpr int64_t kStrip = kAmxStrip;
#else
inline constexpr int64_t kStrip = kNR;
#endif

// Sums of a row as Ts.
template <class T>
FASTNN_INLINE void keep_row(T* __restrict to, const float* __restrict sum, int64_t cols) {
  for (int64_t x = 0; x < cols; ++x) to[x] = from_float<T>(sum[x]);
}
#if defined(__AVX512BF16__)
// The same of a row of kStrip. The processor's conversion is from_float() but for subnormals, which
// it flushes. Past the caches where rows are pages apart: their lines share a set of L1, and those
// that wait for it drive each other out.
FASTNN_INLINE void keep_lines(bf16* to, const float* sum, bool past) {
  for (int64_t x = 0; x < kStrip; x += 32) {
    const __m512 low = _mm512_load_ps(sum + x), high = _mm512_load_ps(sum + x + 16);
    constexpr int kSubnormal = 0x20;
    if (_mm512_fpclass_ps_mask(low, kSubnormal) | _mm512_fpclass_ps_mask(high, kSubnormal)) {
      keep_row(to + x, sum + x, 32);
      continue;
    }
    const __m512i line = __m512i(_mm512_cvtne2ps_pbh(high, low));
    auto* at = reinterpret_cast<__m512i*>(to + x);
    past ? _mm512_stream_si512(at, line) : _mm512_storeu_si512(at, line);
  }
}
#endif

// What is left to do with the sums of the rows from i and the columns from j on, rows of kStrip.
template <class T>
FASTNN_INLINE void finish_rows(const GemmArgsOf<T>& g, float* sums, int64_t i, int64_t rows,
                               int64_t j, int64_t cols) {
  const bool adds = g.accumulate || g.bias || g.residual;
  for (int64_t r = 0; r < rows && adds; ++r) {
    float* __restrict sum = sums + r * kStrip;
    const int64_t at = (i + r) * g.ldc + j;
    if (g.accumulate)
      for (int64_t x = 0; x < cols; ++x) sum[x] = to_float(g.c[at + x]) + sum[x];
    if (g.bias)
      for (int64_t x = 0; x < cols; ++x) sum[x] += to_float(g.bias[j + x]);
    if (g.residual)
      for (int64_t x = 0; x < cols; ++x) sum[x] += to_float(g.residual[at + x]);
  }
  const auto keep = [&](T* to) {
    to += i * g.ldc + j;
#if defined(__AVX512BF16__)
    if constexpr (sizeof(T) == sizeof(bf16)) {
      constexpr int64_t kPage = 4096 / sizeof(T);
      const bool past = g.ldc % kPage == 0 && reinterpret_cast<uintptr_t>(to) % 64 == 0;
      const float* sum = sums;
      for (int64_t r = 0; r < rows && cols == kStrip; ++r, to += g.ldc, sum += kStrip)
        keep_lines(to, sum, past);
      if (cols == kStrip) return;
    }
#endif
    for (int64_t r = 0; r < rows; ++r) keep_row(to + r * g.ldc, sums + r * kStrip, cols);
  };
  if (g.z && !g.z_is_activated) keep(g.z);
  if (g.activation) kActivate.tile[g.activation](sums, kStrip, rows, cols, g.activation_param);
  if (g.z && g.z_is_activated) keep(g.z);
  if (g.draw) drop_tile(g, sums, kStrip, i, j, rows, cols);
  keep(g.c);
}
template <class T>
void finish_strip(const GemmArgsOf<T>& g, float* sums, int64_t i, int64_t rows, int64_t j,
                  int64_t cols) {
  // A constant trip count, mostly.
  cols == kStrip ? finish_rows(g, sums, i, rows, j, kStrip)
                 : finish_rows(g, sums, i, rows, j, cols);
}

#if defined(__AMX_BF16__)

// Tasks: those of gemm_pack for each product.
template <class T>
void gemm_bf16_pack(const GemmBatchArgsOf<T>& batch, Slice s) {
  const GemmPlan plan = packed_plan<bf16>(batch.one);
  for_items(s, plan.pack_tasks(),
            [&](int64_t i, Slice part) { amx_pack(gemm_item(batch, plan, i), plan, part); });
}

// Tasks: tiles of C, for each item.
template <class T>
void gemm_bf16(const GemmBatchArgsOf<T>& batch, Slice s) {
  amx_gemm(batch, packed_plan<bf16>(batch.one), s, finish_strip<T>);
}

#else

#if defined(__AVX512BF16__)
using Step = TwoProducts;
#else
using Step = OneProduct;
#endif
static_assert(Step::kProducts == Packing<bf16>::kPerElement);

// Pairs lie in the rows of A as they do in panels: they are read in place where each is a float.
template <class T>
bool reads_a_in_place(const GemmArgsOf<T>& g) {
  return Step::kProducts == 2 && sizeof(T) == sizeof(bf16) && g.a_col == 1 && g.a_row % 2 == 0 &&
         g.k % 2 == 0 && reinterpret_cast<uintptr_t>(g.a) % alignof(float) == 0;
}

// [NV - 1][R - 1]: of rows in place, and, of the last height alone, of panels.
struct Bf16Tiles {
  Tile in_place[kNV][kMR], of_panels[kNV];
};
template <int NV, int... I>
constexpr void add_bf16_tiles(Bf16Tiles& tiles, Indices<I...>) {
  ((tiles.in_place[NV - 1][I] = tile<I + 1, NV, false, true, Step>), ...);
  tiles.of_panels[NV - 1] = tile<kMR, NV, true, true, Step>;
}
template <int... V>
constexpr Bf16Tiles all_bf16_tiles(Indices<V...>) {
  Bf16Tiles tiles{};
  (add_bf16_tiles<V + 1>(tiles, MakeIndices<kMR>::Type{}), ...);
  return tiles;
}
inline constexpr Bf16Tiles kBf16Tiles = all_bf16_tiles(MakeIndices<kNV>::Type{});

// Rows whose sums stay in L1 until they are rounded.
inline constexpr int64_t kRowsAtOnce = 8 * kMR;

// sums = or += A B for a strip of C, at most kNR columns wide, of the rows [i, i + rows). i is that
// of a panel; of the last, rows that are none are read and written.
template <class T>
void add_product(const GemmArgsOf<T>& g, const GemmPlan& plan, int64_t i, int64_t rows, int64_t j,
                 bool add, float* sums) {
  const int64_t vectors = ceil_div(least(kNR, g.n - j), kLanes);
  const bool in_place = reads_a_in_place(g);
  const Heights heights =
      in_place ? equal_heights(rows, kMR) : Heights{kMR, ceil_div(rows, kMR), 0, 0};
  for (int64_t block = 0; block < plan.k_blocks; ++block) {
    TileArgs t{};
    t.k = elements_of<bf16>(least(kGemmKC, g.k - block * kGemmKC));
    t.b = g.scratch + plan.k_blocks * plan.a_block + block * plan.b_block + j * t.k;
    t.b_row = kNR, t.c = sums, t.ldc = kNR;
    t.add = add || block > 0;
    if (in_place) {
      t.a = reinterpret_cast<const float*>(g.a + i * g.a_row + block * kGemmKC);
      t.a_row = g.a_row / 2, t.a_col = 1;
    } else {
      t.a = g.scratch + block * plan.a_block + i * t.k;
      t.a_row = 1, t.a_col = kMR;
    }
    heights.each([&](int64_t height, int64_t tiles) {
      t.tiles = tiles, t.a_step = height * (in_place ? t.a_row : t.k);
      (in_place ? kBf16Tiles.in_place[vectors - 1][height - 1]
                : kBf16Tiles.of_panels[vectors - 1])(t);
      t.a += tiles * t.a_step, t.c += tiles * height * kNR;
    });
  }
}

// Tasks: tiles of C, for each item.
template <class T>
void gemm_bf16(const GemmBatchArgsOf<T>& batch, Slice slice) {
  // Of whole tiles: rows and columns too many are not read.
  alignas(64) float sums[kRowsAtOnce * kNR];
  const GemmPlan plan = packed_plan<bf16>(batch.one);
  for (int64_t task = slice.begin; task < slice.end; ++task) {
    const int64_t item = task / plan.tasks(), at = task % plan.tasks();
    const int64_t row = plan.row(at), col = plan.col(at);
    const int64_t i_end = plan.rows.begin(row + 1), j_end = plan.cols.begin(col + 1);
    const GemmArgsOf<T> g = gemm_item(batch, plan, item * batch.terms);
    for (int64_t j = plan.cols.begin(col); j < j_end; j += kNR)
      for (int64_t i = plan.rows.begin(row); i < i_end; i += kRowsAtOnce) {
        const int64_t rows = least(kRowsAtOnce, i_end - i);
        for (int64_t term = 0; term < batch.terms; ++term)
          add_product(gemm_item(batch, plan, item * batch.terms + term), plan, i, rows, j, term > 0,
                      sums);
        finish_strip(g, sums, i, rows, j, least(kNR, g.n - j));
      }
  }
}

// Tasks: those of gemm_pack for each product.
template <class T>
void gemm_bf16_pack(const GemmBatchArgsOf<T>& batch, Slice s) {
  const GemmPlan plan = packed_plan<bf16>(batch.one);
  for_items(s, plan.pack_tasks(), [&](int64_t i, Slice part) {
    const GemmArgsOf<T> g = gemm_item(batch, plan, i);
    GemmPlan left = plan;
    if (reads_a_in_place(g)) left.pack_a.size = 0;
    gemm_pack<bf16>(g, left, part);
  });
}

#endif

// Widened factors would take as long as those of float32.
constexpr bool kPairs = Packing<bf16>::kPerElement == 2;

}  // namespace

template <>
constinit const LinearBf16Kernels
    FASTNN_LEVEL::Table<LinearBf16Kernels>::of_dtype[kNumTableDTypes] = {
        {
            .gemm_bf16_pack = nullptr,
            .gemm_bf16 = nullptr,
            .gemm_medium_pack = kPairs ? gemm_bf16_pack<float> : nullptr,
            .gemm_medium = kPairs ? gemm_bf16<float> : nullptr,
            .gemm_high = nullptr,
        },
        {
            .gemm_bf16_pack = gemm_bf16_pack<bf16>,
            .gemm_bf16 = gemm_bf16<bf16>,
            .gemm_medium_pack = nullptr,
            .gemm_medium = nullptr,
            .gemm_high = nullptr,
        },
        {},
        {}};

}  // namespace fastnn
