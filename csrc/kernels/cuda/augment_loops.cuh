// The engine of augmentation on a GPU: a block has a picture, and every call ends with a barrier.
// Each thread runs the program with the same numbers, and has a share of the pixels of each step.
// What depends on the order of pixels is in the CPU's order, so pictures have the CPU's bits.
#pragma once
#include "../augment_program.h"
#include "engine.cuh"

namespace fastnn {
namespace {

inline constexpr int kAugmentThreads = 256;
inline constexpr int kAugmentLanes = 16;  // of the CPU's sums

struct AugmentLoops {
  int64_t* counts;  // of 256 levels; like the rest in shared memory
  int32_t* below;   // 257
  float* memory;    // 256
  double* lanes;    // kAugmentLanes

  template <class F>
  __device__ __forceinline__ void each(int64_t n, F f) const {
    for (int64_t i = threadIdx.x; i < n; i += kAugmentThreads) f(i);
    __syncthreads();
  }
  template <class F>
  __device__ __forceinline__ void lines(int lines, int columns, F f) const {
    for (int i = static_cast<int>(threadIdx.x); i < lines * columns; i += kAugmentThreads)
      f(i / columns, i % columns);
    __syncthreads();
  }
  template <class F>
  __device__ __forceinline__ void once(F f) const {
    if (threadIdx.x == 0) f();
    __syncthreads();
  }
  __device__ __forceinline__ void report(Status* status, int32_t site, int64_t index,
                                         DataError code) const {
    fastnn::report(status, site, index, code);
  }
  template <class F>
  __device__ __forceinline__ void pixels(int64_t n, const Words& words, F f) const {
    const RngDraw draw = words.pixels();
    const uint64_t first = words.first_pixel_block();
    for (int64_t i = int64_t{threadIdx.x} * 4; i < n; i += kAugmentThreads * 4) {
      const PhiloxBlock block =
          philox(first + static_cast<uint64_t>(i / 4), draw.offset, draw.seed);
      FASTNN_UNROLL
      for (int k = 0; k < 4; ++k)
        if (i + k < n) f(i + k, block.word[k]);
    }
    __syncthreads();
  }

  // Whole numbers are exact in float64; floats are summed by one thread for each lane of the CPU.
  template <class F>
  __device__ __forceinline__ double sum(int64_t n, F f) const {
    if constexpr (sizeof(f(0)) == 1) {
      int64_t own = 0;
      for (int64_t i = threadIdx.x; i < n; i += kAugmentThreads) own += f(i);
      return group_sum<kAugmentThreads>(static_cast<double>(own));
    } else {
      __syncthreads();  // the last call's lanes have been read
      if (threadIdx.x < kAugmentLanes) {
        double own = 0;
        for (int64_t i = threadIdx.x; i < n; i += kAugmentLanes) own += static_cast<double>(f(i));
        lanes[threadIdx.x] = own;
      }
      __syncthreads();
      double four[4];
      FASTNN_UNROLL
      for (int l = 0; l < 4; ++l)
        four[l] = (lanes[l] + lanes[l + 8]) + (lanes[l + 4] + lanes[l + 12]);
      return (four[0] + four[2]) + (four[1] + four[3]);
    }
  }
  template <class F, class Combine>
  __device__ __forceinline__ float extreme(int64_t n, float start, F f, Combine pick) const {
    float own = start;
    for (int64_t i = threadIdx.x; i < n; i += kAugmentThreads) own = pick(own, f(i));
    return group_reduce<kAugmentThreads>(own, pick);
  }
  template <class F>
  __device__ __forceinline__ const int32_t* histogram(int64_t n, F f) const {
    each(256, [count = counts](int64_t v) { count[v] = 0; });
    each(n, [count = counts, f](int64_t i) { add(count + f(i), 1); });
    each(257, [count = counts, sums = below](int64_t v) {
      int64_t sum = 0;
      for (int64_t u = 0; u < v; ++u) sum += count[u];
      sums[v] = static_cast<int32_t>(sum);
    });
    return below;
  }
  template <class T>
  __device__ __forceinline__ T* table() const {
    return reinterpret_cast<T*>(memory);
  }
  template <class T, class F>
  __device__ __forceinline__ void look_up(int64_t n, T* x, const T* table, F f) const {
    each(n, [=](int64_t i) { x[i] = table[f(x[i])]; });
  }

  template <class S, class D, class F>
  __device__ __forceinline__ void write_channel(const View& view, int channel, D* y,
                                                ImageStrides to, F f) const {
    const S* plane = static_cast<const S*>(view.data) + channel * view.channel;
    const float fill = view.fill != nullptr ? view.fill[channel] : 0.f;
    lines(view.rows, view.cols, [&](int r, int c) {
      const int row = padded(view.top + r * view.down, view.height, view.pad);
      const int col = padded(view.left + c * view.right, view.width, view.pad);
      const S value =
          row < 0 || col < 0 ? static_cast<S>(fill) : plane[row * view.row + col * view.col];
      y[r * to.row + c * to.col] = f(value);
    });
  }

  // The CPU's weighted means, of a line for each column first.
  template <class T>
  __device__ __forceinline__ void resize(const View& view, int channels, Box box, Taps down,
                                         Taps across, Box to, T* y, char*) const {
    for (int channel = 0; channel < channels; ++channel) {
      const T* x = static_cast<const T*>(view.data) + channel * view.channel +
                   (view.top + box.top) * view.row + view.left + box.left;
      lines(to.height, to.width, [&](int r, int c) {
        float sum = 0;
        for (int k = 0; k < across.taps; ++k) {
          const T* at = x + down.first[r] * view.row + across.first[c] + k;
          float line = down.weight[r] * static_cast<float>(*at);
          for (int j = 1; j < down.taps; ++j)
            line = mad(down.weight[static_cast<int64_t>(j) * down.n + r],
                       static_cast<float>(at[j * view.row]), line);
          const float weight = across.weight[static_cast<int64_t>(k) * across.n + c];
          sum = k == 0 ? weight * line : mad(weight, line, sum);
        }
        y[(static_cast<int64_t>(channel) * to.height + r) * to.width + c] = Grey<T>::mean(sum);
      });
    }
  }

  template <class T>
  __device__ __forceinline__ void warp(const T* x, int channels, int height, int width,
                                       const Map& map, bool nearest, const float* fill, T* y,
                                       char*) const {
    const int64_t plane = static_cast<int64_t>(height) * width;
    lines(height, width, [&](int r, int c) {
      const Place place = place_of(map, height, width, r, c, nearest);
      const int64_t at = static_cast<int64_t>(r) * width + c;
      for (int channel = 0; channel < channels; ++channel)
        y[channel * plane + at] =
            place.at < 0 ? static_cast<T>(fill[channel]) : pixel_at(x + channel * plane, place);
    });
  }
};

}  // namespace
}  // namespace fastnn
