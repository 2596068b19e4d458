// conv1d, conv2d and conv_transpose2d: y = act(w * x + b) over images, and its gradients. What a
// convolution reads is its wide side, what it writes the narrow one; the gradient of the wide side
// is a transposed convolution, whose forward is that and whose gradient is a convolution.
#include <algorithm>
#include <array>
#include <vector>

#include "conv_grid.h"
#include "conv_phase.h"

namespace fastnn {
namespace {

using Result = std::pair<Array, OptionalArray>;
using Gradients = std::tuple<OptionalArray, OptionalArray, OptionalArray>;

struct Act {
  int kind;
  float a;
};
using ActArg = std::pair<int, float>;

// ---- launches -------------------------------------------------------------------------------

double cost_of(const ConvGrid& g) {
  return 2.0 * static_cast<double>(g.batch * g.groups * g.filters * g.depth()) *
         static_cast<double>(g.out_size()) * kCostPerFlop;
}

// What all launches of a call have in common.
struct Where {
  const char* op;
  Device device;
  DType dtype;
  bool on_cpu() const { return device == Device::kCpu; }
  Launch launch(int64_t tasks, double cost) const { return {op, device, dtype, tasks, cost}; }
  Array empty_floats(int64_t n) const { return empty({n}, DType::kFloat32, device); }
  // Of the CPU's kernels: a GPU's have no memory but its own.
  Array scratch(int64_t tasks, int64_t of_task) const {
    if (!on_cpu()) return empty_floats(0);
    check(of_task <= INT32_MAX, op, ": expected a row of outputs to read at most ", INT32_MAX,
          " floats, got ", of_task, "; use less dilation, or more groups");
    return empty_floats(tasks * of_task);
  }
};

// A convolution that is to be launched, and its memory.
struct Prepared {
  ConvArgs args;
  int64_t tasks;
  Array scratch;
  OptionalArray packed;
};

// `pack` says how the weights lie in `pack.w`: turned ones, and those of lanes, are packed.
Prepared prepare_conv(const Where& where, ConvArgs args, ConvPackArgs pack) {
  const ConvGrid& g = args.grid;
  const ConvPlan plan = conv_plan(g);
  const int64_t pooled = args.pooled.y ? conv_pooled_floats(plan, g) : 0;
  const Array scratch = where.scratch(plan.tasks, plan.scratch + pooled);
  args.scratch = write_as<float>(scratch);
  if (pooled > 0) args.y_plane = plan.rows * g.w.out;
  OptionalArray packed;
  pack.lanes = plan.lanes && where.on_cpu();
  if (pack.lanes || pack.h.step < 0) {
    const int64_t rows = pack.lanes ? round_up(g.filters, kConvLanes) : g.filters;
    packed = empty({g.groups * rows, g.depth()}, where.dtype, where.device);
    pack.packed = write(*packed);
    launch(where.launch(g.groups * ceil_div(g.filters, kConvPackRows),
                        static_cast<double>(packed->numel()) * kCostPerElement),
           &Kernels::conv_pack, pack);
  }
  args.w = packed ? read(*packed) : pack.w;
  return {args, plan.tasks, scratch, packed};
}

// args.y[narrow] = act(w * args.x[wide] + bias).
void convolve(const Where& where, ConvArgs args) {
  args.y_plane = args.grid.out_size();
  args.y_row = args.grid.w.out;
  args.y_col = 1;
  const ConvGrid& g = args.grid;
  const Prepared conv = prepare_conv(where, args,
                                     {.w = args.w,
                                      .groups = g.groups,
                                      .rows = g.filters,
                                      .channels = g.channels,
                                      .row_step = g.channels,
                                      .channel_step = 1,
                                      .h = {g.h.taps, 0, 1, g.h.taps},
                                      .w_axis = {g.w.taps, 0, 1, g.w.taps}});
  launch(where.launch(conv.tasks, cost_of(g)), &Kernels::conv, conv.args);
}

// Launches phases together, and forgets them.
void launch_phases(const Where& where, std::vector<Prepared>& phases) {
  ConvPhasesArgs args{};
  double cost = 0;
  for (const Prepared& phase : phases)
    cost += cost_of((args.phases[args.count++] = phase.args).grid);
  if (const ConvPhasesPlan plan = conv_phases_plan(args); plan.shared && where.on_cpu()) {
    phases[0].scratch =
        where.scratch(phases[0].tasks, conv_plan(args.phases[0].grid).scratch + plan.band);
    args.phases[0].scratch = write_as<float>(phases[0].scratch);
  }
  if (args.count > 0) launch(where.launch(phases[0].tasks, cost), &Kernels::conv_phases, args);
  phases.clear();
}

// A phase of the transpose.
ConvGrid turned(const ConvGrid& g, const ConvAxis& h, const ConvAxis& w) {
  return {g.batch, g.groups, g.filters, g.channels, h, w};
}

// args.y[wide] = act(sum of what each element of args.x[narrow] adds by w, + bias); `grid` is that
// of the convolution whose transpose it is.
void convolve_transposed(const Where& where, const ConvGrid& grid, ConvArgs args) {
  auto *y = static_cast<std::byte*>(args.y), *z = static_cast<std::byte*>(args.z);
  args.y_plane = grid.in_size();
  args.y_row = grid.w.in * grid.h.stride;
  args.y_col = grid.w.stride;
  std::vector<Prepared> phases;
  for (int64_t i = 0; i < std::min<int64_t>(grid.h.stride, grid.h.in); ++i)
    for (int64_t j = 0; j < std::min<int64_t>(grid.w.stride, grid.w.in); ++j) {
      const Phase h = phase_of(grid.h, i), v = phase_of(grid.w, j);
      args.grid = turned(grid, h.axis, v.axis);
      const auto first = static_cast<size_t>(i * grid.w.in + j) * item_size(where.dtype);
      args.y = y + first;
      args.z = z != nullptr ? z + first : nullptr;
      Prepared phase = prepare_conv(where, args,
                                    {.w = args.w,
                                     .groups = grid.groups,
                                     .rows = grid.channels,
                                     .channels = grid.filters,
                                     .row_step = 1,
                                     .channel_step = grid.channels,
                                     .h = h.taps,
                                     .w_axis = v.taps});
      if (phases.size() == kConvPhases || (!phases.empty() && phases[0].tasks != phase.tasks))
        launch_phases(where, phases);
      phases.push_back(std::move(phase));
    }
  launch_phases(where, phases);
}

// How the gradient of the weights is cut: tasks and their scratch; chunks and their sums, in
// float64; tasks that add those up.
struct WeightCut {
  int64_t tasks, scratch, chunks, sums, sum_tasks;
};
WeightCut cut_weights(const Where& where, const ConvGrid& g, const ConvWindows& windows) {
  if (conv_sums_windows(windows, g)) {
    const ConvWindowsPlan plan = conv_windows_plan(g);
    return {plan.tasks(g), plan.scratch, plan.chunks, g.groups * plan.sums, g.groups * g.filters};
  }
  const ConvWeightPlan plan = conv_weight_plan(g);
  const int64_t sum_tasks = g.groups * ceil_div(g.depth(), kConvSumRows);
  if (where.on_cpu())
    return {plan.tasks(g), plan.scratch, plan.chunks, g.groups * plan.sums, sum_tasks};
  return {plan.tasks(g), 0, conv_gpu_weight_chunks(g), g.groups * g.filters * g.depth(), sum_tasks};
}

// The gradient of w from the wide side and the gradient of the narrow one.
Array weight_gradient(const Where& where, const ConvGrid& g, const Array& wide, const Array& narrow,
                      const Array& w, const ConvWindows& windows) {
  const WeightCut cut = cut_weights(where, g, windows);
  const Array partials = where.empty_floats(2 * cut.chunks * cut.sums);
  const Array scratch = where.scratch(cut.tasks, cut.scratch);
  auto* sums = static_cast<double*>(write(partials));
  launch(where.launch(cut.tasks, cost_of(g)), &Kernels::conv_bwd_weight,
         ConvWeightArgs{read(wide), read(narrow), sums, g, cut.chunks, write_as<float>(scratch),
                        windows});
  Array dw = empty_like(w);
  launch(
      where.launch(cut.sum_tasks, static_cast<double>(dw.numel() * cut.chunks) * kCostPerElement),
      &Kernels::conv_bwd_weight_sum, ConvWeightSumArgs{sums, write(dw), g, cut.chunks, windows});
  return dw;
}

// The gradient before the activation, or that of the windows that pooled it.
struct Ending {
  const Array& dz;
  ConvWindows windows{};
};

Array input_gradient(const Where& where, const ConvGrid& g, bool transposed, const Ending& from,
                     const Array& x, const Array& w) {
  Array dx = empty_like(x);
  const ConvArgs args{
      .x = read(from.dz), .w = read(w), .y = write(dx), .grid = g, .windows = from.windows};
  transposed ? convolve(where, args) : convolve_transposed(where, g, args);
  return dx;
}

// (dz, db): the gradient before the activation, and its sums per channel.
std::pair<Array, OptionalArray> bias_gradient(const Where& where, const Array& dy,
                                              const OptionalArray& saved, Act act, int64_t batch,
                                              int64_t channels, int64_t size, bool need_db) {
  Array dz = saved ? empty_like(dy) : dy;
  OptionalArray db;
  if (need_db) db = empty({channels}, where.dtype, where.device);
  if (!saved && !need_db) return {dz, db};
  const int64_t chunks =
      where.on_cpu() ? 0 : most(1, conv_gpu_chunks(batch * size, channels, channels));
  const Array partials = where.empty_floats(2 * chunks * channels);  // float64
  launch(where.launch(channels, static_cast<double>(dy.numel()) * kCostPerExp),
         &Kernels::conv_bwd_bias,
         ConvBiasArgs{read(dy), read_optional(saved), saved ? write(dz) : nullptr,
                      db ? write(*db) : nullptr, static_cast<double*>(write(partials)), chunks,
                      batch, channels, size, act.kind, act.a});
  return {dz, db};
}

// ---- ops ------------------------------------------------------------------------------------

std::string name_of(int spatial, bool transposed) {
  return concat(transposed ? "conv_transpose" : "conv", spatial, "d");
}

// Returns (y, z): z is the pre-activation, when `save_z`.
Result conv_fwd(const Array& x, const Array& w, const OptionalArray& b, int spatial,
                bool transposed, const WindowArg& window, const ActArg& activation, bool save_z) {
  const std::string op = name_of(spatial, transposed);
  const Window v = window_of(window);
  const ConvGrid g = (transposed ? transposed_grid : conv_grid)(op, spatial, x, w, b, v);
  const Shape shape = transposed
                          ? image_shape(x, spatial, g.groups * g.channels, {g.h.in, g.w.in})
                          : image_shape(x, spatial, g.groups * g.filters, {g.h.out, g.w.out});
  Array y = empty(shape, x.dtype, x.device());
  OptionalArray z;
  if (save_z) z = empty_like(y);
  const ConvArgs args{.x = read(x),
                      .w = read(w),
                      .bias = read_optional(b),
                      .y = write(y),
                      .z = z ? write(*z) : nullptr,
                      .grid = g,
                      .activation = activation.first,
                      .activation_param = activation.second};
  const Where where{op.c_str(), x.device(), x.dtype};
  transposed ? convolve_transposed(where, g, args) : convolve(where, args);
  return {y, z};
}

// max_pool2d(conv2d(...), 2) as (y, places of the largest elements), those where they are saved.
Result conv_fwd_pooled(const Array& x, const Array& w, const OptionalArray& b,
                       const WindowArg& window, const ActArg& activation, bool save) {
  const std::string op = name_of(2, false);
  const ConvGrid g = conv_grid(op, 2, x, w, b, window_of(window));
  const Pair size{g.h.out / 2, g.w.out / 2};
  check(size[0] > 0 && size[1] > 0, op, ": expected outputs that max_pool=2 fits into, got ",
        Shape{g.h.out, g.w.out}, "; use larger images, more padding, or no pooling");
  const int64_t channels = g.groups * g.filters;
  const Array y = empty(image_shape(x, 2, channels, size), x.dtype, x.device());
  OptionalArray places;
  if (save) places = empty(y.shape, DType::kUInt8, x.device());
  uint8_t* to = places ? write_as<uint8_t>(*places) : nullptr;
  ConvArgs args{.x = read(x),
                .w = read(w),
                .bias = read_optional(b),
                .grid = g,
                .activation = activation.first,
                .activation_param = activation.second};
  const Where where{op.c_str(), x.device(), x.dtype};
  if (where.on_cpu() && conv_may_pool(conv_plan(g), g)) {
    args.pooled = {write(y), to, size[0], size[1]};
    convolve(where, args);
    return {y, places};
  }
  const Array all = empty(image_shape(x, 2, channels, {g.h.out, g.w.out}), x.dtype, x.device());
  args.y = write(all);
  convolve(where, args);
  const int64_t planes = g.batch * channels;
  launch(row_wise(where.op, all, planes, g.out_size(), kCostPerElement), &Kernels::max_pool_fwd,
         MaxPoolFwdArgs{read(all), write(y), to, pool_twos(planes, g.h.out, g.w.out)});
  return {y, places};
}

// `saved` is what the activation's derivative needs, or nothing for the identity.
Gradients conv_bwd(const Array& dy, const Array& x, const Array& w, const OptionalArray& saved,
                   int spatial, bool transposed, const WindowArg& window, const ActArg& activation,
                   std::array<bool, 3> needs) {
  const std::string op = name_of(spatial, transposed);
  const Window v = window_of(window);
  const ConvGrid g = (transposed ? transposed_grid : conv_grid)(op, spatial, x, w, {}, v);
  const int64_t channels = g.groups * (transposed ? g.channels : g.filters);
  const int64_t size = transposed ? g.in_size() : g.out_size();
  check_dtype(op.c_str(), "the gradient", dy, x.dtype);
  check(dy.numel() == g.batch * channels * size, op, ": expected a gradient of ",
        g.batch * channels * size, " elements, got ", dy.shape);
  const Act act{activation.first, activation.second};
  const Where where{op.c_str(), x.device(), x.dtype};
  const auto [dz, db] = bias_gradient(where, dy, saved, act, g.batch, channels, size, needs[2]);
  OptionalArray dx, dw;
  if (needs[0]) dx = input_gradient(where, g, transposed, {dz}, x, w);
  if (needs[1]) dw = weight_gradient(where, g, transposed ? dz : x, transposed ? x : dz, w, {});
  return {dx, dw, db};
}

// (dz, db) from a gradient of some elements of each channel, those that are not 0, and their
// `saved`: of max pooling's windows, before it is scattered.
std::pair<Array, OptionalArray> conv_bwd_ending(const Array& dy, const OptionalArray& saved,
                                                int spatial, bool transposed,
                                                const ActArg& activation, bool need_db) {
  const std::string op = name_of(spatial, transposed);
  const int64_t batch = batch_of(dy, spatial), channels = dy.shape[-1 - spatial];
  const int64_t size = size_of(dy, spatial, 0) * size_of(dy, spatial, 1);
  return bias_gradient({op.c_str(), dy.device(), dy.dtype}, dy, saved,
                       {activation.first, activation.second}, batch, channels, size, need_db);
}

// Whether the gradients of the input and of the weights can be made of windows that pooled y.
std::pair<bool, bool> reads_windows(const Where& where, const ConvGrid& g) {
  if (!where.on_cpu() || g.h.stride != 1 || g.w.stride != 1) return {};
  const ConvGrid of_dx = turned(g, phase_of(g.h, 0).axis, phase_of(g.w, 0).axis);
  return {conv_has_images(of_dx), conv_weight_has_images(g) || conv_windows_plan(g).used};
}

// (dx, dw) where max pooling by windows of 2 x 2, side by side, follows: dz is that of the windows'
// largest elements, whose places are given.
std::pair<OptionalArray, OptionalArray> conv_bwd_pooled(const Array& dz, const Array& places,
                                                        const Array& x, const Array& w, int spatial,
                                                        bool transposed, const WindowArg& window,
                                                        bool needs_dx, bool needs_dw) {
  const std::string op = name_of(spatial, transposed);
  const Window v = window_of(window);
  const ConvGrid g = (transposed ? transposed_grid : conv_grid)(op, spatial, x, w, {}, v);
  const int64_t planes = g.batch * g.groups * (transposed ? g.channels : g.filters);
  const Pair size = transposed ? Pair{g.h.in, g.w.in} : Pair{g.h.out, g.w.out};
  const Pair windows{size[0] / 2, size[1] / 2};
  check(dz.shape == places.shape && dz.numel() == planes * windows[0] * windows[1], op,
        ": expected a gradient of ", planes, " planes of windows, got ", dz.shape);
  const Where where{op.c_str(), x.device(), x.dtype};
  const auto [dx_reads, dw_reads] = transposed ? std::pair(false, false) : reads_windows(where, g);
  OptionalArray all;  // scattered, for what does not
  if ((needs_dx && !dx_reads) || (needs_dw && !dw_reads)) {
    all = empty({planes, size[0], size[1]}, dz.dtype, dz.device());
    const Array sums = where.empty_floats(dz.dtype == DType::kFloat32 ? 0 : all->numel());
    launch(row_wise(where.op, *all, planes, size[0] * size[1], kCostPerElement),
           &Kernels::max_pool_bwd,
           MaxPoolBwdArgs{read(dz), read_as<uint8_t>(places), write(*all),
                          sums.numel() > 0 ? write_as<float>(sums) : nullptr,
                          pool_twos(planes, size[0], size[1])});
  }
  const auto from = [&](bool reads) -> Ending {
    if (!reads) return {*all};
    return {dz, {read_as<uint8_t>(places), windows[0], windows[1]}};
  };
  OptionalArray dx, dw;
  if (needs_dx) dx = input_gradient(where, g, transposed, from(dx_reads), x, w);
  if (needs_dw) {
    const Ending dy = from(dw_reads);
    dw = weight_gradient(where, g, transposed ? dy.dz : x, transposed ? x : dy.dz, w, dy.windows);
  }
  return {dx, dw};
}

}  // namespace

void bind_conv(py::module_& m) {
  m.def("conv_fwd", &conv_fwd, py::arg("x"), py::arg("w"), py::arg("b"), py::arg("spatial"),
        py::arg("transposed"), py::arg("window"), py::arg("activation"), py::arg("save_z"));
  m.def("conv_fwd_pooled", &conv_fwd_pooled, py::arg("x"), py::arg("w"), py::arg("b"),
        py::arg("window"), py::arg("activation"), py::arg("save"));
  m.def("conv_bwd", &conv_bwd, py::arg("dy"), py::arg("x"), py::arg("w"), py::arg("saved"),
        py::arg("spatial"), py::arg("transposed"), py::arg("window"), py::arg("activation"),
        py::arg("needs"));
  m.def("conv_bwd_pooled", &conv_bwd_pooled, py::arg("dz"), py::arg("places"), py::arg("x"),
        py::arg("w"), py::arg("spatial"), py::arg("transposed"), py::arg("window"),
        py::arg("needs_dx"), py::arg("needs_dw"));
  m.def("conv_bwd_ending", &conv_bwd_ending, py::arg("dy"), py::arg("saved"), py::arg("spatial"),
        py::arg("transposed"), py::arg("activation"), py::arg("need_db"));
}

}  // namespace fastnn
