// Convolution with positions in the lanes: a vector is of outputs of one filter, and reads floats
// that are neighbours in the band.
#pragma once
#include "activate_tile.h"
#include "conv_lanes.h"
#include "conv_tile.h"

namespace fastnn {
namespace {

// Outputs are numbered over rows of `pitch`, more than there are: vectors begin with each row, or
// run through the ends of rows as the band has them, where that saves a fifth of them.
int64_t pitch_of(const ConvGrid& g, int64_t row_length, int64_t rows) {
  const int64_t apart = round_up(g.w.out, kLanes);
  const int64_t through = (rows - 1) * row_length + g.w.out;
  return 4 * rows * apart <= 5 * round_up(through, kLanes) ? apart : row_length;
}

// Outputs [first, first + n) of `filters` filters, from rows of c to y.
void store_outputs(const ConvArgs& args, const float* c, int64_t ldc, int64_t filters,
                   int64_t pitch, int64_t first, int64_t n, float* y) {
  for (int64_t row = first / pitch; row * pitch < first + n; ++row) {
    const int64_t start = row * pitch, begin = first > start ? first : start;
    const int64_t count = least(first + n, start + args.grid.w.out) - begin;
    if (count <= 0) continue;
    const float* from = c + begin - first;
    float* to = y + row * args.y_row + (begin - start) * args.y_col;
    for (int64_t r = 0; r < filters; ++r, from += ldc, to += args.y_plane) {
      if (args.y_col == 1) {
        copy_run(to, from, count);
      } else if (args.y_col == 2 && count >= kLanes) {
        for (int64_t i = 0; i < count; i += kLanes) {
          const int64_t at = least(i, count - kLanes);  // the last overlaps those before
          store_apart(to + 2 * at, load(from + at), MakeIndices<kLanes>::Type{});
        }
      } else {
        for (int64_t i = 0; i < count; ++i) to[i * args.y_col] = from[i];
      }
    }
  }
}

// All outputs of an item, some vectors at a time. Vectors go where they belong, and what the last
// of a row writes behind it is written again; not so at the end of the band or where outputs are
// apart: those go by way of a padded copy.
struct ConvStrips {
  const ConvArgs& args;
  const ConvItem& item;
  int64_t row_length, pitch;
  ConvTile t;  // not cleared first: images may be small
  // What is in t, which the next strip shares if it begins in the same column.
  int64_t col = -1, vectors = 0;
  bool direct = false;
  int64_t last = 0, in_last = 0;      // where the last vector goes, and how much of it
  int64_t rows_on = 0, next_col = 0;  // where the next strip begins
  Heights heights{};

  ConvStrips(const ConvArgs& args, const ConvItem& item, int64_t row_length, int64_t pitch)
      : args(args), item(item), row_length(row_length), pitch(pitch) {}

  // Where vectors read in the band and write in y, from where the first of them does.
  void find_vectors(int64_t first_col, int64_t count) {
    const int64_t out = args.grid.w.out;
    col = next_col = first_col, vectors = count, rows_on = 0, direct = true;
    for (int64_t v = 0; v < vectors; ++v) {
      t.place[v] = rows_on * row_length + next_col - col;
      t.to[v] = last = rows_on * out + next_col - col;
      in_last = pitch == out ? kLanes : least(kLanes, out - next_col);
      for (next_col += kLanes; next_col >= pitch; next_col -= pitch) ++rows_on;
    }
    heights = equal_heights(args.grid.filters, conv_rows(static_cast<int>(vectors)));
  }
  // One behind the other instead.
  void store_padded() {
    for (int64_t v = 0; v < vectors; ++v) t.to[v] = v * kLanes;
    direct = false;
  }

  void run() {
    const ConvGrid& g = args.grid;
    if (g.filters == 0 || g.out_size() == 0) return;
    const bool dense = args.y_col == 1 && args.y_row == g.w.out &&
                       (pitch == g.w.out || pitch == round_up(g.w.out, kLanes));
    const int64_t positions = (item.rows - 1) * pitch + g.w.out;
    int64_t width = conv_vectors(g.filters) * kLanes;
    if (pitch <= width && pitch % kLanes == 0) width -= width % pitch;  // strips begin with rows
    t.k = g.depth(), t.at = item.at;
    t.relu = args.activation == kRelu && item.z == nullptr;
    StepsAhead ahead(item.next, ceil_div(positions, width));
    int64_t row = 0, from = 0;  // where a strip begins
    for (int64_t first = 0; first < positions; first += width) {
      ahead.fetch();
      const int64_t n = least(width, positions - first), count = ceil_div(n, kLanes);
      if (from != col || count != vectors || (dense && !direct)) find_vectors(from, count);
      const int64_t begin = row * g.w.out + from;
      if (direct && (!dense || begin + last + kLanes > item.rows * g.w.out)) store_padded();
      t.planes = item.band + row * row_length + from;
      multiply(first, n, begin);
      row += rows_on, from = next_col;
    }
  }

  // All filters at outputs [first, first + n), the first of which is at `begin` in a plane of y.
  void multiply(int64_t first, int64_t n, int64_t begin) {
    alignas(64) float padded[kMaxRows * kNR];
    static_assert(kMaxRows * kNV >= 2 * kConvNV);  // R rows of ceil(kConvNV / R) vectors
    t.ldc = direct ? args.y_plane : vectors * kLanes;
    const int64_t cols = direct ? last + in_last : vectors * kLanes;
    int64_t o = 0;
    heights.each([&](int64_t filters, int64_t tiles) {
      for (; tiles > 0; --tiles, o += filters) {
        float* y = item.y + o * args.y_plane;
        float* z = item.z ? item.z + o * args.y_plane : nullptr;
        t.w = item.w + o * t.k;
        t.bias = item.bias ? item.bias + o : nullptr;
        t.c = direct ? y + begin : padded;
        kConvTiles.of[vectors - 1].of_rows[filters - 1](t);
        for (int64_t r = 0; r < filters && z && direct; ++r)
          copy_run(z + begin + r * t.ldc, t.c + r * t.ldc, cols);
        if (z && !direct) store_outputs(args, padded, t.ldc, filters, pitch, first, n, z);
        if (args.activation && !t.relu)
          kActivate.tile[args.activation](t.c, t.ldc, filters, cols, args.activation_param);
        if (!direct) store_outputs(args, padded, t.ldc, filters, pitch, first, n, y);
      }
    });
  }
};

}  // namespace
}  // namespace fastnn
