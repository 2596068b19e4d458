// Convolution with images in the lanes (conv_side_by_side): what a task reads of kConvLanes images
// is turned into one band, whose elements are vectors of them, and outputs are turned back.
#pragma once
#include "activate_tile.h"
#include "conv_lanes.h"
#include "conv_tile.h"
#include "conv_windows.h"

namespace fastnn {
namespace {

// Some products in a row. The last of a chain ends it.
struct ImagesRun {
  int32_t first, count, ends_chain;
};

// c[r] = bias[r] + sum over some products of w[r][k] band[at], vectors side by side, and the same
// of as many as follow in `tiles`. Chains end where they do with all products, so what is left out,
// zeros around an image, changes no bit.
struct ImagesTile {
  const float* w;
  int64_t w_row;
  const float *bias, *band;
  const ConvProduct* products;
  const ImagesRun* runs;
  int64_t num_runs;
  float* c;
  int64_t ldc;
  int64_t tiles;
  bool relu;
};

// What ends the sums of a tile.
template <int R, int NV>
FASTNN_INLINE void store_images(Vec (&acc)[R][NV], const ImagesTile& t, float* c) {
  if (const float* const bias = t.bias) FASTNN_UNROLL for (int r = 0; r < R; ++r) {
      FASTNN_UNROLL for (int v = 0; v < NV; ++v) acc[r][v] += bias[r];
    }
  if (t.relu) FASTNN_UNROLL for (int r = 0; r < R; ++r) {
      FASTNN_UNROLL for (int v = 0; v < NV; ++v) acc[r][v] = Relu::fwd(acc[r][v], 0.f);
    }
  const int64_t ldc = t.ldc;
  FASTNN_UNROLL for (int r = 0; r < R; ++r) {
    FASTNN_UNROLL for (int v = 0; v < NV; ++v) store(c + r * ldc + v * kLanes, acc[r][v]);
  }
}

template <int R, int NV>
FASTNN_INLINE void images_sums(const ImagesTile& t, const float* band, float* c) {
  Vec acc[R][NV];
  alignas(64) float parked[R * NV * kLanes];  // what the chains before have summed
  FASTNN_UNROLL for (int r = 0; r < R; ++r) {
    FASTNN_UNROLL for (int v = 0; v < NV; ++v) acc[r][v] = Vec{};
  }
  const Column<R, false> filters(t.w, t.w_row);
  const ImagesRun* const end = t.runs + t.num_runs;
  bool is_first = true;
  for (const ImagesRun* run = t.runs; run < end; ++run) {
    const ConvProduct* product = t.products + run->first;
    // As in sum_chains.
#pragma GCC unroll 2
    for (int64_t n = run->count; n > 0; --n, ++product) {
      Column<R, false> w = filters;
      w.advance(product->k);
      const float* b = band + product->at;
      Vec bv[NV];
      FASTNN_UNROLL for (int v = 0; v < NV; ++v) bv[v] = load(b + v * kLanes);
      w.multiply(bv, acc);
    }
    if (!run->ends_chain) continue;
    // Of -0, which products with padding would turn into 0, the first chain makes 0 as well.
    FASTNN_UNROLL for (int r = 0; r < R; ++r) {
      FASTNN_UNROLL for (int v = 0; v < NV; ++v) acc[r][v] =
          (is_first ? Vec{} : load(parked + (r * NV + v) * kLanes)) + acc[r][v];
    }
    if (run + 1 == end) break;
    FASTNN_UNROLL for (int r = 0; r < R; ++r) {
      FASTNN_UNROLL for (int v = 0; v < NV; ++v) {
        store(parked + (r * NV + v) * kLanes, acc[r][v]);
        acc[r][v] = Vec{};
      }
    }
    is_first = false;
    // The compiler would keep some of these in registers, and spill sums for it.
    asm volatile("" : : "r"(parked) : "memory");
  }
  store_images<R, NV>(acc, t, c);
}

template <int R, int NV>
__attribute__((noinline)) void images_tile(const ImagesTile& t) {
  const float* band = t.band;
  float* c = t.c;
  for (int64_t n = t.tiles; n > 0; --n, band += NV * kLanes, c += NV * kLanes) {
    asm("" : "+r"(band));  // one register: the compiler would add up two for each product
    images_sums<R, NV>(t, band, c);
  }
}

using RunImagesTile = void (*)(const ImagesTile&);
// Rows of the tallest tile, for whose sums there is scratch.
inline constexpr int64_t kImageRows = least(kMR, kConvImageFilters);
struct ImagesTilesOfWidth {
  RunImagesTile of_rows[kImageRows];
};
template <int NV, int... I>
constexpr ImagesTilesOfWidth images_tiles_of_width(Indices<I...>) {
  return {{images_tile<(I < conv_rows(NV) ? I + 1 : 1), NV>...}};
}
struct ImagesTiles {
  ImagesTilesOfWidth of[kConvNV];
};
template <int... V>
constexpr ImagesTiles all_images_tiles(Indices<V...>) {
  return {{images_tiles_of_width<V + 1>(MakeIndices<kImageRows>::Type{})...}};
}
static_assert(kGemmChain >= kConvLanes);
inline constexpr ImagesTiles kImagesTiles = all_images_tiles(MakeIndices<kConvNV>::Type{});

// Some rows of outputs of a block, and scratch.
struct ConvImages {
  const ConvArgs& args;  // y_plane: from image to image; its grid is that of one image
  const ConvPlan& plan;
  const float *w, *bias, *band;
  float *y, *z;
  uint8_t* places;            // of pooled outputs, or null
  int64_t plane;              // of y: from filter to filter
  int64_t images, row, rows;  // row: the first
  bool all_taps;              // also those that see nothing but padding
  ConvProduct* products;      // [depth]
  ImagesRun* runs;            // conv_image_runs() of them
  float* c;                   // of kImageRows filters, [rows][w.out][kConvLanes]
  float* windows;             // conv_pooled_floats()

  // The products of taps [j.begin, j.end) of each row of the kernel.
  void find_products(Inside j) const {
    const ConvGrid& g = args.grid;
    const int64_t length = g.w.length(g.w.out) * kConvLanes;
    ConvProduct* to = products;
    for (int64_t c = 0, k = 0; c < g.channels; ++c)
      for (int64_t i = 0; i < g.h.taps; ++i, k += g.w.taps) {
        const int64_t at = c * plan.plane + i * g.h.dilation * length;
        for (int64_t q = j.begin; q < j.end; ++q)
          *to++ = {static_cast<int32_t>(at + q * g.w.dilation * kConvLanes),
                   static_cast<int32_t>(k + q)};
      }
  }
  // Those of them in rows [i.begin, i.end) of the kernel, cut where chains end; returns how many.
  int64_t find_runs(Inside i, Inside j) const {
    const ConvGrid& g = args.grid;
    const bool all = i.end - i.begin == g.h.taps;  // then channels are one run
    const int64_t width = j.end - j.begin, parts = all ? 1 : g.channels;
    const int64_t rows = all ? g.channels * g.h.taps : i.end - i.begin;
    const auto products_below = [&](int64_t k) {
      return k / g.w.taps * width + least(width, most(0, k % g.w.taps - j.begin));
    };
    ImagesRun* to = runs;
    int64_t chain = kGemmChain, chain_end = products_below(chain);
    for (int64_t c = 0; c < parts; ++c) {
      int64_t first = (c * g.h.taps + i.begin) * width, end = first + rows * width;
      for (; first < end; first += (to++)->count) {
        for (; first >= chain_end; chain_end = products_below(chain += kGemmChain))
          if (to > runs) to[-1].ends_chain = 1;
        *to = {static_cast<int32_t>(first), static_cast<int32_t>(least(end, chain_end) - first), 0};
      }
    }
    if (to > runs) to[-1].ends_chain = 1;
    return to - runs;
  }

  bool is_relu() const { return args.activation == kRelu && z == nullptr; }

  // Of output rows [begin_row, end_row).
  void sums_of(int64_t o, int64_t filters, int64_t begin_row, int64_t end_row) const {
    const ConvGrid& g = args.grid;
    constexpr int64_t kOf = kConvLanes / kLanes;  // vectors of a position
    const int64_t length = g.w.length(g.w.out) * kConvLanes, width = g.w.out * kConvLanes;
    const int64_t vectors = g.w.out * kOf, strips = ceil_div(vectors, conv_vectors(filters));
    ImagesTile t{};
    t.w = w + o * g.depth(), t.w_row = g.depth(), t.bias = bias ? bias + o : nullptr;
    t.products = products, t.runs = runs, t.ldc = (end_row - begin_row) * width, t.relu = is_relu();
    Inside i{-1, -1}, j{-1, -1};
    const auto strip = [&](int64_t s) {
      return Inside{conv_begin(vectors, s, strips), conv_begin(vectors, s + 1, strips)};
    };
    const auto seen = [&](Inside at) {
      return all_taps ? Inside{0, g.w.taps} : taps_of(g.w, at.begin / kOf, (at.end - 1) / kOf);
    };
    for (int64_t s = 0; s < strips; s += t.tiles) {
      const Inside at = strip(s), seen_j = seen(at);
      const int64_t n = at.end - at.begin;
      // Strips of one width that see the same taps are one call.
      for (t.tiles = 1; s + t.tiles < strips; ++t.tiles) {
        const Inside next = strip(s + t.tiles);
        if (next.end - next.begin != n || seen(next) != seen_j) break;
      }
      if (seen_j != j) find_products(j = seen_j), i = {-1, -1};
      for (int64_t r = begin_row; r < end_row; ++r) {
        const Inside seen_i = all_taps ? Inside{0, g.h.taps} : taps_of(g.h, row + r, row + r);
        if (seen_i != i) t.num_runs = find_runs(i = seen_i, j);
        t.band = band + r * length + at.begin * kLanes;
        t.c = c + (r - begin_row) * width + at.begin * kLanes;
        kImagesTiles.of[n - 1].of_rows[filters - 1](t);
      }
    }
  }
  void activate(int64_t filters, int64_t size) const {
    if (args.activation && !is_relu())
      kActivate.tile[args.activation](c, size, filters, size, args.activation_param);
  }
  void run() const {
    const ConvGrid& g = args.grid;
    const int64_t tiles = ceil_div(g.filters, kImageRows);
    for (int64_t q = 0; q < tiles; ++q) {
      const int64_t o = conv_begin(g.filters, q, tiles);
      const int64_t filters = conv_begin(g.filters, q + 1, tiles) - o;
      args.pooled.y ? pool(o, filters) : store(o, filters);
    }
  }
  void store(int64_t o, int64_t filters) const {
    const int64_t positions = rows * args.grid.w.out, size = positions * kConvLanes;
    const auto store_all = [&](float* to) {
      for (int64_t r = 0; r < filters; ++r)
        store_strip(args, c + r * size, kConvLanes, images, 0, positions, to + (o + r) * plane);
    };
    sums_of(o, filters, 0, rows);
    if (z) store_all(z);
    activate(filters, size);
    store_all(y);
  }
  // Some rows at a time: their outputs are pooled while they are in L1.
  void pool(int64_t o, int64_t filters) const {
    const int64_t cols = args.grid.w.out, n = rows / 2 * (cols / 2);
    const int64_t together = most(2, kConvPooled / (filters * cols * kConvLanes) / 2 * 2);
    auto* turned = reinterpret_cast<uint8_t*>(windows + filters * n * kConvLanes);
    for (int64_t row = 0, end; row < rows; row = end) {
      end = least(rows, row + together);
      const int64_t size = (end - row) * cols * kConvLanes;
      sums_of(o, filters, row, end);
      activate(filters, size);
      for (int64_t r = 0; r < filters; ++r) {
        const int64_t to = (r * n + row / 2 * (cols / 2)) * kConvLanes;
        pool_lanes(c + r * size, end - row, cols, windows + to, turned + to);
      }
    }
    for (int64_t r = 0; r < filters; ++r) {
      const int64_t from = r * n * kConvLanes, to = (o + r) * plane;
      store_run(args, windows + from, kConvLanes, images, n, y + to);
      if (places) turn_places_back(turned + from, images, args.y_plane, n, places + to);
    }
  }
};

}  // namespace
}  // namespace fastnn
