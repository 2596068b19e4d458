// Convolution with filters in the lanes: a vector is of filters, and what it is multiplied by is
// one float of the band, so that no load crosses a cache line and narrow images fill whole vectors.
#pragma once
#include "activate_tile.h"
#include "conv_band.h"
#include "gemm_pack.h"

namespace fastnn {
namespace {

// c[r] (+)= sum over k of x[row[r] + at[k]] w[k], for one chain: k <= kGemmChain.
struct LanesTile {
  const float* x;
  const int32_t *row, *at;
  int64_t k;
  const float* w;  // rows of whole vectors, as c
  float* c;
  const float* bias;  // of a row, or null
  bool add;
};

// A row takes a general register.
inline constexpr int kLanesRows = 10;
constexpr int lanes_rows(int nv) { return tile_rows(nv) < kLanesRows ? tile_rows(nv) : kLanesRows; }

template <int R, int NV>
__attribute__((noinline)) void lanes_tile(const LanesTile& t) {
  const float *x[R], *w = t.w;
  FASTNN_UNROLL for (int i = 0; i < R; ++i) x[i] = t.x + t.row[i];
  const int32_t* at = t.at;
  Vec acc[R][NV];
  FASTNN_UNROLL for (int i = 0; i < R; ++i) {
    FASTNN_UNROLL for (int v = 0; v < NV; ++v) acc[i][v] = Vec{};
  }
  for (int64_t k = t.k; k > 0; --k, w += NV * kLanes) {
    const int64_t offset = *at++;
    Vec wv[NV];
    FASTNN_UNROLL for (int v = 0; v < NV; ++v) wv[v] = load(w + v * kLanes);
    FASTNN_UNROLL for (int i = 0; i < R; ++i) {
      const float s = x[i][offset];
      FASTNN_UNROLL for (int v = 0; v < NV; ++v) acc[i][v] += s * wv[v];
    }
  }
  float* c = t.c;
  if (t.add) {
    FASTNN_UNROLL for (int i = 0; i < R; ++i) {
      FASTNN_UNROLL for (int v = 0; v < NV; ++v) acc[i][v] =
          load(c + (i * NV + v) * kLanes) + acc[i][v];
    }
  }
  if (t.bias) {
    FASTNN_UNROLL for (int v = 0; v < NV; ++v) {
      const Vec bias = load(t.bias + v * kLanes);
      FASTNN_UNROLL for (int i = 0; i < R; ++i) acc[i][v] += bias;
    }
  }
  FASTNN_UNROLL for (int i = 0; i < R; ++i) {
    FASTNN_UNROLL for (int v = 0; v < NV; ++v) store(c + (i * NV + v) * kLanes, acc[i][v]);
  }
}

using RunLanesTile = void (*)(const LanesTile&);

// Every height up to lanes_rows: [NV - 1][R - 1].
struct LanesTilesOfWidth {
  RunLanesTile of_rows[kLanesRows];
};
template <int NV, int... I>
constexpr LanesTilesOfWidth lanes_tiles_of_width(Indices<I...>) {
  return {{lanes_tile<(I < lanes_rows(NV) ? I + 1 : 1), NV>...}};
}
struct LanesTiles {
  LanesTilesOfWidth of[kNV];
};
template <int... V>
constexpr LanesTiles all_lanes_tiles(Indices<V...>) {
  return {{lanes_tiles_of_width<V + 1>(MakeIndices<kLanesRows>::Type{})...}};
}
inline constexpr LanesTiles kLanesTiles = all_lanes_tiles(MakeIndices<kNV>::Type{});

// A chain of `rows` rows.
FASTNN_INLINE void lanes_chain(LanesTile t, int64_t rows, int64_t vectors) {
  const Heights heights = equal_heights(rows, lanes_rows(static_cast<int>(vectors)));
  for (int64_t q = 0; q < heights.tiles(); ++q) {
    const int64_t here = heights.of(q);
    kLanesTiles.of[vectors - 1].of_rows[here - 1](t);
    t.row += here, t.c += here * vectors * kLanes;
  }
}

// ---- forward, and gradient of the input ------------------------------------------------------

// v into every other float from `to` on, and no float behind the last of them is read or written.
template <int... L>
FASTNN_INLINE void store_apart(float* to, Vec v, Indices<L...>) {
  float* const end = to + kLanes - 1;
  // Both before a store: what overlaps one waits for the cache.
  const Vec low = load(to), high = load(end);
  store(to, __builtin_shufflevector(low, v, (L % 2 == 0 ? kLanes + L / 2 : L)...));
  store(end, __builtin_shufflevector(high, v, (L % 2 == 1 ? kLanes + (kLanes - 1 + L) / 2 : L)...));
}

// The transpose of n rows of c, of `width` floats, to a run of each filter's plane.
void store_run(const ConvArgs& args, const float* c, int64_t width, int64_t filters, int64_t n,
               float* y) {
  for (int64_t i = 0; i < n; i += kLanes, y += kLanes * args.y_col) {
    const int64_t here = least(kLanes, n - i);
    const float* row[kLanes];
    for (int64_t l = 0; l < kLanes; ++l) row[l] = c + (i + least(l, here - 1)) * width;
    for (int64_t f = 0; f < filters; f += 4) {
      Vec x[4];
      FASTNN_UNROLL for (int q = 0; q < 4; ++q) x[q] = load_quads(row + q, f);
      transpose_quads(x, MakeIndices<kLanes>::Type{});
      float* to = y + f * args.y_plane;
      if (here == kLanes && args.y_col <= 2 && f + 4 <= filters) {
        FASTNN_UNROLL for (int q = 0; q < 4; ++q, to += args.y_plane) {
          if (args.y_col == 1)
            store(to, x[q]);
          else
            store_apart(to, x[q], MakeIndices<kLanes>::Type{});
        }
        continue;
      }
      alignas(64) float rest[4 * kLanes];
      FASTNN_UNROLL for (int q = 0; q < 4; ++q) store(rest + q * kLanes, x[q]);
      for (int64_t q = 0; q < least(4, filters - f); ++q, to += args.y_plane) {
        if (args.y_col == 1) {
          copy_few(to, rest + q * kLanes, here);
        } else {
          for (int64_t l = 0; l < here; ++l) to[l * args.y_col] = rest[q * kLanes + l];
        }
      }
    }
  }
}

// Outputs [first, first + n) of some rows, numbered without gaps: by runs that are whole in y.
void store_strip(const ConvArgs& args, const float* c, int64_t width, int64_t filters,
                 int64_t first, int64_t n, float* y) {
  const int64_t cols = args.grid.w.out;
  if (args.y_col == 1 && args.y_row == cols)
    return store_run(args, c, width, filters, n, y + first);
  int64_t row = first / cols, col = first % cols;
  for (int64_t here; n > 0; n -= here, c += here * width, ++row, col = 0) {
    here = least(n, cols - col);
    store_run(args, c, width, filters, here, y + row * args.y_row + col * args.y_col);
  }
}

// Memory that is needed soon: planes of `plane` floats, of each `floats`.
struct LanesAhead {
  const float* at;
  int64_t planes, plane, floats;
  // Part `part` of `parts` into L2.
  FASTNN_INLINE void fetch(int64_t part, int64_t parts) const {
    const int64_t end = conv_begin(planes, part + 1, parts);
    for (int64_t p = conv_begin(planes, part, parts); p < end; ++p)
      for (int64_t i = 0; i < floats; i += kLineFloats)
        __builtin_prefetch(at + p * plane + i, 0, 2);
  }
};

}  // namespace
}  // namespace fastnn
