// Convolution of a channel by 3 x 3 taps side by side, as in depthwise layers: the weights stay in
// registers, and some rows of outputs share what they read, half of what each would read alone.
#pragma once
#include "activate_tile.h"
#include "conv_lanes.h"

namespace fastnn {
namespace {

// SSE has no room for the weights: without fma a product takes a register of its own.
inline constexpr bool kKeepsThrees = kRegisters > 16 || kLanes > 4;

// Vectors begin with each row, the last of which overlaps those before.
FASTNN_INLINE bool conv_has_threes(const ConvArgs& args) {
  const ConvGrid& g = args.grid;
  return kKeepsThrees && g.channels == 1 && g.h.taps == 3 && g.w.taps == 3 && g.h.stride == 1 &&
         g.w.stride == 1 && g.h.dilation == 1 && args.y_col == 1 && g.w.out >= kLanes;
}

// Rows of outputs of a filter, of `cols` each. An element's sum is one chain of 9 fma.
struct ThreesTile {
  const float *w, *bias;  // bias: or null
  const float* x;         // what the first tap of the first output reads
  int64_t x_row, x_tap;   // from row to row, and from tap to tap
  float* y;
  int64_t y_row, cols;
  bool relu;
};

template <int R>
__attribute__((noinline)) void threes_tile(const ThreesTile& t) {
  Vec w[9];
  FASTNN_UNROLL for (int k = 0; k < 9; ++k) w[k] = t.w[k] - Vec{};
  const float* const bias = t.bias;
  const bool relu = t.relu;
  const int64_t x_row = t.x_row, x_tap = t.x_tap, y_row = t.y_row, cols = t.cols;
  for (int64_t c = 0; c < cols; c += kLanes) {
    const int64_t col = least(c, cols - kLanes);
    const float* x = t.x + col;
    Vec acc[R] = {};
    FASTNN_UNROLL for (int q = 0; q < R + 2; ++q, x += x_row) {
      FASTNN_UNROLL for (int j = 0; j < 3; ++j) {
        Vec v = load(x + j * x_tap);
        FASTNN_LOAD_ONCE(v);
        FASTNN_UNROLL for (int r = 0; r < R; ++r) {
          if (q >= r && q < r + 3) acc[r] += w[(q - r) * 3 + j] * v;
        }
      }
    }
    rows_of_c<R>(t.y + col, y_row, [&](float* y, int r) __attribute__((always_inline)) {
      if (bias) acc[r] += *bias;  // from memory: the registers are full
      if (relu) acc[r] = Relu::fwd(acc[r], 0.f);
      store(y, acc[r]);
    });
  }
}

inline constexpr int kThreesRows = 4;  // the weights, these, and what they read: 14 registers
using RunThreesTile = void (*)(const ThreesTile&);
inline constexpr RunThreesTile kThreesTiles[kThreesRows] = {threes_tile<1>, threes_tile<2>,
                                                            threes_tile<3>, threes_tile<4>};

// All outputs of an item.
void conv_threes(const ConvArgs& args, const ConvItem& item, int64_t row_length) {
  const ConvGrid& g = args.grid;
  if (g.filters == 0) return;
  const Heights heights = equal_heights(item.rows, kThreesRows);
  ThreesTile t{};
  t.x_row = row_length, t.x_tap = item.at[1] - item.at[0];
  t.y_row = args.y_row, t.cols = g.w.out;
  t.relu = args.activation == kRelu && item.z == nullptr;
  // Of the image after this each tile fetches its part.
  const int64_t lines = ceil_div(item.next.planes * item.next.floats, kLineFloats);
  const int64_t at_once = ceil_div(lines, g.filters * heights.tiles());
  const float *ahead = item.next.at, *const end = ahead + lines * kLineFloats;
  for (int64_t o = 0; o < g.filters; ++o) {
    t.w = item.w + o * g.depth(), t.bias = item.bias ? item.bias + o : nullptr;
    t.x = item.band + item.at[0];
    int64_t to = o * args.y_plane;
    heights.each([&](int64_t rows, int64_t tiles) {
      for (; tiles > 0; --tiles, t.x += rows * row_length, to += rows * args.y_row) {
        for (int64_t i = 0; i < at_once && ahead < end; ++i, ahead += kLineFloats)
          __builtin_prefetch(ahead, 0, 2);
        t.y = item.y + to;
        kThreesTiles[rows - 1](t);
        for (int64_t r = 0; r < rows && item.z; ++r)
          copy_run(item.z + to + r * args.y_row, t.y + r * args.y_row, t.cols);
        if (args.activation && !t.relu)
          kActivate.tile[args.activation](t.y, args.y_row, rows, t.cols, args.activation_param);
      }
    });
  }
}

}  // namespace
}  // namespace fastnn
