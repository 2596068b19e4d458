// The program of transforms, run for one picture: it is a view until a transform needs its pixels
// side by side, and what comes last (crops, flips, the conversion to float) happens while it is
// written out. Then batches mixed (mixup, CutMix). One text for all devices: see augment_state.h.
#pragma once
#include "augment_state.h"

namespace fastnn {
namespace {

// v: brightness, contrast, saturation, hue, from and to; flags: which of them, in random order.
template <class T, class Loops>
FASTNN_PART void jitter(Loops& loops, T* x, int channels, int64_t plane, const AugmentOp& op,
                        Words& words) {
  const Order order(words, 4);
  const auto draw = [&](int i) { return static_cast<float>(words.range(op.v[i], op.v[i + 1])); };
  const float bright = draw(0), contrasted = draw(2), saturated = draw(4), turn = draw(6);
  for (int i = 0; i < 4; ++i) {
    const int what = order[i];
    if (!(op.flags >> what & 1)) continue;
    if (what == 0) brightness(loops, x, channels * plane, bright);
    if (what == 1) contrast(loops, x, channels, plane, contrasted);
    if (what == 2) saturation(loops, x, channels, plane, saturated);
    if (what == 3) hue(loops, x, channels, plane, turn);
  }
}

// Colours that are changed by one number.
template <class T, class Loops>
FASTNN_PART void apply_value(State<Loops>& state, T* x, const AugmentOp& op, double value) {
  const int64_t plane = state.plane(), n = state.channels * plane;
  const auto factor = static_cast<float>(value);
  Loops& loops = state.loops;
  switch (op.code) {
    case AugmentCode::kBrightness:
      return brightness(loops, x, n, factor);
    case AugmentCode::kContrast:
      return contrast(loops, x, state.channels, plane, factor);
    case AugmentCode::kSaturation:
      return saturation(loops, x, state.channels, plane, factor);
    case AugmentCode::kPosterize:
      return posterize(loops, x, n, round_half_up(value));
    case AugmentCode::kSolarize:
      return solarize(loops, x, n, op.flags & kRaw ? factor : factor * (Grey<T>::kWhite / 255.f));
    default:
      break;
  }
  sharpness(loops, x, reinterpret_cast<T*>(state.free_picture), state.channels, state.view.rows,
            state.view.cols, factor);
  state.take(state.view.rows, state.view.cols, state.view.is_float);
}

template <class Loops>
FASTNN_PART void apply_view(State<Loops>& state, const AugmentOp& op, Words& words) {
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

template <class T, class Loops>
FASTNN_PART void apply_geometry(State<Loops>& state, const AugmentOp& op, Words& words) {
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

template <class T, class Loops>
FASTNN_PART void apply_colour(State<Loops>& state, const AugmentOp& op, Words& words) {
  if (!words.happens(op.p)) return;
  const bool in_order = op.code == AugmentCode::kNoise || op.code == AugmentCode::kSharpness;
  T* x = in_order ? state.template pixels<T>() : state.template loose_pixels<T>();
  const int64_t plane = state.plane(), n = state.channels * plane;
  switch (op.code) {
    case AugmentCode::kNoise:
      return noise(state.loops, x, n, words, op.v[0],
                   static_cast<float>(words.range(op.v[1], op.v[2])), op.flags != 0);
    case AugmentCode::kJitter:
      return jitter(state.loops, x, state.channels, plane, op, words);
    case AugmentCode::kLighting:
      return lighting(state.loops, x, plane, words, op.v);
    case AugmentCode::kAutocontrast:
      for (int c = 0; c < state.channels; ++c) autocontrast(state.loops, x + c * plane, plane);
      return;
    case AugmentCode::kEqualize:
      for (int c = 0; c < state.channels; ++c) equalize(state.loops, x + c * plane, plane);
      return;
    case AugmentCode::kInvert:
      return invert(state.loops, x, n);
    case AugmentCode::kGrayscale:
      return grayscale(state.loops, x, state.channels, plane);
    default:
      return apply_value<T>(state, x, op, draw_value(op, words));
  }
}

template <class T, class Loops>
FASTNN_PART void apply(State<Loops>& state, const AugmentOp& op, Words& words) {
  if (op.code <= AugmentCode::kConvert && op.code != AugmentCode::kResize)
    apply_view(state, op, words);
  else if (op.code <= AugmentCode::kLens || op.code >= AugmentCode::kErase)
    apply_geometry<T>(state, op, words);
  else
    apply_colour<T>(state, op, words);
}

// The whole program. What leads to others is a jump: an alternative ends in an identity that jumps
// to the end of all of them, by `span` places. Those in random order each end in a kNext, which
// leads to the one after it: the order is drawn again rather than kept, so that orders may nest.
template <class Loops>
FASTNN_PART void run(State<Loops>& state) {
  for (int at = 0; at < state.args->count; ++at) {
    const AugmentOp& op = state.args->ops[at];
    Words words(*state.args->draw, state.sample, at);
    if (op.code == AugmentCode::kIdentity) {
      at += op.span;
    } else if (op.code == AugmentCode::kMaybe) {
      at += words.happens(op.p) ? 0 : op.span;
    } else if (op.code == AugmentCode::kChoose) {
      at += words.below(op.flags) * op.span;
    } else if (op.code == AugmentCode::kOrder) {
      at += Order(words, op.flags)[0] * op.span;
    } else if (op.code == AugmentCode::kNext) {
      at -= op.span;
      const AugmentOp& all = state.args->ops[at];
      Words its_words(*state.args->draw, state.sample, at);
      at += Order(its_words, all.flags).after(op.flags) * all.span;
    } else {
      if (op.code > AugmentCode::kConvert || op.code == AugmentCode::kResize) state.settle();
      state.view.is_float ? apply<float>(state, op, words) : apply<uint8_t>(state, op, words);
    }
  }
}

// y[i], from a picture to a picture.
template <class Loops>
FASTNN_PART void augment_one(Loops& loops, const AugmentArgs& args, bool is_float, int64_t i,
                             char* scratch) {
  const int64_t sample = args.index[*args.cursor + i], from = args.in_place ? i : sample;
  const int64_t size = is_float ? sizeof(float) : 1;
  const char* x = static_cast<const char*>(args.x) + from * args.x_strides.sample * size;
  State<Loops> state(loops, args, x, is_float, sample, scratch);
  run(state);
  state.write(i);
}

// ---- batches mixed ------------------------------------------------------------------------------

// CutMix (Yun et al. 2019): a box of x_j in x_i. Its middle is anywhere, so the picture's border
// cuts it, and l is what is left of x_i by the count of pixels: returns that.
template <class T, class Loops>
FASTNN_PART float cut_mix(Loops& loops, const T* other, T* y, const MixArgs& args, Words& words,
                          float share) {
  const int row = words.below(args.height), column = words.below(args.width);
  const double half = 0.5 * square_root(1 - static_cast<double>(share));
  const int tall = static_cast<int>(half * args.height), wide = static_cast<int>(half * args.width);
  const auto top = static_cast<int>(most(0, row - tall)),
             bottom = static_cast<int>(least(args.height, row + tall)),
             left = static_cast<int>(most(0, column - wide)),
             right = static_cast<int>(least(args.width, column + wide));
  const ImageStrides strides = args.strides;
  for (int64_t channel = 0; channel < args.channels; ++channel)
    loops.lines(bottom - top, right - left, [=](int r, int c) {
      const int64_t at =
          channel * strides.channel + (top + r) * strides.row + (left + c) * strides.col;
      y[at] = other[at];
    });
  const int64_t plane = static_cast<int64_t>(args.height) * args.width;
  return static_cast<float>(1 - static_cast<double>((bottom - top) * (right - left)) /
                                    static_cast<double>(plane));
}

// mixup (Zhang et al. 2018): y = l x_i + (1 - l) x_j, l ~ Beta(alpha, alpha). Returns l.
template <class T, class Loops>
FASTNN_PART float mix_sample(Loops& loops, const MixArgs& args, const T* x, const T* other, T* y,
                             Words& words) {
  const int64_t n = args.strides.sample;
  const bool happens = words.happens(args.p), cuts = args.code == MixCode::kCutMix;
  const float share = happens ? beta_draw(words, args.alpha) : 1.f;
  if constexpr (sizeof(T) == sizeof(float)) {
    if (!cuts) {
      loops.each(n, [=](int64_t i) { y[i] = mad(share, x[i] - other[i], other[i]); });
      return share;
    }
  }
  loops.each(n, [=](int64_t i) { y[i] = x[i]; });
  return happens && cuts ? cut_mix(loops, other, y, args, words, share) : share;
}

// Sample i with the one before it: pixels and labels. Reports its own label only.
template <class T, class Loops>
FASTNN_PART void mix_one(Loops& loops, const MixArgs& args, int64_t i) {
  constexpr int kSlot = 255;  // after every transform of a program
  const int64_t j = i == 0 ? args.rows - 1 : i - 1, n = args.strides.sample;
  float* shares = args.shares + i * args.classes;
  loops.each(args.classes, [=](int64_t c) { shares[c] = 0; });
  const int64_t own = args.labels[i], others = args.labels[j];
  if (!in_range(own, args.classes) || !in_range(others, args.classes)) {
    if (!in_range(own, args.classes))
      loops.once([&] { loops.report(args.status, args.site, i, DataError::kLabelOutOfRange); });
    return;
  }
  const auto* x = static_cast<const T*>(args.x);
  Words words(*args.draw, args.index[*args.cursor + i], kSlot);
  const float share =
      mix_sample(loops, args, x + i * n, x + j * n, static_cast<T*>(args.y) + i * n, words);
  loops.once([=] {
    shares[own] += share;
    shares[others] += 1 - share;
  });
}

}  // namespace
}  // namespace fastnn
