// A picture as it is seen: flips, crops and padding only change the view, and pixels move when a
// transform needs them side by side or when they are written out, converted on the way.
#pragma once
#include "augment_draw.h"

namespace fastnn {
namespace {

enum class Pad : int32_t { kConstant, kEdge, kReflect, kSymmetric };

// Position (r, c) of the view is pixel (top + r down, left + c right) of the picture behind it, or
// padding where there is none.
struct View {
  const void* data;
  bool is_float;
  int64_t channel, row, col;  // strides
  int height, width;          // of the picture behind
  int top, left, down, right;
  int rows, cols;
  Pad pad;
  const float* fill;  // of each channel; null without padding

  FASTNN_PART bool inside() const {
    const int last_row = top + (rows - 1) * down, last_col = left + (cols - 1) * right;
    return in_range(top, height) && in_range(last_row, height) && in_range(left, width) &&
           in_range(last_col, width);
  }
  // All of a picture of planes, maybe flipped: enough for what changes each pixel by itself.
  FASTNN_PART bool whole() const {
    return inside() && rows == height && cols == width && col == 1 && row == width &&
           channel == static_cast<int64_t>(height) * width;
  }
  // The same as it lies in memory: what other kernels work on.
  FASTNN_PART bool plain() const { return whole() && down == 1 && right == 1; }
};

FASTNN_PART void flip_columns(View& view) {
  view.left += (view.cols - 1) * view.right;
  view.right = -view.right;
}
FASTNN_PART void flip_rows(View& view) {
  view.top += (view.rows - 1) * view.down;
  view.down = -view.down;
}
FASTNN_PART void cut(View& view, Box box) {
  view.top += box.top * view.down;
  view.left += box.left * view.right;
  view.rows = box.height;
  view.cols = box.width;
}

// Where padding takes its pixel from; -1: nowhere.
FASTNN_PART int padded(int i, int n, Pad pad) {
  if (in_range(i, n)) return i;
  if (pad == Pad::kConstant) return -1;
  if (pad == Pad::kEdge) return i < 0 ? 0 : n - 1;
  const int period = pad == Pad::kReflect ? 2 * n - 2 : 2 * n;
  if (period <= 0) return 0;
  i %= period;
  i = i < 0 ? i + period : i;
  if (i < n) return i;
  return pad == Pad::kReflect ? period - i : period - 1 - i;
}

// What becomes of a pixel's value v in a channel.
struct Same {
  template <class S>
  FASTNN_FN S operator()(S v) const {
    return v;
  }
};
struct Affine1 {
  float scale, shift;
  template <class S>
  FASTNN_FN float operator()(S v) const {
    return mad(static_cast<float>(v), scale, shift);
  }
};

}  // namespace
}  // namespace fastnn
