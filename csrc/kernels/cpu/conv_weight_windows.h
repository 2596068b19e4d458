// The gradient of convolution's weights where max pooling by windows of 2 x 2 follows: a window
// gives its gradient to one position, and what that one sees of the image, its patch, is all that
// dw gets from the window. Nothing is made of gradients that are 0.
#pragma once
#include "conv_patch_lanes.h"
#include "conv_turn.h"
#include "pool_windows.h"

namespace fastnn {
namespace {

// Patches, by where they begin in the copied images, and what they are multiplied by.
struct PatchList {
  int32_t* at;
  float* values;
  int64_t count;
};

// Of each patch some vectors of some runs, and the sums that they are added to.
struct PatchTile {
  const PatchList& list;
  const float* images;
  int64_t row;   // from run to run of a patch
  double* sums;  // rows of run_floats
  int64_t run_floats;
};

#if defined(__AVX512F__)
inline constexpr int kPatchSums = 24;
#else
inline constexpr int kPatchSums = 12;
#endif
inline constexpr int kPatchVectors = 4, kPatchRuns = 6;
constexpr int patch_runs(int vectors) {
  return kPatchSums / vectors < kPatchRuns ? kPatchSums / vectors : kPatchRuns;
}

// `Chains` patches at a time, each of which adds to sums of its own.
template <class V, int Chains, int R, int N>
__attribute__((noinline)) void patch_tile(const PatchTile& t) {
  constexpr int kFloats = sizeof(V) / 4;
  typedef float VU __attribute__((vector_size(sizeof(V)), aligned(4), may_alias));
  V acc[Chains][R][N];
  FASTNN_UNROLL for (int c = 0; c < Chains; ++c) {
    FASTNN_UNROLL for (int r = 0; r < R; ++r) {
      FASTNN_UNROLL for (int v = 0; v < N; ++v) acc[c][r][v] = V{};
    }
  }
  const float *images = t.images, *value = t.list.values;
  const int64_t row = t.row;
  const int32_t *at = t.list.at, *const end = at + t.list.count;
  const auto add = [&](int i, V(&sums)[R][N]) __attribute__((always_inline)) {
    const float s = value[i];
    const float* run = images + at[i];
    FASTNN_UNROLL for (int r = 0; r < R; ++r) {
      if (r > 0 && r % 3 == 0) {  // x86 addresses three rows from one pointer
        run += 3 * row;
        asm("" : "+r"(run));
      }
      FASTNN_UNROLL for (int v = 0; v < N; ++v) sums[r][v] +=
          s * *reinterpret_cast<const VU*>(run + r % 3 * row + v * kFloats);
    }
  };
  for (; at + Chains <= end; at += Chains, value += Chains)
    FASTNN_UNROLL for (int c = 0; c < Chains; ++c) add(c, acc[c]);
  for (; at < end; ++at, ++value) add(0, acc[0]);
  alignas(64) float sums[R * N * kFloats];
  FASTNN_UNROLL for (int r = 0; r < R; ++r) {
    FASTNN_UNROLL for (int v = 0; v < N; ++v) {
      V sum = acc[0][r][v];
      FASTNN_UNROLL for (int c = 1; c < Chains; ++c) sum += acc[c][r][v];
      __builtin_memcpy(sums + (r * N + v) * kFloats, &sum, sizeof(V));
    }
  }
  for (int r = 0; r < R; ++r)
    for (int i = 0; i < N * kFloats; ++i)
      t.sums[r * t.run_floats + i] += static_cast<double>(sums[r * N * kFloats + i]);
}

using RunPatchTile = void (*)(const PatchTile&);
struct PatchTilesOfWidth {
  RunPatchTile of_runs[kPatchRuns];
};
template <class V, int Chains, int N, int... R>
constexpr PatchTilesOfWidth patch_tiles_of_width(Indices<R...>) {
  return {{patch_tile<V, Chains, (R < patch_runs(Chains * N) ? R + 1 : 1), N>...}};
}
struct PatchTiles {
  PatchTilesOfWidth of[kPatchVectors];
};
template <int... N>
constexpr PatchTiles all_patch_tiles(Indices<N...>) {
  return {{patch_tiles_of_width<Vec, 1, N + 1>(MakeIndices<kPatchRuns>::Type{})...}};
}
inline constexpr PatchTiles kPatchTiles = all_patch_tiles(MakeIndices<kPatchVectors>::Type{});
// Of the shortest runs, where a chain would wait for its fma. Loads cross fewer cache lines than
// those of wider vectors.
inline constexpr int kShortFloats = kConvShortRun < kLanes ? kConvShortRun : kLanes;
inline constexpr int kShortVectors = kConvShortRun / kShortFloats, kShortChains = 2;
typedef float ShortVec __attribute__((vector_size(4 * kShortFloats)));
inline constexpr PatchTilesOfWidth kShortPatchTiles =
    patch_tiles_of_width<ShortVec, kShortChains, kShortVectors>(MakeIndices<kPatchRuns>::Type{});

// Scratch of a task.
struct ConvWeightWindows {
  const ConvWeightArgs& args;
  const ConvWindowsPlan& plan;
  int64_t group;
  float* images;  // channels last, with their padding
  int32_t* base;  // where the patch of each window's first element begins
  PatchList list;

  ConvWeightWindows(const ConvWeightArgs& args, const ConvWindowsPlan& plan, int64_t group,
                    float* scratch)
      : args(args), plan(plan), group(group), images(scratch) {
    const ConvWindows& windows = args.windows;
    // Padding stays as it is from image to image.
    const int64_t floats = plan.images * plan.image + kConvSlack;
    __builtin_memset(images, 0, sizeof(float) * static_cast<size_t>(floats));
    base = reinterpret_cast<int32_t*>(images + round_up(floats, 16));
    for (int64_t r = 0; r < windows.h; ++r)
      for (int64_t c = 0; c < windows.w; ++c)
        base[r * windows.w + c] = static_cast<int32_t>(2 * (r * plan.row + c * args.grid.channels));
    list.at = base + round_up(windows.size(), 16);
    list.values = reinterpret_cast<float*>(list.at + plan.list);
  }

  // Returns whether all of it is finite.
  bool copy_image(int64_t n, float* to) const {
    const ConvGrid& g = args.grid;
    const float* const image =
        static_cast<const float*>(args.x) + (n * g.groups + group) * g.channels * g.in_size();
    const float* x = image;
    const Inside y = inside(g.h, -g.h.pad, g.h.length(g.h.out));
    const Inside at = inside(g.w, -g.w.pad, g.w.length(g.w.out));
    const int64_t rows = y.end - y.begin, cols = at.end - at.begin;
    x += (y.begin - g.h.pad) * g.w.in + at.begin - g.w.pad;
    to += y.begin * plan.row + at.begin * g.channels;
    if (g.channels == 1) {
      for (int64_t r = 0; r < rows; ++r) copy_run(to + r * plan.row, x + r * g.w.in, cols);
    } else if (g.channels <= kLanes || g.channels % kConvLanes == 0) {
      for (int64_t c = 0; c < g.channels; c += kConvLanes)
        turn_images(x + c * g.in_size(), ConvBlock(g.channels - c, 0, g.in_size()), rows, cols,
                    g.w.in, to + c, plan.row, g.channels);
    } else {
      for (int64_t c = 0; c < g.channels; ++c)
        for (int64_t r = 0; r < rows; ++r)
          for (int64_t i = 0; i < cols; ++i)
            to[r * plan.row + i * g.channels + c] = x[c * g.in_size() + r * g.w.in + i];
    }
    return all_finite(image, g.channels * g.in_size());
  }

  // Appends windows [begin, end) of a filter's plane, whose gradients are dz.
  void append(const float* dz, const uint8_t* places, int64_t begin, int64_t end, int64_t image) {
    const auto row = static_cast<int32_t>(plan.row), col = static_cast<int32_t>(args.grid.channels);
    const auto first = static_cast<int32_t>(image * plan.image);
    int32_t* at = list.at + list.count;
    float* values = list.values + list.count;
    int64_t i = begin;
#if defined(__AVX512F__) || defined(__AVX2__)
    for (const PatchLanes lanes(first, row, col); lanes.can_append(end - i); i += kLanes) {
      const int count = lanes.append(dz + i, places + i, base + i, end - i, at, values);
      at += count, values += count;
    }
#endif
    for (; i < end; ++i) {
      *values = dz[i];
      *at = first + base[i] + (places[i] >> 1) * row + (places[i] & 1) * col;
      const bool some = dz[i] != 0;
      at += some, values += some;
    }
    list.count = at - list.at;
  }
  // Appends all positions, with and without gradients.
  void append_all(const float* dz, const uint8_t* places, int64_t image) {
    const ConvGrid& g = args.grid;
    const int64_t first = list.count;
    for (int64_t r = 0; r < g.h.out; ++r)
      for (int64_t c = 0; c < g.w.out; ++c, ++list.count) {
        list.values[list.count] = 0;
        list.at[list.count] =
            static_cast<int32_t>(image * plan.image + r * plan.row + c * g.channels);
      }
    for (int64_t i = 0; i < args.windows.size(); ++i) {
      const int64_t r = 2 * (i / args.windows.w) + places[i] / 2;
      const int64_t c = 2 * (i % args.windows.w) + places[i] % 2;
      list.values[first + r * g.w.out + c] = dz[i];
    }
  }

  // What some patches add to the sums of a filter.
  void add_patches(const PatchList& patches, double* sums) const {
    const bool is_short = plan.run == kConvShortRun;
    const int64_t vectors = is_short ? kShortVectors : plan.run / kLanes;
    const int64_t parts = is_short ? 1 : ceil_div(vectors, kPatchVectors);
    for (int64_t q = 0; q < parts; ++q) {
      const int64_t v = conv_begin(vectors, q, parts), n = conv_begin(vectors, q + 1, parts) - v;
      const PatchTilesOfWidth& tiles = is_short ? kShortPatchTiles : kPatchTiles.of[n - 1];
      const int64_t runs = args.grid.h.taps;
      const int64_t together = patch_runs(static_cast<int>(is_short ? kShortChains * n : n));
      const int64_t pieces = ceil_div(runs, together);
      for (int64_t p = 0; p < pieces; ++p) {
        const int64_t r = conv_begin(runs, p, pieces), end = conv_begin(runs, p + 1, pieces);
        tiles.of_runs[end - r - 1]({patches, images + r * plan.row + v * kLanes, plan.row,
                                    sums + r * plan.run + v * kLanes, plan.run});
      }
    }
  }

  // Images [begin, end), of one chain.
  void add(int64_t begin, int64_t end, double* sums) {
    const ConvGrid& g = args.grid;
    const int64_t size = args.windows.size(), chain = plan.windows;
    // Zeros times what is not finite are NaN.
    bool finite = true;
    for (int64_t n = begin; n < end; ++n)
      finite &= copy_image(n, images + (n - begin) * plan.image);
    // Of a part of the images, which stays in L1, all filters.
    for (int64_t part = 0; part < (finite ? plan.parts : 1); ++part)
      for (int64_t o = 0; o < g.filters; ++o) {
        list.count = 0;
        for (int64_t n = begin; n < end; ++n) {
          const int64_t plane = ((n * g.groups + group) * g.filters + o) * size;
          const float* dz = static_cast<const float*>(args.dz) + plane;
          const uint8_t* places = args.windows.places + plane;
          if (finite)
            append(dz, places, part * plan.windows, least(size, (part + 1) * plan.windows),
                   n - begin);
          else
            append_all(dz, places, n - begin);
        }
        for (int64_t i = 0; i < list.count; i += chain)
          add_patches({list.at + i, list.values + i, least(chain, list.count - i)},
                      sums + o * g.h.taps * plan.run);
      }
  }
};

void conv_bwd_weight_windows(const ConvWeightArgs& args, Slice s) {
  const ConvWindowsPlan plan = conv_windows_plan(args.grid);
  for (int64_t task = s.begin; task < s.end; ++task) {
    const int64_t group = task / plan.chunks, chunk = task % plan.chunks;
    double* sums = args.partials + (chunk * args.grid.groups + group) * plan.sums;
    for (int64_t i = 0; i < plan.sums; ++i) sums[i] = 0;
    ConvWeightWindows windows(args, plan, group, args.scratch + s.begin * plan.scratch);
    const int64_t end = conv_begin(plan.chains, chunk + 1, plan.chunks);
    for (int64_t i = conv_begin(plan.chains, chunk, plan.chunks); i < end; ++i)
      windows.add(i * plan.images, least(args.grid.batch, (i + 1) * plan.images), sums);
  }
}

// Tasks: (group, filter).
void conv_bwd_weight_windows_sum(const ConvWeightSumArgs& args, Slice s) {
  const ConvGrid& g = args.grid;
  const ConvWindowsPlan plan = conv_windows_plan(g);
  for (int64_t task = s.begin; task < s.end; ++task)
    for (int64_t i = 0; i < g.h.taps; ++i) {
      double total[kConvLongRun] = {};
      const double* from = args.partials + (task * g.h.taps + i) * plan.run;
      for (int64_t chunk = 0; chunk < args.chunks; ++chunk, from += g.groups * plan.sums)
        for (int64_t r = 0; r < plan.run; ++r) total[r] += from[r];
      float* dw = static_cast<float*>(args.dw) + task * g.depth() + i * g.w.taps;
      for (int64_t c = 0; c < g.channels; ++c, dw += int64_t{g.h.taps} * g.w.taps)
        for (int64_t j = 0; j < g.w.taps; ++j)
          dw[j] = static_cast<float>(total[j * g.channels + c]);
    }
}

}  // namespace
}  // namespace fastnn
