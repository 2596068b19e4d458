// Windows of 2 x 2 that pool images in the lanes, and what their gradients give to images: of
// windows, and of the places of their largest elements, only a quarter is turned.
#pragma once
#include "../families/conv.h"
#include "conv_turn.h"
#include "lane_tree.h"
#include "pool_windows.h"

namespace fastnn {
namespace {

typedef uint8_t Places __attribute__((vector_size(16)));
static_assert(kConvLanes == 16);

// x[i][l] = x[l][i]: each round interleaves the rows of one half with those of the other.
template <int... L>
FASTNN_INLINE void transpose_places(Places (&x)[16], Indices<L...>) {
  for (int round = 0; round < 4; ++round) {
    Places y[16];
    FASTNN_UNROLL for (int i = 0; i < 8; ++i) {
      y[2 * i] = __builtin_shufflevector(x[i], x[i + 8], (L % 2 * 16 + L / 2)...);
      y[2 * i + 1] = __builtin_shufflevector(x[i], x[i + 8], (L % 2 * 16 + 8 + L / 2)...);
    }
    FASTNN_UNROLL for (int i = 0; i < 16; ++i) x[i] = y[i];
  }
}

// to[i][l] = the place i of image l, of n from `first` on. What is loaded ends with them, since
// nothing behind the last may be read; before the first it is fewer.
void turn_places(const uint8_t* places, int64_t first, const ConvBlock& block, int64_t n,
                 uint8_t* to) {
  for (int64_t i = 0; i < n; i += 16) {
    const int64_t here = least(16, n - i), skipped = 16 - here;
    Places x[16];
    for (int64_t l = 0; l < kConvLanes; ++l) {
      const int64_t at = first + least(l, block.images - 1) * block.apart + i - skipped;
      if (at >= 0) {
        __builtin_memcpy(&x[l], places + at, 16);
      } else {
        uint8_t last[16] = {};
        for (int64_t k = skipped; k < 16; ++k) last[k] = places[at + k];
        __builtin_memcpy(&x[l], last, 16);
      }
    }
    transpose_places(x, MakeIndices<16>::Type{});
    for (int64_t k = skipped; k < 16; ++k) __builtin_memcpy(to + (i + k - skipped) * 16, &x[k], 16);
  }
}

// The way back, to images that are `apart`.
void turn_places_back(const uint8_t* places, int64_t images, int64_t apart, int64_t n,
                      uint8_t* to) {
  for (int64_t i = 0; i < n; i += 16) {
    const int64_t first = most(0, least(i, n - 16));  // the last sixteen overlap those before
    Places x[16] = {};
    for (int64_t k = 0; k < least(16, n); ++k)
      __builtin_memcpy(&x[k], places + (first + k) * 16, 16);
    transpose_places(x, MakeIndices<16>::Type{});
    for (int64_t l = 0; l < images; ++l) {
      if (n >= 16)
        __builtin_memcpy(to + l * apart + first, &x[l], 16);
      else
        for (int64_t k = 0; k < n; ++k) to[l * apart + k] = x[l][k];
    }
  }
}

// The windows of outputs [rows][cols][kConvLanes].
void pool_lanes(const float* outputs, int64_t rows, int64_t cols, float* y, uint8_t* places) {
  const MaxRow<true, float> to{y, places};
  int64_t at = 0;
  for (int64_t r = 0; r + 2 <= rows; r += 2)
    for (int64_t c = 0; c + 2 <= cols; c += 2)
      for (int p = 0; p < kPieces; ++p, at += kLanes) {
        const float* from = outputs + (r * cols + c) * kConvLanes + p * kLanes;
        MaxWindows<kLanes> windows(load(from));
        FASTNN_UNROLL for (int k = 1; k < 4; ++k)
            windows.add(load(from + (k / 2 * cols + k % 2) * kConvLanes), k);
        to.store(at, windows);
      }
}

// Gradients and places of the windows of one channel of a block, whose first image's are `first`
// on.
struct TurnedWindows {
  static constexpr int64_t kMost = 80;  // at a time: a row of the longest band has 33
  const float* dy;
  const ConvWindows& windows;
  int64_t first;
  ConvBlock block;

  // Rows [row, rows) and columns [col, cols) of a window of all images.
  FASTNN_INLINE static void scatter(const float* values, const uint8_t* places, int64_t row,
                                    int64_t rows, int64_t col, int64_t cols, float* to,
                                    int64_t step) {
    FASTNN_UNROLL for (int p = 0; p < kPieces; ++p) {
      const Vec v = load(values + p * kLanes);
      const auto at = widen<kLanes>(places + p * kLanes);
      const auto give = [&](int64_t r, int64_t c) __attribute__((always_inline)) {
        store(to + (r - row) * step + (c - col) * kConvLanes + p * kLanes,
              at == static_cast<int32_t>(2 * r + c) ? v : Vec{});
      };
      if (rows - row + cols - col == 4) {  // all of it
        FASTNN_UNROLL for (int k = 0; k < 4; ++k) give(k / 2, k % 2);
        continue;
      }
      for (int64_t r = row; r < rows; ++r)
        for (int64_t c = col; c < cols; ++c) give(r, c);
    }
  }

  // Rows and columns of the planes that were pooled.
  void turn(Inside y, Inside x, float* to, int64_t step) const {
    const int64_t begin = least(x.begin / 2, windows.w);
    const int64_t end = least(ceil_div(x.end, 2), windows.w), n = end - begin;
    const int64_t covered = most(x.begin, least(x.end, 2 * end)) - x.begin;
    const int64_t together = n == windows.w && n > 0 ? most(1, kMost / n) : 1;
    alignas(64) float values[kMost * kConvLanes];
    alignas(64) uint8_t places[kMost * kConvLanes];
    for (int64_t r = y.begin, next; r < y.end; r = next) {
      const int64_t top = r / 2;
      const int64_t rows = least(together, most(1, least(windows.h, ceil_div(y.end, 2)) - top));
      next = least(y.end, 2 * (top + rows));
      float* const out = to + (r - y.begin) * step;
      if (covered < x.end - x.begin || top >= windows.h)  // no window has them
        for (int64_t i = 0; i < next - r; ++i)
          __builtin_memset(out + i * step, 0,
                           sizeof(float) * static_cast<size_t>((x.end - x.begin) * kConvLanes));
      if (top >= windows.h || n <= 0) continue;
      const int64_t at = first + top * windows.w + begin;
      turn_images(dy + at, block, 1, rows * n, 0, values, 0);
      turn_places(windows.places, at, block, rows * n, places);
      for (int64_t i = r; i < next; i = 2 * (i / 2) + 2)
        for (int64_t j = 0; j < n; ++j) {
          const int64_t window = ((i / 2 - top) * n + j) * kConvLanes, left = 2 * (begin + j);
          scatter(values + window, places + window, i % 2, least(2, next - i / 2 * 2),
                  most(0, x.begin - left), least(2, x.end - left),
                  out + (i - r) * step + (most(left, x.begin) - x.begin) * kConvLanes, step);
        }
    }
  }
};

}  // namespace
}  // namespace fastnn
