// What the tape (tape.py) does for every op, natively, since it is most of the price of a small
// one. A node is one recorded op; what its members mean, and when they change, is Python's.
#include <structmember.h>

#include "common.h"

namespace fastnn {
namespace {

struct NodeObject {
  PyObject_HEAD PyObject *rule_name, *inputs, *vjp, *sources, *layouts;
  long long versions;
};

PyTypeObject* base_type = nullptr;  // _core.NodeBase
PyTypeObject* node_type = nullptr;  // fastnn.tape.Node, its subclass

NodeObject* cast(PyObject* object) { return reinterpret_cast<NodeObject*>(object); }
TensorObject* tensor(PyObject* object) { return reinterpret_cast<TensorObject*>(object); }

int clear(PyObject* self) {
  NodeObject* node = cast(self);
  Py_CLEAR(node->rule_name);
  Py_CLEAR(node->inputs);
  Py_CLEAR(node->vjp);
  Py_CLEAR(node->sources);
  Py_CLEAR(node->layouts);
  return 0;
}

int traverse(PyObject* self, visitproc visit, void* arg) {
  Py_VISIT(Py_TYPE(self));
  Py_VISIT(cast(self)->inputs);
  Py_VISIT(cast(self)->vjp);
  Py_VISIT(cast(self)->sources);
  Py_VISIT(cast(self)->layouts);
  return 0;
}

void dealloc(PyObject* self) {
  PyTypeObject* type = Py_TYPE(self);
  PyObject_GC_UnTrack(self);
  Py_TRASHCAN_BEGIN(self, dealloc);  // a long chain of nodes must not recurse
  clear(self);
  type->tp_free(self);
  Py_DECREF(type);
  Py_TRASHCAN_END;
}

PyMemberDef members[] = {
    {"rule_name", T_OBJECT, offsetof(NodeObject, rule_name), READONLY, "The rule's function."},
    {"inputs", T_OBJECT, offsetof(NodeObject, inputs), 0, "Arguments of the rule."},
    {"vjp", T_OBJECT, offsetof(NodeObject, vjp), 0, "Gradients from gradients, or None."},
    {"sources", T_OBJECT, offsetof(NodeObject, sources), 0,
     "The (node, output) that each input came from, or None."},
    {"layouts", T_OBJECT, offsetof(NodeObject, layouts), READONLY, "Of each output."},
    {"versions", T_LONGLONG, offsetof(NodeObject, versions), READONLY,
     "saved_versions(vjp) at the time."},
    {nullptr, 0, 0, 0, nullptr}};

PyType_Slot slots[] = {{Py_tp_dealloc, reinterpret_cast<void*>(dealloc)},
                       {Py_tp_traverse, reinterpret_cast<void*>(traverse)},
                       {Py_tp_clear, reinterpret_cast<void*>(clear)},
                       {Py_tp_members, members},
                       {Py_tp_doc, const_cast<char*>("Slots of fastnn.tape.Node.")},
                       {0, nullptr}};

PyType_Spec spec = {"fastnn._core.NodeBase", sizeof(NodeObject), 0,
                    Py_TPFLAGS_DEFAULT | Py_TPFLAGS_BASETYPE | Py_TPFLAGS_HAVE_GC |
                        Py_TPFLAGS_DISALLOW_INSTANTIATION,
                    slots};

// The sum of the versions of a Tensor, or of those that a function closes over or a tuple has. Each
// only ever counts up, so the sum changes when any of them does.
int64_t versions_in(PyObject* object, int depth) {
  if (is_tensor(object)) return tensor(object)->array.version();
  PyObject* items = PyFunction_Check(object) ? PyFunction_GET_CLOSURE(object) : object;
  if (depth == 0 || items == nullptr || !PyTuple_Check(items)) return 0;
  int64_t sum = 0;
  for (Py_ssize_t i = 0; i < PyTuple_GET_SIZE(items); ++i) {
    PyObject* item = PyTuple_GET_ITEM(items, i);
    if (PyCell_Check(item)) item = PyCell_GET(item);
    if (item != nullptr) sum += versions_in(item, depth - 1);
  }
  return sum;
}

// What backward will read: a vjp may wrap another, whose cells hold Tensors and tuples of them.
int64_t saved_versions(const py::object& vjp) {
  constexpr int kDepth = 4;  // also where a vjp closes over itself
  return versions_in(vjp.ptr(), kDepth);
}

using Objects = py::typing::Tuple<py::object, py::ellipsis>;

bool any_requires_grad(const Objects& inputs) {
  for (const py::handle x : inputs)
    if (is_tensor(x.ptr()) && tensor(x.ptr())->requires_grad) return true;
  return false;
}

// A node whose layouts are to come. Its sources are where inputs come from now: an op in place
// gives its Tensor another node later.
py::object make_node(const py::str& rule_name, const Objects& inputs, const py::object& vjp,
                     size_t outputs) {
  const auto node = py::reinterpret_steal<py::object>(node_type->tp_alloc(node_type, 0));
  if (!node) throw py::error_already_set();
  py::tuple sources(inputs.size()), layouts(outputs);
  for (size_t i = 0; i < inputs.size(); ++i) {
    PyObject* x = PyTuple_GET_ITEM(inputs.ptr(), i);
    PyObject* source = is_tensor(x) ? tensor(x)->node : nullptr;
    PyTuple_SET_ITEM(sources.ptr(), i, Py_NewRef(source == nullptr ? Py_None : source));
  }
  NodeObject* made = cast(node.ptr());
  made->rule_name = Py_NewRef(rule_name.ptr());
  made->inputs = Py_NewRef(inputs.ptr());
  made->vjp = Py_NewRef(vjp.ptr());
  made->sources = sources.release().ptr();
  made->layouts = layouts.release().ptr();
  made->versions = saved_versions(vjp);
  return node;
}

void comes_from(PyObject* x, const py::object& node, size_t i) {
  TensorObject* y = tensor(x);
  PyTuple_SET_ITEM(cast(node.ptr())->layouts, i, layout_name(y->array.layout).release().ptr());
  Py_XSETREF(y->node, py::make_tuple(node, i).release().ptr());
}

// Another Tensor for the memory of y, since the vjp may have saved y, which must not keep its own
// node alive.
py::object recorded(const py::handle& y, const py::object& node, size_t i) {
  py::object result = wrap(array_from(y.ptr()));
  tensor(result.ptr())->requires_grad = true;
  comes_from(result.ptr(), node, i);
  return result;
}

// What a rule has returned, a Tensor or a tuple of them, as outputs of a new node.
py::object record(const py::str& rule_name, const Objects& inputs, const py::object& vjp,
                  const py::object& outputs) {
  if (!py::isinstance<py::tuple>(outputs))
    return recorded(outputs, make_node(rule_name, inputs, vjp, 1), 0);
  const auto many = py::reinterpret_borrow<py::tuple>(outputs);
  const py::object node = make_node(rule_name, inputs, vjp, many.size());
  py::tuple results(many.size());
  for (size_t i = 0; i < many.size(); ++i) results[i] = recorded(many[i], node, i);
  return std::move(results);
}

// x, which a rule has written, is the output of a new node from now on.
void record_in_place(const py::str& rule_name, const Objects& inputs, const py::object& vjp,
                     const py::object& x) {
  check<TypeError>(is_tensor(x.ptr()), "record_in_place: expected a Tensor");
  comes_from(x.ptr(), make_node(rule_name, inputs, vjp, 1), 0);
}

}  // namespace

void bind_tape_node(py::module_& m) {
  base_type = reinterpret_cast<PyTypeObject*>(PyType_FromSpec(&spec));
  if (base_type == nullptr) throw py::error_already_set();
  node_type = base_type;
  m.attr("NodeBase") = py::handle(reinterpret_cast<PyObject*>(base_type));
  m.def(
      "set_node_type",
      [](const py::type& type) {
        check<TypeError>(PyType_IsSubtype(reinterpret_cast<PyTypeObject*>(type.ptr()), base_type),
                         "set_node_type: expected a subclass of NodeBase");
        node_type = reinterpret_cast<PyTypeObject*>(type.inc_ref().ptr());
      },
      py::arg("type"));
  m.def("saved_versions", &saved_versions, py::arg("vjp"));
  m.def("any_requires_grad", &any_requires_grad, py::arg("inputs"));
  m.def("record", &record, py::arg("rule_name"), py::arg("inputs"), py::arg("vjp"),
        py::arg("outputs"));
  m.def("record_in_place", &record_in_place, py::arg("rule_name"), py::arg("inputs"),
        py::arg("vjp"), py::arg("x"));
}

}  // namespace fastnn
