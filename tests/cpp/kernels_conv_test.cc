// The kernels of convolution.
#include <algorithm>

#include "kernels_test.h"

namespace fastnn {
namespace {

struct Case {
  int64_t batch, groups, channels, filters, h, w;
  int32_t taps, stride, dilation, pad;
};

ConvAxis axis_of(int64_t in, const Case& c) {
  ConvAxis axis{in, 0, c.taps, c.stride, c.dilation, c.pad};
  axis.out = (in + 2 * c.pad - axis.reach() - 1) / c.stride + 1;
  return axis;
}

// scale: of x and w, where it is not 1; then there is no bias.
Bytes convolution(const Kernels& k, const Case& c, float scale = 1) {
  const ConvGrid g{c.batch, c.groups, c.channels, c.filters, axis_of(c.h, c), axis_of(c.w, c)};
  const int64_t images = c.batch * c.groups, weights = c.groups * c.filters * g.depth();
  const int64_t outs = images * c.filters * g.out_size();
  Buffer<float> x(images * c.channels * g.in_size()), w(weights), bias(c.groups * c.filters);
  Buffer<float> y(outs, true), z(outs, true), dz(outs, true), db(c.groups * c.filters, true);
  if (scale != 1) {
    for (float& v : x.values) v *= scale;
    for (float& v : w.values) v *= scale;
    for (float& v : bias.values) v = -0.f;
  }
  const ConvPlan plan = conv_plan(g);
  const ConvWeightPlan weight_plan = conv_weight_plan(g);
  Buffer<float> scratch(plan.tasks * plan.scratch, true);
  const int64_t weight_tasks = weight_plan.tasks(g);
#ifdef FASTNN_TEST_CUDA
  const bool lanes = false;
  const int64_t at_once = plan.tasks, weight_at_once = weight_tasks;
#else
  const bool lanes = plan.lanes;
  const int64_t at_once = 1, weight_at_once = 1;  // task by task, each has scratch of its own
#endif
  const int64_t rows = lanes ? round_up(c.filters, kConvLanes) : c.filters;
  const ConvPackAxis taps{c.taps, 0, 1, c.taps}, turned_taps{c.taps, c.taps - 1, -1, c.taps};
  Buffer<float> packed(c.groups * rows * g.depth(), true), turned(weights, true);
  k.conv_pack(
      {w.get(), packed.get(), c.groups, c.filters, c.channels, c.channels, 1, taps, taps, lanes},
      {0, c.groups * ceil_div(c.filters, kConvPackRows), nullptr});
  k.conv_pack({w.get(), turned.get(), c.groups, c.channels, c.filters, 1, c.channels, turned_taps,
               turned_taps, false},
              {0, c.groups * ceil_div(c.channels, kConvPackRows), nullptr});
  for (int64_t task = 0; task < plan.tasks; task += at_once)
    k.conv({x.get(), packed.get(), bias.get(), y.get(), z.get(), g, g.out_size(), g.w.out, 1, 4,
            1.f, scratch.get()},
           {task, task + at_once, nullptr});
  constexpr int64_t kChunks = 2;  // the CPU takes all at once
  Buffer<double> bias_partials(kChunks * c.groups * c.filters, true);
  k.conv_bwd_bias({y.get(), z.get(), dz.get(), db.get(), bias_partials.get(), kChunks, c.batch,
                   c.groups * c.filters, g.out_size(), 4, 1.f},
                  {0, c.groups * c.filters, nullptr});
  Buffer<float> weight_scratch(weight_tasks * weight_plan.scratch, true), dw(weights, true);
  Buffer<double> partials(weight_plan.chunks * c.groups * weight_plan.sums, true);
  for (int64_t task = 0; task < weight_tasks; task += weight_at_once)
    k.conv_bwd_weight(
        {x.get(), dz.get(), partials.get(), g, weight_plan.chunks, weight_scratch.get()},
        {task, task + weight_at_once, nullptr});
  k.conv_bwd_weight_sum({partials.get(), dw.get(), g, weight_plan.chunks},
                        {0, c.groups * ceil_div(g.depth(), kConvSumRows), nullptr});
  Bytes out;
  for (const auto* b : {&y, &z, &dz, &db, &dw, &turned}) append(out, *b);
  for (const float v : dw.values) EXPECT(v == v, "all of dw is written");
  for (const float v : y.values) EXPECT(v == v, "all of y is written");
  return out;
}

#ifndef FASTNN_TEST_CUDA
// The gradient of the weights from windows of 2 x 2, of which every third gradient is 0.
Bytes windows_gradient(const Kernels& k, const Case& c) {
  const ConvGrid g{c.batch, c.groups, c.channels, c.filters, axis_of(c.h, c), axis_of(c.w, c)};
  const ConvWindowsPlan plan = conv_windows_plan(g);
  EXPECT(plan.used, "windows are summed");
  ConvWindows windows{nullptr, g.h.out / 2, g.w.out / 2};
  const int64_t n = c.batch * c.groups * c.filters * windows.size();
  const int64_t weights = c.groups * c.filters * g.depth();
  Buffer<float> x(c.batch * c.groups * c.channels * g.in_size()), dz(n), dw(weights, true);
  Buffer<uint8_t> places(n);
  for (int64_t i = 0; i < n; ++i) {
    places.get()[i] = static_cast<uint8_t>(i * i % 7 % 4);
    if (i % 3 == 0) dz.get()[i] = 0;
  }
  windows.places = places.get();
  Buffer<float> scratch(plan.tasks(g) * plan.scratch, true);
  Buffer<double> partials(plan.chunks * c.groups * plan.sums, true);
  k.conv_bwd_weight({x.get(), dz.get(), partials.get(), g, plan.chunks, scratch.get(), windows},
                    {0, plan.tasks(g), nullptr});
  k.conv_bwd_weight_sum({partials.get(), dw.get(), g, plan.chunks, windows},
                        {0, c.groups * c.filters, nullptr});
  for (const float v : dw.values) EXPECT(v == v, "all of dw is written");
  Bytes out;
  append(out, dw);
  return out;
}
#endif

}  // namespace
}  // namespace fastnn

int main() {
  using fastnn::Case;
  std::vector<Case> cases{{2, 1, 1, 6, 28, 28, 5, 1, 1, 2},   {7, 1, 6, 16, 14, 14, 5, 1, 1, 0},
                          {1, 1, 45, 13, 20, 33, 3, 1, 1, 1}, {2, 3, 2, 1, 9, 16, 3, 2, 1, 1},
                          {1, 2, 9, 7, 8, 40, 1, 1, 1, 0},    {1, 1, 2, 3, 3, 1100, 2, 3, 4, 3},
                          {2, 5, 1, 1, 9, 17, 3, 2, 1, 1},    {1, 2, 1, 1, 12, 14, 9, 1, 1, 4},
                          {2, 1, 20, 70, 9, 9, 3, 1, 1, 1},   {1, 2, 17, 29, 4, 5, 3, 2, 1, 1},
                          {18, 1, 6, 16, 10, 9, 5, 1, 1, 0},  {16, 2, 9, 7, 5, 6, 3, 1, 2, 4},
                          {32, 1, 6, 6, 7, 9, 5, 1, 1, 0}};
#ifdef FASTNN_TEST_CUDA  // so many groups that their tiles are large ones
  const int64_t widths = 9;
  cases.push_back({1, 64, 2, 17, 3, 50, 2, 1, 1, 1});
  cases.push_back({1, 64, 1, 70, 3, 50, 2, 1, 1, 0});
#else
  const int64_t widths = 70;
#endif
  for (int64_t w = 1; w <= widths; ++w)
    cases.push_back({2, 1, 3, 5, 4, w, static_cast<int32_t>(1 + w % 3),
                     1 + static_cast<int32_t>(w / 3 % 2), 1, 1});
  for (const Case& c : cases)
    fastnn::compare(
        "conv w=" + std::to_string(c.w) + " taps=" + std::to_string(c.taps),
        [&](const fastnn::Kernels& k) { return fastnn::convolution(k, c); },
        fastnn::DType::kFloat32);
  // Products underflow, and sums of them to -0: those with padding must not show.
  const Case padded{32, 1, 1, 6, 18, 18, 5, 1, 1, 2};
  fastnn::compare(
      "underflow", [&](const fastnn::Kernels& k) { return fastnn::convolution(k, padded, 1e-23f); },
      fastnn::DType::kFloat32);
#ifndef FASTNN_TEST_CUDA
  const std::vector<Case> pooled{
      {64, 1, 1, 6, 28, 28, 5, 1, 1, 2},  {7, 1, 6, 16, 14, 14, 5, 1, 1, 0},
      {3, 2, 5, 9, 13, 20, 3, 1, 1, 1},   {2, 1, 32, 24, 16, 9, 3, 1, 1, 1},
      {1, 1, 20, 16, 33, 18, 7, 1, 1, 3}, {5, 1, 40, 16, 6, 8, 3, 1, 1, 0}};
  for (const Case& c : pooled)
    fastnn::compare(
        "windows of conv w=" + std::to_string(c.w) + " taps=" + std::to_string(c.taps),
        [&](const fastnn::Kernels& k) { return fastnn::windows_gradient(k, c); },
        fastnn::DType::kFloat32);
#endif
  return report_tests();
}
