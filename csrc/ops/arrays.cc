// Making, copying, converting and reshaping arrays.
#include <string_view>

#include "../core/cuda.h"
#include "../core/pinned.h"
#include "common.h"

namespace fastnn {
namespace {

DType parse_dtype(std::string_view name) {
  for (const DType dtype :
       {DType::kFloat32, DType::kBFloat16, DType::kFloat16, DType::kUInt8, DType::kInt64})
    if (name == dtype_name(dtype)) return dtype;
  throw TypeError(concat(
      "dtype: expected 'float32', 'bfloat16', 'float16', 'uint8' or 'int64', got '", name, "'"));
}

Shape parse_shape(const std::vector<int64_t>& sizes) {
  check(sizes.size() <= kMaxDims, "shape: expected at most ", kMaxDims, " axes, got ",
        sizes.size());
  Shape shape;
  int64_t n = 1;
  for (const int64_t size : sizes) {
    check(size >= 0, "shape: expected sizes >= 0, got ", size);
    check(!__builtin_mul_overflow(n, size > 0 ? size : 1, &n) && n < int64_t{1} << 44,
          "shape: expected fewer than 2^44 elements");
    shape.dims[shape.ndim++] = size;
  }
  return shape;
}

Array full(const std::vector<int64_t>& shape, float value, const std::string& dtype,
           const std::string& device) {
  Array y = empty(parse_shape(shape), parse_dtype(dtype), parse_device(device));
  if (y.dtype == DType::kInt64 || y.dtype == DType::kUInt8) {
    check(value == 0.f, "full: expected a Tensor of floats, or zeros");
    refuse_while_recording("zeros() of integers");
    if (y.bytes() == 0) return y;
    if (y.device().is_cuda())
      cuda_fill_bytes({y.storage->data, y.device()}, 0, y.bytes());
    else
      std::memset(y.storage->data, 0, y.bytes());
    return y;
  }
  launch(elementwise("full", y), &Kernels::fill, FillArgs{nullptr, write(y), y.numel(), value});
  return y;
}

// scale * x in every element, for a scalar x.
Array broadcast_scalar(const Array& x, const std::vector<int64_t>& shape, float scale) {
  check(x.numel() == 1, "broadcast_scalar: expected a scalar, got shape ", x.shape);
  Array y = empty(parse_shape(shape), x.dtype, x.device());
  launch(elementwise("broadcast_scalar", y), &Kernels::fill,
         FillArgs{read(x), write(y), y.numel(), scale});
  return y;
}

// Where the host need not wait, the source must not be written until the device has read it.
void copy_across(const Array& from, const Array& to, bool non_blocking) {
  if (non_blocking && !from.device().is_cuda() && to.device().is_cuda())
    copy_later(from, to);
  else
    copy_bytes(from, to);
}

Array to_device(const AnyLayout& x, const std::string& device, bool non_blocking) {
  const Device target = parse_device(device);
  if (x.device() == target) return x;
  refuse_while_recording("Tensor.to(device)");
  Array y = empty(x.shape, x.dtype, target);
  y.layout = x.layout;
  copy_across(x, y, non_blocking);
  return y;
}

Layout parse_layout(std::string_view name) {
  check(name == "nchw" || name == "nhwc", "layout: expected 'nchw' or 'nhwc', got '", name, "'");
  return name == "nhwc" ? Layout::kNhwc : Layout::kNchw;
}

// Rounds to nearest even; the only conversions are between float32 and the other floats.
Array to_dtype(const AnyLayout& x, const std::string& dtype) {
  const DType target = parse_dtype(dtype);
  if (x.dtype == target) return x;
  check<TypeError>(x.dtype == DType::kFloat32 || target == DType::kFloat32,
                   "to: expected a conversion from or to float32, got ", dtype_name(x.dtype),
                   " to ", dtype);
  const bool widen = target == DType::kFloat32;
  Array y = empty(x.shape, target, x.device());
  y.layout = x.layout;
  const Launch what{"to", x.device(), widen ? x.dtype : target,
                    ceil_div(x.numel(), kElementwiseChunk),
                    static_cast<double>(x.numel()) * kCostPerElement};
  launch(what, widen ? &Kernels::to_float32 : &Kernels::from_float32,
         CopyArgs{read(x), write(y), x.numel()});
  return y;
}

Array reshape(const Array& x, std::vector<int64_t> sizes) {
  int64_t known = 1, unknown = -1;
  for (size_t i = 0; i < sizes.size(); ++i) {
    if (sizes[i] != -1) {
      known *= sizes[i];
    } else {
      check(unknown < 0, "reshape: expected at most one -1, got two");
      unknown = static_cast<int64_t>(i);
    }
  }
  if (unknown >= 0) {
    check(known > 0 && x.numel() % known == 0, "reshape: expected ", x.numel(),
          " elements to divide by ", known);
    sizes[static_cast<size_t>(unknown)] = x.numel() / known;
  }
  const Shape shape = parse_shape(sizes);
  check(shape.numel() == x.numel(), "reshape: expected a shape of ", x.numel(), " elements to fit ",
        x.shape, ", got ", shape);
  return x.reshaped(shape);
}

Array item(const Array& x, int64_t index) {
  check(x.shape.ndim > 0 && in_range(index, x.shape[0]),
        "item: expected an index of the first axis of ", x.shape, ", got ", index);
  return x.item(index);
}

// Writes x into y, which keeps its memory: whoever refers to y sees the new values.
void copy_(const AnyLayout& y, const AnyLayout& source, bool non_blocking) {
  const Array x = to_layout(source, y.layout);
  check(x.shape == y.shape, "copy_: expected a source of shape ", y.shape, ", got ", x.shape);
  check_dtype("copy_", "the source", x, y.dtype);
  check_writable("copy_", "the target", y);
  refuse_while_recording("Tensor.copy_");
  write(y);
  copy_across(x, y, non_blocking);
}

int64_t data_pointer(const AnyLayout& x) { return reinterpret_cast<int64_t>(x.storage->data); }

// The first flat index that is not finite, or -1.
int64_t first_not_finite(const Array& x) {
  check_dtype("first_not_finite", "x", x, DType::kFloat32);
  const auto* v = static_cast<const float*>(x.storage->data);
  for (int64_t i = 0; i < x.numel(); ++i)
    if (!(v[i] - v[i] == 0.f)) return i;
  return -1;
}

}  // namespace

// By a launch, so that a recorded step copies in every replay.
Array clone(const AnyLayout& x) {
  Array y = empty_like(x);
  const auto bytes = static_cast<int64_t>(x.bytes());
  launch({"clone", x.device(), DType::kFloat32, bytes > 0 ? 1 : 0, 0}, &Kernels::copy_rows,
         CopyRowsArgs{read(x), write(y), 1, bytes, bytes, bytes});
  return y;
}

Array to_layout(const Array& x, Layout layout) {
  check(layout == Layout::kNchw || x.shape.ndim == 4,
        "contiguous: expected a Tensor of shape (n, c, h, w) for channels_last, got ", x.shape);
  Array y = x;
  y.layout = layout;
  const int64_t channels = x.shape[1], size = x.shape.ndim == 4 ? x.shape[2] * x.shape[3] : 1;
  if (x.layout == layout || x.numel() == 0 || channels == 1 || size == 1) return y;
  y = empty(x.shape, x.dtype, x.device());
  y.layout = layout;
  const bool last = layout == Layout::kNhwc;
  const auto item = static_cast<int64_t>(item_size(x.dtype));
  const TransposeArgs args{
      read(x), write(y), x.shape[0], last ? channels : size, last ? size : channels, item};
  launch({"contiguous", x.device(), DType::kFloat32, args.batch * args.tasks_per_matrix(),
          static_cast<double>(x.numel()) * kCostPerElement},
         &Kernels::transpose, args);
  return y;
}

void bind_arrays(py::module_& m) {
  m.def("full", &full, py::arg("shape"), py::arg("value"), py::arg("dtype"), py::arg("device"));
  m.def("broadcast_scalar", &broadcast_scalar, py::arg("x"), py::arg("shape"), py::arg("scale"));
  m.def("share", [](const AnyLayout& x) -> Array { return x; }, py::arg("x"));
  m.def(
      "to_layout",
      [](const AnyLayout& x, const std::string& layout) {
        return to_layout(x, parse_layout(layout));
      },
      py::arg("x"), py::arg("layout"));
  m.def("clone", &clone, py::arg("x"));
  m.def("to_device", &to_device, py::arg("x"), py::arg("device"), py::arg("non_blocking") = false);
  m.def("to_dtype", &to_dtype, py::arg("x"), py::arg("dtype"));
  m.def("reshape", &reshape, py::arg("x"), py::arg("shape"));
  m.def("item", &item, py::arg("x"), py::arg("index"));
  m.def("copy_", &copy_, py::arg("y"), py::arg("x"), py::arg("non_blocking") = false);
  m.def("data_pointer", &data_pointer, py::arg("x"));
  m.def("first_not_finite", &first_not_finite, py::arg("x"));
}

}  // namespace fastnn
