// Convolution as an implicit GEMM: the weights are A as they are, and a row of B is the padded band
// of an image read from an offset, so that neither im2col nor a packed panel is ever written.
#include "../families/conv.h"

#include "activate_tile.h"
#include "conv_tile.h"
#include "conv_weight.h"
#include "loops.h"
#include "table.h"

namespace fastnn {
namespace {

// ---- forward, and gradient of the input ------------------------------------------------------

// One item: what is computed, from which band.
struct ConvItem {
  const float* w;
  const float* bias;
  float *y, *z;  // of the first filter and output row
  const float* band;
  const int32_t* at;
  int64_t rows;
};

// Outputs are numbered over rows of `pitch`, more than there are: vectors begin with each row, or
// run through the ends of rows as the band has them, where that saves a fifth of them.
int64_t pitch_of(const ConvGrid& g, const ConvPlan& plan, int64_t rows) {
  const int64_t apart = conv_units(g.w.out, kLanes);
  const int64_t through = (rows - 1) * plan.row_length + g.w.out;
  return 4 * rows * apart <= 5 * conv_units(through, kLanes) ? apart : plan.row_length;
}

// Outputs [first, first + n) of `filters` filters, from rows of kNR floats to y.
void store_outputs(const ConvArgs& args, const float* c, int64_t filters, int64_t pitch,
                   int64_t first, int64_t n, float* y) {
  for (int64_t row = first / pitch; row * pitch < first + n; ++row) {
    const int64_t start = row * pitch, begin = first > start ? first : start;
    const int64_t count = least(first + n, start + args.grid.w.out) - begin;
    if (count <= 0) continue;
    const float* from = c + begin - first;
    float* to = y + row * args.y_row + (begin - start) * args.y_col;
    for (int64_t r = 0; r < filters; ++r, from += kNR, to += args.y_plane) {
      if (args.y_col == 1) {
        copy_run(to, from, count);
      } else {
        for (int64_t i = 0; i < count; ++i) to[i * args.y_col] = from[i];
      }
    }
  }
}

// All filters at outputs [first, first + n), n <= kNR.
void conv_strip(const ConvArgs& args, const ConvItem& item, int64_t row_length, int64_t pitch,
                int64_t first, int64_t n) {
  const ConvGrid& g = args.grid;
  const int64_t vectors = ceil_div(n, kLanes);
  // Where each vector reads in the band and writes in y. One division, of 32 bits: a tile is short.
  ConvTile t{};
  t.k = g.depth(), t.planes = item.band, t.at = item.at;
  int64_t row = static_cast<uint32_t>(first) / static_cast<uint32_t>(pitch);
  int64_t col = first - row * pitch;
  const int64_t begin = row * g.w.out + col;
  for (int64_t v = 0; v < vectors; ++v) {
    t.place[v] = row * row_length + col;
    t.to[v] = row * g.w.out + col - begin;
    if (v + 1 < vectors)
      for (col += kLanes; col >= pitch; col -= pitch) ++row;
  }
  // Vectors go where they belong, and what the last of a row writes behind it is written again;
  // not so at the end of the band or where outputs are apart: those go by way of a padded copy.
  const bool dense = args.y_col == 1 && args.y_row == g.w.out &&
                     (pitch == g.w.out || pitch == conv_units(g.w.out, kLanes));
  const int64_t last = t.to[vectors - 1];
  const bool direct = dense && begin + last + kLanes <= item.rows * g.w.out;
  const int64_t in_last = pitch == g.w.out ? kLanes : least(kLanes, g.w.out - col);
  const int64_t cols = direct ? last + in_last : vectors * kLanes;
  alignas(64) float padded[kMaxRows * kNR];
  for (int64_t v = 0; v < vectors && !direct; ++v) t.to[v] = v * kLanes;
  t.ldc = direct ? args.y_plane : kNR;
  const int64_t tiles = ceil_div(g.filters, tile_rows(static_cast<int>(vectors)));
  for (int64_t q = 0; q < tiles; ++q) {
    const int64_t o = conv_begin(g.filters, q, tiles);
    const int64_t filters = conv_begin(g.filters, q + 1, tiles) - o;
    float* y = item.y + o * args.y_plane;
    float* z = item.z ? item.z + o * args.y_plane : nullptr;
    t.w = item.w + o * t.k;
    t.bias = item.bias ? item.bias + o : nullptr;
    t.c = direct ? y + begin : padded;
    kConvTiles.of[vectors - 1].of_rows[filters - 1](t);
    if (z && direct) {
      for (int64_t r = 0; r < filters; ++r) copy_run(z + begin + r * t.ldc, t.c + r * t.ldc, cols);
    } else if (z) {
      store_outputs(args, padded, filters, pitch, first, n, z);
    }
    if (args.activation)
      kActivate.tile[args.activation](t.c, t.ldc, filters, cols, args.activation_param);
    if (!direct) store_outputs(args, padded, filters, pitch, first, n, y);
  }
}

// Scratch of a range of tasks is that of its first: the band stays in the cache.
void conv(const ConvArgs& args, Slice s) {
  const ConvGrid& g = args.grid;
  const ConvPlan plan = conv_plan(g);
  const auto *x = static_cast<const float*>(args.x), *w = static_cast<const float*>(args.w);
  const auto* bias = static_cast<const float*>(args.bias);
  auto *y = static_cast<float*>(args.y), *z = static_cast<float*>(args.z);
  float* band = args.scratch + s.begin * plan.scratch;
  auto* at = reinterpret_cast<int32_t*>(band + plan.band);
  const int64_t phases = g.h.phases() * g.w.phases();
  for (int64_t c = 0, k = 0; c < g.channels; ++c)
    for (int64_t i = 0; i < g.h.taps; ++i)
      for (int64_t j = 0; j < g.w.taps; ++j)
        at[k++] = static_cast<int32_t>(c * phases * plan.plane + band_offset(g, plan.plane, i, j));
  const int64_t end = conv_begin(plan.items, s.end, plan.tasks);
  for (int64_t i = conv_begin(plan.items, s.begin, plan.tasks); i < end; ++i) {
    const int64_t image = i / plan.bands, group = image % g.groups;  // image: of all groups
    const int64_t row = i % plan.bands * plan.rows, rows = least(plan.rows, g.h.out - row);
    const int64_t at_y = image * g.filters * args.y_plane + row * args.y_row;
    for (int64_t c = 0; c < g.channels && g.depth() > 0; ++c)
      copy_channel(g, plan.plane, x + (image * g.channels + c) * g.in_size(), row, rows,
                   band + c * phases * plan.plane);
    const ConvItem item{w + group * g.filters * g.depth(),
                        bias ? bias + group * g.filters : nullptr,
                        y + at_y,
                        z ? z + at_y : nullptr,
                        band,
                        at,
                        rows};
    const int64_t pitch = pitch_of(g, plan, rows), outputs = (rows - 1) * pitch + g.w.out;
    for (int64_t first = 0; first < outputs; first += kNR)
      conv_strip(args, item, plan.row_length, pitch, first, least(kNR, outputs - first));
  }
}

// Tasks: (group, channel).
void conv_turn(const ConvTurnArgs& args, Slice s) {
  const ConvTurnAxis &h = args.h, &w = args.w_axis;
  const int64_t taps = int64_t{h.taps} * w.taps, all = int64_t{h.all} * w.all;
  for (int64_t task = s.begin; task < s.end; ++task) {
    const int64_t group = task / args.channels, channel = task % args.channels;
    float* out = static_cast<float*>(args.turned) + task * args.filters * taps;
    for (int64_t o = 0; o < args.filters; ++o) {
      const float* from = static_cast<const float*>(args.w) +
                          ((group * args.filters + o) * args.channels + channel) * all;
      for (int64_t i = h.taps - 1; i >= 0; --i)
        for (int64_t j = w.taps - 1; j >= 0; --j)
          *out++ = from[(h.first + i * h.step) * w.all + w.first + j * w.step];
    }
  }
}

// ---- gradients of weights and bias -----------------------------------------------------------

void conv_bwd_weight(const ConvWeightArgs& args, Slice s) {
  const ConvGrid& g = args.grid;
  const ConvWeightPlan plan = conv_weight_plan(g);
  float* dz = args.scratch + s.begin * plan.scratch;
  float* bands = dz + g.filters * kConvSpanRow;
  const int64_t depth = g.depth(), units = ceil_div(depth, kConvUnit);
  for (int64_t task = s.begin; task < s.end; ++task) {
    const int64_t chunk = task % plan.chunks, part = task / plan.chunks % plan.parts;
    const int64_t group = task / plan.chunks / plan.parts;
    const int64_t k_begin = conv_begin(units, part, plan.parts) * kConvUnit;
    const int64_t k_end = least(depth, conv_begin(units, part + 1, plan.parts) * kConvUnit);
    double* sums = args.partials + (chunk * g.groups + group) * g.filters * depth;
    for (int64_t o = 0; o < g.filters; ++o)
      for (int64_t k = k_begin; k < k_end; ++k) sums[o * depth + k] = 0;
    const ConvWeightTask t{args, plan, group, k_begin, k_end, dz, bands};
    const int64_t end = conv_begin(plan.spans, chunk + 1, plan.chunks);
    for (int64_t i = conv_begin(plan.spans, chunk, plan.chunks); i < end; ++i)
      t.add(ConvSpan(g, plan, i), sums);
  }
}

// Tasks: chunks of the weights.
void conv_bwd_weight_sum(const ConvWeightSumArgs& args, Slice s) {
  const Range r = elements(s, kElementwiseChunk, args.size);
  for (int64_t i = r.begin; i < r.end; ++i) {
    double total = 0;
    for (int64_t chunk = 0; chunk < args.chunks; ++chunk)
      total += args.partials[chunk * args.size + i];
    static_cast<float*>(args.dw)[i] = static_cast<float>(total);
  }
}

// One plane of a channel; returns the sum of dz, which is in the cache then.
template <class A>
double conv_bwd_plane(const ConvBiasArgs& args, int64_t at) {
  const float* dz = static_cast<const float*>(args.dy) + at;
  if (args.saved != nullptr) {
    const float a = args.activation_param;
    float* to = static_cast<float*>(args.dz) + at;
    zip(dz, static_cast<const float*>(args.saved) + at, to, {0, args.size},
        [a](float dy, float saved) { return A::bwd(dy, saved, a); });
    dz = to;
  }
  return args.db != nullptr ? sum(dz, args.size, 0.f, [](float v) { return v; }) : 0;
}

using ConvBwdPlane = double (*)(const ConvBiasArgs&, int64_t);
template <class... A>
ConvBwdPlane conv_bwd_plane_of(int activation, ActivationList<A...>) {
  static constexpr ConvBwdPlane kOf[] = {conv_bwd_plane<A>...};
  return kOf[activation];
}

// Tasks: channels.
void conv_bwd_bias(const ConvBiasArgs& args, Slice s) {
  const auto plane = conv_bwd_plane_of(args.activation, Activations{});
  for (int64_t c = s.begin; c < s.end; ++c) {
    double total = 0;
    for (int64_t n = 0; n < args.batch; ++n)
      total += plane(args, (n * args.channels + c) * args.size);
    if (args.db != nullptr) static_cast<float*>(args.db)[c] = static_cast<float>(total);
  }
}

constexpr ConvKernels kernels() {
  return {
      .conv = conv,
      .conv_turn = conv_turn,
      .conv_bwd_weight = conv_bwd_weight,
      .conv_bwd_weight_sum = conv_bwd_weight_sum,
      .conv_bwd_bias = conv_bwd_bias,
  };
}

}  // namespace

template <>
constinit const ConvKernels FASTNN_LEVEL::Table<ConvKernels>::of_dtype[kNumTableDTypes] = {
    kernels(), {}, {}, {}};

}  // namespace fastnn
