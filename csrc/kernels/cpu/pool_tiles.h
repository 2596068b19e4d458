// Max pooling by windows of 2 x 2 side by side, the usual ones. Vectors run over the ends of rows,
// which lie one behind the other: what they write there is written again with the next row. Where
// nothing of this slice follows, vectors are shorter.
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

// Runs the block at ow, ... until n windows are done; `room` is how far vectors may run. They have
// the lanes of a register, then four, then one.
template <int kLanes, class Block>
FASTNN_FN void for_tiles(int64_t ow, int64_t n, int64_t room, const Block& block) {
  for (; ow < n; ow += kLanes) {
    if constexpr (kLanes > 1)
      if (ow + kLanes > room) return for_tiles<(kLanes > 4 ? 4 : 1)>(ow, n, room, block);
    block.template run<kLanes>(ow);
  }
}

template <int kLanes>
struct TileVectors {
  using Floats = typename Vectors<kLanes>::Floats;

  template <class T>
  FASTNN_FN static Floats load(const T* x) {
    float values[kLanes];
    for (int l = 0; l < kLanes; ++l) values[l] = to_float(x[l]);
    Floats v;
    __builtin_memcpy(&v, values, sizeof v);
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

template <bool kOffsets, class T>
struct MaxTiles {
  const T *top, *bottom;  // two rows of x
  MaxRow<kOffsets, T> out;

  // The even and the odd elements of a row, of windows side by side.
  template <int kLanes>
  FASTNN_FN static void load_row(const T* x, typename Vectors<kLanes>::Floats (&v)[2]) {
    if constexpr (kLanes == 1) {
      for (int i = 0; i < 2; ++i) v[i] = to_float(x[i]);
    } else {
      using V = TileVectors<kLanes>;
      constexpr typename MakeIndices<kLanes>::Type kAll{};
      const auto low = V::load(x), high = V::load(x + kLanes);
      for (int i = 0; i < 2; ++i) v[i] = V::every_other(low, high, i, kAll);
    }
  }
  template <int kLanes>
  FASTNN_FN void run(int64_t ow) const {
    typename Vectors<kLanes>::Floats upper[2], lower[2];
    load_row<kLanes>(top + 2 * ow, upper);
    load_row<kLanes>(bottom + 2 * ow, lower);
    auto windows = MaxWindows<kLanes>::from(upper[0]);
    windows.add(upper[1], 1);
    for (int i = 0; i < 2; ++i) windows.add(lower[i], 2 + i);
    out.store(ow, windows);
  }
};

template <bool kOffsets, class T>
void max_pool_tiles(const T* x, T* y, uint8_t* offsets, const PoolGrid& g, Range planes) {
  int64_t x_left = (planes.end - planes.begin) * g.h * g.w;
  int64_t y_left = (planes.end - planes.begin) * g.out_h * g.out_w;
  for (int64_t p = planes.begin; p < planes.end; ++p) {
    for (int64_t oh = 0; oh < g.out_h; ++oh, y += g.out_w, y_left -= g.out_w) {
      const MaxTiles<kOffsets, T> row{x + 2 * oh * g.w, x + (2 * oh + 1) * g.w, {y, offsets}};
      for_tiles<kManyLanes>(0, g.out_w, least(y_left, (x_left - (2 * oh + 1) * g.w) / 2), row);
      if constexpr (kOffsets) offsets += g.out_w;
    }
    x += g.h * g.w, x_left -= g.h * g.w;
  }
}

// A row of dx, whose windows have their gradients in dy: each element is in one window.
template <class T>
struct TileGradients {
  const T* dy;
  const uint8_t* offsets;
  T* dx;
  int k;  // the place in its window of a row's even element

  template <int kLanes>
  FASTNN_FN void run(int64_t ow) const {
    if constexpr (kLanes == 1) {
      for (int right = 0; right < 2; ++right)
        dx[2 * ow + right] = offsets[ow] == k + right ? dy[ow] : from_float<T>(0.f);
    } else {
      using V = TileVectors<kLanes>;
      constexpr typename MakeIndices<kLanes>::Type kAll{};
      const auto v = V::load(dy + ow);
      const auto at = widen<kLanes>(offsets + ow);
      const typename V::Floats zero{};
      const auto left = at == k ? v : zero, right = at == k + 1 ? v : zero;
      store_vector<kLanes>(dx + 2 * ow, V::in_turn(left, right, 0, kAll));
      store_vector<kLanes>(dx + 2 * ow + kLanes, V::in_turn(left, right, 1, kAll));
    }
  }
};

template <class T>
void max_pool_bwd_tiles(const T* dy, const uint8_t* offsets, T* dx, const PoolGrid& g,
                        Range planes) {
  int64_t dx_left = (planes.end - planes.begin) * g.h * g.w;
  int64_t dy_left = (planes.end - planes.begin) * g.out_h * g.out_w;
  for (int64_t p = planes.begin; p < planes.end; ++p) {
    for (int64_t ih = 0; ih < g.h; ++ih, dx += g.w, dx_left -= g.w) {
      const int64_t oh = ih / 2, cols = oh < g.out_h ? g.out_w : 0, at = oh * g.out_w;
      const TileGradients<T> row{dy + at, offsets + at, dx, static_cast<int>(ih % 2 * 2)};
      for_tiles<kManyLanes>(0, cols, least(dy_left - at, dx_left / 2), row);
      for (int64_t iw = 2 * cols; iw < g.w; ++iw) dx[iw] = from_float<T>(0.f);
    }
    dy += g.out_h * g.out_w, offsets += g.out_h * g.out_w, dy_left -= g.out_h * g.out_w;
  }
}

}  // namespace
}  // namespace fastnn
