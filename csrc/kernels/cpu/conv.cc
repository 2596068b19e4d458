// Convolution as an implicit GEMM: the weights are A as they are, and a row of B is the padded band
// of an image read from an offset, so that neither im2col nor a packed panel is ever written.
#include "../conv_phases.h"
#include "activate_tile.h"
#include "conv_bias.h"
#include "conv_block.h"
#include "conv_lanes.h"
#include "conv_strips.h"
#include "conv_threes.h"
#include "conv_weight_lanes.h"
#include "conv_weight_threes.h"
#include "conv_weight_windows.h"
#include "loops.h"
#include "pool_tiles.h"
#include "table.h"

namespace fastnn {
namespace {

// ---- forward, and gradient of the input ------------------------------------------------------

// What is copied for some outputs, and how far apart its rows and channels then are.
struct ConvBand {
  ConvGrid grid;
  int64_t row_length, plane;
};
ConvBand band_of(const ConvGrid& g, const ConvPlan& plan) {
  return {g, plan.row_length, plan.plane};
}

// Offsets in the band: of each k, then, for lanes of filters, behind the products of a sum, of each
// output of its rows.
void conv_offsets(const ConvGrid& g, const ConvPlan& plan, const ConvBand& band, int32_t* at) {
  const int64_t channel = g.h.phases() * g.w.phases() * band.plane;
  const int64_t first = (band.grid.h.pad - g.h.pad) * band.row_length + band.grid.w.pad - g.w.pad;
  for (int64_t c = 0; c < g.channels; ++c)
    for (int64_t i = 0; i < g.h.taps; ++i)
      for (int64_t j = 0; j < g.w.taps; ++j)
        *at++ = static_cast<int32_t>(first + c * channel +
                                     band_offset(g, band.row_length, band.plane, i, j));
  if (plan.lanes) at += 2 * g.depth();
  for (int64_t row = 0; row < plan.rows && plan.lanes; ++row)
    for (int64_t col = 0; col < g.w.out; ++col)
      *at++ = static_cast<int32_t>(row * band.row_length + col);
}

// Copies what an item reads of an image of all groups. kept: as copy_channel() has it.
void copy_item(const ConvArgs& args, const ConvBand& band, int64_t image, int64_t row, int64_t rows,
               bool kept, float* to) {
  const ConvGrid& g = band.grid;
  const float* x = static_cast<const float*>(args.x) + image * g.channels * g.in_size();
  const int64_t channel = g.h.phases() * g.w.phases() * band.plane;
  for (int64_t c = 0; c < g.channels && g.depth() > 0; ++c)
    copy_channel(g, band.plane, x + c * g.in_size(), row, rows, to + c * channel, kept);
}

// The windows of all outputs of an item.
void pool_item(const ConvArgs& args, const ConvPlan& plan, int64_t i, const float* outputs) {
  const ConvGrid& g = args.grid;
  const ConvPooled& to = args.pooled;
  const int64_t row = i % plan.bands * plan.rows, rows = least(plan.rows, g.h.out - row);
  const int64_t together = plan.bands == 1 ? g.filters : 1;  // planes that lie side by side
  const PoolGrid windows = pool_twos(together, rows, g.w.out);
  const auto pool = to.places ? max_pool_tiles<true, float> : max_pool_tiles<false, float>;
  for (int64_t o = 0; o < g.filters; o += together) {
    const int64_t plane = i / plan.bands * g.filters + o, at = plane * to.size() + row / 2 * to.w;
    pool(outputs + o * args.y_plane, static_cast<float*>(to.y) + at,
         to.places ? to.places + at : nullptr, windows, {0, together});
  }
}

// An item, to its own memory if there is some; `more` says that the image after this comes next.
ConvItem item_of(const ConvArgs& args, const ConvPlan& plan, int64_t i, const float* band,
                 int32_t* at, bool more, float* outputs) {
  const ConvGrid& g = args.grid;
  const auto *x = static_cast<const float*>(args.x), *w = static_cast<const float*>(args.w);
  const auto* bias = static_cast<const float*>(args.bias);
  auto *y = static_cast<float*>(args.y), *z = static_cast<float*>(args.z);
  const int64_t filters = plan.lanes ? round_up(g.filters, kConvLanes) : g.filters;
  const int64_t image = i / plan.bands, group = image % g.groups;  // image: of all groups
  const int64_t row = i % plan.bands * plan.rows, rows = least(plan.rows, g.h.out - row);
  const int64_t at_y = image * g.filters * args.y_plane + row * args.y_row;
  const float* next = x + (image + 1) * g.channels * g.in_size();
  return {w + group * filters * g.depth(),
          bias ? bias + group * g.filters : nullptr,
          outputs ? outputs : y + at_y,
          z ? z + at_y : nullptr,
          band,
          at,
          row,
          rows,
          {next, more ? g.channels : 0, g.in_size(), g.in_size()}};
}
// All its outputs, from what its band has of rows that are row_length apart.
void conv_item(const ConvArgs& args, const ConvItem& item, bool lanes, int64_t row_length) {
  if (lanes) return ConvLanes{args, item, {}}.run();
  ConvStrips(args, item, row_length, pitch_of(args.grid, row_length, item.rows)).run();
}

// `scratch` is that of one task for as many as there are, so that the band stays in the cache.
void conv_tasks(const ConvArgs& args, Slice s, int64_t scratch) {
  const ConvGrid& g = args.grid;
  const ConvPlan plan = conv_plan(g);
  const int64_t pooled = args.pooled.y ? conv_pooled_floats(plan, g) : 0;
  float* copied = args.scratch + scratch * (plan.scratch + pooled);
  float* outputs = pooled > 0 ? copied + plan.scratch : nullptr;
  auto* at = reinterpret_cast<int32_t*>(copied + plan.band);
  const ConvBand band = band_of(g, plan);
  const bool threes = !plan.images && !plan.lanes && conv_has_threes(args);
  ThreesColumns columns;
  if (threes) {
    columns.find(g.w);
    __builtin_memset(copied, 0, sizeof(float) * static_cast<size_t>(plan.row_length));
  } else if (!plan.images) {
    conv_offsets(g, plan, band, at);
  }
  const int64_t begin = conv_begin(plan.items, s.begin, plan.tasks);
  const int64_t end = conv_begin(plan.items, s.end, plan.tasks);
  for (int64_t i = begin; i < end; ++i) {
    const bool one = plan.bands == 1, kept = one && (i > begin || s.begin > scratch);
    if (plan.images) {
      conv_block(args, plan, i, kept, copied);
      continue;
    }
    const int64_t image = i / plan.bands;
    const ConvItem item = item_of(args, plan, i, copied, at, one && i + 1 < end, outputs);
    if (threes) {
      conv_threes(args, columns, item, static_cast<const float*>(args.x) + image * g.in_size());
    } else {
      copy_item(args, band, image, item.row, item.rows, kept, copied);
      conv_item(args, item, plan.lanes, band.row_length);
    }
    if (outputs) pool_item(args, plan, i, outputs);
  }
}

void conv(const ConvArgs& args, Slice s) { conv_tasks(args, s, s.begin); }

// Item by item: the phases fill the lines they share while these are in the cache.
void conv_phases(const ConvPhasesArgs& args, Slice s) {
  if (args.count == 1) return conv(args.phases[0], s);
  const ConvPhasesPlan shared = conv_phases_plan(args);
  for (int64_t task = s.begin; task < s.end && !shared.shared; ++task)
    for (int32_t p = 0; p < args.count; ++p)
      conv_tasks(args.phases[p], {task, task + 1, s.stream}, s.begin);
  if (!shared.shared) return;
  ConvPlan plans[kConvPhases];
  int32_t* at[kConvPhases];
  const ConvBand band{shared.grid, shared.row_length, shared.plane};
  for (int32_t p = 0; p < args.count; ++p) {
    plans[p] = conv_plan(args.phases[p].grid);
    const int64_t of_task = plans[p].scratch + (p == 0 ? shared.band : 0);
    float* scratch = args.phases[p].scratch + s.begin * of_task;
    at[p] = reinterpret_cast<int32_t*>(scratch + plans[p].band);
    conv_offsets(args.phases[p].grid, plans[p], band, at[p]);
  }
  const ConvPlan& plan = plans[0];
  const bool one = plan.bands == 1;
  float* copied = args.phases[0].scratch + s.begin * (plan.scratch + shared.band) + plan.scratch;
  const int64_t begin = conv_begin(plan.items, s.begin, plan.tasks);
  const int64_t end = conv_begin(plan.items, s.end, plan.tasks);
  for (int64_t i = begin; i < end; ++i) {
    const int64_t row = i % plan.bands * plan.rows;
    copy_item(args.phases[0], band, i / plan.bands, row, least(plan.rows, band.grid.h.out - row),
              one && i > begin, copied);
    for (int32_t p = 0; p < args.count; ++p) {
      const ConvArgs& phase = args.phases[p];
      const bool more = p == 0 && one && i + 1 < end;
      conv_item(phase, item_of(phase, plans[p], i, copied, at[p], more, nullptr), plans[p].lanes,
                band.row_length);
    }
  }
}

// `rows` rows of weights from w, padded to `width`, for each k; or, without lanes, each by itself.
void pack_weights(const ConvPackArgs& args, const float* w, int64_t rows, int64_t width,
                  float* out) {
  const ConvPackAxis &h = args.h, &v = args.w_axis;
  const int64_t taps = int64_t{h.all} * v.all, row_step = args.row_step * taps;
  if (args.channel_step == 1 && h.taps * v.taps == taps && h.step == 1 && v.step == 1)
    return pack_panel(out, w, row_step, 1, args.channels * taps, rows, width);
  for (int64_t c = 0; c < args.channels; ++c, w += args.channel_step * taps)
    for (int64_t i = 0; i < h.taps; ++i)
      for (int64_t j = 0; j < v.taps; ++j, out += width) {
        const float* from = w + (h.first + i * h.step) * v.all + v.first + j * v.step;
        for (int64_t r = 0; r < width; ++r) out[r] = from[least(r, rows - 1) * row_step];
      }
}

// Tasks: (group, kConvPackRows rows).
void conv_pack(const ConvPackArgs& args, Slice s) {
  const int64_t blocks = ceil_div(args.rows, kConvPackRows);
  const int64_t taps = int64_t{args.h.all} * args.w_axis.all;
  const int64_t depth = args.channels * args.h.taps * args.w_axis.taps;
  const int64_t stored = args.lanes ? round_up(args.rows, kConvLanes) : args.rows;
  const auto* w = static_cast<const float*>(args.w);
  auto* packed = static_cast<float*>(args.packed);
  for (int64_t task = s.begin; task < s.end; ++task) {
    const int64_t group = task / blocks, begin = task % blocks * kConvPackRows;
    const int64_t end = least(args.rows, begin + kConvPackRows);
    for (int64_t r = begin, panel; r < end; r += panel) {
      panel = args.lanes ? least(kNR, end - r) : 1;
      pack_weights(args, w + (group * args.rows * args.channels + r * args.row_step) * taps, panel,
                   args.lanes ? round_up(panel, kLanes) : 1, packed + (group * stored + r) * depth);
    }
  }
}

// ---- gradients of weights and bias -----------------------------------------------------------

void conv_bwd_weight(const ConvWeightArgs& given, Slice s) {
  if (conv_sums_windows(given.windows, given.grid)) return conv_bwd_weight_windows(given, s);
  const ConvWeightPlan plan = conv_weight_plan(given.grid);
  ConvWeightArgs args = given;
  if (plan.images_in_lanes) args.grid = conv_side_by_side(given.grid);
  const ConvGrid& g = args.grid;
  float* dz = args.scratch + s.begin * plan.scratch;
  float* bands = dz + (plan.lanes ? kConvSpan * plan.row : round_up(g.filters * kConvSpanRow, 16));
  const int64_t depth = g.depth(), units = ceil_div(depth, kConvUnit);
  for (int64_t task = s.begin; task < s.end; ++task) {
    const int64_t chunk = task % plan.chunks, part = task / plan.chunks % plan.parts;
    const int64_t group = task / plan.chunks / plan.parts;
    const int64_t k_begin = conv_begin(units, part, plan.parts) * kConvUnit;
    const int64_t k_end = least(depth, conv_begin(units, part + 1, plan.parts) * kConvUnit);
    double* sums = args.partials + (chunk * g.groups + group) * plan.sums;
    const int64_t rows = plan.lanes ? 1 : g.filters;  // of which this task's k are a run
    const int64_t of_k = plan.lanes ? plan.row : 1;
    for (int64_t r = 0; r < rows; ++r)
      for (int64_t i = k_begin * of_k; i < k_end * of_k; ++i) sums[r * depth + i] = 0;
    const ConvWeightTask t{args, given.grid, plan, group, k_begin, k_end, dz, bands};
    const int64_t end = conv_begin(plan.spans, chunk + 1, plan.chunks);
    for (int64_t i = conv_begin(plan.spans, chunk, plan.chunks); i < end; ++i) {
      const ConvSpan span(g, plan, i);
      if (plan.lanes)
        ConvWeightLanes(t).add(span, sums);
      else if (plan.threes && kKeepsThrees)
        ConvWeightThrees{t}.add(span, ConvSpan(g, plan, least(i + 1, end - 1)), sums);
      else
        t.add(span, sums);
    }
  }
}

// Tasks: (group, kConvSumRows of its k), or, of windows, (group, filter).
void conv_bwd_weight_sum(const ConvWeightSumArgs& args, Slice s) {
  if (conv_sums_windows(args.windows, args.grid)) return conv_bwd_weight_windows_sum(args, s);
  const ConvGrid& g = args.grid;
  const ConvWeightPlan plan = conv_weight_plan(g);
  auto* dw = static_cast<float*>(args.dw);
  const int64_t depth = g.depth(), blocks = ceil_div(depth, kConvSumRows);
  const int64_t of_k = plan.lanes ? plan.row : 1, of_filter = plan.lanes ? 1 : plan.row;
  for (int64_t task = s.begin; task < s.end; ++task) {
    const int64_t group = task / blocks, begin = task % blocks * kConvSumRows;
    for (int64_t k = begin; k < least(depth, begin + kConvSumRows); ++k)
      for (int64_t o = 0; o < g.filters; ++o) {
        const double* from = args.partials + group * plan.sums + k * of_k + o * of_filter;
        double total = 0;
        for (int64_t chunk = 0; chunk < args.chunks; ++chunk)
          total += from[chunk * g.groups * plan.sums];
        dw[(group * g.filters + o) * depth + k] = static_cast<float>(total);
      }
  }
}

constexpr ConvKernels kernels() {
  return {
      .conv = conv,
      .conv_phases = conv_phases,
      .conv_pack = conv_pack,
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
