// Colours of a plain picture (planes of pixels), changed in place. uint8 follows Pillow to the grey
// level: a result is cut off, not rounded, after every step. float32 runs from 0 to 1. How pixels
// are gone over is the engine's, `loops`: cpu/augment_loops.h or cuda/augment_loops.cuh.
#pragma once
#include "augment_geometry.h"

namespace fastnn {
namespace {

// The luminance of ITU-R 601; for uint8 Pillow's integers, which are below 2^24 and exact in
// floats.
FASTNN_FN uint8_t luminance(uint8_t r, uint8_t g, uint8_t b) {
  const float sum =
      mad(19595.f, static_cast<float>(r),
          mad(38470.f, static_cast<float>(g), mad(7471.f, static_cast<float>(b), 32768.f)));
  return static_cast<uint8_t>(static_cast<int32_t>(sum * 0x1p-16f));
}
FASTNN_FN float luminance(float r, float g, float b) {
  return mad(0.299f, r, mad(0.587f, g, 0.114f * b));
}

// from + factor (x - from): nearer to `from` below 1, further away above.
template <class T>
FASTNN_FN T blend(float from, T x, float factor) {
  return Grey<T>::clipped(mad(factor, static_cast<float>(x) - from, from));
}

template <class T, class Loops>
FASTNN_PART void brightness(Loops& loops, T* x, int64_t n, float factor) {
  loops.each(n, [=](int64_t i) { x[i] = blend(0.f, x[i], factor); });
}

// The mean of the luminance: for uint8 rounded, as Pillow does.
template <class T, class Loops>
FASTNN_PART float mean_luminance(Loops& loops, const T* x, int channels, int64_t plane) {
  const bool grey = channels != 3;
  const auto sum = loops.sum(plane, [=](int64_t i) -> T {
    return grey ? x[i] : luminance(x[i], x[plane + i], x[2 * plane + i]);
  });
  const double mean = static_cast<double>(sum) / static_cast<double>(plane);
  return sizeof(T) == 1 ? static_cast<float>(static_cast<int>(mean + 0.5))
                        : static_cast<float>(mean);
}

template <class T, class Loops>
FASTNN_PART void contrast(Loops& loops, T* x, int channels, int64_t plane, float factor) {
  const float mean = mean_luminance(loops, x, channels, plane);
  loops.each(channels * plane, [=](int64_t i) { x[i] = blend(mean, x[i], factor); });
}

template <class T, class Loops>
FASTNN_PART void saturation(Loops& loops, T* r, int channels, int64_t plane, float factor) {
  if (channels != 3) return;
  T *g = r + plane, *b = g + plane;
  loops.each(plane, [=](int64_t i) {
    const auto grey = static_cast<float>(luminance(r[i], g[i], b[i]));
    r[i] = blend(grey, r[i], factor);
    g[i] = blend(grey, g[i], factor);
    b[i] = blend(grey, b[i], factor);
  });
}

// h - 6 floor(h / 6), for -6 <= h < 12.
FASTNN_FN float wrap_hue(float h) {
  h = h < 0.f ? h + 6.f : h;
  return h >= 6.f ? h - 6.f : h;
}
// 1 on the third of the circle around a colour, 0 opposite, linear between.
FASTNN_FN float hue_ramp(float k) { return at_least(at_most(at_most(k, 4.f - k), 1.f), 0.f); }

// Turns the hue by a share of the circle (Smith 1978, "Color gamut transform pairs").
template <class T, class Loops>
FASTNN_PART void hue(Loops& loops, T* r, int channels, int64_t plane, float turn) {
  if (channels != 3) return;
  T *g = r + plane, *b = g + plane;
  const float by = wrap_hue(mad(6.f, turn, 0.f));
  loops.each(plane, [=](int64_t i) {
    const auto red = static_cast<float>(r[i]), green = static_cast<float>(g[i]),
               blue = static_cast<float>(b[i]);
    const float value = at_least(at_least(red, green), blue),
                least_one = at_most(at_most(red, green), blue);
    const float chroma = value - least_one, inverse = 1.f / (chroma > 0.f ? chroma : 1.f);
    const float from_green = mad(blue - red, inverse, 2.f),
                from_blue = mad(red - green, inverse, 4.f),
                from_red = mad(green - blue, inverse, 0.f);
    const float h = value == red ? from_red : value == green ? from_green : from_blue;
    const float turned = wrap_hue(wrap_hue(h) + by);
    r[i] = Grey<T>::nearest(mad(-chroma, hue_ramp(wrap_hue(5.f + turned)), value));
    g[i] = Grey<T>::nearest(mad(-chroma, hue_ramp(wrap_hue(3.f + turned)), value));
    b[i] = Grey<T>::nearest(mad(-chroma, hue_ramp(wrap_hue(1.f + turned)), value));
  });
}

template <class T, class Loops>
FASTNN_PART void grayscale(Loops& loops, T* r, int channels, int64_t plane) {
  if (channels != 3) return;
  loops.each(plane, [=](int64_t i) {
    r[i] = r[plane + i] = r[2 * plane + i] = luminance(r[i], r[plane + i], r[2 * plane + i]);
  });
}

template <class T, class Loops>
FASTNN_PART void invert(Loops& loops, T* x, int64_t n) {
  loops.each(n,
             [=](int64_t i) { x[i] = static_cast<T>(Grey<T>::kWhite - static_cast<float>(x[i])); });
}

template <class T, class Loops>
FASTNN_PART void solarize(Loops& loops, T* x, int64_t n, float threshold) {
  loops.each(n, [=](int64_t i) {
    const auto v = static_cast<float>(x[i]);
    x[i] = static_cast<T>(v >= threshold ? Grey<T>::kWhite - v : v);
  });
}

template <class Loops>
FASTNN_PART void posterize(Loops& loops, uint8_t* x, int64_t n, int bits) {
  const auto mask = static_cast<uint8_t>(0xff << (8 - bits));
  loops.each(n, [=](int64_t i) { x[i] &= mask; });
}
template <class Loops>
FASTNN_PART void posterize(Loops& loops, float* x, int64_t n, int bits) {
  const auto levels = static_cast<float>(1 << bits);
  loops.each(n, [=](int64_t i) {
    const float level = static_cast<float>(static_cast<int32_t>(at_least(x[i], 0.f) * levels));
    x[i] = at_most(level, levels - 1.f) / levels;
  });
}

// y = the picture blended with its mean over 3 x 3 pixels, the middle counted 5 times; the border
// stays. y is another picture.
template <class T, class Loops>
FASTNN_PART void sharpness(Loops& loops, const T* x, T* y, int channels, int height, int width,
                           float factor) {
  const int64_t plane = static_cast<int64_t>(height) * width;
  const int64_t last_row = plane - width, last = width - 1;
  loops.lines(channels, width, [=](int channel, int c) {
    const int64_t at = channel * plane + c;
    y[at] = x[at];
    y[at + last_row] = x[at + last_row];
  });
  loops.each(static_cast<int64_t>(channels) * height, [=](int64_t line) {
    y[line * width] = x[line * width];
    y[line * width + last] = x[line * width + last];
  });
  if (height < 3 || width < 3) return;
  loops.lines(channels * (height - 2), width - 2, [=](int line, int column) {
    const int channel = line / (height - 2), r = line % (height - 2) + 1, c = column + 1;
    const int64_t row = channel * plane + static_cast<int64_t>(r) * width;
    const T *at = x + row, *above = at - width, *below = at + width;
    const auto v = [](T pixel) { return static_cast<float>(pixel); };
    const float ring = v(above[c - 1]) + v(above[c]) + v(above[c + 1]) + v(at[c - 1]) +
                       v(at[c + 1]) + v(below[c - 1]) + v(below[c]) + v(below[c + 1]);
    const T smooth = Grey<T>::nearest(mad(5.f, v(at[c]), ring) / 13.f);
    y[row + c] = blend(static_cast<float>(smooth), at[c], factor);
  });
}

// ---- tables of a channel ------------------------------------------------------------------------

FASTNN_FN uint8_t level(uint8_t x) { return x; }
FASTNN_FN uint8_t level(float x) { return Grey<uint8_t>::nearest(255.f * x); }

// Equal steps of the histogram become equal steps of grey, as in Pillow (ImageOps.equalize).
template <class T, class Loops>
FASTNN_PART void equalize(Loops& loops, T* x, int64_t n) {
  const int32_t* below = loops.histogram(n, [=](int64_t i) { return level(x[i]); });
  int last = 0, used = 0;
  for (int v = 0; v < 256; ++v) {
    const bool is_used = below[v + 1] > below[v];
    last = is_used ? v : last;
    used += is_used;
  }
  const int64_t step = below[last] / 255;  // without those of the last level
  if (used <= 1 || step == 0) return;
  T* table = loops.template table<T>();
  loops.each(256, [=](int64_t v) {
    const auto grey = static_cast<float>(least((step / 2 + below[v]) / step, 255));
    table[v] = static_cast<T>(grey * (Grey<T>::kWhite / 255.f));
  });
  loops.look_up(n, x, table, [](T v) { return level(v); });
}

// Stretches what is there to all of black to white, as in Pillow (ImageOps.autocontrast).
template <class T, class Loops>
FASTNN_PART void autocontrast(Loops& loops, T* x, int64_t n) {
  const auto v = [=](int64_t i) { return static_cast<float>(x[i]); };
  const float low =
      loops.extreme(n, Grey<T>::kWhite, v, [](float a, float b) { return at_most(a, b); });
  const float high = loops.extreme(n, 0.f, v, [](float a, float b) { return at_least(a, b); });
  if (!(high > low)) return;
  const double scale = static_cast<double>(Grey<T>::kWhite) / (high - low);
  if constexpr (sizeof(T) == 1) {
    T* table = loops.template table<T>();
    const double shift = -(low * scale);
    loops.each(256, [=](int64_t grey) {
      table[grey] =
          Grey<T>::clipped(static_cast<float>(mad(static_cast<double>(grey), scale, shift)));
    });
    loops.look_up(n, x, table, [](T v) { return v; });
  } else {
    const auto factor = static_cast<float>(scale);
    loops.each(n, [=](int64_t i) { x[i] = Grey<T>::clipped((x[i] - low) * factor); });
  }
}

// ---- noise --------------------------------------------------------------------------------------

template <class T, class Loops>
FASTNN_PART void noise(Loops& loops, T* x, int64_t n, const Words& words, float mean, float sigma,
                       bool clip) {
  const float scale = Grey<T>::kWhite;
  loops.pixels(n, words, [=](int64_t i, uint32_t word) {
    const float v = mad(scale, mad(sigma, standard_normal(word), mean), static_cast<float>(x[i]));
    x[i] = Grey<T>::nearest(clip ? at_most(at_least(v, 0.f), scale) : v);
  });
}

// Adds sum_k p_k a_k l_k to every pixel, p and l the principal components of all pixels and their
// variances, a ~ N(0, sd) (Krizhevsky et al. 2012): a, b and c are a_k l_k, and the components are
// 3 x 3, by row.
template <class T, class Loops>
FASTNN_PART void lighting(Loops& loops, T* x, int64_t plane, const float* components, float a,
                          float b, float c) {
  for (int channel = 0; channel < 3; ++channel, x += plane) {
    const float* p = components + 3 * channel;
    const float sum = mad(p[0], a, mad(p[1], b, p[2] * c));
    const float add = mad(Grey<T>::kWhite, sum, 0.f);
    loops.each(plane, [=](int64_t i) {
      x[i] =
          Grey<T>::nearest(at_most(at_least(static_cast<float>(x[i]) + add, 0.f), Grey<T>::kWhite));
    });
  }
}

}  // namespace
}  // namespace fastnn
