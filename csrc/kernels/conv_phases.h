// The phases of one array (families/conv.h) read the same images, each with a padding of its own:
// one band serves all of them, as a pure function of their shapes.
#pragma once
#include "families/conv.h"

namespace fastnn {
namespace {

constexpr ConvAxis conv_axis_of_phases(const ConvPhasesArgs& args, ConvAxis ConvGrid::* axis) {
  ConvAxis all = args.phases[0].grid.*axis;
  for (int32_t p = 1; p < args.count; ++p) {
    const ConvAxis& a = args.phases[p].grid.*axis;
    all.pad = a.pad > all.pad ? a.pad : all.pad;
    all.out = most(all.out, a.out);
  }
  int64_t reach = 0;
  for (int32_t p = 0; p < args.count; ++p) {
    const ConvAxis& a = args.phases[p].grid.*axis;
    reach = most(reach, a.reach() + all.pad - a.pad);
  }
  all.taps = static_cast<int32_t>(reach + 1);
  all.dilation = 1;
  return all;
}

struct ConvPhasesPlan {
  bool shared;                // not where the phases' items differ, or the band is much larger
  ConvGrid grid;              // of the band
  int64_t row_length, plane;  // floats of a row of it, of a channel
  int64_t band;               // behind the scratch of the first phase, for each task
};

constexpr ConvPhasesPlan conv_phases_plan(const ConvPhasesArgs& args) {
  ConvPhasesPlan plan{};
  if (args.count < 2) return plan;
  const ConvPlan first = conv_plan(args.phases[0].grid);
  plan.shared = true;
  for (int32_t p = 0; p < args.count; ++p) {
    const ConvPlan one = conv_plan(args.phases[p].grid);
    plan.shared &= one.lanes && one.rows == first.rows && one.bands == first.bands;
  }
  if (!plan.shared) return plan;
  plan.grid = args.phases[0].grid;
  plan.grid.h = conv_axis_of_phases(args, &ConvGrid::h);
  plan.grid.w = conv_axis_of_phases(args, &ConvGrid::w);
  plan.row_length = plan.grid.w.length(plan.grid.w.out);
  plan.plane = plan.grid.h.length(first.rows) * plan.row_length;
  plan.band = round_up(plan.grid.channels * plan.plane + kConvSlack, 16);
  plan.shared = plan.band <= 2 * first.scratch;
  return plan;
}

}  // namespace
}  // namespace fastnn
