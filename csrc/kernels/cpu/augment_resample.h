// Pictures written, resized and warped on the CPU, a line at a time.
#pragma once
#include "../augment_geometry.h"
#include "gemm_micro.h"

namespace fastnn {
namespace {

// f(i) for i in [0, n), in blocks of 64 of which the last may lie over the one before: of a loop
// over bytes compilers do the rest one by one. So f must not read what it writes.
template <class F>
FASTNN_FN void for_overlapping(int n, F f) {
  constexpr int kBlock = 64;
  if (n < kBlock) {
#pragma GCC ivdep
    for (int i = 0; i < n; ++i) f(i);
    return;
  }
  for (int block = 0; block < n; block += kBlock) {
    const int from = block < n - kBlock ? block : n - kBlock;
#pragma GCC ivdep
    for (int i = 0; i < kBlock; ++i) f(from + i);
  }
}

// ---- writing ------------------------------------------------------------------------------------

template <class S, class D, class F>
FASTNN_FN void copy_pixels(const S* x, int64_t x_step, D* y, int64_t y_step, int n, F f) {
  if (y_step == 1 && x_step == 1) {
    for_overlapping(n, [&](int i) __attribute__((always_inline)) { y[i] = f(x[i]); });
  } else if (y_step == 1 && x_step == -1) {
    for_overlapping(n, [&](int i) __attribute__((always_inline)) { y[i] = f(x[-i]); });
  } else {
    for (int i = 0; i < n; ++i) y[i * y_step] = f(x[i * x_step]);
  }
}

// Writes one channel of a view.
template <class S, class D, class F>
FASTNN_PART void write_channel(const View& view, int channel, D* y, ImageStrides to, F f) {
  const S* plane = static_cast<const S*>(view.data) + channel * view.channel;
  // Columns [begin, end) of the view lie inside the picture.
  const int first = view.right > 0 ? -view.left : view.left - view.width + 1;
  const int begin = static_cast<int>(most(0, least(first, view.cols)));
  const int end = static_cast<int>(most(begin, least(int64_t{first} + view.width, view.cols)));
  const D fill = f(static_cast<S>(view.fill != nullptr ? view.fill[channel] : 0.f));
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

// ---- resize -------------------------------------------------------------------------------------

// y[c] = sum_k weight[k stride] x[k row + c]. TAPS: how many, where they are few; else 0.
template <int TAPS, class S>
FASTNN_FN void sum_rows(const S* x, int64_t row, const float* weight, int64_t stride, int taps,
                        float* y, int n) {
  if constexpr (TAPS > 0) {
    float w[TAPS];
    for (int k = 0; k < TAPS; ++k) w[k] = weight[k * stride];
    return for_overlapping(n, [&](int c) __attribute__((always_inline)) {
      float sum = w[0] * static_cast<float>(x[c]);
      for (int k = 1; k < TAPS; ++k) sum = mad(w[k], static_cast<float>(x[k * row + c]), sum);
      y[c] = sum;
    });
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

// y[c] = sum_k weight[k][c] x[first[c] + k], where first rises. Compilers load such pixels one by
// one; but neighbours mostly lie within two vectors, whose lanes are put in order. Where n >=
// kLanes, x must be followed by 2 kLanes floats of any value.
template <int TAPS>
FASTNN_FN void sum_columns(const float* x, Taps t, float* y) {
  const int taps = TAPS ? TAPS : t.taps;
  const int64_t n = t.n;
  const auto one = [&](int c) __attribute__((always_inline)) {
    const float* near = x + t.first[c];
    float sum = 0;
    for (int k = 0; k < taps; ++k) sum = mad(t.weight[k * n + c], near[k], sum);
    y[c] = sum;
  };
  int c = 0;
#if __has_builtin(__builtin_shuffle)  // in an order known only when it runs: GCC alone
  typedef int32_t Lanes32 __attribute__((vector_size(4 * kLanes)));
  for (; c + kLanes <= t.n; c += kLanes) {
    const int32_t from = t.first[c];
    if (t.first[c + kLanes - 1] - from >= 2 * kLanes) {
      for (int l = c; l < c + kLanes; ++l) one(l);
      continue;
    }
    Lanes32 at;
    __builtin_memcpy(&at, t.first + c, sizeof at);
    at -= from;
    const float *near = x + from, *weight = t.weight + c;
    Vec sum{};  // from 0 on: of two products compilers choose which one is rounded
    for (int k = 0; k < taps; ++k)
      sum += load(weight + k * n) * __builtin_shuffle(load(near + k), load(near + k + kLanes), at);
    store(y + c, sum);
  }
#endif
  for (; c < t.n; ++c) one(c);
}

// f(count of taps as a type): 2 and 3 are those of all but strong reductions.
template <int N>
struct Few {
  static constexpr int value = N;
};
template <class F>
FASTNN_FN void with_taps(int taps, F f) {
  taps == 2 ? f(Few<2>{}) : taps == 3 ? f(Few<3>{}) : f(Few<0>{});
}

// The window `to` of the picture that `box` of x becomes when it is resized to height x width.
template <class T>
inline void resize(const View& view, int channels, Box box, Taps down, Taps across, Box to, T* y,
                   char* scratch) {
  auto* line = reinterpret_cast<float*>(scratch);
  float* sums = line + box.width + 2 * kLanes;  // sum_columns() loads from between
  for (int channel = 0; channel < channels; ++channel) {
    const T* x = static_cast<const T*>(view.data) + channel * view.channel +
                 (view.top + box.top) * view.row + view.left + box.left;
    for (int r = 0; r < to.height; ++r, y += to.width) {
      with_taps(down.taps, [&](auto few) __attribute__((always_inline)) {
        sum_rows<few.value>(x + down.first[r] * view.row, view.row, down.weight + r, down.n,
                            down.taps, line, box.width);
      });
      with_taps(across.taps, [&](auto few) __attribute__((always_inline)) {
        sum_columns<few.value>(line, across, sums);
      });
      for_overlapping(to.width,
                      [&](int c) __attribute__((always_inline)) { y[c] = Grey<T>::mean(sums[c]); });
    }
  }
}

// ---- warps --------------------------------------------------------------------------------------

// A row's places, side by side.
struct Places {
  int32_t *at, *right, *below;
  float *x_part, *y_part;
};

inline void places_of_row(const Map& map, int height, int width, int r, bool nearest, Places p) {
  for (int c = 0; c < width; ++c) {
    const Place place = place_of(map, height, width, r, c, nearest);
    p.at[c] = place.at;
    p.right[c] = place.right;
    p.below[c] = place.below;
    p.x_part[c] = place.x_part;
    p.y_part[c] = place.y_part;
  }
}

// Alone, since within the whole program the loop over pixels runs out of registers.
template <class T>
[[gnu::noinline]] void warp(const T* x, int channels, int height, int width, const Map& map,
                            bool nearest, const float* fill, T* y, char* scratch) {
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
        const Place place{p.at[c], p.right[c], p.below[c], p.x_part[c], p.y_part[c]};
        line[c] = place.at < 0 ? static_cast<T>(fill[channel]) : pixel_at(source, place);
      }
    }
  }
}

}  // namespace
}  // namespace fastnn
