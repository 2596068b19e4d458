// DLPack in and out: arrays of other libraries without a copy.
#include "dlpack.h"

#include <unordered_map>

namespace fastnn {
namespace {

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

// Throws where it cannot be shared as it is, and then the caller still owns it.
template <class Managed>
Array adopt(Managed* managed, bool writable) {
  const DLTensor& t = managed->tensor;
  check(t.device.type == kDLCpu, "from_dlpack: expected an array on cpu, got DLPack device type ",
        t.device.type);
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
  Array array =
      borrow(static_cast<char*>(t.data) + t.byte_offset, shape, *dtype, writable, [managed] {
        if (managed->deleter != nullptr) managed->deleter(managed);
      });
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
  const Exchange exchange{api_in(object), PyObject_HasAttrString(object, "requires_grad") != 0};
  if (exchange.api != nullptr) Py_INCREF(object), known->emplace(type, exchange);
  return exchange;
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

}  // namespace

std::optional<Array> from_exchange(PyObject* object) {
  const auto [api, has_gradients] = exchange_of(Py_TYPE(object));
  if (api == nullptr) return std::nullopt;
  if (has_gradients) check_without_gradient(object);
  DLManagedTensorVersioned* managed = nullptr;
  if (api->to_managed(object, &managed) != 0) throw py::error_already_set();
  try {
    return adopt(managed, (managed->flags & kDLReadOnly) == 0);
  } catch (const std::exception&) {
    if (managed->deleter != nullptr) managed->deleter(managed);
    return std::nullopt;
  }
}

void bind_dlpack(py::module_& m) {
  m.def("to_dlpack", &to_dlpack, py::arg("x"), py::arg("versioned"));
  m.def("from_dlpack", &from_dlpack, py::arg("capsule"));
}

}  // namespace fastnn
