// The gradient of convolution's weights: dw[o, k] = sum over positions of dz[o] x[k], lane by lane
// in 16 lanes whatever the instruction set. Rows of dz are copied, filled up with zeros to whole
// vectors; x is read from the band of its channel, at one offset per k.
#pragma once
#include "conv_windows.h"
#include "lane_tree.h"

namespace fastnn {
namespace {

// A tile has kDotRows x kDotCols sums of kConvLanes lanes.
static_assert(kConvLanes == kBlockLanes);
#if defined(__AVX512F__)
inline constexpr int kDotRows = 5, kDotCols = 5;
#elif defined(__AVX__)
inline constexpr int kDotRows = 2, kDotCols = 3;
#elif defined(__aarch64__)
inline constexpr int kDotRows = 2, kDotCols = 3;
#else
inline constexpr int kDotRows = 1, kDotCols = 3;
#endif

inline constexpr int kDotTogether = 5;  // tiles of some rows, which then stay in L1

// The rows of positions that a tile sums over: of some images, `vectors` times kConvLanes each, of
// which the last has lanes that do not count where `tail` is not null (it is their mask).
struct DotRows {
  const float* dz;  // rows of kConvSpanRow, each position's vectors one after the other
  const float* x;
  int64_t images, image_step, rows, row_step, vectors;  // steps of x
  const int32_t* tail;
};

// sums[r, c] += dz[r] . x[at[c]].
template <int R, int C>
__attribute__((noinline)) void dot_tile(const DotRows& t, const int64_t* at, double* sums,
                                        int64_t row) {
  typedef int32_t Mask __attribute__((vector_size(4 * kLanes)));
  Vec acc[R][C][kPieces];
  int64_t offset[C];
  FASTNN_UNROLL for (int c = 0; c < C; ++c) offset[c] = at[c];
  FASTNN_UNROLL for (int r = 0; r < R; ++r) {
    FASTNN_UNROLL for (int c = 0; c < C; ++c) {
      FASTNN_UNROLL for (int p = 0; p < kPieces; ++p) acc[r][c][p] = Vec{};
    }
  }
  const float* dz = t.dz;
  Mask keep[kPieces] = {};
  if (t.tail) __builtin_memcpy(keep, t.tail, sizeof keep);
  const auto step = [&](const float* x, bool is_tail) __attribute__((always_inline)) {
    FASTNN_UNROLL for (int p = 0; p < kPieces; ++p) {
      Vec xv[C];
      FASTNN_UNROLL for (int c = 0; c < C; ++c) {
        xv[c] = load(x + offset[c] + p * kLanes);
        // Not times 0: what lies behind the row may be infinite.
        if (is_tail) xv[c] = keep[p] ? xv[c] : Vec{};
      }
      FASTNN_UNROLL for (int r = 0; r < R; ++r) {
        const Vec d = load(dz + r * kConvSpanRow + p * kLanes);
        FASTNN_UNROLL for (int c = 0; c < C; ++c) acc[r][c][p] += d * xv[c];
      }
    }
    dz += kConvLanes;
  };
  const int64_t whole = t.vectors - (t.tail != nullptr);
  for (int64_t n = 0; n < t.images; ++n) {
    const float* x = t.x + n * t.image_step;
    for (int64_t r = 0; r < t.rows; ++r, x += t.row_step) {
      for (int64_t v = 0; v < whole; ++v) step(x + v * kConvLanes, false);
      if (t.tail) step(x + whole * kConvLanes, true);
    }
  }
  constexpr int kSums = (R * C + kLanes - 1) / kLanes * kLanes;
  alignas(64) float sum[kSums];
  sum_lanes(acc, sum);
  FASTNN_UNROLL for (int r = 0; r < R; ++r) {
    FASTNN_UNROLL for (int c = 0; c < C; ++c) sums[r * row + c] +=
        static_cast<double>(sum[r * C + c]);
  }
}

using DotTile = void (*)(const DotRows&, const int64_t*, double*, int64_t);
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

// The positions of a span: rows x cols of each of some images.
struct ConvSpan {
  int64_t image, images, row, rows, col, cols;
  FASTNN_INLINE ConvSpan(const ConvGrid& g, const ConvWeightPlan& plan, int64_t span) {
    const int64_t c = span % plan.col_parts, r = span / plan.col_parts % plan.row_parts;
    image = span / plan.col_parts / plan.row_parts * plan.images;
    images = least(plan.images, g.batch - image);
    row = conv_begin(g.h.out, r, plan.row_parts);
    rows = conv_begin(g.h.out, r + 1, plan.row_parts) - row;
    col = conv_begin(g.w.out, c, plan.col_parts);
    cols = conv_begin(g.w.out, c + 1, plan.col_parts) - col;
  }
  int64_t vectors() const { return ceil_div(cols, kConvLanes); }
};

// A group's part of a span, and its sums for k in [k_begin, k_end): [filters, depth], or
// [depth, filters rounded up to kConvLanes] where those are in the lanes.
struct ConvWeightTask {
  const ConvWeightArgs& args;  // whose grid is that of images side by side where those are in lanes
  const ConvGrid& grid;        // of one image
  ConvWeightPlan plan;
  int64_t group, k_begin, k_end;
  float *dz, *bands;  // scratch: dz of the filters, and the bands of some channels

  int64_t taps() const { return int64_t{args.grid.h.taps} * args.grid.w.taps; }

  // The images of one side by side, and the group's first float of them, in planes of `size`.
  ConvBlock block_of(int64_t image, int64_t planes, int64_t size) const {
    return ConvBlock(grid.batch, image, grid.groups * planes * size);
  }
  void turn_dz(const ConvSpan& span) const {  // whose rows are whole
    const int64_t size = grid.out_size(), floats = span.rows * grid.w.out;
    for (int64_t n = 0; n < span.images; ++n) {
      if (args.windows.places) {
        turn_windows(span, n);
        continue;
      }
      const ConvBlock block = block_of(span.image + n, grid.filters, size);
      const float* from = static_cast<const float*>(args.dz) + block.first * block.apart +
                          group * grid.filters * size + span.row * grid.w.out;
      for (int64_t o = 0; o < grid.filters; ++o, from += size)
        turn_images(from, block, 1, floats, 0, dz + o * kConvSpanRow + n * floats * kConvLanes, 0);
    }
  }
  void turn_windows(const ConvSpan& span, int64_t n) const {
    const int64_t size = args.windows.size(), row = grid.w.out * kConvLanes;
    const ConvBlock block = block_of(span.image + n, grid.filters, size);
    for (int64_t o = 0; o < grid.filters; ++o)
      TurnedWindows{static_cast<const float*>(args.dz), args.windows,
                    block.first * block.apart + (group * grid.filters + o) * size, block}
          .turn({span.row, span.row + span.rows}, {0, grid.w.out},
                dz + o * kConvSpanRow + n * span.rows * row, row);
  }
  // The first position of a span's n-th image, of a filter; and the plane of a channel.
  FASTNN_INLINE const float* dz_of(const ConvSpan& span, int64_t n, int64_t filter) const {
    const ConvGrid& g = args.grid;
    const int64_t plane = ((span.image + n) * g.groups + group) * g.filters + filter;
    return static_cast<const float*>(args.dz) + plane * g.out_size() + span.row * g.w.out +
           span.col;
  }
  FASTNN_INLINE const float* x_of(const ConvSpan& span, int64_t n, int64_t channel) const {
    const ConvGrid& g = args.grid;
    const int64_t plane = ((span.image + n) * g.groups + group) * g.channels + channel;
    return static_cast<const float*>(args.x) + plane * g.in_size();
  }
  void copy_dz(const ConvSpan& span) const {
    if (plan.images_in_lanes) return turn_dz(span);
    const ConvGrid& g = args.grid;
    for (int64_t n = 0; n < span.images; ++n) {
      const float* from = dz_of(span, n, 0);
      for (int64_t o = 0; o < g.filters; ++o, from += g.out_size()) {
        float* to = dz + o * kConvSpanRow + n * span.rows * span.vectors() * kConvLanes;
        for (int64_t r = 0; r < span.rows; ++r, to += span.vectors() * kConvLanes) {
          float* last = to + (span.vectors() - 1) * kConvLanes;
          for (int p = 0; p < kPieces; ++p) store(last + p * kLanes, Vec{});
          copy_run(to, from + r * g.w.out, span.cols);
        }
      }
    }
  }
  void copy_channels(const ConvSpan& span, int64_t first, int64_t count) const {
    const ConvGrid& g = args.grid;
    for (int64_t n = 0; n < span.images; ++n)
      for (int64_t c = 0; c < count; ++c) {
        float* to = bands + (n * plan.channels + c) * plan.band;
        if (plan.images_in_lanes) {
          const ConvBlock block = block_of(span.image + n, grid.channels, grid.in_size());
          turn_channel(grid, block,
                       static_cast<const float*>(args.x) + block.first * block.apart +
                           (group * grid.channels + first + c) * grid.in_size(),
                       span.row, span.rows, to);
          continue;
        }
        copy_channel(g, plan.plane, x_of(span, n, first + c), span.row, span.rows, to);
      }
  }
  // For k in [begin, end), whose channels, from `channel` on, are in the bands.
  void add_tiles(DotRows t, int64_t channel, int64_t begin, int64_t end, double* sums) const {
    const ConvGrid& g = args.grid;
    const int64_t taps = this->taps();
    const int64_t row_tiles = ceil_div(g.filters, kDotRows);
    const int64_t col_tiles = ceil_div(end - begin, kDotCols);
    const int64_t tap = begin % taps;  // the place of k: the band of its channel, and its taps
    int64_t band = (begin / taps - channel) * plan.band, i = tap / g.w.taps, j = tap % g.w.taps;
    // Some tiles at a time: rows of dz come from L2, and are used that often.
    for (int64_t q_begin = 0; q_begin < col_tiles; q_begin += kDotTogether) {
      const int64_t q_end = least(col_tiles, q_begin + kDotTogether);
      const int64_t first = begin + conv_begin(end - begin, q_begin, col_tiles);
      const int64_t last = begin + conv_begin(end - begin, q_end, col_tiles);
      int64_t at[kDotTogether * kDotCols];
      for (int64_t k = first; k < last; ++k) {
        at[k - first] = band + band_offset(g, g.w.length(g.w.out), plan.plane, i, j);
        if (++j == g.w.taps) j = 0, ++i;
        if (i == g.h.taps) i = 0, band += plan.band;
      }
      for (int64_t p = 0; p < row_tiles; ++p) {
        const int64_t o = conv_begin(g.filters, p, row_tiles);
        const int64_t rows = conv_begin(g.filters, p + 1, row_tiles) - o;
        t.dz = dz + o * kConvSpanRow;
        for (int64_t q = q_begin, k = first, next; q < q_end; ++q, k = next) {
          next = begin + conv_begin(end - begin, q + 1, col_tiles);
          kDotTiles.of_rows[rows - 1].of_cols[next - k - 1](t, at + k - first,
                                                            sums + o * g.depth() + k, g.depth());
        }
      }
    }
  }
  // Calls run(channel, begin, end) for the k whose channels, from `channel` on, are in the bands.
  template <class Run>
  void for_channels(const ConvSpan& span, Run run) const {
    for (int64_t k = k_begin, end; k < k_end; k = end) {
      const int64_t channel = k / taps();
      const int64_t channels = least(plan.channels, args.grid.channels - channel);
      end = least(k_end, (channel + channels) * taps());
      copy_channels(span, channel, channels);
      run(channel, k, end);
    }
  }
  void add(const ConvSpan& span, double* sums) const {
    const ConvGrid& g = args.grid;
    const int64_t in_last = span.cols - (span.vectors() - 1) * kConvLanes;
    int32_t tail[kConvLanes];
    for (int64_t l = 0; l < kConvLanes; ++l) tail[l] = l < in_last ? -1 : 0;
    const DotRows t{.dz = dz,
                    .x = bands + span.col,
                    .images = span.images,
                    .image_step = plan.channels * plan.band,
                    .rows = span.rows,
                    .row_step = g.w.length(g.w.out),
                    .vectors = span.vectors(),
                    .tail = in_last < kConvLanes ? tail : nullptr};
    copy_dz(span);
    for_channels(span, [&](int64_t channel, int64_t begin, int64_t end) {
      add_tiles(t, channel, begin, end, sums);
    });
  }
};

}  // namespace
}  // namespace fastnn
