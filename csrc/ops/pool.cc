// Pooling over the last one or two axes: output sizes, windows, and which kernel serves them.
#include <algorithm>
#include <array>

#include "common.h"
#include "pool_spans.h"

namespace fastnn {
namespace {

using Pair = std::array<int64_t, 2>;  // of height and width; height is trivial in one dimension

// Channels-last, an image is one plane of `channels` numbers side by side.
struct Planes {
  int64_t count, h, w;
  Shape shape;
  Layout layout = Layout::kNchw;
  int64_t channels = 1;
  int64_t size() const { return h * w * channels; }
};

Array empty_of(const Shape& shape, DType dtype, Device device, Layout layout) {
  Array y = empty(shape, dtype, device);
  y.layout = layout;
  return y;
}

// The planes of an input with one or two spatial axes, with or without a batch axis.
Planes planes_of(const std::string& op, const Shape& in, int spatial,
                 Layout layout = Layout::kNchw) {
  check(in.ndim == spatial + 1 || in.ndim == spatial + 2, op, ": expected input of shape ",
        spatial == 1 ? "(channels, length)" : "(channels, height, width)",
        " or a batch of it, got ", in);
  Planes planes{1, spatial == 1 ? 1 : in[-2], in[-1], in};
  for (int i = 0; i < in.ndim - spatial; ++i) planes.count *= in.dims[i];
  if (layout == Layout::kNhwc) {
    planes.layout = layout;
    planes.count = in[0];
    planes.channels = in[1];
  }
  return planes;
}
Shape shape_of(const std::vector<int64_t>& sizes) {
  Shape shape;
  for (const int64_t size : sizes) shape.dims[shape.ndim++] = size;
  return shape;
}
Shape with_size(const Planes& planes, int spatial, Pair size) {
  Shape shape = planes.shape;
  for (int i = 0; i < spatial; ++i)
    shape.dims[shape.ndim - 1 - i] = size[1 - static_cast<size_t>(i)];
  return shape;
}

// A pair as its caller wrote it: an int for one axis.
std::string shown(Pair pair, int spatial) {
  return spatial == 1 ? concat(pair[1]) : concat(Shape{pair[0], pair[1]});
}

struct Windows {
  Pair kernel, stride, padding, dilation;
  bool ceil_mode;
};

PoolGrid grid_of(const std::string& op, const Planes& planes, int spatial, const Windows& v) {
  Pair in{planes.h, planes.w}, out{};
  for (size_t i = 0; i < 2; ++i) {
    check(v.kernel[i] > 0, op, ": expected kernel_size > 0, got ", shown(v.kernel, spatial));
    check(v.stride[i] > 0, op, ": expected stride > 0, got ", shown(v.stride, spatial));
    check(v.dilation[i] > 0, op, ": expected dilation > 0, got ", shown(v.dilation, spatial));
    check(v.padding[i] >= 0 && v.padding[i] <= v.kernel[i] / 2, op,
          ": expected 0 <= padding <= kernel_size / 2, got padding ", shown(v.padding, spatial),
          " for kernel_size ", shown(v.kernel, spatial));
    const int64_t largest = std::max({v.kernel[i], v.stride[i], v.dilation[i]});
    check(largest <= INT32_MAX, op, ": expected kernel_size, stride and dilation <= ", INT32_MAX,
          ", got ", largest);
    const int64_t room = in[i] + 2 * v.padding[i] - v.dilation[i] * (v.kernel[i] - 1) - 1;
    check(in[i] > 0 && room >= 0, op, ": expected windows of ", shown(v.kernel, spatial),
          " to fit into input ", planes.shape, " with padding ", shown(v.padding, spatial),
          " and dilation ", shown(v.dilation, spatial));
    out[i] = (v.ceil_mode ? ceil_div(room, v.stride[i]) : room / v.stride[i]) + 1;
    // As in torch, no window starts in the padding at the end.
    if ((out[i] - 1) * v.stride[i] >= in[i] + v.padding[i]) --out[i];
  }
  const auto narrow = [](int64_t n) { return static_cast<int32_t>(n); };
  return {planes.count,
          planes.h,
          planes.w,
          out[0],
          out[1],
          narrow(v.kernel[0]),
          narrow(v.kernel[1]),
          narrow(v.stride[0]),
          narrow(v.stride[1]),
          narrow(v.padding[0]),
          narrow(v.padding[1]),
          narrow(v.dilation[0]),
          narrow(v.dilation[1]),
          planes.channels};
}

// ---- spans, in memory that recorded steps read too ------------------------------------------

Array in_memory(const Span& spans, Device device) {
  Array memory = allocate_constant({static_cast<int64_t>(spans.size()), 2}, DType::kFloat32);
  std::copy(spans.begin(), spans.end(), static_cast<PoolSpan*>(memory.storage->data));
  return constant_on(memory, device);
}
Array in_memory(const std::vector<float>& values, Device device) {
  Array memory = allocate_constant({static_cast<int64_t>(values.size())}, DType::kFloat32);
  std::copy(values.begin(), values.end(), static_cast<float*>(memory.storage->data));
  return constant_on(memory, device);
}

struct SpanMemory {
  Array rows, cols;
};
PoolSpans view(const SpanMemory& memory, const Planes& planes, Pair out, Pair step,
               bool per_plane) {
  return {read_as<PoolSpan>(memory.rows),
          read_as<PoolSpan>(memory.cols),
          planes.count,
          planes.h,
          planes.w,
          out[0],
          out[1],
          static_cast<int32_t>(step[0]),
          static_cast<int32_t>(step[1]),
          per_plane,
          planes.channels};
}

// ---- max ------------------------------------------------------------------------------------

// What the caller has to convert.
void check_planes(const std::string& op, const Array& x) {
  check(x.layout == Layout::kNchw, op,
        ": expected input in the order of its shape, got a channels-last one");
}

std::string name_of(const char* what, int spatial) { return concat(what, spatial, "d"); }

// (y, offsets of one byte or nothing) for `indices` false, else (y, flat int64 indices).
std::pair<Array, OptionalArray> max_pool_spans(const char* op, const Array& x, int spatial,
                                               const SpanMemory& memory, Pair out, Pair step,
                                               bool per_plane_spans) {
  const Planes planes = planes_of(op, x.shape, spatial);
  Array y = empty(with_size(planes, spatial, out), x.dtype, x.device());
  Array indices = empty(y.shape, DType::kInt64, x.device());
  launch(row_wise(op, x, planes.count, planes.h * planes.w, kCostPerExp),
         &Kernels::max_pool_spans_fwd,
         MaxPoolSpansFwdArgs{read(x), write(y), write_as<int64_t>(indices),
                             view(memory, planes, out, step, per_plane_spans)});
  return {y, indices};
}

std::pair<Array, OptionalArray> max_pool(const AnyLayout& x, int spatial, Pair kernel, Pair stride,
                                         Pair padding, Pair dilation, bool ceil_mode, bool save,
                                         bool indices) {
  const std::string op = name_of("max_pool", spatial);
  const Planes planes = planes_of(op, x.shape, spatial, x.layout);
  const PoolGrid g = grid_of(op, planes, spatial, {kernel, stride, padding, dilation, ceil_mode});
  if (indices || kernel[0] * kernel[1] > kMaxPoolOffsets) {
    check_planes(op, x);
    const SpanMemory memory{
        in_memory(grid_spans(g.h, g.out_h, kernel[0], stride[0], padding[0], dilation[0]),
                  x.device()),
        in_memory(grid_spans(g.w, g.out_w, kernel[1], stride[1], padding[1], dilation[1]),
                  x.device())};
    return max_pool_spans("max_pool", x, spatial, memory, {g.out_h, g.out_w}, dilation, false);
  }
  Array y = empty_of(with_size(planes, spatial, {g.out_h, g.out_w}), x.dtype, x.device(), x.layout);
  OptionalArray offsets;
  if (save) offsets = empty_of(y.shape, DType::kUInt8, x.device(), x.layout);
  launch(row_wise("max_pool", x, g.planes, planes.size(), kCostPerElement), &Kernels::max_pool_fwd,
         MaxPoolFwdArgs{read(x), write(y), offsets ? write_as<uint8_t>(*offsets) : nullptr, g});
  return {y, offsets};
}

// Where a narrow dtype sums up its gradients.
OptionalArray wide_sums(const Array& dx) {
  if (dx.dtype == DType::kFloat32) return std::nullopt;
  return empty(dx.shape, DType::kFloat32, dx.device());
}

// `saved` is what forward returned next to y: offsets of the same grid, or indices.
Array max_pool_bwd(const AnyLayout& dy, const AnyLayout& saved, const std::vector<int64_t>& shape,
                   int spatial, Pair kernel, Pair stride, Pair padding, Pair dilation,
                   bool ceil_mode) {
  constexpr const char* op = "max_pool";
  check(dy.shape == saved.shape, op, ": expected a gradient of shape ", saved.shape, ", got ",
        dy.shape);
  check_layout(op, "the output", saved, "its gradient", dy);
  const Planes planes = planes_of(op, shape_of(shape), spatial, dy.layout);
  Array dx = empty_of(planes.shape, dy.dtype, dy.device(), dy.layout);
  const OptionalArray sums = wide_sums(dx);
  float* wide = sums ? write_as<float>(*sums) : nullptr;
  const Launch what = row_wise(op, dy, planes.count, planes.size(), kCostPerElement);
  if (saved.dtype == DType::kInt64) {
    const int64_t out = planes.count > 0 ? dy.numel() / planes.count : 0;
    launch(what, &Kernels::max_pool_spans_bwd,
           MaxPoolSpansBwdArgs{read(dy), read_as<int64_t>(saved), write(dx), wide, planes.count,
                               planes.h * planes.w, out});
  } else {
    const PoolGrid g = grid_of(op, planes, spatial, {kernel, stride, padding, dilation, ceil_mode});
    launch(what, &Kernels::max_pool_bwd,
           MaxPoolBwdArgs{read(dy), read_as<uint8_t>(saved), write(dx), wide, g});
  }
  return dx;
}

// ---- average --------------------------------------------------------------------------------

// What an axis of windows is divided by: their elements inside, or with the padding too.
std::vector<float> divisors(const Span& spans, int64_t n, int64_t kernel, int64_t stride,
                            int64_t pad, bool count_include_pad) {
  std::vector<float> sizes = sizes_of(spans);
  if (count_include_pad)
    for (size_t o = 0; o < sizes.size(); ++o) {
      const int64_t start = static_cast<int64_t>(o) * stride - pad;
      sizes[o] = static_cast<float>(std::min(start + kernel, n + pad) - start);
    }
  return sizes;
}

struct AvgPlan {
  Planes planes;
  PoolGrid grid;
  Span rows, cols;
  std::vector<float> row_divisors, col_divisors;
};
AvgPlan avg_plan(const Shape& in, Layout layout, int spatial, Pair kernel, Pair stride,
                 Pair padding, bool ceil_mode, bool count_include_pad,
                 std::optional<int64_t> divisor) {
  const std::string op = name_of("avg_pool", spatial);
  const Planes planes = planes_of(op, in, spatial, layout);
  const PoolGrid g = grid_of(op, planes, spatial, {kernel, stride, padding, {1, 1}, ceil_mode});
  AvgPlan plan{planes,
               g,
               grid_spans(g.h, g.out_h, kernel[0], stride[0], padding[0], 1),
               grid_spans(g.w, g.out_w, kernel[1], stride[1], padding[1], 1),
               {},
               {}};
  check(!divisor || *divisor != 0, op, ": expected divisor_override != 0, got 0");
  plan.row_divisors = divisors(plan.rows, g.h, kernel[0], stride[0], padding[0], count_include_pad);
  plan.col_divisors = divisors(plan.cols, g.w, kernel[1], stride[1], padding[1], count_include_pad);
  if (divisor) {
    std::fill(plan.row_divisors.begin(), plan.row_divisors.end(), 1.f);
    std::fill(plan.col_divisors.begin(), plan.col_divisors.end(), static_cast<float>(*divisor));
  }
  return plan;
}

Array avg_pool(const AnyLayout& x, int spatial, Pair kernel, Pair stride, Pair padding,
               bool ceil_mode, bool count_include_pad, std::optional<int64_t> divisor) {
  const AvgPlan plan = avg_plan(x.shape, x.layout, spatial, kernel, stride, padding, ceil_mode,
                                count_include_pad, divisor);
  const PoolGrid& g = plan.grid;
  Array y =
      empty_of(with_size(plan.planes, spatial, {g.out_h, g.out_w}), x.dtype, x.device(), x.layout);
  const Array rows = in_memory(plan.row_divisors, x.device()),
              cols = in_memory(plan.col_divisors, x.device());
  launch(row_wise("avg_pool", x, g.planes, plan.planes.size(), kCostPerElement),
         &Kernels::avg_pool_fwd,
         AvgPoolFwdArgs{read(x), write(y), read_as<float>(rows), read_as<float>(cols), g});
  return y;
}

Array avg_bwd(const char* op, const Array& dy, const Shape& in, int spatial, const Span& rows,
              const Span& cols, const std::vector<float>& row_divisors,
              const std::vector<float>& col_divisors) {
  const Planes planes = planes_of(op, in, spatial, dy.layout);
  const Pair out{static_cast<int64_t>(rows.size()), static_cast<int64_t>(cols.size())};
  check(dy.shape == with_size(planes, spatial, out), op, ": expected a gradient of shape ",
        with_size(planes, spatial, out), ", got ", dy.shape);
  Array dx = empty_of(in, dy.dtype, dy.device(), dy.layout);
  const SpanMemory memory{in_memory(turned(rows, planes.h), dy.device()),
                          in_memory(turned(cols, planes.w), dy.device())};
  const Array r = in_memory(row_divisors, dy.device()), c = in_memory(col_divisors, dy.device());
  Planes turned_planes = planes;
  turned_planes.h = out[0];
  turned_planes.w = out[1];
  launch(row_wise(op, dy, planes.count, planes.size(), 2 * kCostPerExp), &Kernels::avg_pool_bwd,
         AvgPoolBwdArgs{read(dy), write(dx), read_as<float>(r), read_as<float>(c),
                        view(memory, turned_planes, {planes.h, planes.w}, {1, 1}, false)});
  return dx;
}

Array avg_pool_bwd(const AnyLayout& dy, const std::vector<int64_t>& shape, int spatial, Pair kernel,
                   Pair stride, Pair padding, bool ceil_mode, bool count_include_pad,
                   std::optional<int64_t> divisor) {
  const AvgPlan plan = avg_plan(shape_of(shape), dy.layout, spatial, kernel, stride, padding,
                                ceil_mode, count_include_pad, divisor);
  return avg_bwd("avg_pool", dy, plan.planes.shape, spatial, plan.rows, plan.cols,
                 plan.row_divisors, plan.col_divisors);
}

// ---- adaptive and fractional ----------------------------------------------------------------

Planes adaptive_planes(const char* op, const Shape& in, int spatial, Pair out) {
  const Planes planes = planes_of(op, in, spatial);
  check(out[0] >= 0 && out[1] >= 0, op, ": expected output_size >= 0, got ", shown(out, spatial));
  check(planes.h > 0 && planes.w > 0, op, ": expected at least one element in a plane, got input ",
        in);
  return planes;
}

std::pair<Array, OptionalArray> adaptive_max_pool(const Array& x, int spatial, Pair out) {
  const Planes planes = adaptive_planes("adaptive_max_pool", x.shape, spatial, out);
  const SpanMemory memory{in_memory(adaptive_spans(planes.h, out[0]), x.device()),
                          in_memory(adaptive_spans(planes.w, out[1]), x.device())};
  return max_pool_spans("adaptive_max_pool", x, spatial, memory, out, {1, 1}, false);
}

Array adaptive_avg_pool(const Array& x, int spatial, Pair out) {
  constexpr const char* op = "adaptive_avg_pool";
  const Planes planes = adaptive_planes(op, x.shape, spatial, out);
  const Span rows = adaptive_spans(planes.h, out[0]), cols = adaptive_spans(planes.w, out[1]);
  const SpanMemory memory{in_memory(rows, x.device()), in_memory(cols, x.device())};
  const Array r = in_memory(sizes_of(rows), x.device()), c = in_memory(sizes_of(cols), x.device());
  Array y = empty(with_size(planes, spatial, out), x.dtype, x.device());
  launch(row_wise(op, x, planes.count, planes.h * planes.w, kCostPerElement),
         &Kernels::avg_pool_spans_fwd,
         AvgPoolSpansFwdArgs{read(x), write(y), read_as<float>(r), read_as<float>(c),
                             view(memory, planes, out, {1, 1}, false)});
  return y;
}

Array adaptive_avg_pool_bwd(const Array& dy, const std::vector<int64_t>& shape, int spatial,
                            Pair out) {
  const Planes planes = adaptive_planes("adaptive_avg_pool", shape_of(shape), spatial, out);
  const Span rows = adaptive_spans(planes.h, out[0]), cols = adaptive_spans(planes.w, out[1]);
  return avg_bwd("adaptive_avg_pool", dy, planes.shape, spatial, rows, cols, sizes_of(rows),
                 sizes_of(cols));
}

std::pair<Array, OptionalArray> fractional_max_pool(const Array& x, Pair kernel, Pair out,
                                                    const Array& draw, const OptionalArray& samples,
                                                    bool pseudo_random) {
  constexpr const char* op = "fractional_max_pool2d";
  const Planes planes = planes_of(op, x.shape, 2);
  const Pair in{planes.h, planes.w};
  for (size_t i = 0; i < 2; ++i) {
    check(kernel[i] > 0, op, ": expected kernel_size > 0, got ", shown(kernel, 2));
    check(out[i] > 0 && out[i] - 1 <= in[i] - kernel[i], op,
          ": expected 1 <= output_size <= input size - kernel_size + 1, got output_size ",
          shown(out, 2), " and kernel_size ", shown(kernel, 2), " for input ", x.shape);
  }
  if (samples) {
    check_dtype(op, "_random_samples", *samples, DType::kFloat32);
    check(samples->numel() == 2 * planes.count && samples->shape.last() == 2, op,
          ": expected _random_samples of shape (batch, channels, 2) to fit input ", x.shape,
          ", got ", samples->shape);
  }
  const SpanMemory memory{empty({planes.count, out[0], 2}, DType::kFloat32, x.device()),
                          empty({planes.count, out[1], 2}, DType::kFloat32, x.device())};
  const Array local = draw_on(draw, x.device());
  launch(
      row_wise(op, x, planes.count, planes.h * planes.w, kCostPerElement),
      &Kernels::fractional_spans,
      FractionalSpansArgs{write_as<PoolSpan>(memory.rows), write_as<PoolSpan>(memory.cols),
                          read_as<RngDraw>(local), read_optional_as<float>(samples), planes.count,
                          planes.h, planes.w, out[0], out[1], static_cast<int32_t>(kernel[0]),
                          static_cast<int32_t>(kernel[1]), pseudo_random});
  return max_pool_spans(op, x, 2, memory, out, {1, 1}, true);
}

}  // namespace

void bind_pool(py::module_& m) {
  m.attr("MAX_POOL_OFFSETS") = kMaxPoolOffsets;
  m.def("max_pool", &max_pool, py::arg("x"), py::arg("spatial"), py::arg("kernel"),
        py::arg("stride"), py::arg("padding"), py::arg("dilation"), py::arg("ceil_mode"),
        py::arg("save"), py::arg("indices"));
  m.def("max_pool_bwd", &max_pool_bwd, py::arg("dy"), py::arg("saved"), py::arg("shape"),
        py::arg("spatial"), py::arg("kernel"), py::arg("stride"), py::arg("padding"),
        py::arg("dilation"), py::arg("ceil_mode"));
  m.def("avg_pool", &avg_pool, py::arg("x"), py::arg("spatial"), py::arg("kernel"),
        py::arg("stride"), py::arg("padding"), py::arg("ceil_mode"), py::arg("count_include_pad"),
        py::arg("divisor"));
  m.def("avg_pool_bwd", &avg_pool_bwd, py::arg("dy"), py::arg("shape"), py::arg("spatial"),
        py::arg("kernel"), py::arg("stride"), py::arg("padding"), py::arg("ceil_mode"),
        py::arg("count_include_pad"), py::arg("divisor"));
  m.def("adaptive_max_pool", &adaptive_max_pool, py::arg("x"), py::arg("spatial"), py::arg("out"));
  m.def("adaptive_avg_pool", &adaptive_avg_pool, py::arg("x"), py::arg("spatial"), py::arg("out"));
  m.def("adaptive_avg_pool_bwd", &adaptive_avg_pool_bwd, py::arg("dy"), py::arg("shape"),
        py::arg("spatial"), py::arg("out"));
  m.def("fractional_max_pool", &fractional_max_pool, py::arg("x"), py::arg("kernel"),
        py::arg("out"), py::arg("draw"), py::arg("samples"), py::arg("pseudo_random"));
}

}  // namespace fastnn
