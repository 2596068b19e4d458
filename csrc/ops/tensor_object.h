// The Python object behind fastnn.Tensor, written against the C API because every op creates one;
// as is the tape's node (tape_node.cc); everything else is bound by pybind11. It holds an Array and
// what the tape keeps there: grad, the (node, output) that it came from, and requires_grad.
#pragma once
#include <pybind11/pybind11.h>
#include <pybind11/stl.h>

#include "../core/array.h"

namespace fastnn {

namespace py = pybind11;

struct TensorObject {
  PyObject_HEAD Array array;
  PyObject* grad;
  PyObject* node;
  PyObject* weak_references;
  char requires_grad;
};

bool is_tensor(PyObject* object);
py::object layout_name(Layout layout);
py::object wrap(Array array);  // a new Tensor

// The array behind anything array-like: a Tensor's own, the caller's memory where it has a layout
// of ours and a supported dtype, else a converted copy. Never written to.
Array array_from(PyObject* object);

// The parameter of an op that knows channels-last. As a plain Array, an argument arrives in the
// order of its shape: of another layout, as a copy that may not be written.
struct AnyLayout : Array {};
Array in_order(Array x);

void bind_tensor(py::module_& module);
void bind_dlpack(py::module_& module);

}  // namespace fastnn

namespace pybind11::detail {

template <>
struct type_caster<fastnn::Array> {
  PYBIND11_TYPE_CASTER(fastnn::Array, io_name("typing.Any", "fastnn.tensor.Tensor"));
  bool load(handle source, bool) {
    value = fastnn::in_order(fastnn::array_from(source.ptr()));
    return true;
  }
  static handle cast(fastnn::Array array, return_value_policy, handle) {
    return fastnn::wrap(std::move(array)).release();
  }
};

template <>
struct type_caster<fastnn::AnyLayout> {
  PYBIND11_TYPE_CASTER(fastnn::AnyLayout, io_name("typing.Any", "fastnn.tensor.Tensor"));
  bool load(handle source, bool) {
    value = {fastnn::array_from(source.ptr())};
    return true;
  }
};

}  // namespace pybind11::detail
