// Products of bfloat16 on AMX: a strip of columns is multiplied by many rows, which wait in L2.
#pragma once
#include "amx_pack.h"
#include "gemm_batch.h"

namespace fastnn {
namespace {

// Steps along k after which sums leave the registers, so that a strip stays in L1; and rows whose
// sums wait for the next ones.
inline constexpr int64_t kAmxSteps = 16, kAmxSums = kGemmBf16MC;
// Strips together larger than that are not in L2 when their turn comes.
inline constexpr int64_t kAmxFetchedFloats = 1 << 18;

// Finishes C[i.., j..] with the sums, or of their transpose.
template <class T, class Finish>
FASTNN_INLINE void amx_finish(const GemmArgsOf<T>& g, bool across, float* sums, int64_t row,
                              int64_t rows, int64_t strip, int64_t cols, Finish finish) {
  if (!across) return finish(g, sums, row, rows, strip, cols);
  alignas(64) float turned[kAmxStrip * kAmxStrip];
  for (int64_t i = 0; i < rows; i += 16)
    for (int64_t j = 0; j < cols; j += 16)
      transpose_16(turned + j * kAmxStrip + i, kAmxStrip, sums + i * kAmxStrip + j, kAmxStrip);
  finish(g, turned, strip, cols, row, rows);
}

// sums = or += rows [begin, end) times the strip from j on, those of each tile after those of the
// last if it keeps them; done(sums, i) follows those of the rows from i on.
template <class T, class Done>
void amx_strip(const AmxProduct<T>& x, int64_t begin, int64_t end, int64_t j, bool add, float* sums,
               bool keeps, Done done) {
  constexpr int64_t kPairs = AmxProduct<T>::kPairs, kTile = 2 * kAmxRows;
  const GemmCut blocks = gemm_cut(most(x.steps, 1), 1, kAmxSteps);
  const int64_t tiles = ceil_div(end - begin, kTile);
  float* before = nullptr;  // the sums of the tile before
  AmxArgs t{};
  // Each step fetches its part of the next strip, which may be that of the next task.
  const int64_t next = j + kAmxStrip < x.strips.count ? j + kAmxStrip : 0;
  if (x.strips.count * x.pairs() > kAmxFetchedFloats) t.ahead_lines = ceil_div(2 * kPairs, tiles);
  t.ahead = x.packed_strips + next * x.pairs();
  for (int64_t block = 0; block < blocks.parts; ++block) {
    const int64_t first = blocks.begin(block), last = blocks.begin(block + 1);
    t.steps = least(last, x.whole) - first;
    t.last = last == x.steps && x.steps > x.whole;
    t.strip = x.packed_strips + j * x.pairs() + first * kPairs * kAmxStrip;
    t.add = add || block > 0;
    for (int64_t i = begin; i < end; i += kTile) {
      const bool both = end - i > kAmxRows;
      t.rows[0] = x.rows_at(i, first);
      if (both) t.rows[1] = x.rows_at(i + kAmxRows, first);
      t.c = sums + (keeps ? i - begin : (i - begin) & kTile) * kAmxStrip;
      kAmxTiles[both][x.strips.count - j > 16](t);
      t.ahead += t.steps * t.ahead_lines * kLineFloats;
      if (block < blocks.parts - 1) continue;
      // After the next tile: a load waits for stores as wide as a register.
      if (i > begin) done(before, i - kTile);
      before = t.c;
    }
  }
  if (end > begin) done(before, begin + (tiles - 1) * kTile);
}

// Tasks: tiles of C, for each item. finish(g, sums, i, rows, j, cols) is told sums of rows of
// kAmxStrip.
template <class T, class Finish>
void amx_gemm(const GemmBatchArgsOf<T>& batch, const GemmPlan& plan, Slice slice, Finish finish) {
  // Of whole tiles: rows and columns too many are not read.
  alignas(64) float sums[kAmxSums * kAmxStrip];
  const AmxRegisters registers;
  const bool keeps = batch.terms > 1 || batch.one.k > kAmxSteps * kAmxDepth;
  for (int64_t task = slice.begin; task < slice.end; ++task) {
    const int64_t item = task / plan.tasks(), at = task % plan.tasks();
    const int64_t row = plan.row(at), col = plan.col(at);
    const int64_t i_range[] = {plan.rows.begin(row), plan.rows.begin(row + 1)};
    const int64_t j_range[] = {plan.cols.begin(col), plan.cols.begin(col + 1)};
    const GemmArgsOf<T> g = gemm_item(batch, plan, item * batch.terms);
    const AmxProduct<T> first(g);
    const int64_t *const rows = first.across ? j_range : i_range, *const strips = first.across
                                                                                      ? i_range
                                                                                      : j_range;
    for (int64_t begin = rows[0]; begin < rows[1]; begin += kAmxSums) {
      const int64_t end = least(begin + kAmxSums, rows[1]);
      for (int64_t j = strips[0]; j < strips[1]; j += kAmxStrip) {
        for (int64_t term = 0; term < batch.terms; ++term) {
          const auto done = [&](float* sum, int64_t i) {
            if (term == batch.terms - 1)
              amx_finish(g, first.across, sum, i, least(2 * kAmxRows, end - i), j,
                         least(kAmxStrip, strips[1] - j), finish);
          };
          const auto add = [&](const AmxProduct<T>& x) {
            amx_strip(x, begin, end, j, term > 0, sums, keeps, done);
          };
          if (term == 0)
            add(first);
          else
            add(AmxProduct<T>(gemm_item(batch, plan, item * batch.terms + term)));
        }
      }
    }
  }
  _mm_sfence();  // lines of C may have gone past the caches
}

}  // namespace
}  // namespace fastnn
