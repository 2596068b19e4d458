// DLPack in and out: arrays of other libraries without a copy.
#include "dlpack.h"

#include <unordered_map>

#include "../core/cuda.h"
#include "../core/stream.h"

namespace fastnn {
namespace {

constexpr const char *kName = "dltensor", *kUsed = "used_dltensor";
constexpr const char *kVersionedName = "dltensor_versioned",
                     *kVersionedUsed = "used_dltensor_versioned";

constexpr DLDataType kTypes[] = {
    {2, 32, 1}, {4, 16, 1}, {2, 16, 1}, {1, 8, 1}, {0, 64, 1}};  // by DType

std::pair<int, int> dl_device_of(Device device) {
  return device.is_cuda() ? std::pair(kDLCuda, device.index()) : std::pair(kDLCpu, 0);
}

// An exported array: the capsule's struct and the sizes it points to.
template <class Managed>
struct Export {
  Managed managed{};
  Array array;
  bool for_legacy;  // its consumer's stream, which may still read it when that lets go
  int64_t shape[kMaxDims], strides[kMaxDims];
};

template <class Managed>
Managed* make_export(const Array& array, bool for_legacy) {
  auto* out = new Export<Managed>{{}, array, for_legacy, {}, {}};
  const Strides strides = strides_of(array.shape, array.layout);
  for (int i = 0; i < array.shape.ndim; ++i) {
    out->shape[i] = array.shape.dims[i];
    out->strides[i] = strides[i];
  }
  const Device device = array.device();
  const auto [type, id] = dl_device_of(device);
  out->managed.tensor = {array.storage->data,
                         {type, id},
                         array.shape.ndim,
                         kTypes[static_cast<int>(array.dtype)],
                         out->shape,
                         out->strides,
                         0};
  out->managed.context = out;
  out->managed.deleter = [](Managed* self) {
    const std::unique_ptr<Export<Managed>> exported(static_cast<Export<Managed>*>(self->context));
    if (exported->for_legacy) join_legacy_stream(exported->array.device());
  };
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

[[noreturn]] void raise_buffer_error(const std::string& text) {
  PyErr_SetString(PyExc_BufferError, text.c_str());
  throw py::error_already_set();
}

using Numbers = std::optional<std::pair<int, int>>;

// Whether the consumer gets a copy on the CPU of what is on a CUDA device.
bool moves_to_host(const Array& x, const Numbers& dl_device, std::optional<bool> copy) {
  const auto [type, id] = dl_device_of(x.device());
  if (!dl_device || *dl_device == std::pair(type, id)) return false;
  if (!x.device().is_cuda() || dl_device->first != kDLCpu)
    raise_buffer_error(concat("__dlpack__: expected dl_device (", type, ", ", id, ")",
                              x.device().is_cuda() ? " or (1, 0)" : "", " for a Tensor on ",
                              device_name(x.device()), ", got (", dl_device->first, ", ",
                              dl_device->second, ")"));
  if (copy == false)
    raise_buffer_error(
        concat("__dlpack__: expected copy None or True for dl_device (1, 0), got "
               "False for a Tensor on ",
               device_name(x.device())));
  return true;
}

// The consumer's stream waits for the thread's: null is the legacy default stream, -1 none. Whether
// it is the legacy one.
bool let_wait(const py::object& stream, Device device) {
  if (!device.is_cuda()) {
    check(stream.is_none() || stream.cast<int64_t>() == -1,
          "__dlpack__: expected stream None for a Tensor on cpu, got ",
          py::str(stream).cast<std::string>());
    return false;
  }
  const auto handle = stream.is_none() ? kLegacyStream : stream.cast<int64_t>();
  check(handle != 0 && handle >= -1, "__dlpack__: expected stream None, 1, 2, -1 or a handle, got ",
        handle);
  if (handle != -1)
    order_with("__dlpack__", device, cuda_stream(device), reinterpret_cast<void*>(handle));
  return handle == kLegacyStream;
}

template <class Managed>
py::object capsule_of(Managed* managed, const char* name) {
  return py::reinterpret_steal<py::object>(PyCapsule_New(managed, name, destroy_capsule<Managed>));
}

py::object to_dlpack(const AnyLayout& x, const py::object& stream, const Numbers& max_version,
                     const Numbers& dl_device, std::optional<bool> copy) {
  refuse_while_recording("__dlpack__");
  Array array = x;
  bool for_legacy = false;
  if (moves_to_host(x, dl_device, copy)) {
    array = empty(x.shape, x.dtype);
    array.layout = x.layout;
    copy_bytes(x, array);
  } else {
    if (copy == true) array = clone(x);
    for_legacy = let_wait(stream, x.device());
  }
  if (!max_version || max_version->first < 1) {
    check(array.storage->writable,
          "__dlpack__: expected a writable Tensor for a consumer older than DLPack 1.0");
    return capsule_of(make_export<DLManagedTensor>(array, for_legacy), kName);
  }
  auto* managed = make_export<DLManagedTensorVersioned>(array, for_legacy);
  managed->major = 1;
  managed->flags = (array.storage->writable ? 0 : kDLReadOnly) |
                   (array.storage.get() != x.storage.get() ? kDLIsCopied : 0);
  return capsule_of(managed, kVersionedName);
}

std::optional<DType> dtype_of(DLDataType type) {
  for (int i = 0; i < 5; ++i)
    if (kTypes[i].code == type.code && kTypes[i].bits == type.bits && type.lanes == 1)
      return static_cast<DType>(i);
  return std::nullopt;
}

std::optional<Layout> layout_of(const DLTensor& t, Shape* shape) {
  shape->ndim = t.ndim;
  std::copy_n(t.shape, t.ndim, shape->dims.begin());
  Strides strides = strides_of(*shape, Layout::kNchw);
  if (t.strides != nullptr) std::copy_n(t.strides, t.ndim, strides.begin());
  return layout_of(*shape, strides);
}

// Page-locked memory is the host's too.
Device device_of(DLDevice device) {
  if (device.type == kDLCpu || device.type == kDLCudaHost) return Device::kCpu;
  check(device.type == kDLCuda,
        "from_dlpack: expected an array on cpu or cuda, got DLPack device type ", device.type);
  return cuda_device(device.id);
}

// Throws where it cannot be shared as it is, and then the caller still owns it.
template <class Managed>
Array adopt(Managed* managed, bool writable) {
  const DLTensor& t = managed->tensor;
  const Device device = device_of(t.device);
  check(t.ndim <= kMaxDims, "from_dlpack: expected at most ", kMaxDims, " axes, got ", t.ndim);
  const auto dtype = dtype_of(t.dtype);
  check<TypeError>(
      dtype.has_value(),
      "from_dlpack: expected float32, bfloat16, float16, uint8 or int64, got type code ",
      int{t.dtype.code}, " of ", int{t.dtype.bits}, " bits");
  Shape shape;
  const auto layout = layout_of(t, &shape);
  check(layout.has_value(),
        "from_dlpack: expected a contiguous array, got strides that are neither row-major nor "
        "channels-last; copy it first");
  Array array = borrow(
      static_cast<char*>(t.data) + t.byte_offset, shape, *dtype, writable,
      [managed] {
        if (managed->deleter != nullptr) managed->deleter(managed);
      },
      device);
  array.layout = *layout;
  return array;
}

template <class Managed>
Array adopt_capsule(PyObject* capsule, const char* name, const char* used, bool writable) {
  Array array = adopt(static_cast<Managed*>(PyCapsule_GetPointer(capsule, name)), writable);
  PyCapsule_SetName(capsule, used);
  return array;
}

Array from_dlpack(const py::object& capsule) {
  if (PyCapsule_IsValid(capsule.ptr(), kVersionedName)) {
    auto* managed =
        static_cast<DLManagedTensorVersioned*>(PyCapsule_GetPointer(capsule.ptr(), kVersionedName));
    check(managed->major == 1, "from_dlpack: expected DLPack major version 1, got ",
          managed->major);
    return adopt_capsule<DLManagedTensorVersioned>(capsule.ptr(), kVersionedName, kVersionedUsed,
                                                   (managed->flags & kDLReadOnly) == 0);
  }
  check<TypeError>(PyCapsule_IsValid(capsule.ptr(), kName),
                   "from_dlpack: expected an unused DLPack capsule");
  return adopt_capsule<DLManagedTensor>(capsule.ptr(), kName, kUsed, true);
}

// ---- the exchange API -----------------------------------------------------------------------

const DLExchangeApi* api_in(PyObject* type) {
  static PyObject* const name = PyUnicode_InternFromString("__dlpack_c_exchange_api__");
  const auto capsule = py::reinterpret_steal<py::object>(PyObject_GetAttr(type, name));
  if (!capsule || !PyCapsule_IsValid(capsule.ptr(), "dlpack_exchange_api")) {
    PyErr_Clear();
    return nullptr;
  }
  auto* api =
      static_cast<const DLExchangeApi*>(PyCapsule_GetPointer(capsule.ptr(), "dlpack_exchange_api"));
  while (api != nullptr && api->major != 1) api = api->previous;
  return api;
}

struct Exchange {
  const DLExchangeApi* api = nullptr;
  bool has_gradients = false;  // the attribute requires_grad
};

// A type that has one is kept: its address must not become another's.
Exchange exchange_of(PyTypeObject* type) {
  static auto* known = new std::unordered_map<PyTypeObject*, Exchange>;
  if (const auto found = known->find(type); found != known->end()) return found->second;
  auto* object = reinterpret_cast<PyObject*>(type);
  const DLExchangeApi* api = api_in(object);
  if (api == nullptr) return {};
  Py_INCREF(object);
  return known->emplace(type, Exchange{api, PyObject_HasAttrString(object, "requires_grad") != 0})
      .first->second;
}

void check_without_gradient(PyObject* object) {
  static PyObject* const name = PyUnicode_InternFromString("requires_grad");
  const auto requires_grad = py::reinterpret_steal<py::object>(PyObject_GetAttr(object, name));
  if (!requires_grad) throw py::error_already_set();
  if (PyObject_IsTrue(requires_grad.ptr()) <= 0) return;
  PyErr_Format(PyExc_BufferError,
               "from_dlpack: expected an array without gradient, got a %s that requires it; call "
               "detach() first",
               Py_TYPE(object)->tp_name);
  throw py::error_already_set();
}

// What comes in while a graph is captured is ready, or made in it.
void wait_for(const DLExchangeApi& api, Device device) {
  void* stream = nullptr;
  if (api.current_stream(kDLCuda, device.index(), &stream) != 0) throw py::error_already_set();
  if (stream == nullptr) stream = reinterpret_cast<void*>(kLegacyStream);
  if (!is_captured(device)) order_with("from_dlpack", device, stream, cuda_stream(device));
}

}  // namespace

std::optional<Array> from_exchange(PyObject* object) {
  const auto [api, has_gradients] = exchange_of(Py_TYPE(object));
  if (api == nullptr) return std::nullopt;
  if (has_gradients) check_without_gradient(object);
  DLManagedTensorVersioned* managed = nullptr;
  if (api->to_managed(object, &managed) != 0) throw py::error_already_set();
  Array array;
  try {
    array = adopt(managed, (managed->flags & kDLReadOnly) == 0);
  } catch (const std::runtime_error&) {
    if (managed->deleter != nullptr) managed->deleter(managed);
    return std::nullopt;
  }
  if (array.device().is_cuda()) wait_for(*api, array.device());
  return array;
}

void bind_dlpack(py::module_& m) {
  m.def("to_dlpack", &to_dlpack, py::arg("x"), py::arg("stream"), py::arg("max_version"),
        py::arg("dl_device"), py::arg("copy"));
  m.def("dlpack_device", [](const AnyLayout& x) { return dl_device_of(x.device()); }, py::arg("x"));
  m.def(
      "from_exchange",
      [](const py::object& x) -> py::object {
        auto array = from_exchange(x.ptr());
        return array ? wrap(*std::move(array)) : py::none();
      },
      py::arg("x"));
  m.def("from_dlpack", &from_dlpack, py::arg("capsule"));
}

}  // namespace fastnn
