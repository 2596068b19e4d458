// Max pooling by windows of 2 x 2 side by side, the usual ones. Vectors of short rows run over
// their ends, since rows lie one behind the other: what they write there is written again with the
// next row. Where nothing of this slice follows, vectors are shorter.
#pragma once
#include "gemm_micro.h"
#include "pool_grid.h"
#include "pool_windows.h"

namespace fastnn {
namespace {

FASTNN_FN bool is_tiled(const PoolGrid& g) {
  return g.channels == 1 && g.kernel_h == 2 && g.kernel_w == 2 && g.stride_h == 2 &&
         g.stride_w == 2 && g.pad_h == 0 && g.pad_w == 0 && g.dilation_h == 1 &&
         g.dilation_w == 1 && 2 * g.out_h <= g.h && 2 * g.out_w <= g.w;
}

// Runs the block for n windows side by side; `room` is how far vectors may run. They have the lanes
// of a register, then four, then one; the last overlaps those before, or runs over the end of a row
// that is shorter.
template <int kLanes, class Block>
FASTNN_FN void for_tiles(int64_t n, int64_t room, const Block& block) {
  if constexpr (kLanes > 1)
    if (n < kLanes && room < kLanes) return for_tiles<(kLanes > 4 ? 4 : 1)>(n, room, block);
  for (int64_t ow = 0; ow < n; ow += kLanes)
    block.template run<kLanes>(n < kLanes ? 0 : least(ow, n - kLanes));
}

template <int kLanes>
struct TileVectors {
  using Floats = typename Vectors<kLanes>::Floats;
  using Ints = typename Vectors<kLanes>::Ints;

  template <class T>
  FASTNN_FN static Floats load(const T* x) {
    Floats v;
    if constexpr (sizeof(T) == sizeof(float)) {
      __builtin_memcpy(&v, x, sizeof v);
    } else {
      float values[kLanes];
      for (int l = 0; l < kLanes; ++l) values[l] = to_float(x[l]);
      __builtin_memcpy(&v, values, sizeof v);
    }
    return v;
  }
  // Lanes of two vectors: l of a, or l - kLanes of b.
  FASTNN_FN static Floats pick(Floats a, Floats b, Ints lanes) {
#if defined(__AVX512F__)
    if constexpr (kLanes == 16)
      return Floats(_mm512_permutex2var_ps(__m512(a), __m512i(lanes), __m512(b)));
#endif
    Floats v;
    for (int l = 0; l < kLanes; ++l) v[l] = lanes[l] < kLanes ? a[lanes[l]] : b[lanes[l] - kLanes];
    return v;
  }
  // Of two vectors side by side the even or the odd elements; and the other way round, one half.
  template <int... L>
  FASTNN_FN static Floats every_other(Floats a, Floats b, int first, Indices<L...>) {
    return first == 0 ? __builtin_shufflevector(a, b, (2 * L)...)
                      : __builtin_shufflevector(a, b, (2 * L + 1)...);
  }
  template <int... L>
  FASTNN_FN static Floats in_turn(Floats a, Floats b, int half, Indices<L...>) {
    constexpr int kHalf = kLanes / 2;
    return half == 0 ? __builtin_shufflevector(a, b, (L % 2 * kLanes + L / 2)...)
                     : __builtin_shufflevector(a, b, (L % 2 * kLanes + kHalf + L / 2)...);
  }
};

// Where the windows of two rows fit into a register that lanes can be picked from, they share it:
// lanes [0, n) are of one row, the n behind them of the next.
struct TwoRows {
  static constexpr bool kHas = kManyLanes == 16;
  using V = TileVectors<kManyLanes>;
  using Ints = V::Ints;
  Ints even, odd, next;  // elements of both rows; and in turn gradients of the second one's
  FASTNN_FN explicit TwoRows(int64_t n) {
    int32_t at[kManyLanes], turn[kManyLanes];
    for (int32_t l = 0, first = static_cast<int32_t>(n); l < kManyLanes; ++l) {
      at[l] = l < first ? 2 * l : (kManyLanes + 2 * (l - first)) % (2 * kManyLanes);
      turn[l] = l % 2 * kManyLanes + (first + l / 2) % kManyLanes;
    }
    __builtin_memcpy(&even, at, sizeof even);
    __builtin_memcpy(&next, turn, sizeof next);
    odd = even + 1;
  }
  FASTNN_FN static bool fit(int64_t n) { return kHas && 2 * n <= kManyLanes; }
};

// Runs two rows of n windows where they can share registers and `left` has two, else one; returns
// how many. `windows` and `elements` are how far vectors may run over either.
template <class Tiles>
FASTNN_FN int64_t run_rows(const Tiles& tiles, const TwoRows& two, int64_t left, int64_t n,
                           int64_t windows, int64_t elements) {
  if (TwoRows::fit(n) && left >= 2 && windows >= kManyLanes &&
      elements >= 3 * tiles.width + kManyLanes) {
    tiles.run(two);
    return 2;
  }
  for_tiles<kManyLanes>(n, least(windows, (elements - tiles.width) / 2), tiles);
  return 1;
}

template <bool kOffsets, class T>
struct MaxTiles {
  const T* x;  // two rows
  int64_t width;
  MaxRow<kOffsets, T> out;

  template <int kLanes>
  using Floats = typename Vectors<kLanes>::Floats;

  template <int kLanes>
  FASTNN_FN void store(int64_t ow, Floats<kLanes> a, Floats<kLanes> b, Floats<kLanes> c,
                       Floats<kLanes> d) const {
    MaxWindows<kLanes> windows(a);
    windows.add(b, 1);
    windows.add(c, 2);
    windows.add(d, 3);
    out.store(ow, windows);
  }
  template <int kLanes>
  FASTNN_FN void run(int64_t ow) const {
    const T *top = x + 2 * ow, *bottom = top + width;
    if constexpr (kLanes == 1) {
      store<1>(ow, to_float(top[0]), to_float(top[1]), to_float(bottom[0]), to_float(bottom[1]));
    } else {
      using V = TileVectors<kLanes>;
      constexpr typename MakeIndices<kLanes>::Type kAll{};
      const auto a = V::load(top), b = V::load(top + kLanes);
      const auto c = V::load(bottom), d = V::load(bottom + kLanes);
      store<kLanes>(ow, V::every_other(a, b, 0, kAll), V::every_other(a, b, 1, kAll),
                    V::every_other(c, d, 0, kAll), V::every_other(c, d, 1, kAll));
    }
  }
  FASTNN_FN void run(const TwoRows& two) const {
    using V = TileVectors<kManyLanes>;
    const auto a = V::load(x), c = V::load(x + width);
    const auto b = V::load(x + 2 * width), d = V::load(x + 3 * width);
    store<kManyLanes>(0, V::pick(a, b, two.even), V::pick(a, b, two.odd), V::pick(c, d, two.even),
                      V::pick(c, d, two.odd));
  }
};

template <bool kOffsets, class T>
void max_pool_tiles(const T* x, T* y, uint8_t* offsets, const PoolGrid& g, Range planes) {
  const T* const x_end = x + (planes.end - planes.begin) * g.h * g.w;
  const T* const y_end = y + (planes.end - planes.begin) * g.out_h * g.out_w;
  const TwoRows two(g.out_w);
  for (int64_t p = planes.begin; p < planes.end; ++p) {
    const T* row = x;
    for (int64_t oh = 0, rows; oh < g.out_h; oh += rows) {
      const MaxTiles<kOffsets, T> tiles{row, g.w, {y, offsets}};
      rows = run_rows(tiles, two, g.out_h - oh, g.out_w, y_end - y, x_end - row);
      row += 2 * rows * g.w, y += rows * g.out_w;
      if constexpr (kOffsets) offsets += rows * g.out_w;
    }
    x += g.h * g.w;
  }
}

// Two rows of dx, whose windows have their gradients in dy: each element is in one window.
template <class T>
struct TileGradients {
  const T* dy;
  const uint8_t* offsets;
  T* dx;
  int64_t width;

  template <int kLanes>
  FASTNN_FN void run(int64_t ow) const {
    using V = TileVectors<kLanes>;
    if constexpr (kLanes == 1) {
      for (int k = 0; k < 4; ++k)
        dx[k / 2 * width + 2 * ow + k % 2] = offsets[ow] == k ? dy[ow] : from_float<T>(0.f);
    } else {
      constexpr typename MakeIndices<kLanes>::Type kAll{};
      const auto v = V::load(dy + ow);
      const auto at = widen<kLanes>(offsets + ow);
      const typename V::Floats zero{};
      T* row = dx + 2 * ow;
      for (int k = 0; k < 4; k += 2, row += width) {
        const auto left = at == k ? v : zero, right = at == k + 1 ? v : zero;
        store_vector<kLanes>(row, V::in_turn(left, right, 0, kAll));
        store_vector<kLanes>(row + kLanes, V::in_turn(left, right, 1, kAll));
      }
    }
  }
  FASTNN_FN void run(const TwoRows& two) const {
    using V = TileVectors<kManyLanes>;
    constexpr typename MakeIndices<kManyLanes>::Type kAll{};
    const auto v = V::load(dy);
    const auto at = widen<kManyLanes>(offsets);
    const typename V::Floats zero{};
    const auto a = at == 0 ? v : zero, b = at == 1 ? v : zero;
    const auto c = at == 2 ? v : zero, d = at == 3 ? v : zero;
    store_vector<kManyLanes>(dx, V::in_turn(a, b, 0, kAll));
    store_vector<kManyLanes>(dx + width, V::in_turn(c, d, 0, kAll));
    store_vector<kManyLanes>(dx + 2 * width, V::pick(a, b, two.next));
    store_vector<kManyLanes>(dx + 3 * width, V::pick(c, d, two.next));
  }
  // What is behind the windows of `rows` rows.
  FASTNN_FN void clear(int64_t rows, int64_t cols) const {
    for (int64_t r = 0; r < rows && cols < width; ++r)
      for (int64_t i = cols; i < width; ++i) dx[r * width + i] = from_float<T>(0.f);
  }
};

template <class T>
void max_pool_bwd_tiles(const T* dy, const uint8_t* offsets, T* dx, const PoolGrid& g,
                        Range planes) {
  const T* const dx_end = dx + (planes.end - planes.begin) * g.h * g.w;
  const T* const dy_end = dy + (planes.end - planes.begin) * g.out_h * g.out_w;
  const TwoRows two(g.out_w);
  for (int64_t p = planes.begin; p < planes.end; ++p) {
    for (int64_t oh = 0, rows; oh < g.out_h; oh += rows) {
      const TileGradients<T> tiles{dy, offsets, dx, g.w};
      rows = run_rows(tiles, two, g.out_h - oh, g.out_w, dy_end - dy, dx_end - dx);
      tiles.clear(2 * rows, 2 * g.out_w);
      dx += 2 * rows * g.w, dy += rows * g.out_w, offsets += rows * g.out_w;
    }
    const int64_t left = g.h - 2 * g.out_h;
    TileGradients<T>{dy, offsets, dx, g.w}.clear(left, 0);
    dx += left * g.w;
  }
}

}  // namespace
}  // namespace fastnn
