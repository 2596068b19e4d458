// DLPack in and out (https://dmlc.github.io/dlpack): arrays of other libraries without a copy. The
// structs are the standard's ABI.
#include "common.h"

namespace fastnn {
namespace {

struct DLDevice {
  int32_t type, id;
};
struct DLDataType {
  uint8_t code, bits;
  uint16_t lanes;
};
struct DLTensor {
  void* data;
  DLDevice device;
  int32_t ndim;
  DLDataType dtype;
  int64_t *shape, *strides;
  uint64_t byte_offset;
};
struct DLManagedTensor {
  DLTensor tensor;
  void* context;
  void (*deleter)(DLManagedTensor*);
};
struct DLManagedTensorVersioned {
  uint32_t major, minor;
  void* context;
  void (*deleter)(DLManagedTensorVersioned*);
  uint64_t flags;
  DLTensor tensor;
};
constexpr int32_t kDLCpu = 1, kDLCuda = 2;
constexpr uint64_t kDLReadOnly = 1;
constexpr const char *kName = "dltensor", *kUsed = "used_dltensor";
constexpr const char *kVersionedName = "dltensor_versioned",
                     *kVersionedUsed = "used_dltensor_versioned";

constexpr DLDataType kTypes[] = {
    {2, 32, 1}, {4, 16, 1}, {2, 16, 1}, {1, 8, 1}, {0, 64, 1}};  // by DType

// An exported array: the capsule's struct and the sizes it points to.
template <class Managed>
struct Export {
  Managed managed{};
  Array array;
  int64_t shape[kMaxDims], strides[kMaxDims];
};

template <class Managed>
Managed* make_export(const Array& array) {
  auto* out = new Export<Managed>{{}, array, {}, {}};
  const Strides strides = strides_of(array.shape, array.layout);
  for (int i = 0; i < array.shape.ndim; ++i) {
    out->shape[i] = array.shape.dims[i];
    out->strides[i] = strides[i];
  }
  const Device device = array.device();
  out->managed.tensor = {array.storage->data,
                         device.is_cuda() ? DLDevice{kDLCuda, device.index()} : DLDevice{kDLCpu, 0},
                         array.shape.ndim,
                         kTypes[static_cast<int>(array.dtype)],
                         out->shape,
                         out->strides,
                         0};
  out->managed.context = out;
  out->managed.deleter = [](Managed* self) { delete static_cast<Export<Managed>*>(self->context); };
  return &out->managed;
}

// Frees what no consumer took: a consumer renames the capsule.
template <class Managed>
void destroy_capsule(PyObject* capsule) {
  const char* name = std::is_same_v<Managed, DLManagedTensor> ? kName : kVersionedName;
  if (!PyCapsule_IsValid(capsule, name)) return;
  auto* managed = static_cast<Managed*>(PyCapsule_GetPointer(capsule, name));
  managed->deleter(managed);
}

py::object to_dlpack(const AnyLayout& array, bool versioned) {
  refuse_while_recording("__dlpack__");
  if (!versioned) {
    check(array.storage->writable,
          "__dlpack__: expected a writable Tensor for a consumer older than DLPack 1.0");
    return py::reinterpret_steal<py::object>(PyCapsule_New(
        make_export<DLManagedTensor>(array), kName, destroy_capsule<DLManagedTensor>));
  }
  auto* managed = make_export<DLManagedTensorVersioned>(array);
  managed->major = 1;
  managed->flags = array.storage->writable ? 0 : kDLReadOnly;
  return py::reinterpret_steal<py::object>(
      PyCapsule_New(managed, kVersionedName, destroy_capsule<DLManagedTensorVersioned>));
}

DType dtype_of(DLDataType type) {
  for (int i = 0; i < 5; ++i)
    if (kTypes[i].code == type.code && kTypes[i].bits == type.bits && type.lanes == 1)
      return static_cast<DType>(i);
  throw TypeError(
      concat("from_dlpack: expected float32, bfloat16, float16, uint8 or int64, got type code ",
             int{type.code}, " of ", int{type.bits}, " bits"));
}

template <class Managed>
Array import_capsule(PyObject* capsule, const char* name, const char* used, bool writable) {
  auto* managed = static_cast<Managed*>(PyCapsule_GetPointer(capsule, name));
  const DLTensor& t = managed->tensor;
  check(t.device.type == kDLCpu, "from_dlpack: expected an array on cpu, got DLPack device type ",
        t.device.type);
  check(t.ndim <= kMaxDims, "from_dlpack: expected at most ", kMaxDims, " axes, got ", t.ndim);
  Shape shape;
  shape.ndim = t.ndim;
  std::copy_n(t.shape, t.ndim, shape.dims.begin());
  Strides strides = strides_of(shape, Layout::kNchw);
  if (t.strides != nullptr) std::copy_n(t.strides, t.ndim, strides.begin());
  const auto layout = layout_of(shape, strides);
  check(layout.has_value(),
        "from_dlpack: expected a contiguous array, got strides that are neither row-major nor "
        "channels-last; copy it first");
  const DType dtype = dtype_of(t.dtype);
  PyCapsule_SetName(capsule, used);
  Array array =
      borrow(static_cast<char*>(t.data) + t.byte_offset, shape, dtype, writable, [managed] {
        if (managed->deleter != nullptr) managed->deleter(managed);
      });
  array.layout = *layout;
  return array;
}

Array from_dlpack(const py::object& capsule) {
  if (PyCapsule_IsValid(capsule.ptr(), kVersionedName)) {
    auto* managed =
        static_cast<DLManagedTensorVersioned*>(PyCapsule_GetPointer(capsule.ptr(), kVersionedName));
    check(managed->major == 1, "from_dlpack: expected DLPack major version 1, got ",
          managed->major);
    return import_capsule<DLManagedTensorVersioned>(capsule.ptr(), kVersionedName, kVersionedUsed,
                                                    (managed->flags & kDLReadOnly) == 0);
  }
  check<TypeError>(PyCapsule_IsValid(capsule.ptr(), kName),
                   "from_dlpack: expected an unused DLPack capsule");
  return import_capsule<DLManagedTensor>(capsule.ptr(), kName, kUsed, true);
}

}  // namespace

void bind_dlpack(py::module_& m) {
  m.def("to_dlpack", &to_dlpack, py::arg("x"), py::arg("versioned"));
  m.def("from_dlpack", &from_dlpack, py::arg("capsule"));
}

}  // namespace fastnn
