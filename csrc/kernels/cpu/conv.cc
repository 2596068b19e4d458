// Convolution as an implicit GEMM: the weights are A as they are, and a row of B is the padded band
// of an image read from an offset, so that neither im2col nor a packed panel is ever written.
#include "../conv_phases.h"
#include "activate_tile.h"
#include "conv_bias.h"
#include "conv_block.h"
#include "conv_lanes.h"
#include "conv_threes.h"
#include "conv_tile.h"
#include "conv_weight_lanes.h"
#include "conv_weight_windows.h"
#include "loops.h"
#include "pool_tiles.h"
#include "table.h"

namespace fastnn {
namespace {

// ---- forward, and gradient of the input ------------------------------------------------------

// Outputs are numbered over rows of `pitch`, more than there are: vectors begin with each row, or
// run through the ends of rows as the band has them, where that saves a fifth of them.
int64_t pitch_of(const ConvGrid& g, int64_t row_length, int64_t rows) {
  const int64_t apart = round_up(g.w.out, kLanes);
  const int64_t through = (rows - 1) * row_length + g.w.out;
  return 4 * rows * apart <= 5 * round_up(through, kLanes) ? apart : row_length;
}

// Outputs [first, first + n) of `filters` filters, from rows of c to y.
void store_outputs(const ConvArgs& args, const float* c, int64_t ldc, int64_t filters,
                   int64_t pitch, int64_t first, int64_t n, float* y) {
  for (int64_t row = first / pitch; row * pitch < first + n; ++row) {
    const int64_t start = row * pitch, begin = first > start ? first : start;
    const int64_t count = least(first + n, start + args.grid.w.out) - begin;
    if (count <= 0) continue;
    const float* from = c + begin - first;
    float* to = y + row * args.y_row + (begin - start) * args.y_col;
    for (int64_t r = 0; r < filters; ++r, from += ldc, to += args.y_plane) {
      if (args.y_col == 1) {
        copy_run(to, from, count);
      } else if (args.y_col == 2 && count >= kLanes) {
        for (int64_t i = 0; i < count; i += kLanes) {
          const int64_t at = least(i, count - kLanes);  // the last overlaps those before
          store_apart(to + 2 * at, load(from + at), MakeIndices<kLanes>::Type{});
        }
      } else {
        for (int64_t i = 0; i < count; ++i) to[i * args.y_col] = from[i];
      }
    }
  }
}

// All outputs of an item, some vectors at a time. Vectors go where they belong, and what the last
// of a row writes behind it is written again; not so at the end of the band or where outputs are
// apart: those go by way of a padded copy.
struct ConvStrips {
  const ConvArgs& args;
  const ConvItem& item;
  int64_t row_length, pitch;
  ConvTile t;  // not cleared first: images may be small
  // What is in t, which the next strip shares if it begins in the same column.
  int64_t col = -1, vectors = 0;
  bool direct = false;
  int64_t last = 0, in_last = 0;      // where the last vector goes, and how much of it
  int64_t rows_on = 0, next_col = 0;  // where the next strip begins
  Heights heights{};

  ConvStrips(const ConvArgs& args, const ConvItem& item, int64_t row_length, int64_t pitch)
      : args(args), item(item), row_length(row_length), pitch(pitch) {}

  // Where vectors read in the band and write in y, from where the first of them does.
  void find_vectors(int64_t first_col, int64_t count) {
    const int64_t out = args.grid.w.out;
    col = next_col = first_col, vectors = count, rows_on = 0, direct = true;
    for (int64_t v = 0; v < vectors; ++v) {
      t.place[v] = rows_on * row_length + next_col - col;
      t.to[v] = last = rows_on * out + next_col - col;
      in_last = pitch == out ? kLanes : least(kLanes, out - next_col);
      for (next_col += kLanes; next_col >= pitch; next_col -= pitch) ++rows_on;
    }
    heights = equal_heights(args.grid.filters, conv_rows(static_cast<int>(vectors)));
  }
  // One behind the other instead.
  void store_padded() {
    for (int64_t v = 0; v < vectors; ++v) t.to[v] = v * kLanes;
    direct = false;
  }

  void run() {
    const ConvGrid& g = args.grid;
    if (g.filters == 0 || g.out_size() == 0) return;
    const bool dense = args.y_col == 1 && args.y_row == g.w.out &&
                       (pitch == g.w.out || pitch == round_up(g.w.out, kLanes));
    const int64_t positions = (item.rows - 1) * pitch + g.w.out;
    int64_t width = conv_vectors(g.filters) * kLanes;
    if (pitch <= width && pitch % kLanes == 0) width -= width % pitch;  // strips begin with rows
    t.k = g.depth(), t.at = item.at;
    t.relu = args.activation == kRelu && item.z == nullptr;
    // Of the image after this each strip fetches its part. LanesAhead would divide twice in each:
    // 5 % of the time of a channel per group.
    const int64_t lines = ceil_div(item.next.planes * item.next.floats, kLineFloats);
    const int64_t at_once = ceil_div(lines, ceil_div(positions, width));
    const float *ahead = item.next.at, *const end = ahead + lines * kLineFloats;
    int64_t row = 0, from = 0;  // where a strip begins
    for (int64_t first = 0; first < positions; first += width) {
      for (int64_t i = 0; i < at_once && ahead < end; ++i, ahead += kLineFloats)
        __builtin_prefetch(ahead, 0, 2);
      const int64_t n = least(width, positions - first), count = ceil_div(n, kLanes);
      if (from != col || count != vectors || (dense && !direct)) find_vectors(from, count);
      const int64_t begin = row * g.w.out + from;
      if (direct && (!dense || begin + last + kLanes > item.rows * g.w.out)) store_padded();
      t.planes = item.band + row * row_length + from;
      multiply(first, n, begin);
      row += rows_on, from = next_col;
    }
  }

  // All filters at outputs [first, first + n), the first of which is at `begin` in a plane of y.
  void multiply(int64_t first, int64_t n, int64_t begin) {
    alignas(64) float padded[kMaxRows * kNR];
    static_assert(kMaxRows * kNV >= 2 * kConvNV);  // R rows of ceil(kConvNV / R) vectors
    t.ldc = direct ? args.y_plane : vectors * kLanes;
    const int64_t cols = direct ? last + in_last : vectors * kLanes;
    int64_t o = 0;
    heights.each([&](int64_t filters, int64_t tiles) {
      for (; tiles > 0; --tiles, o += filters) {
        float* y = item.y + o * args.y_plane;
        float* z = item.z ? item.z + o * args.y_plane : nullptr;
        t.w = item.w + o * t.k;
        t.bias = item.bias ? item.bias + o : nullptr;
        t.c = direct ? y + begin : padded;
        kConvTiles.of[vectors - 1].of_rows[filters - 1](t);
        for (int64_t r = 0; r < filters && z && direct; ++r)
          copy_run(z + begin + r * t.ldc, t.c + r * t.ldc, cols);
        if (z && !direct) store_outputs(args, padded, t.ldc, filters, pitch, first, n, z);
        if (args.activation && !t.relu)
          kActivate.tile[args.activation](t.c, t.ldc, filters, cols, args.activation_param);
        if (!direct) store_outputs(args, padded, t.ldc, filters, pitch, first, n, y);
      }
    });
  }
};

// What is copied for some outputs, and how far apart its rows and channels then are.
struct ConvBand {
  ConvGrid grid;
  int64_t row_length, plane;
};
ConvBand band_of(const ConvGrid& g, const ConvPlan& plan) {
  return {g, plan.row_length, plan.plane};
}

// Offsets in the band: of each k, then, for lanes of filters, of each output of its rows.
void conv_offsets(const ConvGrid& g, const ConvPlan& plan, const ConvBand& band, int32_t* at) {
  const int64_t channel = g.h.phases() * g.w.phases() * band.plane;
  const int64_t first = (band.grid.h.pad - g.h.pad) * band.row_length + band.grid.w.pad - g.w.pad;
  for (int64_t c = 0; c < g.channels; ++c)
    for (int64_t i = 0; i < g.h.taps; ++i)
      for (int64_t j = 0; j < g.w.taps; ++j)
        *at++ = static_cast<int32_t>(first + c * channel +
                                     band_offset(g, band.row_length, band.plane, i, j));
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

// All outputs of an item from its band, to its own memory if there is some; `more` says that the
// image after this comes next.
void conv_item(const ConvArgs& args, const ConvPlan& plan, const ConvBand& band, int64_t i,
               const float* copied, int32_t* at, bool more, float* outputs = nullptr) {
  const ConvGrid& g = args.grid;
  const auto *x = static_cast<const float*>(args.x), *w = static_cast<const float*>(args.w);
  const auto* bias = static_cast<const float*>(args.bias);
  auto *y = static_cast<float*>(args.y), *z = static_cast<float*>(args.z);
  const int64_t filters = plan.lanes ? round_up(g.filters, kConvLanes) : g.filters;
  const int64_t image = i / plan.bands, group = image % g.groups;  // image: of all groups
  const int64_t row = i % plan.bands * plan.rows, rows = least(plan.rows, g.h.out - row);
  const int64_t at_y = image * g.filters * args.y_plane + row * args.y_row;
  const float* next = x + (image + 1) * g.channels * g.in_size();
  const ConvItem item{w + group * filters * g.depth(),
                      bias ? bias + group * g.filters : nullptr,
                      outputs ? outputs : y + at_y,
                      z ? z + at_y : nullptr,
                      copied,
                      at,
                      row,
                      rows,
                      {next, more ? g.channels : 0, g.in_size(), g.in_size()}};
  if (plan.lanes) return ConvLanes{args, item, {}}.run();
  if (conv_has_threes(args)) return conv_threes(args, item, band.row_length);
  ConvStrips(args, item, band.row_length, pitch_of(g, band.row_length, rows)).run();
}

// `scratch` is that of one task for as many as there are, so that the band stays in the cache.
void conv_tasks(const ConvArgs& args, Slice s, int64_t scratch) {
  const ConvPlan plan = conv_plan(args.grid);
  const int64_t pooled = args.pooled.y ? conv_pooled_floats(plan, args.grid) : 0;
  float* copied = args.scratch + scratch * (plan.scratch + pooled);
  float* outputs = pooled > 0 ? copied + plan.scratch : nullptr;
  auto* at = reinterpret_cast<int32_t*>(copied + plan.band);
  const ConvBand band = band_of(args.grid, plan);
  if (!plan.images) conv_offsets(args.grid, plan, band, at);
  const int64_t begin = conv_begin(plan.items, s.begin, plan.tasks);
  const int64_t end = conv_begin(plan.items, s.end, plan.tasks);
  for (int64_t i = begin; i < end; ++i) {
    const bool one = plan.bands == 1, kept = one && (i > begin || s.begin > scratch);
    if (plan.images) {
      conv_block(args, plan, i, kept, copied);
      continue;
    }
    const int64_t row = i % plan.bands * plan.rows;
    copy_item(args, band, i / plan.bands, row, least(plan.rows, args.grid.h.out - row), kept,
              copied);
    conv_item(args, plan, band, i, copied, at, one && i + 1 < end, outputs);
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
    for (int32_t p = 0; p < args.count; ++p)
      conv_item(args.phases[p], plans[p], band, i, copied, at[p], p == 0 && one && i + 1 < end);
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
      plan.lanes ? ConvWeightLanes(t).add(span, sums) : t.add(span, sums);
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
