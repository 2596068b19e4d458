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
  float fill[kAugmentChannels];

  bool inside() const {
    const int last_row = top + (rows - 1) * down, last_col = left + (cols - 1) * right;
    return in_range(top, height) && in_range(last_row, height) && in_range(left, width) &&
           in_range(last_col, width);
  }
  // All of a picture of planes: what kernels work on.
  bool plain() const {
    return col == 1 && down == 1 && right == 1 && top == 0 && left == 0 && rows == height &&
           cols == width && row == width && channel == static_cast<int64_t>(height) * width;
  }
};

inline void flip_columns(View& view) {
  view.left += (view.cols - 1) * view.right;
  view.right = -view.right;
}
inline void flip_rows(View& view) {
  view.top += (view.rows - 1) * view.down;
  view.down = -view.down;
}
inline void cut(View& view, Box box) {
  view.top += box.top * view.down;
  view.left += box.left * view.right;
  view.rows = box.height;
  view.cols = box.width;
}

// Where padding takes its pixel from; -1: nowhere.
inline int padded(int i, int n, Pad pad) {
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

template <class S, class D, class F>
FASTNN_FN void copy_pixels(const S* x, int64_t x_step, D* y, int64_t y_step, int n, F f) {
  if (y_step == 1 && x_step == 1) {
#pragma GCC ivdep
    for (int i = 0; i < n; ++i) y[i] = f(x[i]);
  } else if (y_step == 1 && x_step == -1) {
#pragma GCC ivdep
    for (int i = 0; i < n; ++i) y[i] = f(x[-i]);
  } else {
    for (int i = 0; i < n; ++i) y[i * y_step] = f(x[i * x_step]);
  }
}

// Writes one channel of a view.
template <class S, class D, class F>
inline void write_channel(const View& view, int channel, D* y, ImageStrides to, F f) {
  const S* plane = static_cast<const S*>(view.data) + channel * view.channel;
  // Columns [begin, end) of the view lie inside the picture.
  const int first = view.right > 0 ? -view.left : view.left - view.width + 1;
  const int begin = static_cast<int>(most(0, least(first, view.cols)));
  const int end = static_cast<int>(most(begin, least(int64_t{first} + view.width, view.cols)));
  const D fill = f(static_cast<S>(view.fill[channel]));
  for (int r = 0; r < view.rows; ++r) {
    const int from = padded(view.top + r * view.down, view.height, view.pad);
    D* line = y + r * to.row;
    if (from < 0) {
      for (int c = 0; c < view.cols; ++c) line[c * to.col] = fill;
      continue;
    }
    const S* x = plane + from * view.row;
    const auto edge = [&](int c) {
      const int at = padded(view.left + c * view.right, view.width, view.pad);
      line[c * to.col] = at < 0 ? fill : f(x[at * view.col]);
    };
    for (int c = 0; c < begin; ++c) edge(c);
    copy_pixels(x + (view.left + begin * view.right) * view.col, view.right * view.col,
                line + begin * to.col, to.col, end - begin, f);
    for (int c = end; c < view.cols; ++c) edge(c);
  }
}

}  // namespace
}  // namespace fastnn
