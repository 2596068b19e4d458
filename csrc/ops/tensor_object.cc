// Tensor's life, attributes and buffer, and conversion of foreign arrays.
#include "tensor_object.h"

#include <structmember.h>

#include "../core/capture.h"
#include "dlpack.h"

namespace fastnn {
namespace {

PyTypeObject* base_type = nullptr;    // _core.TensorBase
PyTypeObject* tensor_type = nullptr;  // fastnn.Tensor, its subclass
PyObject* converter = nullptr;        // fastnn._convert.to_array

TensorObject* cast(PyObject* object) { return reinterpret_cast<TensorObject*>(object); }

void dealloc(PyObject* self) {
  PyTypeObject* type = Py_TYPE(self);
  PyObject_GC_UnTrack(self);
  Py_TRASHCAN_BEGIN(self, dealloc);  // a long chain of nodes must not recurse
  TensorObject* tensor = cast(self);
  if (tensor->weak_references != nullptr) PyObject_ClearWeakRefs(self);
  Py_CLEAR(tensor->grad);
  Py_CLEAR(tensor->node);
  tensor->array.~Array();
  type->tp_free(self);
  Py_DECREF(type);
  Py_TRASHCAN_END;
}

int traverse(PyObject* self, visitproc visit, void* arg) {
  Py_VISIT(Py_TYPE(self));
  Py_VISIT(cast(self)->grad);
  Py_VISIT(cast(self)->node);
  return 0;
}

int clear(PyObject* self) {
  Py_CLEAR(cast(self)->grad);
  Py_CLEAR(cast(self)->node);
  return 0;
}

PyObject* allocate(PyTypeObject* type, Array array) {
  PyObject* self = type->tp_alloc(type, 0);
  if (self == nullptr) throw py::error_already_set();
  new (&cast(self)->array) Array(std::move(array));
  return self;
}

PyObject* get_shape(PyObject* self, void*) {
  const Shape& shape = cast(self)->array.shape;
  PyObject* tuple = PyTuple_New(shape.ndim);
  for (int i = 0; i < shape.ndim; ++i)
    PyTuple_SET_ITEM(tuple, i, PyLong_FromLongLong(shape.dims[i]));
  return tuple;
}
PyObject* get_layout(PyObject* self, void*) {
  return layout_name(cast(self)->array.layout).release().ptr();
}
PyObject* get_dtype(PyObject* self, void*) {
  return PyUnicode_InternFromString(dtype_name(cast(self)->array.dtype));
}
PyObject* get_device(PyObject* self, void*) {
  return PyUnicode_InternFromString(device_name(cast(self)->array.device()));
}
PyObject* get_ndim(PyObject* self, void*) { return PyLong_FromLong(cast(self)->array.shape.ndim); }
PyObject* get_version(PyObject* self, void*) {
  return PyLong_FromLongLong(cast(self)->array.version());
}

PyGetSetDef attributes[] = {
    {"shape", get_shape, nullptr, "Sizes of the axes.", nullptr},
    {"dtype", get_dtype, nullptr, "Storage dtype, by NumPy's name.", nullptr},
    {"device", get_device, nullptr, "'cpu' or 'cuda:N'.", nullptr},
    {"layout", get_layout, nullptr,
     "Order of the elements: 'nchw', that of the shape, or 'nhwc', channels-last.", nullptr},
    {"ndim", get_ndim, nullptr, "Number of axes.", nullptr},
    {"_version", get_version, nullptr, "Counts writes in place.", nullptr},
    {nullptr, nullptr, nullptr, nullptr, nullptr}};

PyMemberDef members[] = {
    {"grad", T_OBJECT, offsetof(TensorObject, grad), 0, "Gradient, or None."},
    {"_node", T_OBJECT, offsetof(TensorObject, node), 0, "Tape node, or None."},
    {"requires_grad", T_BOOL, offsetof(TensorObject, requires_grad), 0, "Track gradients."},
    {"__weaklistoffset__", T_PYSSIZET, offsetof(TensorObject, weak_references), READONLY, nullptr},
    {nullptr, 0, 0, 0, nullptr}};

// What a view needs to live: the sizes, and a hold on the storage.
struct Exported {
  Array array;
  Py_ssize_t shape[kMaxDims], strides[kMaxDims];
};

const char* buffer_format(DType dtype) {
  switch (dtype) {
    case DType::kFloat32:
      return "f";
    case DType::kInt64:
      return "q";
    case DType::kUInt8:
      return "B";
    default:
      return nullptr;
  }
}

int get_buffer(PyObject* self, Py_buffer* view, int flags) {
  const Array& array = cast(self)->array;
  view->obj = nullptr;
  try {
    refuse_while_recording("a read of a Tensor on the host (numpy(), item(), np.asarray)");
  } catch (const CaptureError& error) {
    PyErr_SetString(py::module_::import("fastnn._core").attr("CaptureError").ptr(), error.what());
    return -1;
  }
  const char* format = buffer_format(array.dtype);
  if (format == nullptr || array.device() != Device::kCpu) {
    PyErr_Format(PyExc_BufferError,
                 "buffer: expected a float32, int64 or uint8 Tensor on cpu, got %s on %s",
                 dtype_name(array.dtype), device_name(array.device()));
    return -1;
  }
  if ((flags & PyBUF_WRITABLE) != 0 && !array.storage->writable) {
    PyErr_SetString(PyExc_BufferError,
                    "buffer: expected a writable Tensor, got one that shares read-only memory");
    return -1;
  }
  const bool takes_strides = (flags & PyBUF_STRIDES) == PyBUF_STRIDES &&
                             (flags & PyBUF_C_CONTIGUOUS) != PyBUF_C_CONTIGUOUS;
  if (array.layout != Layout::kNchw && !takes_strides) {
    PyErr_SetString(PyExc_BufferError,
                    "buffer: expected a Tensor in the order of its shape, got a channels-last one; "
                    "call contiguous() first");
    return -1;
  }
  auto* exported = new Exported{array, {}, {}};
  const auto item = static_cast<Py_ssize_t>(item_size(array.dtype));
  const Strides strides = strides_of(array.shape, array.layout);
  for (int i = 0; i < array.shape.ndim; ++i) {
    exported->shape[i] = array.shape.dims[i];
    exported->strides[i] = strides[i] * item;
  }
  *view = {.buf = array.storage->data,
           .obj = Py_NewRef(self),
           .len = static_cast<Py_ssize_t>(array.bytes()),
           .itemsize = item,
           .readonly = !array.storage->writable,
           .ndim = array.shape.ndim,
           .format = (flags & PyBUF_FORMAT) ? const_cast<char*>(format) : nullptr,
           .shape = (flags & PyBUF_ND) ? exported->shape : nullptr,
           .strides = (flags & PyBUF_STRIDES) == PyBUF_STRIDES ? exported->strides : nullptr,
           .suboffsets = nullptr,
           .internal = exported};
  return 0;
}

void release_buffer(PyObject*, Py_buffer* view) { delete static_cast<Exported*>(view->internal); }

PyType_Slot slots[] = {{Py_tp_dealloc, reinterpret_cast<void*>(dealloc)},
                       {Py_tp_traverse, reinterpret_cast<void*>(traverse)},
                       {Py_tp_clear, reinterpret_cast<void*>(clear)},
                       {Py_tp_getset, attributes},
                       {Py_tp_members, members},
                       {Py_bf_getbuffer, reinterpret_cast<void*>(get_buffer)},
                       {Py_bf_releasebuffer, reinterpret_cast<void*>(release_buffer)},
                       {Py_tp_doc, const_cast<char*>("Storage and tape slots of fastnn.Tensor.")},
                       {0, nullptr}};

PyType_Spec spec = {"fastnn._core.TensorBase", sizeof(TensorObject), 0,
                    Py_TPFLAGS_DEFAULT | Py_TPFLAGS_BASETYPE | Py_TPFLAGS_HAVE_GC |
                        Py_TPFLAGS_DISALLOW_INSTANTIATION,
                    slots};

// The dtype of a contiguous native buffer, or nothing when it has to be converted.
std::optional<DType> buffer_dtype(const Py_buffer& view) {
  const std::string_view format = view.format == nullptr ? "B" : view.format;
  if (format == "f" && view.itemsize == 4) return DType::kFloat32;
  if ((format == "l" || format == "q") && view.itemsize == 8) return DType::kInt64;
  if (format == "B") return DType::kUInt8;
  return std::nullopt;
}

// The layout and shape of a buffer that kernels can read where it is, or nothing.
std::optional<Layout> buffer_layout(const Py_buffer& view, Shape* shape) {
  if (view.ndim > kMaxDims || reinterpret_cast<uintptr_t>(view.buf) % view.itemsize != 0)
    return std::nullopt;
  Strides strides{};
  shape->ndim = view.ndim;
  for (int i = 0; i < view.ndim; ++i) {
    shape->dims[i] = view.shape[i];
    // Between items, or of no use.
    strides[i] = view.strides[i] % view.itemsize == 0 ? view.strides[i] / view.itemsize : -1;
  }
  return layout_of(*shape, strides);
}

// Shares the memory of an object with a buffer that kernels can read as it is.
std::optional<Array> share_buffer(PyObject* object) {
  auto view = std::make_unique<Py_buffer>();
  if (PyObject_GetBuffer(object, view.get(), PyBUF_STRIDES | PyBUF_FORMAT) != 0) {
    PyErr_Clear();
    return std::nullopt;
  }
  const auto dtype = buffer_dtype(*view);
  Shape shape;
  const auto layout = dtype ? buffer_layout(*view, &shape) : std::nullopt;
  if (!layout) {
    PyBuffer_Release(view.get());
    return std::nullopt;
  }
  void* data = view->buf;
  const bool writable = !view->readonly;
  Array array = borrow(data, shape, *dtype, writable, [held = view.release()] {
    const py::gil_scoped_acquire gil;
    PyBuffer_Release(held);
    delete held;
  });
  array.layout = *layout;
  return array;
}

}  // namespace

py::object layout_name(Layout layout) {
  static PyObject* const names[] = {PyUnicode_InternFromString("nchw"),
                                    PyUnicode_InternFromString("nhwc")};
  return py::reinterpret_borrow<py::object>(names[static_cast<int>(layout)]);
}

bool is_tensor(PyObject* object) { return PyObject_TypeCheck(object, base_type); }

py::object wrap(Array array) {
  return py::reinterpret_steal<py::object>(allocate(tensor_type, std::move(array)));
}

Array in_order(Array x) {
  if (x.layout == Layout::kNchw) [[likely]]
    return x;
  Array y = to_layout(x, Layout::kNchw);
  if (y.storage.get() != x.storage.get()) y.storage->writable = false;
  return y;
}

Array array_from(PyObject* object) {
  if (is_tensor(object)) return cast(object)->array;
  check<TypeError>(object != Py_None, "tensor: expected an array, got None");
  refuse_while_recording("a host array that is not an argument");
  if (PyObject_CheckBuffer(object))
    if (auto shared = share_buffer(object)) return *std::move(shared);
  if (auto shared = from_exchange(object)) return *std::move(shared);
  const py::object converted =
      py::reinterpret_steal<py::object>(PyObject_CallOneArg(converter, object));
  if (!converted) throw py::error_already_set();
  if (is_tensor(converted.ptr())) return cast(converted.ptr())->array;
  auto shared = share_buffer(converted.ptr());
  check<TypeError>(shared.has_value(), "tensor: expected at most ", kMaxDims,
                   " axes of a supported dtype");
  return *std::move(shared);
}

void bind_tensor(py::module_& module) {
  base_type = reinterpret_cast<PyTypeObject*>(PyType_FromSpec(&spec));
  if (base_type == nullptr) throw py::error_already_set();
  tensor_type = base_type;
  module.attr("TensorBase") = py::handle(reinterpret_cast<PyObject*>(base_type));
  module.def(
      "set_tensor_type",
      [](py::type type, py::function to_array) {
        check<TypeError>(PyType_IsSubtype(reinterpret_cast<PyTypeObject*>(type.ptr()), base_type),
                         "set_tensor_type: expected a subclass of TensorBase");
        tensor_type = reinterpret_cast<PyTypeObject*>(type.inc_ref().ptr());
        converter = to_array.inc_ref().ptr();
      },
      py::arg("type"), py::arg("to_array"));
}

}  // namespace fastnn
