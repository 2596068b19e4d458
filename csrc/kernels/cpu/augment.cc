// The program of transforms, run for one picture after the other: a picture is a view until a
// transform needs its pixels side by side, and what comes last (crops, flips, the conversion to
// float) happens while it is written out. Then batches mixed (mixup, CutMix).
#include "../families/augment.h"

#include "augment_state.h"
#include "table.h"

namespace fastnn {
namespace {

int run(State& state, int begin, int end);

// A transform that leads to others; returns how many places it takes.
int branch(State& state, const AugmentOp& op, Words& words, int at) {
  if (op.code == AugmentCode::kMaybe) {
    if (words.happens(op.p)) run(state, at + 1, at + 1 + op.span);
    return 1 + op.span;
  }
  const int from = at + 1 + words.below(op.flags) * op.span;
  run(state, from, from + op.span);
  return 1 + op.flags * op.span;
}

void apply_view(State& state, const AugmentOp& op, Words& words) {
  switch (op.code) {
    case AugmentCode::kFlip:
      if (!words.happens(op.p)) return;
      return op.flags ? flip_rows(state.view) : flip_columns(state.view);
    case AugmentCode::kCrop:
      return crop(state, op, words);
    case AugmentCode::kConvert:
      return state.convert_later(op);
    default:
      return;
  }
}

template <class T>
void apply_geometry(State& state, const AugmentOp& op, Words& words) {
  const View& view = state.view;
  if (op.code == AugmentCode::kResize) return resize_picture<T>(state, op, words);
  if (op.code == AugmentCode::kErase || op.code == AugmentCode::kCutout)
    return erase_some<T>(state, op, words);
  const bool is_affine = op.code == AugmentCode::kAffine;
  if (!is_affine && !words.happens(op.p)) return;
  const Map map = is_affine ? draw_affine(op, words, view.rows, view.cols)
                            : draw_warp(op, words, view.rows, view.cols);
  warp_picture<T>(state, op, map);
}

template <class T>
void apply_colour(State& state, const AugmentOp& op, Words& words) {
  if (!words.happens(op.p)) return;
  T* x = state.pixels<T>();
  const int64_t plane = state.plane(), n = state.channels * plane;
  switch (op.code) {
    case AugmentCode::kNoise:
      return noise(x, n, words, op.v[0], static_cast<float>(words.range(op.v[1], op.v[2])),
                   op.flags != 0);
    case AugmentCode::kJitter:
      return jitter(x, state.channels, plane, op, words);
    case AugmentCode::kLighting:
      return lighting(x, plane, words, op.v);
    case AugmentCode::kAutocontrast:
      for (int c = 0; c < state.channels; ++c) autocontrast(x + c * plane, plane);
      return;
    case AugmentCode::kEqualize:
      for (int c = 0; c < state.channels; ++c) equalize(x + c * plane, plane);
      return;
    case AugmentCode::kInvert:
      return invert(x, n);
    case AugmentCode::kGrayscale:
      return grayscale(x, state.channels, plane);
    default:
      return apply_value<T>(state, x, op, draw_value(op, words));
  }
}

template <class T>
void apply(State& state, const AugmentOp& op, Words& words) {
  if (op.code <= AugmentCode::kConvert && op.code != AugmentCode::kResize)
    apply_view(state, op, words);
  else if (op.code <= AugmentCode::kLens || op.code >= AugmentCode::kErase)
    apply_geometry<T>(state, op, words);
  else
    apply_colour<T>(state, op, words);
}

int run(State& state, int begin, int end) {
  for (int at = begin; at < end;) {
    const AugmentOp& op = state.args->ops[at];
    Words words(*state.args->draw, state.sample, at);
    if (op.code == AugmentCode::kChoose || op.code == AugmentCode::kMaybe) {
      at += branch(state, op, words, at);
      continue;
    }
    if (op.code > AugmentCode::kConvert || op.code == AugmentCode::kResize) state.settle();
    state.view.is_float ? apply<float>(state, op, words) : apply<uint8_t>(state, op, words);
    ++at;
  }
  return end;
}

template <class T>
void augment(const AugmentArgs& args, Slice s) {
  const int64_t tasks = least(args.rows, kAugmentTasks), each = ceil_div(args.rows, tasks);
  for (int64_t task = s.begin; task < s.end; ++task) {
    const int64_t end = least((task + 1) * each, args.rows);
    for (int64_t i = task * each; i < end; ++i) {
      const int64_t sample = args.index[*args.cursor + i], from = args.in_place ? i : sample;
      State state(args, static_cast<const T*>(args.x) + from * args.x_strides.sample,
                  sizeof(T) == sizeof(float), sample, args.scratch + task * args.scratch_bytes);
      run(state, 0, args.count);
      state.write(i);
    }
  }
}

// ---- batches mixed ------------------------------------------------------------------------------

// mixup (Zhang et al. 2018): y = l x_i + (1 - l) x_j, l ~ Beta(alpha, alpha).
void mix_up(const float* x, const float* other, float* y, int64_t n, float share) {
#pragma GCC ivdep
  for (int64_t i = 0; i < n; ++i) y[i] = mad(share, x[i] - other[i], other[i]);
}

// CutMix (Yun et al. 2019): a box of x_j in x_i. Its middle is anywhere, so the picture's border
// cuts it, and l is what is left of x_i by the count of pixels: returns that.
template <class T>
float cut_mix(const T* x, const T* other, T* y, const MixArgs& args, Words& words, float share) {
  const int64_t n = static_cast<int64_t>(args.channels) * args.height * args.width;
  __builtin_memcpy(y, x, static_cast<uint64_t>(n) * sizeof(T));
  const int row = words.below(args.height), column = words.below(args.width);
  const double half = 0.5 * square_root(1 - static_cast<double>(share));
  const int tall = static_cast<int>(half * args.height), wide = static_cast<int>(half * args.width);
  const auto top = most(0, row - tall), bottom = least(args.height, row + tall);
  const auto left = most(0, column - wide), right = least(args.width, column + wide);
  for (int64_t channel = 0; channel < args.channels; ++channel)
    for (int64_t r = top; r < bottom; ++r)
      for (int64_t c = left; c < right; ++c) {
        const int64_t at =
            channel * args.strides.channel + r * args.strides.row + c * args.strides.col;
        y[at] = other[at];
      }
  const int64_t plane = static_cast<int64_t>(args.height) * args.width;
  return static_cast<float>(1 - static_cast<double>((bottom - top) * (right - left)) /
                                    static_cast<double>(plane));
}

template <class T>
float mix_sample(const MixArgs& args, const T* x, const T* other, T* y, Words& words) {
  const int64_t n = args.strides.sample;
  const bool happens = words.happens(args.p);
  const float share = happens ? beta_draw(words, args.alpha) : 1.f;
  if (args.code == MixCode::kCutMix && happens) return cut_mix(x, other, y, args, words, share);
  if constexpr (sizeof(T) == sizeof(float)) {
    mix_up(x, other, y, n, share);
  } else {
    __builtin_memcpy(y, x, static_cast<uint64_t>(n) * sizeof(T));
  }
  return share;
}

template <class T>
void mix(const MixArgs& args, Slice s) {
  constexpr int kSlot = 255;  // after every transform of a program
  for (int64_t i = s.begin; i < s.end; ++i) {
    const int64_t j = i == 0 ? args.rows - 1 : i - 1, n = args.strides.sample;
    float* shares = args.shares + i * args.classes;
    for (int64_t c = 0; c < args.classes; ++c) shares[c] = 0;
    const int64_t own = args.labels[i], others = args.labels[j];
    if (!in_range(own, args.classes) || !in_range(others, args.classes)) {
      if (!in_range(own, args.classes))
        report(args.status, args.site, i, DataError::kLabelOutOfRange);
      continue;
    }
    const auto* x = static_cast<const T*>(args.x);
    Words words(*args.draw, args.index[*args.cursor + i], kSlot);
    const float share =
        mix_sample(args, x + i * n, x + j * n, static_cast<T*>(args.y) + i * n, words);
    shares[own] += share;
    shares[others] += 1 - share;
  }
}

template <class T>
constexpr AugmentKernels kernels() {
  return {
      .augment = augment<T>,
      .mix = mix<T>,
  };
}

}  // namespace

template <>
constinit const AugmentKernels FASTNN_LEVEL::Table<AugmentKernels>::of_dtype[kNumTableDTypes] = {
    kernels<float>(), {}, {}, kernels<uint8_t>()};

}  // namespace fastnn
