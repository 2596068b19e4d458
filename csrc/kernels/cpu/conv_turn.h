// Images in the lanes: what is read of kConvLanes images is turned into one band, whose elements
// are vectors of them.
#pragma once
#include "conv_band.h"

namespace fastnn {
namespace {

// The images of a block, `apart` floats from one to the next.
struct ConvBlock {
  int64_t first, images, apart;
  ConvBlock(int64_t batch, int64_t block, int64_t apart)
      : first(block * kConvLanes), images(least(kConvLanes, batch - first)), apart(apart) {}
};

// Rows of n floats, `step` apart: to[i][l] = the float i of image l, rows of `to` being `to_step`
// apart, and floats of an image `col`. Lanes beyond the images are zero, and where `col` is less
// than kLanes the next float's are stored over them.
void turn_images(const float* from, const ConvBlock& block, int64_t rows, int64_t n, int64_t step,
                 float* to, int64_t to_step, int64_t col = kConvLanes) {
  for (int64_t first = 0; first < least(kConvLanes, col); first += kLanes) {
    typedef int32_t Mask __attribute__((vector_size(4 * kLanes)));
    const float* image[kLanes];
    Mask lane;
    FASTNN_UNROLL for (int l = 0; l < kLanes; ++l) {
      image[l] = from + least(first + l, block.images - 1) * block.apart;
      lane[l] = l;
    }
    const Mask is_image = lane < static_cast<int32_t>(block.images - first);
    float* row = to + first;
    for (int64_t r = 0, at = 0; r < rows; ++r, at += step, row += to_step) {
      for (int64_t i = 0; i < n && n >= 4; i += 4) {
        const int64_t begin = least(i, n - 4);  // the last four overlap those before
        Vec x[4];
        FASTNN_UNROLL for (int q = 0; q < 4; ++q) x[q] = load_quads(image + q, at + begin);
        transpose_quads(x, MakeIndices<kLanes>::Type{});
        FASTNN_UNROLL for (int q = 0; q < 4; ++q)
            store(row + (begin + q) * col, is_image ? x[q] : Vec{});
      }
      for (int64_t i = 0; i < n && n < 4; ++i)
        for (int64_t l = 0; l < kLanes; ++l)
          row[i * col + l] = first + l < block.images ? image[l][at + i] : 0;
    }
  }
}

// Calls turn(rows, cols, to, step) for the part of a plane that output rows [row, row + rows) read:
// what is outside is zero then, if it is not so already (`kept`: the band was of the same rows of
// other images). `g` is that of one image; rows of `to` are `step` floats.
template <class Turn>
FASTNN_INLINE void turn_inside(const ConvGrid& g, int64_t row, int64_t rows, float* band, bool kept,
                               const Turn& turn) {
  const int64_t length = g.w.length(g.w.out), height = g.h.length(rows);
  const int64_t top = row - g.h.pad, left = -int64_t{g.w.pad};
  const Inside y = inside(g.h, top, height), x = inside(g.w, left, length);
  const auto clear = [kept](float* floats, int64_t positions) {
    if (positions > 0 && !kept)
      __builtin_memset(floats, 0, sizeof(float) * static_cast<size_t>(positions * kConvLanes));
  };
  const int64_t n = x.end - x.begin, all = y.end - y.begin;
  if (n == 0 || all == 0) return clear(band, height * length);
  const int64_t before = y.begin * length + x.begin, end = before + (all - 1) * length + n;
  float* to = band + before * kConvLanes;
  // The padding: at the right of a row, then at the left of the next.
  clear(band, before);
  for (int64_t r = 0; r + 1 < all; ++r) clear(to + (r * length + n) * kConvLanes, length - n);
  clear(band + end * kConvLanes, height * length - end);
  turn(Inside{top + y.begin, top + y.end}, Inside{left + x.begin, left + x.end}, to,
       length * kConvLanes);
}

// That of one channel of a block.
void turn_channel(const ConvGrid& g, const ConvBlock& block, const float* plane, int64_t row,
                  int64_t rows, float* band, bool kept = false) {
  turn_inside(g, row, rows, band, kept, [&](Inside y, Inside x, float* to, int64_t step) {
    const float* from = plane + y.begin * g.w.in + x.begin;
    const int64_t n = x.end - x.begin, all = y.end - y.begin;
    if (n == g.w.in && n * kConvLanes == step)  // rows are one run
      return turn_images(from, block, 1, all * n, 0, to, 0);
    turn_images(from, block, all, n, g.w.in, to, step);
  });
}

}  // namespace
}  // namespace fastnn
