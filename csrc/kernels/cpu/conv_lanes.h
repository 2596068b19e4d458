// Convolution with filters in the lanes: a vector is of filters, and what it is multiplied by is
// one float of the band, so that no load crosses a cache line and narrow images fill whole vectors.
#pragma once
#include "activate_tile.h"
#include "conv_band.h"
#include "gemm_pack.h"

namespace fastnn {
namespace {

// c[r] (+)= sum over products of x[row[r] + at] w[k], for one chain: count <= kGemmChain.
struct LanesTile {
  const float* x;
  const int32_t* row;
  const ConvProduct* products;
  int64_t count;
  const float* w;  // rows of whole vectors, as c
  float* c;
  const float* bias;  // of a row, or null
  bool add;
  int64_t tiles;  // one below the other, in one call
};

// A row takes a general register.
inline constexpr int kLanesRows = 10;
// Outputs whose sums wait between chains: whole tiles, but for one width of AVX-512, and half of L1
// at most.
inline constexpr int64_t kLanesStrip = kNR > 16 ? 60 : 120;
static_assert(kLanesStrip * kNR <= kL1Floats / 2);
constexpr int lanes_rows(int nv) { return tile_rows(nv) < kLanesRows ? tile_rows(nv) : kLanesRows; }

template <int R, int NV>
__attribute__((noinline)) void lanes_tile(const LanesTile& t) {
  const ConvProduct* const end = t.products + t.count;
  const int32_t* row = t.row;
  float* c = t.c;
  for (int64_t tiles = t.tiles; tiles > 0; --tiles, row += R, c += R * NV * kLanes) {
    asm volatile("" ::: "memory");  // C is not read before the sums
    const float* x[R];
    FASTNN_UNROLL for (int i = 0; i < R; ++i) x[i] = t.x + row[i];
    Vec acc[R][NV];
    FASTNN_UNROLL for (int i = 0; i < R; ++i) {
      FASTNN_UNROLL for (int v = 0; v < NV; ++v) acc[i][v] = Vec{};
    }
    // As in sum_chains.
#pragma GCC unroll 2
    for (const ConvProduct* product = t.products; product < end; ++product) {
      const int64_t at = product->at;
      const float* w = t.w + product->k * (NV * kLanes);
      Vec wv[NV];
      FASTNN_UNROLL for (int v = 0; v < NV; ++v) wv[v] = load(w + v * kLanes);
      FASTNN_UNROLL for (int i = 0; i < R; ++i) {
        const float s = x[i][at];
        FASTNN_UNROLL for (int v = 0; v < NV; ++v) acc[i][v] += s * wv[v];
      }
    }
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
  heights.each([&](int64_t height, int64_t tiles) {
    t.tiles = tiles;
    kLanesTiles.of[vectors - 1].of_rows[height - 1](t);
    t.row += tiles * height, t.c += tiles * height * vectors * kLanes;
  });
}

// The products of some rows of a kernel. Chains end where they do with all of them.
struct LanesProducts {
  ConvProduct* list;
  int64_t taps, begin, end;  // of a channel: all, and those that are in the list
  // Those of taps [begin, end) of each of all `depth`, from where these are in the band.
  void find(const int32_t* at, int64_t depth) const {
    ConvProduct* to = list;
    for (int64_t k = 0; k < depth; k += taps)
      for (int64_t i = k + begin; i < k + end; ++i) *to++ = {at[i], static_cast<int32_t>(i)};
  }
  // How many are below k.
  int64_t below(int64_t k) const {
    return k / taps * (end - begin) + least(end - begin, most(0, k % taps - begin));
  }
};

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
  const int64_t here = least(kLanes, n);
  const float* row[kLanes];
  for (int64_t l = 0; l < kLanes; ++l) row[l] = c + least(l, here - 1) * width;
  // Planes outermost: those a power of two apart share a set of L1, which has 8 lines or 12.
  for (int64_t f = 0; f < filters; f += 4, y += 4 * args.y_plane)
    for (int64_t i = 0; i < n; i += kLanes) {
      const int64_t first = least(i, n - here);  // the last overlaps those before
      float* to = y + first * args.y_col;
      Vec x[4];
      FASTNN_UNROLL for (int q = 0; q < 4; ++q) x[q] = load_quads(row + q, first * width + f);
      transpose_quads(x, MakeIndices<kLanes>::Type{});
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
  // Parts [begin, end) of `parts` into L2.
  FASTNN_INLINE void fetch(int64_t begin, int64_t end, int64_t parts) const {
    const int64_t last = conv_begin(planes, end, parts);
    for (int64_t p = conv_begin(planes, begin, parts); p < last; ++p)
      for (int64_t i = 0; i < floats; i += kLineFloats)
        __builtin_prefetch(at + p * plane + i, 0, 2);
  }
};

// The same, where planes lie side by side, in equal steps: LanesAhead divides twice in each, 5 % of
// the time of a channel per group.
struct StepsAhead {
  const float *at, *end;
  int64_t step;
  FASTNN_INLINE StepsAhead(const float* first, int64_t floats, int64_t steps)
      : at(first), end(first + floats), step(round_up(ceil_div(floats, steps), kLineFloats)) {}
  FASTNN_INLINE StepsAhead(const LanesAhead& next, int64_t steps)
      : StepsAhead(next.at, next.planes * next.floats, steps) {}
  FASTNN_INLINE void fetch() {
    const float* const to = end - at < step ? end : at + step;
    for (; at < to; at += kLineFloats) __builtin_prefetch(at, 0, 2);
  }
};

// One item: what is computed, from which band.
struct ConvItem {
  const float* w;
  const float* bias;
  float *y, *z;  // of the first filter and output row
  const float* band;
  int32_t* at;  // offsets in the band: of each k; for lanes room for products, and of each output
  int64_t row, rows;
  LanesAhead next;  // the image after this
};

// All outputs of an item, with lanes of filters. Long rows have only the products with what is
// inside the image.
struct ConvLanes {
  const ConvArgs& args;
  const ConvItem& item;
  LanesProducts products;  // of the rows at hand
  int64_t done = 0;        // products of vectors, for all outputs and filters

  // Outputs [first, first + n) of the filters from o on. Their sums wait in L1 while each chain of
  // weights, from there too, adds to all of them.
  void strip(int64_t o, int64_t first, int64_t n) {
    const ConvGrid& g = args.grid;
    const int64_t depth = g.depth(), filters = least(kNR, g.filters - o);
    const int64_t vectors = ceil_div(filters, kLanes), width = vectors * kLanes;
    const int64_t offset = o * args.y_plane;
    const int64_t all = ceil_div(g.filters, kNR) * item.rows * g.w.out * depth;
    alignas(64) float c[kLanesStrip * kNR], bias[kNR] = {};
    if (item.bias) copy_few(bias, item.bias + o, filters);
    const LanesAhead results{item.y + offset + first, filters, args.y_plane, n};
    LanesTile t{};
    t.x = item.band, t.row = item.at + 3 * depth + first, t.w = item.w + o * depth, t.c = c;
    for (int64_t k = 0, end; k < depth; k = end) {
      end = least(depth, k + kGemmChain);
      if (args.y_col == 1) results.fetch(k, end, depth);
      item.next.fetch(done, done + n * (end - k), all);
      done += n * (end - k);
      t.products = products.list + products.below(k);
      t.count = products.list + products.below(end) - t.products;
      t.add = k > 0, t.bias = end == depth && item.bias ? bias : nullptr;
      lanes_chain(t, n, vectors);
    }
    if (item.z) store_strip(args, c, width, filters, first, n, item.z + offset);
    if (args.activation) kActivate.tile[args.activation](c, width, n, width, args.activation_param);
    store_strip(args, c, width, filters, first, n, item.y + offset);
  }
  void run() {
    const ConvGrid& g = args.grid;
    const int64_t depth = g.depth(), cols = g.w.out;
    const auto seen_by = [&](int64_t row) { return taps_of(g.h, item.row + row, item.row + row); };
    const Inside all{0, g.h.taps};
    const bool apart = cols >= kConvLongRow &&
                       (seen_by(0) != all || seen_by(item.rows - 1) != all) &&
                       all_finite(item.w, round_up(g.filters, kLanes) * depth);
    products = {reinterpret_cast<ConvProduct*>(item.at + depth), int64_t{g.h.taps} * g.w.taps, 0,
                0};
    for (int64_t row = 0, end; row < item.rows; row = end) {
      const Inside seen = apart ? seen_by(row) : all;
      for (end = apart ? row + 1 : item.rows; end < item.rows && seen_by(end) == seen;) ++end;
      products.begin = seen.begin * g.w.taps, products.end = seen.end * g.w.taps;
      products.find(item.at, depth);
      for (int64_t o = 0; o < g.filters; o += kNR)
        for (int64_t first = row * cols; first < end * cols; first += kLanesStrip)
          strip(o, first, least(kLanesStrip, end * cols - first));
    }
  }
};

}  // namespace
}  // namespace fastnn
