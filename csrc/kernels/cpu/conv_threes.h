// Convolution of a channel by 3 x 3 taps side by side, as in depthwise layers: the weights stay in
// registers, some rows of outputs share what they read, half of what each would read alone, and
// that is read where it lies.
#pragma once
#include "activate_tile.h"
#include "conv_lanes.h"

namespace fastnn {
namespace {

// SSE has no room for the weights: without fma a product takes a register of its own.
inline constexpr bool kKeepsThrees = kRegisters > 16 || kLanes > 4;

// Rows of a plane, and zeros above and below.
struct ThreesRows {
  const float *first, *zeros;  // what the first tap of some outputs reads
  int64_t step, height;
  // The rows from `row` on.
  template <int N>
  FASTNN_INLINE void find(int64_t row, const float* (&rows)[N]) const {
    const float* next = first + row * step;
    FASTNN_UNROLL for (int q = 0; q < N; ++q, next += step) rows[q] =
        row + q >= 0 && row + q < height ? next : zeros;
  }
};

// The lanes of outputs whose column of taps, from column `first` of an image on, is inside.
FASTNN_INLINE SomeLanes lanes_inside(const ConvAxis& w, int64_t first, int64_t outputs) {
  return SomeLanes::from(most(0, -first), least(outputs, w.in - first));
}

// The vectors of a row of outputs: of each its first column. The last overlaps those before.
struct ThreesColumns {
  struct Edge {
    int64_t col;
    SomeLanes seen[3];  // of each column of taps
  };
  static constexpr int64_t kMaxEdges = 3;
  int64_t last, begin, end;  // those in [begin, end) see no padding
  int64_t num_edges;
  Edge edges[kMaxEdges];

  // Padding of at most a vector: then no more than the first and the last two vectors are edges.
  static bool fit(const ConvAxis& w) {
    const int64_t right = w.out + w.reach() - w.pad - w.in;
    return w.out >= kLanes && w.pad <= kLanes && right <= kLanes;
  }
  void find(const ConvAxis& w) {
    last = w.out - kLanes, begin = end = num_edges = 0;
    for (int64_t c = 0; c < w.out; c += kLanes) {
      const int64_t col = least(c, last), first = col - w.pad;
      if (first >= 0 && first + w.reach() + kLanes <= w.in) {
        if (end == 0) begin = c;
        end = c + 1;
        continue;
      }
      Edge& edge = edges[num_edges++];
      edge.col = col;
      for (int64_t j = 0; j < 3; ++j)
        edge.seen[j] = lanes_inside(w, first + j * w.dilation, kLanes);
    }
  }
};

// Rows of outputs of a filter. An element's sum is one chain of 9 fma.
struct ThreesTile {
  const ThreesColumns& columns;
  const float *w, *bias;  // bias: or null
  ThreesRows x;
  int64_t row, tap;  // what the first row of taps reads, and from tap to tap
  float* y;
  int64_t y_row;
  bool relu;
};

template <int R>
__attribute__((noinline)) void threes_tile(const ThreesTile& t) {
  Vec w[9];
  FASTNN_UNROLL for (int k = 0; k < 9; ++k) w[k] = t.w[k] - Vec{};
  const float* x[R + 2];
  t.x.find(t.row, x);
  const float* const bias = t.bias;
  const bool relu = t.relu;
  const int64_t tap = t.tap, y_row = t.y_row;
  float* const y = t.y;
  const auto vector = [&](int64_t col, const SomeLanes* seen) __attribute__((always_inline)) {
    Vec acc[R] = {};
    FASTNN_UNROLL for (int q = 0; q < R + 2; ++q) {
      FASTNN_UNROLL for (int j = 0; j < 3; ++j) {
        const float* from = x[q] + col + j * tap;
        Vec v = seen ? seen[j].load(from) : load(from);
        FASTNN_LOAD_ONCE(v);
        FASTNN_UNROLL for (int r = 0; r < R; ++r) {
          if (q >= r && q < r + 3) acc[r] += w[(q - r) * 3 + j] * v;
        }
      }
    }
    rows_of_c<R>(y + col, y_row, [&](float* to, int r) __attribute__((always_inline)) {
      if (bias) acc[r] += *bias;  // from memory: the registers are full
      if (relu) acc[r] = Relu::fwd(acc[r], 0.f);
      store(to, acc[r]);
    });
  };
  const ThreesColumns& columns = t.columns;
  for (int64_t c = columns.begin, last = columns.last; c < columns.end; c += kLanes)
    vector(least(c, last), nullptr);
  for (int64_t e = 0; e < columns.num_edges; ++e)
    vector(columns.edges[e].col, columns.edges[e].seen);
}

inline constexpr int kThreesRows = 4;  // the weights, these, and what they read: 14 registers
using RunThreesTile = void (*)(const ThreesTile&);
inline constexpr RunThreesTile kThreesTiles[kThreesRows] = {threes_tile<1>, threes_tile<2>,
                                                            threes_tile<3>, threes_tile<4>};

FASTNN_INLINE bool conv_has_threes(const ConvArgs& args) {
  const ConvGrid& g = args.grid;
  return kKeepsThrees && conv_is_of_threes(g) && args.y_col == 1 && g.filters > 0 &&
         ThreesColumns::fit(g.w);
}

// All outputs of an item, of plane x. Its band is a row of zeros.
void conv_threes(const ConvArgs& args, const ThreesColumns& columns, const ConvItem& item,
                 const float* x) {
  const ConvGrid& g = args.grid;
  const Heights heights = equal_heights(item.rows, kThreesRows);
  ThreesTile t{.columns = columns,
               .x = {x - g.w.pad, item.band, g.w.in, g.h.in},
               .tap = g.w.dilation,
               .y_row = args.y_row,
               .relu = args.activation == kRelu && item.z == nullptr};
  StepsAhead ahead(item.next, g.filters * heights.tiles());
  for (int64_t o = 0; o < g.filters; ++o) {
    t.w = item.w + o * g.depth(), t.bias = item.bias ? item.bias + o : nullptr;
    t.row = item.row - g.h.pad;
    int64_t to = o * args.y_plane;
    heights.each([&](int64_t rows, int64_t tiles) {
      for (; tiles > 0; --tiles, t.row += rows, to += rows * args.y_row) {
        ahead.fetch();
        t.y = item.y + to;
        kThreesTiles[rows - 1](t);
        for (int64_t r = 0; r < rows && item.z; ++r)
          copy_run(item.z + to + r * args.y_row, t.y + r * args.y_row, g.w.out);
        if (args.activation && !t.relu)
          kActivate.tile[args.activation](t.y, args.y_row, rows, g.w.out, args.activation_param);
      }
    });
  }
}

}  // namespace
}  // namespace fastnn
