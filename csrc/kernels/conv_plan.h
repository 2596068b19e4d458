// Convolution: its geometry, and how it is cut into tasks, as pure functions of shape. As in GEMM
// neither the number of threads nor the instruction set enters, and no cut changes a result.
#pragma once
#include <cstdint>

#include "slice.h"

namespace fastnn {

// out[o] = sum over taps t of w[t] in[o stride + t dilation - pad], where what is outside is 0.
// The pad of a gradient may be negative, and it may have no taps.
struct ConvAxis {
  int64_t in, out;
  int32_t taps, stride, dilation, pad;
  constexpr int64_t reach() const { return taps > 0 ? int64_t{dilation} * (taps - 1) : 0; }
  // Positions modulo the stride are phases: within one, neighbouring outputs read neighbours.
  constexpr int64_t phases() const { return stride <= reach() ? stride : reach() + 1; }
  // Positions of a phase that `outs` outputs read.
  constexpr int64_t length(int64_t outs) const { return outs + reach() / stride; }
};

// `channels` and `filters` are those of one group.
struct ConvGrid {
  int64_t batch, groups, channels, filters;
  ConvAxis h, w;
  constexpr int64_t depth() const { return channels * h.taps * w.taps; }
  constexpr int64_t in_size() const { return h.in * w.in; }
  constexpr int64_t out_size() const { return h.out * w.out; }
};

// Vectors of any instruction set are parts of this many lanes.
inline constexpr int64_t kConvLanes = 16;
// Tasks at most, and floats of a band: of what the outputs of some rows read, it stays in L2.
inline constexpr int64_t kConvTasks = 32, kConvBand = int64_t{1} << 17;
// With filters in the lanes, rows of at least this many outputs are summed by themselves where
// their windows leave the image, and make no product with its padding.
inline constexpr int64_t kConvLongRow = 16;
// Where images are in the lanes: the longest row of a band (not longer than a span), how many items
// are worth it that bands read the same rows, and filters whose outputs wait for being turned back.
inline constexpr int64_t kConvLongest = 64, kConvImageItems = 8, kConvImageFilters = 6;
// Floats of outputs that are pooled at a time there: they stay in L1.
inline constexpr int64_t kConvPooled = 6144;
// One task of conv_pack packs this many rows of weights.
inline constexpr int64_t kConvPackRows = 64;
// Vectors run over the ends of rows, into at most this many floats behind the last.
inline constexpr int64_t kConvSlack = 64;

// The gradient of the weights sums over positions: in 16 lanes, then rows are cut into whole
// vectors and a span is a chain of at most 64 fma per lane; or with filters in the lanes. Spans
// (some images, or some rows of one, or a part of a row) are added in order in float64.
inline constexpr int64_t kConvSpan = 1024;
// From row to row of a span in scratch: not a power of two, whose rows share sets of the L1 cache.
inline constexpr int64_t kConvSpanRow = kConvSpan + kConvLanes;
// A task of it has rows of k in units, a multiple of every instruction set's tile.
inline constexpr int64_t kConvUnit = 12, kConvWeightTasks = 16;
// A task of the sums over chunks has this many k.
inline constexpr int64_t kConvSumRows = 16;
// A tile's rows of k may be of several channels where a kernel has fewer elements than this.
inline constexpr int64_t kConvTaps = 8;
// Of the gradient that is summed over windows: windows of a chain (of two where runs are shortest),
// and floats of the shortest runs of a patch and the longest.
inline constexpr int64_t kConvWindows = 64, kConvShortRun = 8, kConvLongRun = 512;
inline constexpr int64_t kConvPartials = int64_t{1} << 20;
// On a GPU a gradient is summed in chunks of at least so many positions, as many as give so many
// blocks.
inline constexpr int64_t kConvGpuChunk = 512, kConvGpuBlocks = 512;
inline constexpr int64_t kConvGpuPartials = int64_t{1} << 22;

// Internal linkage: the kernels of every instruction set include this, and must not share code.
namespace {

// Part `part` of `size` items in `parts` nearly equal ranges begins here.
constexpr int64_t conv_begin(int64_t size, int64_t part, int64_t parts) {
  return size * part / parts;
}

// A channel by 3 x 3 taps, rows of which lie side by side, as in depthwise layers.
constexpr bool conv_is_of_threes(const ConvGrid& g) {
  return g.channels == 1 && g.h.taps == 3 && g.w.taps == 3 && g.h.stride == 1 && g.w.stride == 1 &&
         g.h.dilation == 1;
}

// Vectors are of filters or of positions. In products of one element: a tile of positions loads
// across cache lines, and its vectors run over the ends of rows; one of filters is transposed into
// y, and a single vector of filters waits for its fma.
struct ConvCosts {
  int64_t by_filters, by_positions;
};
// Vectors of positions begin with each row of outputs, or run over the ends of rows.
constexpr int64_t conv_positions(const ConvGrid& g) {
  const int64_t apart = g.h.out * round_up(g.w.out, kConvLanes);
  const int64_t end = (g.h.out - 1) * g.w.length(g.w.out) + g.w.out;
  const int64_t through = round_up(end, kConvLanes);
  return 4 * apart <= 5 * through ? apart : through;
}
constexpr ConvCosts conv_costs(const ConvGrid& g) {
  const int64_t filters = round_up(g.filters, kConvLanes);
  const int64_t by_filters = (g.depth() + 32) * filters * g.out_size();
  return {(filters > kConvLanes ? 40 : 50) * by_filters / 4,
          (11 * g.depth() + 160) * g.filters * conv_positions(g)};
}
constexpr bool conv_has_lanes(const ConvGrid& g) {
  const ConvCosts costs = conv_costs(g);
  return g.depth() > 0 && costs.by_filters < costs.by_positions;
}

// Images side by side, in the lanes: each element of an image is kConvLanes floats, one of each.
// Then a vector is whole whatever the size of an image, and no load crosses a cache line.
constexpr ConvGrid conv_side_by_side(const ConvGrid& g) {
  constexpr auto lanes = static_cast<int32_t>(kConvLanes);
  return {ceil_div(g.batch, kConvLanes),
          g.groups,
          g.channels,
          g.filters,
          g.h,
          {g.w.in * lanes, g.w.out * lanes, g.w.taps, 1, g.w.dilation * lanes, g.w.pad * lanes}};
}
// Where outputs side by side read neighbours, and a band of a row stays in L2.
constexpr bool conv_may_be_side_by_side(const ConvGrid& g) {
  const int64_t length = g.w.length(g.w.out);
  return g.depth() > 0 && g.h.stride == 1 && g.w.stride == 1 && length <= kConvLongest &&
         g.w.dilation <= kConvLongest && g.w.pad <= kConvLongest && g.w.pad >= -kConvLongest &&
         g.channels * g.h.length(1) * length * kConvLanes <= kConvBand;
}

// Pairs of an output of an axis and a tap that sees the image.
constexpr int64_t conv_seen(const ConvAxis& axis) {
  int64_t pairs = 0;
  for (int64_t at = -int64_t{axis.pad}, t = 0; t < axis.taps; ++t, at += axis.dilation)
    pairs += most(0, least(axis.out, axis.in - at) - most(0, -at));
  return pairs;
}

// By costs of an image in products, fitted to times, pooled or not, of some hundred shapes. Only
// products with what is inside an image are made; what is turned costs some.
constexpr bool conv_has_images(const ConvGrid& g) {
  if (g.out_size() == 0 || !conv_may_be_side_by_side(g)) return false;
  if (conv_is_of_threes(g) && g.w.out >= kConvLanes) return false;  // conv_threes.h takes half
  const int64_t products = g.channels * conv_seen(g.h) * conv_seen(g.w);
  const int64_t of_filter = products + 8 * g.out_size() + 14 * g.h.out;
  // Bands of these rows of outputs, each of which turns what it reads.
  const int64_t row = g.channels * g.w.length(g.w.out) * kConvLanes;
  const int64_t rows = least(g.h.out, kConvBand / row - g.h.reach());
  const int64_t turned = g.channels * g.in_size() * (rows + g.h.reach()) / rows;
  const int64_t by_images = g.filters * of_filter + 8 * turned + 5600;
  const int64_t by_positions = g.filters * conv_positions(g) * (g.depth() + 6) + 15000;
  const int64_t by_filters = conv_costs(g).by_filters / (g.filters > kConvLanes ? 12 : 10);
  const int64_t other = conv_has_lanes(g) ? by_filters : by_positions;
  return round_up(g.batch, kConvLanes) * by_images < g.batch * other;
}

// Runs of products in a sum, each of a chain: one per channel, and one more where a chain of at
// least kConvLanes ends.
constexpr int64_t conv_image_runs(const ConvGrid& g) {
  return g.channels + g.depth() / kConvLanes + 1;
}

// Items are (image, group, band of output rows); a task is a range of them.
struct ConvPlan {
  bool lanes;           // of filters, whose weights are packed: filters rounded up to kConvLanes
  bool images;          // in the lanes: all of this is that of conv_side_by_side()
  int64_t rows, bands;  // output rows of a band, bands of an image
  int64_t row_length, plane;      // of the phases that a band reads: floats of a row, of a phase
  int64_t band;                   // floats of all channels
  int64_t items, tasks, scratch;  // floats of scratch per task, a multiple of a cache line
};

constexpr ConvPlan conv_plan(const ConvGrid& grid) {
  ConvPlan plan{};
  plan.images = conv_has_images(grid);
  plan.lanes = !plan.images && conv_has_lanes(grid);
  const ConvGrid g = plan.images ? conv_side_by_side(grid) : grid;
  const int64_t wanted = plan.images ? kConvImageItems : kConvWeightTasks;
  const int64_t phases = g.channels * g.h.phases() * g.w.phases(), images = g.batch * g.groups;
  plan.row_length = g.w.length(g.w.out);
  const auto band_of = [&](int64_t rows) { return phases * g.h.length(rows) * plan.row_length; };
  plan.rows = g.h.out;
  while (plan.rows > 1 &&
         (band_of(plan.rows) > kConvBand ||
          (images * ceil_div(g.h.out, plan.rows) < wanted && plan.rows * g.w.out > 256)))
    // Even where it can be: windows of 2 x 2 are then of one item (conv_may_pool).
    plan.rows = plan.rows > 4 ? round_up(ceil_div(plan.rows, 2), 2) : ceil_div(plan.rows, 2);
  plan.bands = plan.rows > 0 ? ceil_div(g.h.out, plan.rows) : 0;
  plan.plane = g.h.length(plan.rows) * plan.row_length;
  plan.band = phases * plan.plane + kConvSlack;
  plan.items = images * plan.bands;
  plan.tasks = plan.items < kConvTasks ? plan.items : kConvTasks;
  // Offsets of each k, and, for lanes, of each output; and the products of some outputs' sums.
  const int64_t offsets = g.depth() + (plan.lanes ? plan.rows * g.w.out + 2 * g.depth() : 0);
  plan.scratch = round_up(plan.band + offsets, 16);
  if (plan.images)
    plan.scratch = round_up(plan.band + 2 * g.depth(), 16) + round_up(3 * conv_image_runs(g), 16) +
                   kConvImageFilters * plan.rows * g.w.out;
  return plan;
}

// More floats of scratch per task where outputs are pooled by windows of 2 x 2: an item's outputs,
// or, with images in the lanes, the windows of some filters and their places.
constexpr int64_t conv_pooled_floats(const ConvPlan& plan, const ConvGrid& g) {
  if (!plan.images) return round_up(g.filters * plan.rows * g.w.out + kConvSlack, 16);
  const int64_t filters = least(g.filters, kConvImageFilters);
  return round_up(filters * (plan.rows / 2) * (g.w.out / 2) * kConvLanes * 5 / 4, 16);
}
// Where no window is of two items, whose outputs stay in L2.
constexpr bool conv_may_pool(const ConvPlan& plan, const ConvGrid& g) {
  return (plan.bands == 1 || plan.rows % 2 == 0) && conv_pooled_floats(plan, g) <= kConvBand;
}

// The same of the gradient of the weights, whose vectors of positions end with each row.
constexpr ConvCosts conv_weight_costs(const ConvGrid& g) {
  const int64_t positions = g.h.out * round_up(g.w.out, kConvLanes);
  const int64_t filters = round_up(g.filters, kConvLanes);
  const int64_t by_filters = (g.depth() + 8) * filters * g.out_size();
  return {(filters > kConvLanes ? 4 : 5) * by_filters / 5, g.depth() * g.filters * positions};
}
constexpr bool conv_weight_has_lanes(const ConvGrid& g) {
  const ConvCosts costs = conv_weight_costs(g);
  return costs.by_filters < costs.by_positions;
}
constexpr int64_t conv_weight_by_images(const ConvGrid& g) {
  return g.depth() * g.filters * g.out_size();
}
// A filter per channel, whose rows are whole vectors, nearly: else most of the last one is empty.
constexpr bool conv_weight_has_threes(const ConvGrid& g) {
  return conv_is_of_threes(g) && g.filters == 1 && g.w.out >= kConvLanes - 2;
}
constexpr bool conv_weight_has_images(const ConvGrid& g) {
  if (conv_weight_has_threes(g) || !conv_may_be_side_by_side(g)) return false;
  const ConvCosts costs = conv_weight_costs(g);
  return round_up(g.batch, kConvLanes) * conv_weight_by_images(g) <
         g.batch * least(costs.by_filters, costs.by_positions);
}

// Tasks are (group, range of k, chunk of spans); each chunk has sums of its own.
struct ConvWeightPlan {
  bool threes;                           // image and dz are read where they lie
  bool lanes;                            // of filters
  bool images_in_lanes;                  // all of this is that of conv_side_by_side()
  int64_t images, row_parts, col_parts;  // images of a span, or parts of an image
  int64_t spans, chunks, parts;
  int64_t channels;     // whose bands are in scratch at a time
  int64_t plane, band;  // floats of a phase of a channel as far as a span reads it, of all phases
  int64_t bands;        // floats of all bands in scratch
  int64_t row, sums;    // of a group: from row to row of its sums, and all of them
  int64_t scratch;      // floats of scratch per task
  constexpr int64_t tasks(const ConvGrid& g) const { return g.groups * parts * chunks; }
};

constexpr ConvWeightPlan conv_weight_plan(const ConvGrid& grid) {
  ConvWeightPlan plan{};
  plan.threes = conv_weight_has_threes(grid);
  plan.images_in_lanes = conv_weight_has_images(grid);
  plan.lanes = !plan.threes && !plan.images_in_lanes && conv_weight_has_lanes(grid);
  const ConvGrid g = plan.images_in_lanes ? conv_side_by_side(grid) : grid;
  const int64_t width = round_up(g.w.out, kConvLanes), size = g.h.out * width;
  const int64_t depth = g.depth(), rows = width > 0 && width < kConvSpan ? kConvSpan / width : 1;
  plan.images = size > 0 && size <= kConvSpan ? kConvSpan / size : 1;
  plan.row_parts = size <= kConvSpan ? 1 : ceil_div(g.h.out, rows);
  plan.col_parts = size <= kConvSpan ? 1 : ceil_div(g.w.out, kConvSpan);
  plan.spans = size > 0 ? ceil_div(g.batch, plan.images) * plan.row_parts * plan.col_parts : 0;
  plan.row = plan.lanes ? round_up(g.filters, kConvLanes) : depth;
  plan.sums = plan.row * (plan.lanes ? depth : g.filters);
  const int64_t wanted = ceil_div(kConvWeightTasks, g.groups > 0 ? g.groups : 1);
  plan.chunks = plan.spans < wanted ? plan.spans : wanted;
  while (plan.chunks > 1 && plan.chunks * g.groups * plan.sums > kConvPartials)
    plan.chunks = ceil_div(plan.chunks, 2);
  const int64_t units = ceil_div(depth, kConvUnit);
  // Every part copies dz again, so there are more than one only where chunks are few.
  plan.parts = plan.chunks > 0 ? ceil_div(wanted, 2 * plan.chunks) : 0;
  plan.parts = plan.parts < units ? plan.parts : units;
  const int64_t rows_of_span = plan.row_parts > 0 ? ceil_div(g.h.out, plan.row_parts) : 0;
  plan.plane = g.h.length(rows_of_span) * g.w.length(g.w.out);
  plan.band = g.h.phases() * g.w.phases() * plan.plane;
  const int64_t taps = int64_t{g.h.taps} * g.w.taps;
  if (plan.lanes) {  // as many channels as leave the bands, and what they add, in L2
    const int64_t of_one = most(plan.images * plan.band, plan.row * taps);
    plan.channels = of_one > 0 ? most(1, least(g.channels, kConvBand / of_one)) : 1;
  } else {
    plan.channels = taps > 0 && taps < kConvTaps ? kConvTaps / taps : 1;
  }
  plan.bands = round_up(plan.images * plan.channels * plan.band + kConvSlack, 16);
  const int64_t of_lanes = kConvSpan * plan.row + plan.row * plan.channels * taps + 2 * kConvSpan;
  plan.scratch = plan.bands + (plan.lanes ? of_lanes + round_up(plan.channels * taps, 16)
                                          : round_up(g.filters * kConvSpanRow, 16));
  return plan;
}

// The gradient of the weights from windows of 2 x 2 side by side, whose largest elements were taken
// of each image: a window has one position with a gradient, and adds what that one sees of the
// image, its patch. A patch is a run of floats per row of the kernel, since images are copied with
// channels last; loads of runs cross cache lines, and each serves one product.
struct ConvWindowsPlan {
  bool used;
  int64_t row, image;       // floats of a copied image, and of its rows
  int64_t run;              // floats of a run, rounded up to vectors
  int64_t images, windows;  // of a chain: images, or windows of one
  int64_t parts;            // of the windows of an image
  int64_t chains, chunks;
  int64_t sums;     // of a group
  int64_t list;     // patches at most
  int64_t scratch;  // floats of scratch per task
  constexpr int64_t tasks(const ConvGrid& g) const { return g.groups * chunks; }
};

constexpr ConvWindowsPlan conv_windows_plan(const ConvGrid& g) {
  ConvWindowsPlan plan{};
  const int64_t windows = (g.h.out / 2) * (g.w.out / 2), run = g.w.taps * g.channels;
  const bool has_runs = g.h.stride == 1 && g.w.stride == 1 && g.h.dilation == 1 &&
                        g.w.dilation == 1 && g.h.pad >= 0 && g.w.pad >= 0;
  if (!has_runs || windows == 0 || g.depth() == 0) return plan;
  plan.row = g.w.length(g.w.out) * g.channels;
  plan.image = g.h.length(g.h.out) * plan.row;
  plan.run = run <= kConvShortRun ? kConvShortRun : round_up(run, kConvLanes);
  plan.windows = plan.run == kConvShortRun ? 2 * kConvWindows : kConvWindows;
  plan.images = most(1, least(plan.windows / windows, kConvBand / plan.image));
  plan.parts = ceil_div(windows, plan.windows);
  plan.chains = ceil_div(g.batch, plan.images);
  plan.sums = g.filters * g.h.taps * plan.run;
  const int64_t wanted = ceil_div(kConvWeightTasks, g.groups > 0 ? g.groups : 1);
  plan.chunks = least(plan.chains, wanted);
  while (plan.chunks > 1 && plan.chunks * g.groups * plan.sums > kConvPartials)
    plan.chunks = ceil_div(plan.chunks, 2);
  plan.list = round_up(plan.images * g.out_size() + kConvLanes, 16);
  plan.scratch =
      round_up(plan.images * plan.image + kConvSlack, 16) + round_up(windows, 16) + 2 * plan.list;
  const ConvCosts costs = conv_weight_costs(g);
  const int64_t dense = conv_weight_has_images(g) ? conv_weight_by_images(g)
                                                  : least(costs.by_filters, costs.by_positions);
  // In products, as `dense`, which has some more costs.
  const int64_t by_windows = g.filters * windows * (3 * g.h.taps * plan.run / 2 + 32) +
                             8 * g.channels * g.in_size() + 2000;
  plan.used = plan.image <= kConvBand && plan.run <= kConvLongRun && 8 * by_windows < 9 * dense;
  return plan;
}

// What a GPU needs to know of its grids: in how many chunks `positions` are summed, where a chunk
// is `blocks` blocks and has `sums` results.
constexpr int64_t conv_gpu_chunks(int64_t positions, int64_t blocks, int64_t sums) {
  const int64_t most_of_room = kConvGpuPartials / most(sums, 1);
  const int64_t wanted = least(ceil_div(kConvGpuBlocks, most(blocks, 1)), most(most_of_room, 1));
  return least(ceil_div(positions, kConvGpuChunk), wanted);
}
constexpr int64_t conv_gpu_weight_chunks(const ConvGrid& g) {
  const int64_t tiles = ceil_div(g.filters, 64) * ceil_div(g.depth(), 64);
  return conv_gpu_chunks(g.batch * g.out_size(), g.groups * tiles,
                         g.groups * g.filters * g.depth());
}

}  // namespace
}  // namespace fastnn
