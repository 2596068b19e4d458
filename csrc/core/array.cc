// Storage lifetime and the two doors to an array's memory, read() and write().
#include "array.h"

#include <cstring>

#include "capture.h"
#include "cuda.h"
#include "data_errors.h"
#include "held.h"
#include "pinned.h"
#include "stream.h"

namespace fastnn {

const char* dtype_name(DType dtype) {
  constexpr const char* names[] = {"float32", "bfloat16", "float16", "uint8", "int64"};
  return names[static_cast<int>(dtype)];
}

const char* device_name(Device device) {
  if (!device.is_cuda()) return "cpu";
  static const auto names = [] {
    std::array<std::string, kMaxCudaDevices> all;
    for (int i = 0; i < kMaxCudaDevices; ++i) all[static_cast<size_t>(i)] = concat("cuda:", i);
    return all;
  }();
  return names[static_cast<size_t>(device.index())].c_str();
}

std::ostream& operator<<(std::ostream& out, const Shape& shape) {
  out << '(';
  for (int i = 0; i < shape.ndim; ++i) out << (i ? ", " : "") << shape.dims[i];
  return out << (shape.ndim == 1 ? ",)" : ")");
}

Storage::~Storage() {
  if (whole.get() != nullptr) return;
  if (release_owner && device.is_cuda()) {
    hold_until_used(device, std::move(release_owner));
  } else if (release_owner) {
    release_owner();
  } else if (pool) {
    pool->release(data, bytes);
  } else if (device.is_cuda()) {
    cuda_free(data, device);
  }
}

Strides strides_of(const Shape& shape, Layout layout) {
  constexpr int kChannelsLast[] = {1, 3, 2, 0};  // axes from the inside
  Strides strides{};
  int64_t stride = 1;
  for (int i = 0; i < shape.ndim; ++i) {
    const int axis = layout == Layout::kNhwc ? kChannelsLast[i] : shape.ndim - 1 - i;
    strides[axis] = stride;
    stride *= shape.dims[axis];
  }
  return strides;
}

std::optional<Layout> layout_of(const Shape& shape, const Strides& strides) {
  const auto fits = [&](Layout layout) {
    const Strides dense = strides_of(shape, layout);
    for (int i = 0; i < shape.ndim; ++i)
      if (shape.dims[i] > 1 && strides[i] != dense[i]) return false;
    return true;
  };
  if (shape.numel() == 0 || fits(Layout::kNchw)) return Layout::kNchw;
  if (shape.ndim == 4 && fits(Layout::kNhwc)) return Layout::kNhwc;
  return std::nullopt;
}

Array Array::reshaped(const Shape& to) const {
  Array y = *this;
  y.shape = to;
  return y;
}

Array Array::item(int64_t index) const {
  Array y = *this;
  --y.shape.ndim;
  std::copy(shape.dims.begin() + 1, shape.dims.end(), y.shape.dims.begin());
  auto part = std::make_unique<Storage>();
  part->bytes = y.bytes();
  part->data = static_cast<char*>(storage->data) + index * static_cast<int64_t>(part->bytes);
  part->device = storage->device;
  part->writable = storage->writable;
  part->whole = whole_of(storage);
  y.storage = StoragePtr(part.release());
  return y;
}

namespace {

// A product that wraps around would be a small array.
size_t bytes_of(const Array& y) {
  size_t bytes = item_size(y.dtype);
  bool fits = true;
  for (int i = 0; i < y.shape.ndim; ++i) {
    if (y.shape.dims[i] == 0) return 0;
    fits = fits && !__builtin_mul_overflow(bytes, static_cast<size_t>(y.shape.dims[i]), &bytes);
  }
  check<OutOfMemory>(fits && bytes <= PTRDIFF_MAX, "allocate: the system has no memory for shape ",
                     y.shape);
  return bytes;
}

Array on_cuda(const Shape& shape, DType dtype, Device device) {
  Array y;
  y.shape = shape;
  y.dtype = dtype;
  auto storage = std::make_unique<Storage>();
  storage->bytes = bytes_of(y);
  storage->data = cuda_allocate(storage->bytes, device);
  storage->device = device;
  y.storage = StoragePtr(storage.release());
  return y;
}

}  // namespace

Array from_pool(const Shape& shape, DType dtype, Device device, const std::shared_ptr<Pool>& pool) {
  Array y;
  y.shape = shape;
  y.dtype = dtype;
  auto storage = std::make_unique<Storage>();
  storage->bytes = bytes_of(y);
  storage->data = pool->allocate(storage->bytes);
  storage->device = device;
  storage->pool = pool;
  y.storage = StoragePtr(storage.release());
  return y;
}

// Who owns what is made now, if not the process: a recording, or a graph that another library
// captures.
static Plan* plan_now(Device device) {
  Plan* plan = current_plan();
  return plan != nullptr ? plan : captured_plan(device);
}

Array empty(const Shape& shape, DType dtype, Device device) {
  if (Plan* plan = plan_now(device)) return from_pool(shape, dtype, device, plan->pool(device));
  return allocate_lasting(shape, dtype, device);
}

Array allocate_lasting(const Shape& shape, DType dtype, Device device) {
  return device == Device::kCpu ? from_pool(shape, dtype, device, process_pool())
                                : on_cuda(shape, dtype, device);
}

Array allocate_constant(const Shape& shape, DType dtype, Device device) {
  Array y = allocate_lasting(shape, dtype, device);
  if (Plan* plan = plan_now(device)) plan->own(y.storage);
  return y;
}

Array constant_on(const Array& host, Device device) {
  if (device == Device::kCpu) return host;
  Array y = allocate_constant(host.shape, host.dtype, device);
  if (!is_captured(device)) {
    copy_staged(host, y);
  } else {  // beside the capture, whose graph reads it when it is launched, on any stream
    const OwnStream now(device, true);
    copy_bytes(host, y);
  }
  return y;
}

Array borrow(void* data, const Shape& shape, DType dtype, bool writable,
             std::function<void()> release, Device device) {
  Array y;
  y.shape = shape;
  y.dtype = dtype;
  auto storage = std::make_unique<Storage>();
  storage->data = data;
  storage->bytes = y.bytes();
  storage->device = device;
  storage->writable = writable;
  storage->release_owner = std::move(release);
  y.storage = StoragePtr(storage.release());
  return y;
}

const void* read(const Array& x) {
  retain_while_recording(x.storage);
  return x.storage->data;
}

void* write(const Array& x) {
  retain_while_recording(x.storage);
  ++whole_of(x.storage)->version;
  return x.storage->data;
}

void copy_bytes(const Array& from, const Array& to) {
  if (from.bytes() == 0) return;
  if (from.device() == Device::kCpu && to.device() == Device::kCpu) {
    std::memcpy(to.storage->data, from.storage->data, from.bytes());
  } else {
    const bool is_read = !to.device().is_cuda();
    if (is_read) ask_for_data_errors(from.device());
    cuda_copy_bytes({to.storage->data, to.device()}, {from.storage->data, from.device()},
                    from.bytes());
    release_held();
    if (is_read) raise_data_errors(from.device());
  }
}

}  // namespace fastnn
