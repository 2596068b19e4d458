// Pictures resampled: resized by triangle filters, as Pillow does, or read at other places (affine
// maps, lenses).
#pragma once
#include "augment_view.h"

namespace fastnn {
namespace {

template <class T>
struct Grey;  // what a pixel may be: 0 ... kWhite
template <>
struct Grey<uint8_t> {
  static constexpr float kWhite = 255;
  FASTNN_FN static uint8_t nearest(float v) { return clipped(v + 0.5f); }
  // The same of a weighted mean of pixels, which cannot leave their range.
  FASTNN_FN static uint8_t mean(float v) {
    return static_cast<uint8_t>(static_cast<int32_t>(v + 0.5f));
  }
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
  FASTNN_FN static float mean(float v) { return v; }
  FASTNN_FN static float clipped(float v) { return at_most(at_least(v, 0.f), 1.f); }
};

// ---- resize -------------------------------------------------------------------------------------

// The weights of a line resized from `in` to `out` pixels. The triangle is as wide as the coarser
// of the two grids: a pixel of the result sees all that it covers.
struct Triangle {
  double scale, width;
  int in;
  FASTNN_PART Triangle(int in, int out)
      : scale(static_cast<double>(in) / out), width(scale > 1 ? scale : 1), in(in) {}
  FASTNN_PART double middle(int64_t i) const {
    return mad(static_cast<double>(i) + 0.5, scale, 0.0);
  }  // of pixel i
  FASTNN_PART double weight(double centre, int x) const {
    const double distance = (x - centre + 0.5) / width;
    const double w = 1 - (distance < 0 ? -distance : distance);
    return w > 0 && x >= 0 && x < in ? w : 0;
  }
  FASTNN_PART int first(double centre) const {  // with a weight
    int x = static_cast<int>(most(0, static_cast<int>(floor(centre - width - 0.5))));
    while (x < in - 1 && weight(centre, x) == 0) ++x;
    return x;
  }
  FASTNN_PART int count(double centre, int x) const {
    int n = 1;
    while (weight(centre, x + n) > 0) ++n;
    return n;
  }
};

// Pixel i of the result is a weighted mean of `taps` pixels from first[i] on.
struct Taps {
  int32_t* first;
  float* weight;  // [taps][n]: a tap's weights side by side
  int taps, n;
};

// For pixels [from, from + n) of the result; takes its memory from `scratch`.
template <class Loops>
FASTNN_PART Taps triangle(Loops& loops, char*& scratch, int in, int out, int from, int n) {
  const Triangle filter(in, out);
  auto* first = reinterpret_cast<int32_t*>(scratch);
  scratch += n * static_cast<int64_t>(sizeof(int32_t));
  auto* weight = reinterpret_cast<float*>(scratch);
  loops.each(n, [=](int64_t i) { first[i] = filter.first(filter.middle(from + i)); });
  const auto count = [=](int64_t i) {
    return static_cast<float>(filter.count(filter.middle(from + i), first[i]));
  };
  const int taps = static_cast<int>(
      loops.extreme(n, 1.f, count, [](float a, float b) { return at_least(a, b); }));
  scratch += static_cast<int64_t>(taps) * n * static_cast<int64_t>(sizeof(float));
  loops.each(n, [=](int64_t i) {
    const double centre = filter.middle(from + i);
    double total = 0;
    const int begin = first[i], end = begin + taps;
    for (int x = begin; x < end; ++x) total += filter.weight(centre, x);
    // At the end the window is moved in: a tap reads no pixel that is not there.
    const int moved = static_cast<int>(most(0, least(begin, in - taps)));
    first[i] = moved;
    for (int k = 0; k < taps; ++k)
      weight[static_cast<int64_t>(k) * n + i] =
          static_cast<float>(filter.weight(centre, moved + k) / total);
  });
  return {first, weight, taps, n};
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
  FASTNN_PART explicit Degrees(double degrees)
      : sine(fastnn::sine(degrees * kPi / 180)), cosine(fastnn::cosine(degrees * kPi / 180)) {}
};

// The inverse of: shear, scale and stretch (x only) and rotate clockwise about the centre, then
// translate. R = [[cos(a - sy) / cos sy, -cos(a - sy) tan sx / cos sy - sin a],
//                 [sin(a - sy) / cos sy, -sin(a - sy) tan sx / cos sy + cos a]], of determinant 1.
FASTNN_PART Map affine_map(double angle, double dx, double dy, double scale, double stretch,
                           double shear_x, double shear_y, double centre_x, double centre_y) {
  const Degrees turn(angle), turned(angle - shear_y), sx(shear_x), sy(shear_y);
  const double tangent = sx.sine / sx.cosine;
  const double a = turned.cosine / sy.cosine, b = mad(-a, tangent, -turn.sine);
  const double c = turned.sine / sy.cosine, d = mad(-c, tangent, turn.cosine);
  Map map{{d / (scale * stretch), -b / (scale * stretch), 0, -c / scale, a / scale, 0}, 0, 0, 0, 1};
  map.m[2] = mad(-map.m[1], centre_y + dy, mad(-map.m[0], centre_x + dx, centre_x));
  map.m[5] = mad(-map.m[4], centre_y + dy, mad(-map.m[3], centre_x + dx, centre_y));
  return map;
}

// Where a pixel of the result is read: the upper left of four neighbours, how far the others are,
// and their weights; at = -1 outside. As in Pillow: what lies outside is fill, and at the border
// the neighbour that is missing is the one there.
struct Place {
  int32_t at, right, below;
  float x_part, y_part;
};

FASTNN_FN Place place_of(const Map& map, int height, int width, int r, int c, bool nearest) {
  const double row = r + 0.5, column = c + 0.5;
  double x = mad(map.m[0], column, mad(map.m[1], row, map.m[2]));
  double y = mad(map.m[3], column, mad(map.m[4], row, map.m[5]));
  if (map.lens != 0) {
    const double from_x = x - map.centre_x, from_y = y - map.centre_y;
    const double square = mad(from_x, from_x, from_y * from_y);
    const double factor = 1 + map.lens * square / map.corner2;
    x = mad(from_x, factor, map.centre_x);
    y = mad(from_y, factor, map.centre_y);
  }
  if (!(x >= 0 && y >= 0 && x < width && y < height)) return {-1, 0, 0, 0, 0};
  const double fx = nearest ? x : x - 0.5, fy = nearest ? y : y - 0.5;
  const double before = floor(fx), above = floor(fy);
  const int left = static_cast<int>(before), top = static_cast<int>(above);
  const int x1 = static_cast<int>(most(0, left)), y1 = static_cast<int>(most(0, top));
  return {y1 * width + x1, static_cast<int32_t>(least(left + 1, width - 1)) - x1,
          (static_cast<int32_t>(least(top + 1, height - 1)) - y1) * width,
          nearest ? 0.f : static_cast<float>(fx - before),
          nearest ? 0.f : static_cast<float>(fy - above)};
}

template <class T>
FASTNN_FN T pixel_at(const T* x, const Place& p) {
  const T* near = x + p.at;
  const float a = static_cast<float>(near[0]), b = static_cast<float>(near[p.right]);
  const float d = static_cast<float>(near[p.below]),
              e = static_cast<float>(near[p.below + p.right]);
  const float upper = mad(p.x_part, b - a, a), lower = mad(p.x_part, e - d, d);
  return Grey<T>::nearest(mad(p.y_part, lower - upper, upper));
}

}  // namespace
}  // namespace fastnn
