// Pictures resampled: resized by triangle filters, as Pillow does, or read at other places (affine
// maps, lenses).
#pragma once
#include "augment_view.h"
#include "gemm_micro.h"

namespace fastnn {
namespace {

template <class T>
struct Grey;  // what a pixel may be: 0 ... kWhite
template <>
struct Grey<uint8_t> {
  static constexpr float kWhite = 255;
  FASTNN_FN static uint8_t nearest(float v) { return clipped(v + 0.5f); }
  // Cut off, as Pillow's and torchvision's colours are. One clamp is of floats, one of integers:
  // two in a row vectorise badly, see primitives.h.
  FASTNN_FN static uint8_t clipped(float v) {
    return static_cast<uint8_t>(at_least(static_cast<int32_t>(at_most(v, 255.f)), 0));
  }
};
template <>
struct Grey<float> {
  static constexpr float kWhite = 1;
  FASTNN_FN static float nearest(float v) { return v; }
  FASTNN_FN static float clipped(float v) { return at_most(at_least(v, 0.f), 1.f); }
};

// ---- resize -------------------------------------------------------------------------------------

// Pixel i of the result is a weighted mean of `taps` pixels from first[i] on.
struct Taps {
  int32_t* first;
  float* weight;  // [taps][n]: a tap's weights side by side
  int taps, n;
};

// Pixels [from, from + n) of a line resized from `in` to `out` pixels. The triangle is as wide as
// the coarser of the two grids: a pixel of the result sees all that it covers.
struct Triangle {
  double scale, width;
  int in;
  Triangle(int in, int out)
      : scale(static_cast<double>(in) / out), width(scale > 1 ? scale : 1), in(in) {}
  double weight(double centre, int x) const {
    const double distance = (x - centre + 0.5) / width;
    const double w = 1 - (distance < 0 ? -distance : distance);
    return w > 0 && x >= 0 && x < in ? w : 0;
  }
  int first(double centre) const {  // with a weight
    int x = static_cast<int>(most(0, static_cast<int>(floor(centre - width - 0.5))));
    while (x < in - 1 && weight(centre, x) == 0) ++x;
    return x;
  }
  int count(double centre, int x) const {
    int n = 1;
    while (weight(centre, x + n) > 0) ++n;
    return n;
  }
};

inline Taps triangle(char*& scratch, int in, int out, int from, int n) {
  const Triangle filter(in, out);
  Taps t{reinterpret_cast<int32_t*>(scratch), nullptr, 1, n};
  scratch += n * static_cast<int64_t>(sizeof(int32_t));
  for (int i = 0; i < n; ++i) {
    const double centre = (from + i + 0.5) * filter.scale;
    t.first[i] = filter.first(centre);
    t.taps = static_cast<int>(most(t.taps, filter.count(centre, t.first[i])));
  }
  t.weight = reinterpret_cast<float*>(scratch);
  scratch += static_cast<int64_t>(t.taps) * n * static_cast<int64_t>(sizeof(float));
  for (int i = 0; i < n; ++i) {
    const double centre = (from + i + 0.5) * filter.scale;
    double total = 0;
    const int end = t.first[i] + t.taps;
    for (int x = t.first[i]; x < end; ++x) total += filter.weight(centre, x);
    // At the end the window is moved in: a tap reads no pixel that is not there.
    t.first[i] = static_cast<int>(most(0, least(t.first[i], in - t.taps)));
    for (int k = 0; k < t.taps; ++k)
      t.weight[static_cast<int64_t>(k) * n + i] =
          static_cast<float>(filter.weight(centre, t.first[i] + k) / total);
  }
  return t;
}

template <class S>
FASTNN_FN void sum_rows(const S* x, int64_t row, const float* weight, int64_t stride, int taps,
                        float* y, int n) {
  if (taps == 2) {
    const S* below = x + row;
    const float a = weight[0], b = weight[stride];
#pragma GCC ivdep
    for (int c = 0; c < n; ++c)
      y[c] = mad(b, static_cast<float>(below[c]), a * static_cast<float>(x[c]));
    return;
  }
#pragma GCC ivdep
  for (int c = 0; c < n; ++c) y[c] = weight[0] * static_cast<float>(x[c]);
  for (int k = 1; k < taps; ++k) {
    const float w = weight[k * stride];
    const S* line = x + k * row;
#pragma GCC ivdep
    for (int c = 0; c < n; ++c) y[c] = mad(w, static_cast<float>(line[c]), y[c]);
  }
}

// y[c] = x[first[c]], where first rises. Compilers load such pixels one by one; but neighbours
// mostly lie within two vectors, whose lanes are put in order. Where n >= kLanes, x must be
// followed by 2 kLanes floats of any value.
inline void pick(const float* x, const int32_t* first, int n, float* y) {
  typedef int32_t Lanes32 __attribute__((vector_size(4 * kLanes)));
  int c = 0;
  for (; c + kLanes <= n; c += kLanes) {
    const int32_t from = first[c];
    if (first[c + kLanes - 1] - from >= 2 * kLanes) {
      for (int l = c; l < c + kLanes; ++l) y[l] = x[first[l]];
      continue;
    }
    Lanes32 at;
    __builtin_memcpy(&at, first + c, sizeof at);
    store(y + c, __builtin_shuffle(load(x + from), load(x + from + kLanes), at - from));
  }
  for (; c < n; ++c) y[c] = x[first[c]];
}

template <class T>
FASTNN_FN void sum_columns(const float* x, Taps t, float* picked, float* sums, T* y) {
  for (int k = 0; k < t.taps; ++k) {
    const float* w = t.weight + static_cast<int64_t>(k) * t.n;
    pick(x + k, t.first, t.n, picked);
    if (k == 0) {
#pragma GCC ivdep
      for (int c = 0; c < t.n; ++c) sums[c] = w[c] * picked[c];
    } else {
#pragma GCC ivdep
      for (int c = 0; c < t.n; ++c) sums[c] = mad(w[c], picked[c], sums[c]);
    }
  }
#pragma GCC ivdep
  for (int c = 0; c < t.n; ++c) y[c] = Grey<T>::nearest(sums[c]);
}

// The window `to` of the picture that `box` of x becomes when it is resized to height x width.
template <class T>
inline void resize(const View& view, int channels, Box box, int height, int width, Box to, T* y,
                   char* scratch) {
  const Taps down = triangle(scratch, box.height, height, to.top, to.height);
  const Taps across = triangle(scratch, box.width, width, to.left, to.width);
  float* line = reinterpret_cast<float*>(scratch);
  float *picked = line + box.width, *sums = picked + to.width;  // pick() loads from these too
  for (int channel = 0; channel < channels; ++channel) {
    const T* x = static_cast<const T*>(view.data) + channel * view.channel +
                 (view.top + box.top) * view.row + view.left + box.left;
    for (int r = 0; r < to.height; ++r, y += to.width) {
      sum_rows(x + down.first[r] * view.row, view.row, down.weight + r, down.n, down.taps, line,
               box.width);
      sum_columns(line, across, picked, sums, y);
    }
  }
}

// ---- warps --------------------------------------------------------------------------------------

// The place x = m0 c + m1 r + m2, y = m3 c + m4 r + m5 that the middle (c, r) of a pixel of the
// result is read at; a lens moves it away from the centre by a factor 1 + k d^2, d = 1 in a corner.
struct Map {
  double m[6];
  double lens, centre_x, centre_y, corner2;
};

struct Degrees {
  double sine, cosine;
  explicit Degrees(double degrees)
      : sine(fastnn::sine(degrees * kPi / 180)), cosine(fastnn::cosine(degrees * kPi / 180)) {}
};

// The inverse of: shear, scale and stretch (x only) and rotate clockwise about the centre, then
// translate. R = [[cos(a - sy) / cos sy, -cos(a - sy) tan sx / cos sy - sin a],
//                 [sin(a - sy) / cos sy, -sin(a - sy) tan sx / cos sy + cos a]], of determinant 1.
inline Map affine_map(double angle, double dx, double dy, double scale, double stretch,
                      double shear_x, double shear_y, double centre_x, double centre_y) {
  const Degrees turn(angle), turned(angle - shear_y), sx(shear_x), sy(shear_y);
  const double tangent = sx.sine / sx.cosine;
  const double a = turned.cosine / sy.cosine, b = -a * tangent - turn.sine;
  const double c = turned.sine / sy.cosine, d = -c * tangent + turn.cosine;
  Map map{{d / (scale * stretch), -b / (scale * stretch), 0, -c / scale, a / scale, 0}, 0, 0, 0, 1};
  map.m[2] = centre_x - map.m[0] * (centre_x + dx) - map.m[1] * (centre_y + dy);
  map.m[5] = centre_y - map.m[3] * (centre_x + dx) - map.m[4] * (centre_y + dy);
  return map;
}

// Where a row of the result is read: the upper left of four neighbours and the weights of the
// others, or -1 outside. As in Pillow: what lies outside is fill, and at the border the neighbour
// that is missing is the one there.
struct Places {
  int32_t *at, *right, *below;
  float *x_part, *y_part;
};

inline void places_of_row(const Map& map, int height, int width, int r, bool nearest, Places p) {
  const double row = r + 0.5;
  const double x0 = map.m[1] * row + map.m[2], y0 = map.m[4] * row + map.m[5];
  for (int c = 0; c < width; ++c) {
    double x = map.m[0] * (c + 0.5) + x0, y = map.m[3] * (c + 0.5) + y0;
    if (map.lens != 0) {
      const double from_x = x - map.centre_x, from_y = y - map.centre_y;
      const double factor = 1 + map.lens * (from_x * from_x + from_y * from_y) / map.corner2;
      x = map.centre_x + from_x * factor;
      y = map.centre_y + from_y * factor;
    }
    if (!(x >= 0 && y >= 0 && x < width && y < height)) {
      p.at[c] = -1;
      continue;
    }
    const double fx = nearest ? x : x - 0.5, fy = nearest ? y : y - 0.5;
    const double column = floor(fx), line = floor(fy);
    const int left = static_cast<int>(column), top = static_cast<int>(line);
    const int x1 = static_cast<int>(most(0, left)), y1 = static_cast<int>(most(0, top));
    p.at[c] = y1 * width + x1;
    p.right[c] = static_cast<int32_t>(least(left + 1, width - 1)) - x1;
    p.below[c] = (static_cast<int32_t>(least(top + 1, height - 1)) - y1) * width;
    p.x_part[c] = nearest ? 0.f : static_cast<float>(fx - column);
    p.y_part[c] = nearest ? 0.f : static_cast<float>(fy - line);
  }
}

// x is a plain picture (planes of pixels), y another.
template <class T>
inline void warp(const T* x, int channels, int height, int width, const Map& map, bool nearest,
                 const float* fill, T* y, char* scratch) {
  auto* ints = reinterpret_cast<int32_t*>(scratch);
  auto* floats = reinterpret_cast<float*>(ints + 3 * width);
  const Places p{ints, ints + width, ints + 2 * width, floats, floats + width};
  const int64_t plane = static_cast<int64_t>(height) * width;
  for (int r = 0; r < height; ++r) {
    places_of_row(map, height, width, r, nearest, p);
    for (int channel = 0; channel < channels; ++channel) {
      const T* source = x + channel * plane;
      T* line = y + channel * plane + static_cast<int64_t>(r) * width;
      for (int c = 0; c < width; ++c) {
        if (p.at[c] < 0) {
          line[c] = static_cast<T>(fill[channel]);
          continue;
        }
        const T* near = source + p.at[c];
        const float a = static_cast<float>(near[0]), b = static_cast<float>(near[p.right[c]]);
        const float d = static_cast<float>(near[p.below[c]]),
                    e = static_cast<float>(near[p.below[c] + p.right[c]]);
        const float upper = mad(p.x_part[c], b - a, a), lower = mad(p.x_part[c], e - d, d);
        line[c] = Grey<T>::nearest(mad(p.y_part[c], lower - upper, upper));
      }
    }
  }
}

}  // namespace
}  // namespace fastnn
