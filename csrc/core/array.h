// Array: a contiguous block of one dtype on one device, with a shape. Reshapes share the storage,
// items of the first axis its memory; everything else copies. Storage is reference counted and
// returns its memory to where it came from.
#pragma once
#include <array>
#include <atomic>
#include <functional>
#include <initializer_list>
#include <memory>
#include <optional>
#include <ostream>
#include <utility>

#include "../kernels/kernels.h"
#include "allocator.h"
#include "check.h"

namespace fastnn {

inline constexpr int kMaxDims = 8;

// Where memory is: the CPU, or a CUDA device by its index.
class Device {
 public:
  static const Device kCpu;
  constexpr Device() = default;
  static constexpr Device cuda(int index) { return Device(static_cast<int8_t>(index)); }
  constexpr bool is_cuda() const { return index_ >= 0; }
  constexpr int index() const { return index_; }  // of a CUDA device
  constexpr bool operator==(const Device&) const = default;

 private:
  explicit constexpr Device(int8_t index) : index_(index) {}
  int8_t index_ = -1;
};
inline constexpr Device Device::kCpu{};
inline constexpr int kMaxCudaDevices = 64;  // more are not used
// The order of the elements: that of the shape, or channels-last, which four axes (n, c, h, w) may
// have. The shape is the same.
enum class Layout : uint8_t { kNchw, kNhwc };

constexpr size_t item_size(DType dtype) {
  constexpr size_t sizes[] = {4, 2, 2, 1, 8};
  return sizes[static_cast<int>(dtype)];
}
const char* dtype_name(DType dtype);
// "cpu" or "cuda:1"; "cuda:0" as well, since "cuda" is the current device (parse_device).
const char* device_name(Device device);

struct Shape {
  std::array<int64_t, kMaxDims> dims{};
  int ndim = 0;

  Shape() = default;
  Shape(std::initializer_list<int64_t> sizes) {
    for (int64_t size : sizes) dims[ndim++] = size;
  }
  int64_t operator[](int axis) const { return dims[axis < 0 ? axis + ndim : axis]; }
  int64_t numel() const {
    int64_t n = 1;
    for (int i = 0; i < ndim; ++i) n *= dims[i];
    return n;
  }
  int64_t last() const { return ndim == 0 ? 1 : dims[ndim - 1]; }
  int64_t rows() const {  // product of all axes but the last
    int64_t n = 1;
    for (int i = 0; i + 1 < ndim; ++i) n *= dims[i];
    return n;
  }
  Shape without_last() const {
    Shape s = *this;
    if (s.ndim > 0) --s.ndim;
    return s;
  }
  bool operator==(const Shape& other) const {
    if (ndim != other.ndim) return false;
    for (int i = 0; i < ndim; ++i)
      if (dims[i] != other.dims[i]) return false;
    return true;
  }
};
std::ostream& operator<<(std::ostream& out, const Shape& shape);

// Elements from one index of an axis to the next.
using Strides = std::array<int64_t, kMaxDims>;
Strides strides_of(const Shape& shape, Layout layout);
// The layout that has these strides; both may, and then it is kNchw.
std::optional<Layout> layout_of(const Shape& shape, const Strides& strides);

struct Storage;

class StoragePtr {
 public:
  StoragePtr() = default;
  explicit StoragePtr(Storage* storage) : storage_(storage) { retain(); }
  StoragePtr(const StoragePtr& other) : storage_(other.storage_) { retain(); }
  StoragePtr(StoragePtr&& other) noexcept : storage_(std::exchange(other.storage_, nullptr)) {}
  StoragePtr& operator=(StoragePtr other) noexcept {
    std::swap(storage_, other.storage_);
    return *this;
  }
  ~StoragePtr() { release(); }
  Storage* operator->() const { return storage_; }
  Storage* get() const { return storage_; }

 private:
  void retain();
  void release();
  Storage* storage_ = nullptr;
};

// Who frees the bytes: a pool, whoever lent them (`owner`), or the storage that this is a part of.
struct Storage {
  void* data = nullptr;
  size_t bytes = 0;
  Device device = Device::kCpu;
  bool writable = true;
  std::atomic<int64_t> references{0};
  int64_t version = 0;  // counts writes in place, for the tape; of the whole, never of a part
  std::shared_ptr<Pool> pool;
  std::function<void()> release_owner;  // gives a lent buffer back
  StoragePtr whole;                     // what this is a part of; it is not a part itself
  ~Storage();
};

inline void StoragePtr::retain() {
  if (storage_ != nullptr) storage_->references.fetch_add(1, std::memory_order_relaxed);
}
inline void StoragePtr::release() {
  if (storage_ != nullptr && storage_->references.fetch_sub(1, std::memory_order_acq_rel) == 1)
    delete storage_;
}
inline const StoragePtr& whole_of(const StoragePtr& storage) {
  return storage->whole.get() != nullptr ? storage->whole : storage;
}

struct Array {
  StoragePtr storage;
  Shape shape;
  DType dtype = DType::kFloat32;
  Layout layout = Layout::kNchw;

  bool defined() const { return storage.get() != nullptr; }
  Device device() const { return storage->device; }
  int64_t numel() const { return shape.numel(); }
  size_t bytes() const { return static_cast<size_t>(numel()) * item_size(dtype); }
  int64_t version() const { return whole_of(storage)->version; }
  Array reshaped(const Shape& to) const;  // shares the storage; numel must agree
  Array item(int64_t index) const;        // of the first axis: a part of this memory
};

// Fresh, uninitialised memory: from the plan's pool while recording, else from the process pool.
Array empty(const Shape& shape, DType dtype, Device device = Device::kCpu);
// The same from a pool that is named.
Array from_pool(const Shape& shape, DType dtype, Device device, const std::shared_ptr<Pool>& pool);
// Memory that the host fills now and launches only read: while recording it is the plan's, and it
// is not a block that the plan uses for anything else on replay.
Array allocate_constant(const Shape& shape, DType dtype, Device device = Device::kCpu);
// Such memory of a device, filled from what the host has written; on the CPU that itself.
Array constant_on(const Array& host, Device device);
// Fresh memory that is never a plan's: for what outlives a recording.
Array allocate_lasting(const Shape& shape, DType dtype, Device device);
inline Array empty_like(const Array& x) {
  Array y = empty(x.shape, x.dtype, x.device());
  y.layout = x.layout;
  return y;
}
// An array over memory that somebody else owns; `release` is called when the last reference dies,
// on CUDA once its last use is over.
Array borrow(void* data, const Shape& shape, DType dtype, bool writable,
             std::function<void()> release, Device device = Device::kCpu);

// The addresses of an array for a launch. While recording, the plan keeps the storage alive.
// `write` also counts a write in place.
const void* read(const Array& x);
void* write(const Array& x);
template <class T>
const T* read_as(const Array& x) {
  return static_cast<const T*>(read(x));
}
template <class T>
T* write_as(const Array& x) {
  return static_cast<T*>(write(x));
}

void copy_bytes(const Array& from, const Array& to);  // across devices: waits for them, and as it
                                                      // reads from one, raises data errors
// The same values in another order: the same array where the orders do not differ.
Array to_layout(const Array& x, Layout layout);

}  // namespace fastnn
