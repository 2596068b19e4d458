// The program of transforms, run for one picture: it is a view until a transform needs its pixels
// side by side, and what comes last (crops, flips, the conversion to float) happens while it is
// written out. Then batches mixed (mixup, CutMix). One text for all devices: see augment_state.h.
#pragma once
#include "augment_state.h"

namespace fastnn {
namespace {

// v: brightness, contrast, saturation, hue, from and to; flags: which of them, in random order.
template <class Loops>
FASTNN_PART void jitter(State<Loops>& state, const AugmentOp& op, Words& words) {
  const Order order(words, 4);
  const auto draw = [&](int i) { return static_cast<float>(words.range(op.v[i], op.v[i + 1])); };
  const float bright = draw(0), contrasted = draw(2), saturated = draw(4), turn = draw(6);
  Loops& loops = state.loops;
  const int channels = state.channels;
  const int64_t plane = state.plane();
  state.typed([&](auto* x) {
    FASTNN_ROLLED
    for (int i = 0; i < 4; ++i) {
      const int what = order[i];
      if (!(op.flags >> what & 1)) continue;
      if (what == 0) brightness(loops, x, channels * plane, bright);
      if (what == 1) contrast(loops, x, channels, plane, contrasted);
      if (what == 2) saturation(loops, x, channels, plane, saturated);
      if (what == 3) hue(loops, x, channels, plane, turn);
    }
  });
}

// Colours that are changed by one number.
template <class Loops>
FASTNN_PART void apply_value(State<Loops>& state, const AugmentOp& op, Words& words) {
  const double value = draw_value(op, words);
  const auto factor = static_cast<float>(value);
  const int64_t plane = state.plane(), n = state.channels * plane;
  Loops& loops = state.loops;
  state.typed([&]<class T>(T* x) {
    if (op.code == AugmentCode::kBrightness) brightness(loops, x, n, factor);
    if (op.code == AugmentCode::kContrast) contrast(loops, x, state.channels, plane, factor);
    if (op.code == AugmentCode::kSaturation) saturation(loops, x, state.channels, plane, factor);
    if (op.code == AugmentCode::kPosterize) posterize(loops, x, n, round_half_up(value));
    if (op.code == AugmentCode::kSolarize)
      solarize(loops, x, n, op.flags & kRaw ? factor : factor * (Grey<T>::kWhite / 255.f));
    if (op.code == AugmentCode::kSharpness)
      sharpness(loops, x, reinterpret_cast<T*>(state.free_picture), state.channels, state.view.rows,
                state.view.cols, factor);
  });
  if (op.code == AugmentCode::kSharpness)
    state.take(state.view.rows, state.view.cols, state.view.is_float);
}

template <class Loops>
FASTNN_PART void apply_colour(State<Loops>& state, const AugmentOp& op, Words& words) {
  const int64_t plane = state.plane(), n = state.channels * plane;
  Loops& loops = state.loops;
  const float* v = op.v;
  if (op.code == AugmentCode::kJitter) return jitter(state, op, words);
  if (op.code == AugmentCode::kNoise) {
    const auto sigma = static_cast<float>(words.range(v[1], v[2]));
    return state.typed([&](auto* x) { noise(loops, x, n, words, v[0], sigma, op.flags != 0); });
  }
  if (op.code == AugmentCode::kLighting) {
    const float a = v[0] * standard_normal(words.next()) * v[1];
    const float b = v[0] * standard_normal(words.next()) * v[2];
    const float c = v[0] * standard_normal(words.next()) * v[3];
    return state.typed([&](auto* x) { lighting(loops, x, plane, v + 4, a, b, c); });
  }
  const bool equal = op.code == AugmentCode::kEqualize;
  if (equal || op.code == AugmentCode::kAutocontrast)
    return state.typed([&](auto* x) {
      for (int channel = 0; channel < state.channels; ++channel, x += plane)
        equal ? equalize(loops, x, plane) : autocontrast(loops, x, plane);
    });
  if (op.code == AugmentCode::kInvert) return state.typed([&](auto* x) { invert(loops, x, n); });
  if (op.code == AugmentCode::kGrayscale)
    return state.typed([&](auto* x) { grayscale(loops, x, state.channels, plane); });
  apply_value(state, op, words);
}

constexpr bool is_warp(AugmentCode code) {
  return code >= AugmentCode::kAffine && code <= AugmentCode::kLens;
}

// Whether pixels have to be moved first: a view is what an operation can read, and the memory is
// the picture's own where it is written; a conversion does not wait for what works on pixels.
template <class Loops>
FASTNN_PART bool needs_pixels(const State<Loops>& state, const AugmentOp& op, Words words) {
  const View& view = state.view;
  if (op.code == AugmentCode::kFlip) return false;
  if (op.code == AugmentCode::kCrop) {
    const bool whole = view.rows == view.height && view.cols == view.width;
    return pads(view, draw_crop(view, op, words)) && (!whole || !view.inside() || state.converts);
  }
  if (state.converts) return true;
  if (op.code == AugmentCode::kConvert) return false;
  if (op.code == AugmentCode::kResize) return !view.inside() || view.col != 1;
  if (is_warp(op.code))
    return !view.plain() && (op.code == AugmentCode::kAffine || words.happens(op.p));
  // Colours take pixels in any order, but where neighbours or places matter.
  const bool in_order = op.code == AugmentCode::kNoise || op.code == AugmentCode::kSharpness ||
                        op.code >= AugmentCode::kErase;
  const bool fits = state.owned() && (in_order ? view.plain() : view.whole());
  return !fits && words.happens(op.p);
}

template <class Loops>
FASTNN_PART void apply(State<Loops>& state, const AugmentOp& op, Words& words) {
  if (needs_pixels(state, op, words)) state.materialize();
  View& view = state.view;
  if (op.code == AugmentCode::kCrop) return crop(view, op, words);
  if (op.code == AugmentCode::kResize) return resize_picture(state, op, words);
  if (op.code == AugmentCode::kConvert) return state.convert_later(op);
  if (op.code != AugmentCode::kAffine && !words.happens(op.p)) return;
  if (op.code == AugmentCode::kFlip) return op.flags ? flip_rows(view) : flip_columns(view);
  if (is_warp(op.code)) return warp_picture(state, op, words);
  if (op.code >= AugmentCode::kErase) return erase_some(state, op, words);
  apply_colour(state, op, words);
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
      apply(state, op, words);
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
