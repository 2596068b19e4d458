// The gradient of convolution's weights: dw[o, k] = sum over positions of dz[o] x[k], lane by lane
// in 16 lanes whatever the instruction set. A span's positions are copied once for dz and once per
// k, padded with zeros to whole vectors, so that the loop is one of plain dot products.
#pragma once
#include "conv_band.h"

namespace fastnn {
namespace {

// A tile has kDotRows x kDotCols sums of kConvLanes lanes.
constexpr int kPieces = kConvLanes / kLanes;
#if defined(__AVX512F__)
inline constexpr int kDotRows = 4, kDotCols = 6;
#elif defined(__AVX__)
inline constexpr int kDotRows = 2, kDotCols = 3;
#elif defined(__aarch64__)
inline constexpr int kDotRows = 2, kDotCols = 3;
#else
inline constexpr int kDotRows = 1, kDotCols = 3;
#endif
static_assert(kConvUnit % kDotCols == 0);

// Lanes in blocks of kBlock: the sums of the two halves of each block, of all blocks of a, then b.
template <int kBlock, int... L>
FASTNN_INLINE Vec add_halves(Vec a, Vec b, Indices<L...>) {
  constexpr int kHalf = kBlock / 2;
  return __builtin_shufflevector(a, b, (L / kHalf * kBlock + L % kHalf)...) +
         __builtin_shufflevector(a, b, (L / kHalf * kBlock + L % kHalf + kHalf)...);
}
// v[0][l] = the sum of the lanes of v[l], in a fixed tree: l + 8, l + 4, l + 2, l + 1.
template <int kBlock>
FASTNN_INLINE void sum_lanes(Vec (&v)[kLanes]) {
  if constexpr (kBlock > 1) {
    FASTNN_UNROLL for (int i = 0; i < kBlock / 2; ++i) v[i] =
        add_halves<kBlock>(v[2 * i], v[2 * i + 1], MakeIndices<kLanes>::Type{});
    sum_lanes<kBlock / 2>(v);
  }
}
// The same of the pieces that kConvLanes lanes are made of.
FASTNN_INLINE Vec sum_pieces(const Vec (&v)[kPieces]) {
  if constexpr (kPieces == 1) return v[0];
  if constexpr (kPieces == 2) return v[0] + v[1];
  if constexpr (kPieces == 4) return (v[0] + v[2]) + (v[1] + v[3]);
}

// sums[r, c] += dz[r] . x[c] over `vectors` times kConvLanes positions.
template <int R, int C>
__attribute__((noinline)) void dot_tile(const float* dz, const float* x, int64_t vectors,
                                        double* sums, int64_t row) {
  Vec acc[R][C][kPieces];
  FASTNN_UNROLL for (int r = 0; r < R; ++r) {
    FASTNN_UNROLL for (int c = 0; c < C; ++c) {
      FASTNN_UNROLL for (int p = 0; p < kPieces; ++p) acc[r][c][p] = Vec{};
    }
  }
  for (int64_t t = 0; t < vectors; ++t, dz += kConvLanes, x += kConvLanes) {
    FASTNN_UNROLL for (int p = 0; p < kPieces; ++p) {
      Vec xv[C];
      FASTNN_UNROLL for (int c = 0; c < C; ++c) xv[c] = load(x + c * kConvSpanRow + p * kLanes);
      FASTNN_UNROLL for (int r = 0; r < R; ++r) {
        const Vec d = load(dz + r * kConvSpanRow + p * kLanes);
        FASTNN_UNROLL for (int c = 0; c < C; ++c) acc[r][c][p] += d * xv[c];
      }
    }
  }
  FASTNN_UNROLL for (int first = 0; first < R * C; first += kLanes) {
    Vec v[kLanes];
    FASTNN_UNROLL for (int l = 0; l < kLanes; ++l) v[l] =
        first + l < R * C ? sum_pieces(acc[(first + l) / C % R][(first + l) % C]) : Vec{};
    sum_lanes<kLanes>(v);
    FASTNN_UNROLL for (int l = 0; l < kLanes; ++l) if (first + l < R * C)
        sums[(first + l) / C * row + (first + l) % C] += static_cast<double>(v[0][l]);
  }
}

using DotTile = void (*)(const float*, const float*, int64_t, double*, int64_t);
struct DotTilesOfRows {
  DotTile of_cols[kDotCols];
};
template <int R, int... C>
constexpr DotTilesOfRows dot_tiles_of_rows(Indices<C...>) {
  return {{dot_tile<R, C + 1>...}};
}
struct DotTiles {
  DotTilesOfRows of_rows[kDotRows];
};
template <int... R>
constexpr DotTiles all_dot_tiles(Indices<R...>) {
  return {{dot_tiles_of_rows<R + 1>(MakeIndices<kDotCols>::Type{})...}};
}
inline constexpr DotTiles kDotTiles = all_dot_tiles(MakeIndices<kDotRows>::Type{});

// The positions of a span: some images, or a part of one.
struct ConvSpan {
  int64_t image, images, begin, size;
  FASTNN_INLINE ConvSpan(const ConvGrid& g, const ConvWeightPlan& plan, int64_t span)
      : image(span / plan.pieces * plan.images),
        images(least(plan.images, g.batch - image)),
        begin(span % plan.pieces * kConvSpan),
        size(least(kConvSpan, g.out_size() - begin)) {}
  int64_t padded() const { return conv_units(size, kConvLanes); }
};

// Calls copy(image, dst) for each image of the span and fills its last vector up with zeros.
template <class Copy>
FASTNN_INLINE void fill_row(const ConvSpan& span, float* dst, Copy copy) {
  for (int64_t n = 0; n < span.images; ++n, dst += span.padded()) {
    copy(span.image + n, dst);
    zero_run(dst + span.size, span.padded() - span.size);
  }
}

// Adds one span to the sums [filters, depth] of group g, for k in [k_begin, k_end).
inline void add_span(const ConvWeightArgs& args, const ConvSpan& span, int64_t group,
                     int64_t k_begin, int64_t k_end, float* scratch, double* sums) {
  const ConvGrid& g = args.grid;
  const int64_t taps = int64_t{g.h.taps} * g.w.taps, vectors = span.images * span.padded() / kConvLanes;
  float *dz = scratch, *x = scratch + g.filters * kConvSpanRow;
  for (int64_t o = 0; o < g.filters; ++o)
    fill_row(span, dz + o * kConvSpanRow, [&](int64_t image, float* dst) {
      const int64_t plane = (image * g.groups + group) * g.filters + o;
      copy_run(dst, args.dz + plane * g.out_size() + span.begin, span.size);
    });
  const int64_t row_tiles = ceil_div(g.filters, kDotRows);
  const int64_t col_tiles = ceil_div(k_end - k_begin, kDotCols);
  for (int64_t q = 0; q < col_tiles; ++q) {
    const int64_t k = k_begin + conv_begin(k_end - k_begin, q, col_tiles);
    const int64_t cols = k_begin + conv_begin(k_end - k_begin, q + 1, col_tiles) - k;
    for (int64_t c = 0; c < cols; ++c) {
      const int64_t channel = (k + c) / taps, tap = (k + c) % taps;
      fill_row(span, x + c * kConvSpanRow, [&](int64_t image, float* dst) {
        const int64_t plane = (image * g.groups + group) * g.channels + channel;
        copy_span(g, args.x + plane * g.in_size(), tap / g.w.taps, tap % g.w.taps, span.begin,
                  span.size, dst);
      });
    }
    for (int64_t p = 0; p < row_tiles; ++p) {
      const int64_t o = conv_begin(g.filters, p, row_tiles);
      const int64_t rows = conv_begin(g.filters, p + 1, row_tiles) - o;
      kDotTiles.of_rows[rows - 1].of_cols[cols - 1](dz + o * kConvSpanRow, x, vectors,
                                                    sums + o * g.depth() + k, g.depth());
    }
  }
}

}  // namespace
}  // namespace fastnn
