// conv1d, conv2d and conv_transpose2d: y = act(w * x + b) over images, and its gradients. What a
// convolution reads is its wide side, what it writes the narrow one; the gradient of the wide side
// is a transposed convolution, whose forward is that and whose gradient is a convolution.
#include <algorithm>
#include <array>
#include <vector>

#include "common.h"
#include "conv_phase.h"

namespace fastnn {
namespace {

using Pair = std::array<int64_t, 2>;  // of height and width; height is trivial in one dimension
using Result = std::pair<Array, OptionalArray>;
using Gradients = std::tuple<OptionalArray, OptionalArray, OptionalArray>;

struct Window {
  Pair stride, padding, padding_end, dilation;
  int64_t groups;
};
using WindowArg = std::tuple<Pair, Pair, Pair, Pair, int64_t>;
Window window_of(const WindowArg& v) {
  return {std::get<0>(v), std::get<1>(v), std::get<2>(v), std::get<3>(v), std::get<4>(v)};
}
struct Act {
  int kind;
  float a;
};
using ActArg = std::pair<int, float>;

std::string shown(Pair pair, int spatial) {
  return spatial == 1 ? concat(pair[1]) : concat(Shape{pair[0], pair[1]});
}
const char* axes_of(int spatial) {
  return spatial == 1 ? "(channels, length)" : "(channels, height, width)";
}

// ---- checks ---------------------------------------------------------------------------------

// Kernels count the places of an axis, and the floats that a task reads, in 32 bits.
void check_window(const std::string& op, int spatial, const Window& v) {
  check(v.groups > 0, op, ": expected groups > 0, got ", v.groups);
  for (size_t i = 0; i < 2; ++i) {
    check(v.stride[i] > 0, op, ": expected stride > 0, got ", shown(v.stride, spatial));
    check(v.dilation[i] > 0, op, ": expected dilation > 0, got ", shown(v.dilation, spatial));
    check(v.padding[i] >= 0, op, ": expected padding >= 0, got ", shown(v.padding, spatial));
    const int64_t largest = std::max({v.stride[i], v.dilation[i], v.padding[i], v.padding_end[i]});
    check(largest <= INT32_MAX, op, ": expected stride, dilation and padding <= ", INT32_MAX,
          ", got ", largest);
  }
}

// A GPU has the 16-bit numbers too.
void check_element(const std::string& op, const Array& x) {
  const bool cuda = x.device().is_cuda();
  const bool half = x.dtype == DType::kBFloat16 || x.dtype == DType::kFloat16;
  check<TypeError>(x.dtype == DType::kFloat32 || (cuda && half), op,
                   ": expected input of dtype float32", cuda ? ", bfloat16 or float16" : "",
                   ", got ", dtype_name(x.dtype));
}

void check_arrays(const std::string& op, int spatial, const Array& x, const Array& w,
                  const OptionalArray& b, int64_t outputs, const char* axes) {
  check_element(op, x);
  check_dtype(op.c_str(), "weight", w, x.dtype);
  check_device(op.c_str(), "weight", w, x.device());
  check(w.shape.ndim == spatial + 2, op, ": expected weight of shape ", axes, ", got ", w.shape);
  check(x.shape.ndim == spatial + 1 || x.shape.ndim == spatial + 2, op,
        ": expected input of shape ", axes_of(spatial), " or a batch of it, got ", x.shape);
  for (int i = 1; i <= spatial; ++i)
    check(w.shape[-i] > 0, op, ": expected a kernel with at least one element, got weight ",
          w.shape);
  if (!b) return;
  check_dtype(op.c_str(), "bias", *b, x.dtype);
  check_device(op.c_str(), "bias", *b, x.device());
  check(b->shape == Shape{outputs}, op, ": expected bias of shape ", Shape{outputs},
        " to fit weight ", w.shape, ", got ", b->shape);
}

// ---- geometry -------------------------------------------------------------------------------

int64_t batch_of(const Array& x, int spatial) {
  return x.shape.ndim == spatial + 2 ? x.shape[0] : 1;
}
int64_t size_of(const Array& x, int spatial, int axis) {  // axis 0: height
  return spatial == 1 && axis == 0 ? 1 : x.shape[axis - 2];
}
Shape image_shape(const Array& x, int spatial, int64_t channels, Pair size) {
  Shape shape = x.shape;
  shape.dims[static_cast<size_t>(shape.ndim - spatial - 1)] = channels;
  for (int i = 0; i < spatial; ++i)
    shape.dims[static_cast<size_t>(shape.ndim - 1 - i)] = size[static_cast<size_t>(1 - i)];
  return shape;
}

ConvAxis axis_of(const std::string& op, int64_t wide, int64_t taps, const Window& v, size_t i) {
  const auto narrow = [](int64_t n) { return static_cast<int32_t>(n); };
  const int64_t reach = v.dilation[i] * (taps - 1);
  check(taps <= INT32_MAX && wide + v.padding[i] + v.padding_end[i] + reach <= INT32_MAX, op,
        ": expected at most ", INT32_MAX, " places along an axis, got an input of ", wide,
        " with padding ", v.padding[i], " and a kernel that reaches ", reach);
  ConvAxis axis{
      wide, 0, narrow(taps), narrow(v.stride[i]), narrow(v.dilation[i]), narrow(v.padding[i])};
  const int64_t room = wide + v.padding[i] + v.padding_end[i] - axis.reach() - 1;
  axis.out = room < 0 ? 0 : room / v.stride[i] + 1;
  return axis;
}

// The grid of a convolution of wide images with weights (narrow, wide / groups, ...).
ConvGrid grid_of(const std::string& op, int64_t batch, const Array& w, int spatial, const Window& v,
                 Pair wide) {
  return {batch,
          v.groups,
          w.shape[1],
          w.shape[0] / v.groups,
          axis_of(op, wide[0], size_of(w, spatial, 0), v, 0),
          axis_of(op, wide[1], size_of(w, spatial, 1), v, 1)};
}

ConvGrid conv_grid(const std::string& op, int spatial, const Array& x, const Array& w,
                   const OptionalArray& b, const Window& v) {
  check_window(op, spatial, v);
  check_arrays(op, spatial, x, w, b, w.shape[0],
               spatial == 1 ? "(out, in / groups, length)" : "(out, in / groups, height, width)");
  check(w.shape[0] % v.groups == 0, op, ": expected weight.shape[0] divisible by groups ", v.groups,
        ", got weight ", w.shape);
  check(x.shape[-1 - spatial] == w.shape[1] * v.groups, op, ": expected input with ",
        w.shape[1] * v.groups, " channels to fit weight ", w.shape, " and groups ", v.groups,
        ", got input ", x.shape);
  const Pair wide{size_of(x, spatial, 0), size_of(x, spatial, 1)};
  const ConvGrid g = grid_of(op, batch_of(x, spatial), w, spatial, v, wide);
  check(g.h.out > 0 && g.w.out > 0, op, ": expected a kernel of ",
        shown({g.h.taps, g.w.taps}, spatial), " to fit into input ", x.shape, " with padding ",
        shown(v.padding, spatial), " and dilation ", shown(v.dilation, spatial));
  return g;
}

// v.padding_end is the padding less output_padding.
ConvGrid transposed_grid(const std::string& op, int spatial, const Array& x, const Array& w,
                         const OptionalArray& b, const Window& v) {
  check_window(op, spatial, v);
  check_arrays(op, spatial, x, w, b, w.shape.ndim > 1 ? w.shape[1] * v.groups : 0,
               "(in, out / groups, height, width)");
  check(w.shape[0] % v.groups == 0, op, ": expected weight.shape[0] divisible by groups ", v.groups,
        ", got weight ", w.shape);
  check(x.shape[-1 - spatial] == w.shape[0], op, ": expected input with ", w.shape[0],
        " channels to fit weight ", w.shape, ", got input ", x.shape);
  Pair wide{};
  for (size_t i = 0; i < 2; ++i) {
    const int64_t extra = v.padding[i] - v.padding_end[i];
    check(extra >= 0 && extra < std::max(v.stride[i], v.dilation[i]), op,
          ": expected 0 <= output_padding < max(stride, dilation), got ",
          shown({v.padding[0] - v.padding_end[0], v.padding[1] - v.padding_end[1]}, spatial));
    const int64_t in = size_of(x, spatial, static_cast<int>(i));
    const int64_t reach = v.dilation[i] * (size_of(w, spatial, static_cast<int>(i)) - 1);
    wide[i] = (in - 1) * v.stride[i] + reach + 1 - v.padding[i] - v.padding_end[i];
    check(in > 0 && wide[i] > 0, op, ": expected an output with at least one element, got input ",
          x.shape, " with padding ", shown(v.padding, spatial));
  }
  return grid_of(op, batch_of(x, spatial), w, spatial, v, wide);
}

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
  const Array scratch = where.scratch(plan.tasks, plan.scratch);
  args.scratch = write_as<float>(scratch);
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
      args.grid = {grid.batch, grid.groups, grid.filters, grid.channels, h.axis, v.axis};
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

// The gradient of w from the wide side and the gradient of the narrow one.
Array weight_gradient(const Where& where, const ConvGrid& g, const Array& wide, const Array& narrow,
                      const Array& w) {
  const ConvWeightPlan plan = conv_weight_plan(g);
  const int64_t tasks = plan.tasks(g);
  const int64_t chunks = where.on_cpu() ? plan.chunks : conv_gpu_weight_chunks(g);
  const int64_t sums_of_chunk = where.on_cpu() ? g.groups * plan.sums : w.numel();
  const Array partials = where.empty_floats(2 * chunks * sums_of_chunk);  // float64
  const Array scratch = where.scratch(tasks, plan.scratch);
  auto* sums = static_cast<double*>(write(partials));
  launch(where.launch(tasks, cost_of(g)), &Kernels::conv_bwd_weight,
         ConvWeightArgs{read(wide), read(narrow), sums, g, chunks, write_as<float>(scratch)});
  Array dw = empty_like(w);
  launch(where.launch(g.groups * ceil_div(g.depth(), kConvSumRows),
                      static_cast<double>(dw.numel() * chunks) * kCostPerElement),
         &Kernels::conv_bwd_weight_sum, ConvWeightSumArgs{sums, write(dw), g, chunks});
  return dw;
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
  if (needs[0]) {
    dx = empty_like(x);
    const ConvArgs args{.x = read(dz), .w = read(w), .y = write(*dx), .grid = g};
    transposed ? convolve(where, args) : convolve_transposed(where, g, args);
  }
  if (needs[1]) dw = weight_gradient(where, g, transposed ? dz : x, transposed ? x : dz, w);
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

}  // namespace

void bind_conv(py::module_& m) {
  m.def("conv_fwd", &conv_fwd, py::arg("x"), py::arg("w"), py::arg("b"), py::arg("spatial"),
        py::arg("transposed"), py::arg("window"), py::arg("activation"), py::arg("save_z"));
  m.def("conv_bwd", &conv_bwd, py::arg("dy"), py::arg("x"), py::arg("w"), py::arg("saved"),
        py::arg("spatial"), py::arg("transposed"), py::arg("window"), py::arg("activation"),
        py::arg("needs"));
  m.def("conv_bwd_ending", &conv_bwd_ending, py::arg("dy"), py::arg("saved"), py::arg("spatial"),
        py::arg("transposed"), py::arg("activation"), py::arg("need_db"));
}

}  // namespace fastnn
