// Colours of a plain picture (planes of pixels), changed in place. uint8 follows Pillow to the grey
// level: a result is cut off, not rounded, after every step. float32 runs from 0 to 1.
#pragma once
#include "augment_geometry.h"
#include "philox_batch.h"

namespace fastnn {
namespace {

// The luminance of ITU-R 601; for uint8 in Pillow's integers.
FASTNN_FN uint8_t luminance(uint8_t r, uint8_t g, uint8_t b) {
  return static_cast<uint8_t>((r * 19595 + g * 38470 + b * 7471 + 0x8000) >> 16);
}
FASTNN_FN float luminance(float r, float g, float b) {
  return mad(0.299f, r, mad(0.587f, g, 0.114f * b));
}

// from + factor (x - from): nearer to `from` below 1, further away above.
template <class T>
FASTNN_FN T blend(float from, T x, float factor) {
  return Grey<T>::clipped(mad(factor, static_cast<float>(x) - from, from));
}

template <class T>
inline void brightness(T* x, int64_t n, float factor) {
#pragma GCC ivdep
  for (int64_t i = 0; i < n; ++i) x[i] = blend(0.f, x[i], factor);
}

// The mean of the luminance: for uint8 rounded, as Pillow does.
inline float mean_luminance(const uint8_t* x, int channels, int64_t plane) {
  int64_t sum = 0;
  if (channels == 3) {
    for (int64_t i = 0; i < plane; ++i) sum += luminance(x[i], x[plane + i], x[2 * plane + i]);
  } else {
    for (int64_t i = 0; i < plane; ++i) sum += x[i];
  }
  return static_cast<float>(
      static_cast<int>(static_cast<double>(sum) / static_cast<double>(plane) + 0.5));
}
inline float mean_luminance(const float* x, int channels, int64_t plane) {
  double acc[kBlockLanes] = {};
  for_blocks(plane, [&](int64_t i, int lanes) __attribute__((always_inline)) {
    for (int l = 0; l < lanes; ++l)
      acc[l] += static_cast<double>(
          channels == 3 ? luminance(x[i + l], x[plane + i + l], x[2 * plane + i + l]) : x[i + l]);
  });
  return static_cast<float>(combine(acc) / static_cast<double>(plane));
}

template <class T>
inline void contrast(T* x, int channels, int64_t plane, float factor) {
  const float mean = mean_luminance(x, channels, plane);
  const int64_t n = channels * plane;
#pragma GCC ivdep
  for (int64_t i = 0; i < n; ++i) x[i] = blend(mean, x[i], factor);
}

template <class T>
inline void saturation(T* r, int channels, int64_t plane, float factor) {
  if (channels != 3) return;
  T *g = r + plane, *b = g + plane;
#pragma GCC ivdep
  for (int64_t i = 0; i < plane; ++i) {
    const auto grey = static_cast<float>(luminance(r[i], g[i], b[i]));
    r[i] = blend(grey, r[i], factor);
    g[i] = blend(grey, g[i], factor);
    b[i] = blend(grey, b[i], factor);
  }
}

// h - 6 floor(h / 6), for -6 <= h < 12.
FASTNN_FN float wrap_hue(float h) {
  h = h < 0.f ? h + 6.f : h;
  return h >= 6.f ? h - 6.f : h;
}
// 1 on the third of the circle around a colour, 0 opposite, linear between.
FASTNN_FN float hue_ramp(float k) { return at_least(at_most(at_most(k, 4.f - k), 1.f), 0.f); }

// Turns the hue by a share of the circle (Smith 1978, "Color gamut transform pairs").
template <class T>
inline void hue(T* r, int channels, int64_t plane, float turn) {
  if (channels != 3) return;
  T *g = r + plane, *b = g + plane;
#pragma GCC ivdep
  for (int64_t i = 0; i < plane; ++i) {
    const auto red = static_cast<float>(r[i]), green = static_cast<float>(g[i]),
               blue = static_cast<float>(b[i]);
    const float value = at_least(at_least(red, green), blue),
                least_one = at_most(at_most(red, green), blue);
    const float chroma = value - least_one, inverse = 1.f / (chroma > 0.f ? chroma : 1.f);
    const float from_green = mad(blue - red, inverse, 2.f),
                from_blue = mad(red - green, inverse, 4.f), from_red = (green - blue) * inverse;
    const float h = value == red ? from_red : value == green ? from_green : from_blue;
    const float turned = wrap_hue(wrap_hue(h) + wrap_hue(6.f * turn));
    r[i] = Grey<T>::nearest(mad(-chroma, hue_ramp(wrap_hue(5.f + turned)), value));
    g[i] = Grey<T>::nearest(mad(-chroma, hue_ramp(wrap_hue(3.f + turned)), value));
    b[i] = Grey<T>::nearest(mad(-chroma, hue_ramp(wrap_hue(1.f + turned)), value));
  }
}

template <class T>
inline void grayscale(T* r, int channels, int64_t plane) {
  if (channels != 3) return;
#pragma GCC ivdep
  for (int64_t i = 0; i < plane; ++i)
    r[i] = r[plane + i] = r[2 * plane + i] = luminance(r[i], r[plane + i], r[2 * plane + i]);
}

template <class T>
inline void invert(T* x, int64_t n) {
#pragma GCC ivdep
  for (int64_t i = 0; i < n; ++i) x[i] = static_cast<T>(Grey<T>::kWhite - static_cast<float>(x[i]));
}

template <class T>
inline void solarize(T* x, int64_t n, float threshold) {
#pragma GCC ivdep
  for (int64_t i = 0; i < n; ++i) {
    const auto v = static_cast<float>(x[i]);
    x[i] = static_cast<T>(v >= threshold ? Grey<T>::kWhite - v : v);
  }
}

inline void posterize(uint8_t* x, int64_t n, int bits) {
  const auto mask = static_cast<uint8_t>(0xff << (8 - bits));
#pragma GCC ivdep
  for (int64_t i = 0; i < n; ++i) x[i] &= mask;
}
inline void posterize(float* x, int64_t n, int bits) {
  const auto levels = static_cast<float>(1 << bits);
#pragma GCC ivdep
  for (int64_t i = 0; i < n; ++i) {
    const float level = static_cast<float>(static_cast<int32_t>(at_least(x[i], 0.f) * levels));
    x[i] = at_most(level, levels - 1.f) / levels;
  }
}

// y = the picture blended with its mean over 3 x 3 pixels, the middle counted 5 times; the border
// stays. y is another picture.
template <class T>
inline void sharpness(const T* x, T* y, int channels, int height, int width, float factor) {
  for (int line = 0; line < channels * height; ++line, x += width, y += width) {
    const int r = line % height;
    if (r == 0 || r == height - 1 || width < 3) {
      __builtin_memcpy(y, x, static_cast<uint64_t>(width) * sizeof(T));
      continue;
    }
    const T *above = x - width, *below = x + width;
    y[0] = x[0];
    y[width - 1] = x[width - 1];
#pragma GCC ivdep
    for (int c = 1; c < width - 1; ++c) {
      const auto v = [](T pixel) { return static_cast<float>(pixel); };
      const float ring = v(above[c - 1]) + v(above[c]) + v(above[c + 1]) + v(x[c - 1]) +
                         v(x[c + 1]) + v(below[c - 1]) + v(below[c]) + v(below[c + 1]);
      const T smooth = Grey<T>::nearest(mad(5.f, v(x[c]), ring) / 13.f);
      y[c] = blend(static_cast<float>(smooth), x[c], factor);
    }
  }
}

// ---- tables of a channel ------------------------------------------------------------------------

FASTNN_FN uint8_t level(uint8_t x) { return x; }
FASTNN_FN uint8_t level(float x) { return Grey<uint8_t>::nearest(255.f * x); }

// Equal steps of the histogram become equal steps of grey, as in Pillow (ImageOps.equalize).
template <class T>
inline void equalize(T* x, int64_t n) {
  int32_t counts[4][256] = {};
  for (int64_t i = 0; i < n; ++i) ++counts[i & 3][level(x[i])];
  int last = 0, used = 0;
  for (int v = 0; v < 256; ++v) {
    counts[0][v] += counts[1][v] + counts[2][v] + counts[3][v];
    if (counts[0][v] > 0) {
      last = v;
      ++used;
    }
  }
  const int64_t step = (n - counts[0][last]) / 255;
  if (used <= 1 || step == 0) return;
  T table[256];
  int64_t reached = step / 2;
  for (int v = 0; v < 256; ++v) {
    const auto grey = static_cast<float>(least(reached / step, 255));
    table[v] = static_cast<T>(grey * (Grey<T>::kWhite / 255.f));
    reached += counts[0][v];
  }
  for (int64_t i = 0; i < n; ++i) x[i] = table[level(x[i])];
}

// Stretches what is there to all of black to white, as in Pillow (ImageOps.autocontrast).
template <class T>
inline void autocontrast(T* x, int64_t n) {
  float low = Grey<T>::kWhite, high = 0;
  for (int64_t i = 0; i < n; ++i) {
    const auto v = static_cast<float>(x[i]);
    low = at_most(low, v);
    high = at_least(high, v);
  }
  if (!(high > low)) return;
  const double scale = static_cast<double>(Grey<T>::kWhite) / (high - low);
  if constexpr (sizeof(T) == 1) {
    T table[256];
    for (int v = 0; v < 256; ++v)
      table[v] = Grey<T>::clipped(static_cast<float>(v * scale - low * scale));
    for (int64_t i = 0; i < n; ++i) x[i] = table[x[i]];
  } else {
    const auto factor = static_cast<float>(scale);
    for (int64_t i = 0; i < n; ++i) x[i] = Grey<T>::clipped((x[i] - low) * factor);
  }
}

// ---- noise --------------------------------------------------------------------------------------

// f(i, word) for pixels i of a plain picture.
template <class F>
FASTNN_FN void for_pixels(int64_t n, const Words& words, F f) {
  constexpr int kBatch = PhiloxBatch::kBlocks * 4;
  for (int64_t i = 0; i < n; i += kBatch) {
    const PhiloxBatch batch(words.first_pixel_block() + static_cast<uint64_t>(i / 4),
                            words.pixels());
    for_values<kBatch>(i, batch.words, n - i, f);
  }
}

template <class T>
inline void noise(T* x, int64_t n, const Words& words, float mean, float sigma, bool clip) {
  const float scale = Grey<T>::kWhite;
  for_pixels(n, words, [=](int64_t i, uint32_t word) __attribute__((always_inline)) {
    const float v = mad(scale, mad(sigma, standard_normal(word), mean), static_cast<float>(x[i]));
    x[i] = Grey<T>::nearest(clip ? at_most(at_least(v, 0.f), scale) : v);
  });
}

// Adds sum_k p_k a_k l_k to every pixel, p and l the principal components of all pixels and their
// variances, a ~ N(0, sd) (Krizhevsky et al. 2012). v: sd, 3 variances, 3 x 3 components, by row.
template <class T>
inline void lighting(T* x, int64_t plane, Words& words, const float* v) {
  float amount[3];
  for (int k = 0; k < 3; ++k) amount[k] = v[0] * standard_normal(words.next()) * v[1 + k];
  for (int channel = 0; channel < 3; ++channel, x += plane) {
    const float* component = v + 4 + 3 * channel;
    const float add = Grey<T>::kWhite * mad(component[0], amount[0],
                                            mad(component[1], amount[1], component[2] * amount[2]));
#pragma GCC ivdep
    for (int64_t i = 0; i < plane; ++i)
      x[i] =
          Grey<T>::nearest(at_most(at_least(static_cast<float>(x[i]) + add, 0.f), Grey<T>::kWhite));
  }
}

}  // namespace
}  // namespace fastnn
