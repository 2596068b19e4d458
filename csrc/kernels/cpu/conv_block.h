// All outputs of some rows of a block of images, which are in the lanes.
#pragma once
#include "conv_images.h"

namespace fastnn {
namespace {

// An item whose images are in the lanes. kept: as turn_inside() has it.
void conv_block(const ConvArgs& args, const ConvPlan& plan, int64_t item, bool kept, float* band) {
  const ConvGrid& g = args.grid;
  const int64_t image = item / plan.bands, group = image % g.groups;
  const int64_t row = item % plan.bands * plan.rows, rows = least(plan.rows, g.h.out - row);
  const int64_t size = args.windows.places ? args.windows.size() : g.in_size();
  const ConvBlock block(g.batch, image / g.groups, g.groups * g.channels * size);
  const float* w = static_cast<const float*>(args.w) + group * g.filters * g.depth();
  const auto* bias = static_cast<const float*>(args.bias);
  const auto* x = static_cast<const float*>(args.x);
  for (int64_t c = 0; c < g.channels; ++c) {
    const int64_t first = block.first * block.apart + (group * g.channels + c) * size;
    float* to = band + c * plan.plane;
    if (args.windows.places)
      turn_inside(g, row, rows, to, kept,
                  [&](Inside down, Inside across, float* part, int64_t step) {
                    TurnedWindows{x, args.windows, first, block}.turn(down, across, part, step);
                  });
    else
      turn_channel(g, block, x + first, row, rows, to, kept);
  }
  ConvArgs to = args;
  const ConvPooled& pooled = args.pooled;
  const int64_t plane = pooled.y ? pooled.size() : args.y_plane;
  to.y_plane = g.groups * g.filters * plane;
  const int64_t at_y = block.first * to.y_plane + group * g.filters * plane +
                       (pooled.y ? row / 2 * pooled.w : row * args.y_row);
  auto *y = static_cast<float*>(pooled.y ? pooled.y : args.y), *z = static_cast<float*>(args.z);
  float* products = band + plan.band;
  float* runs = band + round_up(plan.band + 2 * g.depth(), 16);
  ConvImages{.args = to,
             .plan = plan,
             .w = w,
             .bias = bias ? bias + group * g.filters : nullptr,
             .band = band,
             .y = y + at_y,
             .z = z ? z + at_y : nullptr,
             .places = pooled.places ? pooled.places + at_y : nullptr,
             .plane = plane,
             .images = block.images,
             .row = row,
             .rows = rows,
             .all_taps = !all_finite(w, g.filters * g.depth()),
             .products = reinterpret_cast<ConvProduct*>(products),
             .runs = reinterpret_cast<ImagesRun*>(runs),
             .c = runs + round_up(3 * conv_image_runs(g), 16),
             .windows = band + plan.scratch}
      .run();
}

}  // namespace
}  // namespace fastnn
