// The grid of a convolution or of a transposed one: its arguments are checked, and its geometry
// made of them.
#pragma once
#include <algorithm>
#include <array>
#include <string>
#include <tuple>

#include "common.h"

namespace fastnn {
namespace {

using Pair = std::array<int64_t, 2>;  // of height and width; height is trivial in one dimension

struct Window {
  Pair stride, padding, padding_end, dilation;
  int64_t groups;
};
using WindowArg = std::tuple<Pair, Pair, Pair, Pair, int64_t>;
Window window_of(const WindowArg& v) {
  return {std::get<0>(v), std::get<1>(v), std::get<2>(v), std::get<3>(v), std::get<4>(v)};
}
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

}  // namespace
}  // namespace fastnn
