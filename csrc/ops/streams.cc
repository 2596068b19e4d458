// Streams of CUDA by their handles, and __cuda_array_interface__ (version 3), which older libraries
// speak instead of DLPack.
#include "../core/cuda.h"
#include "../core/data_errors.h"
#include "../core/held.h"
#include "../core/stream.h"
#include "dlpack.h"

namespace fastnn {
namespace {

int64_t handle_of(void* stream) { return reinterpret_cast<int64_t>(stream); }
void* stream_of(int64_t handle) { return reinterpret_cast<void*>(handle); }

void synchronize(int64_t index, int64_t stream) {
  const Device device = cuda_device(index);
  {
    CudaEvent event(device);
    refuse_while_captured(device, "a wait of the host");
    event.record(stream_of(stream));
    const InterpreterReleased released;
    event.wait();
  }
  release_held();
  raise_data_errors(device);
}

constexpr const char* kTypes[] = {"<f4", nullptr, "<f2", "|u1", "<i8"};  // by DType

py::dict cuda_array_interface(const AnyLayout& x) {
  const char* type = kTypes[static_cast<int>(x.dtype)];
  if (!x.device().is_cuda() || type == nullptr)
    throw py::attribute_error(
        concat("__cuda_array_interface__: expected a Tensor on cuda of a "
               "dtype that it knows, got ",
               dtype_name(x.dtype), " on ", device_name(x.device())));
  const Strides strides = strides_of(x.shape, x.layout);
  py::tuple shape(x.shape.ndim), bytes(x.shape.ndim);
  for (int i = 0; i < x.shape.ndim; ++i) {
    shape[static_cast<size_t>(i)] = x.shape.dims[i];
    bytes[static_cast<size_t>(i)] = strides[i] * static_cast<int64_t>(item_size(x.dtype));
  }
  py::dict out;
  out["version"] = 3;
  out["typestr"] = type;
  out["shape"] = shape;
  out["strides"] = bytes;
  out["data"] =
      py::make_tuple(x.numel() > 0 ? handle_of(x.storage->data) : 0, !x.storage->writable);
  out["stream"] = handle_of(cuda_stream(x.device()));
  return out;
}

// `stream` is what the interface has: none means that nothing is under way.
Array from_cuda_array(int64_t data, const std::vector<int64_t>& sizes,
                      const std::optional<std::vector<int64_t>>& bytes, const std::string& type,
                      bool read_only, std::optional<int64_t> stream, const py::object& owner) {
  const char* rule = "tensor: expected __cuda_array_interface__ of ";
  check(sizes.size() <= kMaxDims, rule, "at most ", kMaxDims, " axes, got ", sizes.size());
  int dtype = 0;
  while (dtype < 5 && (kTypes[dtype] == nullptr || type != kTypes[dtype])) ++dtype;
  check<TypeError>(dtype < 5, rule, "float32, float16, uint8 or int64, got '", type, "'");
  const auto item = static_cast<int64_t>(item_size(static_cast<DType>(dtype)));
  Shape shape;
  for (const int64_t size : sizes) shape.dims[shape.ndim++] = size;
  Strides strides = strides_of(shape, Layout::kNchw);
  check(!bytes || bytes->size() == sizes.size(), rule, "as many strides as axes, got ",
        bytes ? bytes->size() : 0, " and ", sizes.size());
  for (int i = 0; bytes && i < shape.ndim; ++i) {
    const int64_t stride = (*bytes)[static_cast<size_t>(i)];
    strides[i] = stride % item == 0 ? stride / item : -1;
  }
  const auto layout = layout_of(shape, strides);
  check(layout.has_value(), rule,
        "a contiguous array, got strides that are neither row-major nor channels-last; copy it "
        "first");
  const Device device = current_cuda();
  if (stream && !is_captured(device))
    order_with("tensor", device, stream_of(*stream != 0 ? *stream : kLegacyStream),
               cuda_stream(device));
  Array array = borrow(
      stream_of(data), shape, static_cast<DType>(dtype), !read_only,
      [held = py::object(owner).release().ptr()] {
        const py::gil_scoped_acquire gil;
        Py_DECREF(held);
      },
      device);
  array.layout = *layout;
  return array;
}

}  // namespace

void bind_streams(py::module_& m) {
  m.def(
      "cuda_stream", [](int64_t index) { return handle_of(cuda_stream(cuda_device(index))); },
      py::arg("index"));
  m.def(
      "cuda_own_stream",
      [](int64_t index) { return handle_of(cuda_own_stream(cuda_device(index))); },
      py::arg("index"));
  m.def(
      "switch_cuda_stream",
      [](int64_t index, int64_t stream) {
        return handle_of(switch_stream(cuda_device(index), stream_of(stream)));
      },
      py::arg("index"), py::arg("stream"));
  m.def(
      "cuda_memory_bytes", [](int64_t index) { return cuda_memory_bytes(cuda_device(index)); },
      py::arg("index"));
  m.def("cuda_synchronize", &synchronize, py::arg("index"), py::arg("stream"));
  // What a producer is asked to let wait: within a capture nothing can.
  m.def(
      "consumer_stream",
      [](int64_t index) {
        const Device device = cuda_device(index);
        return is_captured(device) ? -1 : handle_of(cuda_stream(device));
      },
      py::arg("index"));
  m.def("cuda_array_interface", &cuda_array_interface, py::arg("x"));
  m.def("from_cuda_array", &from_cuda_array, py::arg("data"), py::arg("shape"), py::arg("strides"),
        py::arg("typestr"), py::arg("read_only"), py::arg("stream"), py::arg("owner"));
}

}  // namespace fastnn
