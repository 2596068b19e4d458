// The gradient of the weights of a channel by 3 x 3 taps side by side, as in depthwise layers: the
// nine sums stay in registers, rows of positions share what they read, and both the image and dz
// are read where they lie.
#pragma once
#include "conv_threes.h"
#include "conv_weight.h"

namespace fastnn {
namespace {

// kLanes columns of some rows of positions, of which the first row's taps begin with `row` of x.
struct ThreesStrip {
  ThreesRows x;
  const float* dz;
  int64_t dz_row, row, rows, tap;  // tap: from tap to tap
  SomeLanes positions, seen[3];    // of dz, and of what each column of taps reads
};

// Rows [first, first + R).
template <int R, bool kEdge>
FASTNN_INLINE void add_threes(const ThreesStrip& t, int64_t first, Vec (&acc)[9]) {
  const auto load_of = [](const float* p, const SomeLanes& lanes) __attribute__((always_inline)) {
    return kEdge ? lanes.load(p) : load(p);
  };
  const float* dz = t.dz + first * t.dz_row;
  Vec d[R];
  FASTNN_UNROLL for (int r = 0; r < R; ++r) d[r] = load_of(dz + r * t.dz_row, t.positions);
  const float* x[R + 2];
  t.x.find(t.row + first, x);
  FASTNN_UNROLL for (int q = 0; q < R + 2; ++q) {
    FASTNN_UNROLL for (int j = 0; j < 3; ++j) {
      Vec v = load_of(x[q] + j * t.tap, t.seen[j]);
      FASTNN_LOAD_ONCE(v);
      FASTNN_UNROLL for (int r = 0; r < R; ++r) {
        if (q >= r && q < r + 3) acc[(q - r) * 3 + j] += d[r] * v;
      }
    }
  }
}

// sums[tap][lane] += dz . x over the rows, a chain per lane.
template <bool kEdge>
__attribute__((noinline)) void threes_weight_tile(const ThreesStrip& t,
                                                  float (&sums)[9][kBlockLanes], int piece) {
  constexpr int kRows = kEdge ? 2 : 4;  // the masks are four registers
  Vec acc[9];
  FASTNN_UNROLL for (int k = 0; k < 9; ++k) acc[k] = load(sums[k] + piece * kLanes);
  int64_t row = 0;
  for (; row + kRows <= t.rows; row += kRows) add_threes<kRows, kEdge>(t, row, acc);
  for (; row < t.rows; ++row) add_threes<1, kEdge>(t, row, acc);
  FASTNN_UNROLL for (int k = 0; k < 9; ++k) store(sums[k] + piece * kLanes, acc[k]);
}

struct ConvWeightThrees {
  const ConvWeightTask& task;

  // The n-th image of a span; next: what is read after it.
  void add_image(const ConvSpan& span, int64_t n, const ConvSpan& next,
                 float (&sums)[9][kBlockLanes]) const {
    const ConvGrid& g = task.args.grid;
    const int64_t strips = ceil_div(span.cols, kLanes), m = least(n, next.images - 1);
    const int64_t top = most(0, next.row - g.h.pad), rows = least(next.rows, g.h.in - top);
    StepsAhead dz_ahead(task.dz_of(next, m, 0), next.rows * g.w.out, strips);
    StepsAhead x_ahead(task.x_of(next, m, 0) + top * g.w.in, rows * g.w.in, strips);
    const float *dz = task.dz_of(span, n, 0), *x = task.x_of(span, n, 0);
    ThreesStrip t{.x = {nullptr, nullptr, g.w.in, g.h.in},
                  .dz_row = g.w.out,
                  .row = span.row - g.h.pad,
                  .rows = span.rows,
                  .tap = g.w.dilation};
    for (int64_t c = 0; c < span.cols; c += kLanes) {
      dz_ahead.fetch(), x_ahead.fetch();
      const int64_t col = span.col + c - g.w.pad, here = least(kLanes, span.cols - c);
      const int piece = static_cast<int>(c % kBlockLanes / kLanes);
      t.dz = dz + c, t.x.first = x + col, t.x.zeros = task.bands + c;
      if (here == kLanes && col >= 0 && col + g.w.reach() + kLanes <= g.w.in) {
        threes_weight_tile<false>(t, sums, piece);
        continue;
      }
      t.positions = SomeLanes::from(0, here);
      for (int64_t j = 0; j < 3; ++j) t.seen[j] = lanes_inside(g.w, col + j * t.tap, here);
      threes_weight_tile<true>(t, sums, piece);
    }
  }
  void add(const ConvSpan& span, const ConvSpan& next, double* sums) const {
    const ConvGrid& g = task.args.grid;
    __builtin_memset(task.bands, 0, sizeof(float) * static_cast<size_t>(g.w.length(g.w.out)));
    alignas(64) float lanes[9][kBlockLanes] = {};
    for (int64_t n = 0; n < span.images; ++n) add_image(span, n, next, lanes);
    Vec acc[1][9][kPieces];
    FASTNN_UNROLL for (int k = 0; k < 9; ++k) {
      FASTNN_UNROLL for (int p = 0; p < kPieces; ++p) acc[0][k][p] = load(lanes[k] + p * kLanes);
    }
    alignas(64) float sum[kBlockLanes];
    sum_lanes(acc, sum);
    for (int k = 0; k < 9; ++k) sums[k] += static_cast<double>(sum[k]);
  }
};

}  // namespace
}  // namespace fastnn
