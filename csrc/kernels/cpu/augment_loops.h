// The engine of augmentation on the CPU: how pixels are gone over. Every call is independent of the
// order of pixels, or fixes it.
#pragma once
#include "augment_resample.h"
#include "philox_batch.h"

namespace fastnn {
namespace {

struct AugmentLoops {
  int32_t below[257];
  alignas(64) float memory[256];

  // f(i) for i < n.
  template <class F>
  FASTNN_FN void each(int64_t n, F f) {
#pragma GCC ivdep
    for (int64_t i = 0; i < n; ++i) f(i);
  }
  // f(line, column)
  template <class F>
  FASTNN_FN void lines(int lines, int columns, F f) {
    for (int line = 0; line < lines; ++line) {
#pragma GCC ivdep
      for (int c = 0; c < columns; ++c) f(line, c);
    }
  }
  template <class F>
  FASTNN_FN void once(F f) {
    f();
  }
  void report(Status* status, int32_t site, int64_t index, DataError code) {
    fastnn::report(status, site, index, code);
  }
  // f(i, word) for pixels i of a plain picture.
  template <class F>
  FASTNN_FN void pixels(int64_t n, const Words& words, F f) {
    constexpr int kBatch = PhiloxBatch::kBlocks * 4;
    for (int64_t i = 0; i < n; i += kBatch) {
      const PhiloxBatch batch(words.first_pixel_block() + static_cast<uint64_t>(i / 4),
                              words.pixels());
      for_values<kBatch>(i, batch.words, n - i, f);
    }
  }

  // Of whole numbers exact, of floats in float64 and sixteen lanes, i in lane i % 16.
  template <class F>
  FASTNN_FN auto sum(int64_t n, F f) {
    if constexpr (sizeof(f(0)) == 1) {
      int64_t total = 0;
      for (int64_t from = 0; from < n; from += 1 << 16) {  // what 32 bits can hold
        int32_t part = 0;
        for (int64_t i = from; i < least(n, from + (1 << 16)); ++i) part += f(i);
        total += part;
      }
      return total;
    } else {
      double acc[kBlockLanes] = {};
      for_blocks(n, [&](int64_t i, int lanes) __attribute__((always_inline)) {
        for (int l = 0; l < lanes; ++l) acc[l] += static_cast<double>(f(i + l));
      });
      return combine(acc);
    }
  }
  // f(0), f(1), ... combined, in any order, and with `start`.
  template <class F, class Combine>
  FASTNN_FN float extreme(int64_t n, float start, F f, Combine pick) {
    float acc[kBlockLanes];
    FASTNN_FOR_LANES(l) acc[l] = start;
    for_blocks(n, [&](int64_t i, int lanes) __attribute__((always_inline)) {
      for (int l = 0; l < lanes; ++l) acc[l] = pick(acc[l], f(i + l));
    });
    for (int l = 1; l < kBlockLanes; ++l) acc[0] = pick(acc[0], acc[l]);
    return acc[0];
  }
  // [v] is how often f is below v, for v from 0 to 256; until the next call.
  template <class F>
  FASTNN_FN const int32_t* histogram(int64_t n, F f) {
    int32_t counts[4][256] = {}, sum = 0;
    for (int64_t i = 0; i < n; ++i) ++counts[i & 3][f(i)];
    for (int v = 0; v < 256; ++v) {
      below[v] = sum;
      sum += counts[0][v] + counts[1][v] + counts[2][v] + counts[3][v];
    }
    below[256] = sum;
    return below;
  }
  template <class T>
  FASTNN_FN T* table() {
    return reinterpret_cast<T*>(memory);
  }
  // x[i] = table[f(x[i])]. Not vectorised: a gather of bytes is slower than loads.
  template <class T, class F>
  FASTNN_FN void look_up(int64_t n, T* x, const T* table, F f) {
    T copy[256];  // that x cannot alias
    __builtin_memcpy(copy, table, sizeof copy);
    for (int64_t i = 0; i < n; ++i) x[i] = copy[f(x[i])];
  }

  template <class S, class D, class F>
  void write_channel(const View& view, int channel, D* y, ImageStrides to, F f) {
    fastnn::write_channel<S>(view, channel, y, to, f);
  }
  template <class T>
  void resize(const View& view, int channels, Box box, Taps down, Taps across, Box to, T* y,
              char* work) {
    fastnn::resize(view, channels, box, down, across, to, y, work);
  }
  template <class T>
  void warp(const T* x, int channels, int height, int width, const Map& map, bool nearest,
            const float* fill, T* y, char* work) {
    fastnn::warp(x, channels, height, width, map, nearest, fill, y, work);
  }
};

}  // namespace
}  // namespace fastnn
