// One picture on its way through the program: its view, the scratch memory behind it, and the
// conversion that waits for its writing. All that is random about a transform is drawn here, and
// pixels are left to the engine, `Loops`. On a GPU every thread of a block keeps the state, by the
// same steps: it has no arrays, which would be in memory there.
#pragma once
#include "augment_colour.h"

namespace fastnn {
namespace {

constexpr int64_t kAugmentWork = 64;  // bytes for each row and column, and one more

template <class Loops>
struct State {
  Loops& loops;
  const AugmentArgs* args;
  int64_t sample;
  View view;
  int channels;
  char *free_picture, *work, *spare;  // scratch: where the next picture goes, and what is left
  bool converts = false;
  const float* conversion = nullptr;  // a factor for each channel, then what is added

  FASTNN_PART State(Loops& loops, const AugmentArgs& a, const void* x, bool is_float,
                    int64_t sample, char* scratch)
      : loops(loops), args(&a), sample(sample), channels(a.channels) {
    const ImageStrides& s = a.x_strides;
    view = {x, is_float, s.channel, s.row,    s.col,   a.height,       a.width, 0,
            0, 1,        1,         a.height, a.width, Pad::kConstant, nullptr};
    const int64_t sides = int64_t{a.max_height} + a.max_width;
    const int64_t picture = (a.scratch_bytes - kAugmentWork * (sides + 1)) / 2;
    free_picture = scratch;
    spare = scratch + picture;
    work = scratch + 2 * picture;
  }

  FASTNN_PART int64_t plane() const { return static_cast<int64_t>(view.rows) * view.cols; }

  // The picture is now the one at free_picture, of planes.
  FASTNN_PART void take(int rows, int cols, bool is_float) {
    const int64_t size = static_cast<int64_t>(rows) * cols;
    view = {free_picture, is_float, size,           cols,   1, rows, cols, 0, 0, 1, 1,
            rows,         cols,     Pad::kConstant, nullptr};
    char* other = spare;
    spare = free_picture;
    free_picture = other;
  }

  template <class S, class D>
  FASTNN_PART void write_to(D* y, ImageStrides to) {
    for (int c = 0; c < channels; ++c) {
      D* plane = y + c * to.channel;
      if constexpr (sizeof(D) == sizeof(float)) {
        if (converts || sizeof(S) != sizeof(D)) {
          const Affine1 f =
              converts ? Affine1{conversion[c], conversion[kAugmentChannels + c]} : Affine1{1, 0};
          loops.template write_channel<S>(view, c, plane, to, f);
          continue;
        }
      }
      if constexpr (sizeof(S) == sizeof(D))
        loops.template write_channel<S>(view, c, plane, to, Same{});
    }
  }

  // The pixels moved to scratch memory, converted if that waits.
  FASTNN_PART void materialize() {
    const ImageStrides to{0, plane(), view.cols, 1};
    const bool is_float = view.is_float || converts;
    if (view.is_float)
      write_to<float>(reinterpret_cast<float*>(free_picture), to);
    else if (converts)
      write_to<uint8_t>(reinterpret_cast<float*>(free_picture), to);
    else
      write_to<uint8_t>(reinterpret_cast<uint8_t*>(free_picture), to);
    take(view.rows, view.cols, is_float);
    converts = false;
  }

  FASTNN_PART void convert_later(const AugmentOp& op) {
    converts = true;
    conversion = op.v;
  }

  FASTNN_PART bool owned() const { return view.data == spare; }

  // f(pixels) of the type they have: what takes them goes by the type of its argument.
  template <class F>
  FASTNN_PART void typed(F f) {
    if (view.is_float)
      f(static_cast<float*>(const_cast<void*>(view.data)));
    else
      f(static_cast<uint8_t*>(const_cast<void*>(view.data)));
  }

  FASTNN_PART void write(int64_t row) {
    const ImageStrides& to = args->y_strides;
    if (view.is_float)
      write_to<float>(static_cast<float*>(args->y) + row * to.sample, to);
    else if (converts)
      write_to<uint8_t>(static_cast<float*>(args->y) + row * to.sample, to);
    else
      write_to<uint8_t>(static_cast<uint8_t*>(args->y) + row * to.sample, to);
  }
};

// ---- transforms that draw -----------------------------------------------------------------------

constexpr int kFixed = 1, kNearest = 1, kRaw = 4;  // flags
constexpr int kFill = 16;                          // where v has a value for each channel

// v: height, width, padding above, to the left, below, to the right, its kind; where the crop lies,
// if that is fixed.
FASTNN_PART Box draw_crop(const View& view, const AugmentOp& op, Words& words) {
  const float* v = op.v;
  const int height = static_cast<int>(v[0]), width = static_cast<int>(v[1]);
  const int above = static_cast<int>(v[2]), before = static_cast<int>(v[3]);
  const int rows = view.rows + above + static_cast<int>(v[4]);
  const int cols = view.cols + before + static_cast<int>(v[5]);
  const bool fixed = (op.flags & kFixed) != 0;
  const int top = fixed ? static_cast<int>(v[7]) : words.below(rows - height + 1);
  const int left = fixed ? static_cast<int>(v[8]) : words.below(cols - width + 1);
  return {top - above, left - before, height, width};
}
FASTNN_PART bool pads(const View& view, Box box) {
  return box.top < 0 || box.left < 0 || box.top + box.height > view.rows ||
         box.left + box.width > view.cols;
}
FASTNN_PART void crop(View& view, const AugmentOp& op, Words& words) {
  const Box box = draw_crop(view, op, words);
  if (pads(view, box)) {
    view.pad = static_cast<Pad>(static_cast<int>(op.v[6]));
    view.fill = op.v + kFill;
  }
  cut(view, box);
}

enum ResizeKind { kWhole, kRandomBox, kShortSide };

// v: height, width; of a random box: its share of the area and ratio of sides, from and to; of the
// short side: its length, from and to.
template <class Loops>
FASTNN_PART void resize_picture(State<Loops>& state, const AugmentOp& op, Words& words) {
  const int rows = state.view.rows, cols = state.view.cols;
  Box from{0, 0, rows, cols}, to{0, 0, static_cast<int>(op.v[0]), static_cast<int>(op.v[1])};
  int height = to.height, width = to.width;
  if (op.flags == kRandomBox) {
    from = random_box(words, op.v + 2, rows, cols, false);
    if (from.height == 0) {  // none fits: the largest in the middle with a ratio that is allowed
      const double ratio = static_cast<double>(cols) / rows;
      from = {0, 0, rows, cols};
      if (ratio < op.v[4]) from.height = round_half_up(cols / static_cast<double>(op.v[4]));
      if (ratio > op.v[5]) from.width = round_half_up(rows * static_cast<double>(op.v[5]));
      from.top = (rows - from.height) / 2;
      from.left = (cols - from.width) / 2;
    }
  } else if (op.flags == kShortSide) {
    const int low = static_cast<int>(op.v[2]), high = static_cast<int>(op.v[3]);
    const int side = low + words.below(high - low + 1), shorter = rows < cols ? rows : cols;
    height = static_cast<int>(int64_t{side} * rows / shorter);
    width = static_cast<int>(int64_t{side} * cols / shorter);
    to.top = words.below(height - to.height + 1);
    to.left = words.below(width - to.width + 1);
  }
  // A flipped picture is resized as it lies, and what comes out is flipped: nothing is moved.
  const bool mirrored = state.view.right < 0, upside_down = state.view.down < 0;
  if (mirrored) {
    flip_columns(state.view);
    from.left = cols - from.left - from.width;
    to.left = width - to.left - to.width;
  }
  if (upside_down) {
    flip_rows(state.view);
    from.top = rows - from.top - from.height;
    to.top = height - to.top - to.height;
  }
  char* work = state.work;
  const Taps down = triangle(state.loops, work, from.height, height, to.top, to.height);
  const Taps across = triangle(state.loops, work, from.width, width, to.left, to.width);
  state.typed([&]<class T>(T*) {
    state.loops.resize(state.view, state.channels, from, down, across, to,
                       reinterpret_cast<T*>(state.free_picture), work);
  });
  state.take(to.height, to.width, state.view.is_float);
  if (mirrored) flip_columns(state.view);
  if (upside_down) flip_rows(state.view);
}

// v: degrees; shares of the sides to translate by; scale; shear in x, in y; stretch: from and to;
// the centre, if it is not the middle. A rotation alone has a policy's value for its degrees.
FASTNN_PART Map draw_affine(const AugmentOp& op, Words& words, int height, int width) {
  const float* v = op.v;
  double angle, dx = 0, dy = 0, scale = 1, shear_x = 0, shear_y = 0, stretch = 1;
  double x = width * 0.5, y = height * 0.5;
  if (op.code == AugmentCode::kAffine) {
    angle = words.range(v[0], v[1]);
    dx = round_half_up(words.range(-v[2] * width, v[2] * width));
    dy = round_half_up(words.range(-v[3] * height, v[3] * height));
    scale = words.range(v[4], v[5]);
    shear_x = words.range(v[6], v[7]);
    shear_y = words.range(v[8], v[9]);
    stretch = words.range(v[10], v[11]);
    if (v[12] == v[12]) {
      x = static_cast<double>(v[12]);
      y = static_cast<double>(v[13]);
    }
  } else {
    angle = -draw_value(op, words);
  }
  return affine_map(angle, dx, dy, scale, stretch, shear_x, shear_y, x, y);
}

FASTNN_PART Map draw_warp(const AugmentOp& op, Words& words, int height, int width) {
  if (op.code == AugmentCode::kAffine || op.code == AugmentCode::kRotate)
    return draw_affine(op, words, height, width);
  const double value = draw_value(op, words), x = width * 0.5, y = height * 0.5;
  Map map{{1, 0, 0, 0, 1, 0}, 0, x, y, x * x + y * y};
  if (op.code == AugmentCode::kShearX) map.m[1] = value;
  if (op.code == AugmentCode::kShearY) map.m[3] = value;
  // As torchvision cuts them off: v[4] is 1 where values are shares of a side.
  if (op.code == AugmentCode::kTranslateX)
    map.m[2] = -static_cast<int>(value * (op.v[4] != 0 ? width : 1));
  if (op.code == AugmentCode::kTranslateY)
    map.m[5] = -static_cast<int>(value * (op.v[4] != 0 ? height : 1));
  if (op.code == AugmentCode::kLens) map.lens = value;
  return map;
}

template <class Loops>
FASTNN_PART void warp_picture(State<Loops>& state, const AugmentOp& op, Words& words) {
  const View& view = state.view;
  const Map map = draw_warp(op, words, view.rows, view.cols);
  state.typed([&]<class T>(T* x) {
    state.loops.warp(x, state.channels, view.rows, view.cols, map, (op.flags & kNearest) != 0,
                     op.v + kFill, reinterpret_cast<T*>(state.free_picture), state.work);
  });
  state.take(view.rows, view.cols, view.is_float);
}

// Sets a box to fill, or to noise.
template <class T, class Loops>
FASTNN_PART void erase(State<Loops>& state, T* x, const AugmentOp& op, Box box, const Words& words,
                       bool random) {
  const int width = state.view.cols;
  const float* fill = op.v + kFill;
  const int64_t plane = state.plane();
  const RngDraw draw = words.pixels();
  const uint64_t first_block = words.first_pixel_block();
  for (int channel = 0; channel < state.channels; ++channel)
    state.loops.lines(box.height, box.width, [=](int line, int column) {
      const int64_t at = channel * plane + int64_t{box.top + line} * width + box.left + column;
      if (!random) {
        x[at] = static_cast<T>(fill[channel]);
        return;
      }
      const PhiloxBlock block =
          philox(first_block + static_cast<uint64_t>(at / 4), draw.offset, draw.seed);
      const uint32_t word = word_of(block, at % 4);
      x[at] = sizeof(T) == 1 ? static_cast<T>(word >> 24) : static_cast<T>(standard_normal(word));
    });
}

// A random box (Zhong et al. 2017; v: share of the area, ratio of sides, from and to), or squares
// whose middle is anywhere (DeVries and Taylor 2017; v: how many, their side).
template <class Loops>
FASTNN_PART void erase_some(State<Loops>& state, const AugmentOp& op, Words& words) {
  const int rows = state.view.rows, cols = state.view.cols;
  const bool squares = op.code == AugmentCode::kCutout;
  const bool random = !squares && (op.flags & kFixed) != 0;
  const int boxes = squares ? static_cast<int>(op.v[0]) : 1, side = static_cast<int>(op.v[1]);
  FASTNN_ROLLED
  for (int i = 0; i < boxes; ++i) {
    Box box;
    if (squares) {
      const int top = words.below(rows) - side / 2, left = words.below(cols) - side / 2;
      const auto y0 = static_cast<int>(most(0, top)), x0 = static_cast<int>(most(0, left));
      box = {y0, x0, static_cast<int>(least(rows, top + side)) - y0,
             static_cast<int>(least(cols, left + side)) - x0};
    } else {
      box = random_box(words, op.v, rows, cols, true);
    }
    state.typed([&](auto* x) { erase(state, x, op, box, words, random); });
  }
}

}  // namespace
}  // namespace fastnn
