// What the tape (tape.py) does for every op, natively, since it is most of the price of a small
// one: apply, and the node that it leaves behind. What a node's members mean, and when they change,
// is Python's.
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
PyObject* refuse_caller = nullptr;  // of _checks.py: raises if it knows a TypeError's reason
PyObject* name_of_rule = nullptr;   // "__name__"

// Of each thread: whether its ops record, and what autocast there is around them, or null.
struct Mode {
  bool records = true;
  PyObject* autocast = nullptr;
};
thread_local Mode mode;

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

// ---- apply --------------------------------------------------------------------------------------

// A call's arguments as Python hands them over: inputs, then the values of params by their names.
struct Arguments {
  PyObject* const* values;
  size_t inputs;
  PyObject* names;  // a tuple, or null

  bool require_grad() const {
    for (size_t i = 0; i < inputs; ++i)
      if (is_tensor(values[i]) && tensor(values[i])->requires_grad) return true;
    return false;
  }
  Objects tuple() const {
    py::tuple all(inputs);
    for (size_t i = 0; i < inputs; ++i) PyTuple_SET_ITEM(all.ptr(), i, Py_NewRef(values[i]));
    return all;
  }
};

// (outputs, vjp) of a rule. Where it takes an argument of a type that it cannot take, the function
// that called apply may say so in words.
py::object call(PyObject* rule, const py::str& name, const Arguments& with) {
  PyObject* made = PyObject_Vectorcall(rule, with.values, with.inputs, with.names);
  if (made == nullptr) {
    py::error_already_set error;
    if (error.matches(PyExc_TypeError) && refuse_caller != nullptr) py::handle{refuse_caller}();
    throw error;
  }
  auto result = py::reinterpret_steal<py::object>(made);
  const Py_ssize_t size = PyTuple_Check(made) ? PyTuple_GET_SIZE(made) : -1;
  if (size == 2) return result;
  throw TypeError(concat("apply: expected ", name.cast<std::string_view>(),
                         " to return (outputs, vjp), got ",
                         size < 0 ? Py_TYPE(made)->tp_name : concat("a tuple of ", size)));
}

py::object apply_rule(PyObject* rule, Arguments with) {
  const auto name = py::reinterpret_steal<py::str>(PyObject_GetAttr(rule, name_of_rule));
  if (!name) throw py::error_already_set();
  std::vector<PyObject*> values;
  py::tuple cast;
  if (mode.autocast != nullptr) {
    cast = py::handle(mode.autocast).attr("cast")(name, with.tuple());
    for (const py::handle input : cast) values.push_back(input.ptr());
    PyObject* const* params = with.values + with.inputs;
    values.insert(values.end(), params, params + (with.names ? PyTuple_GET_SIZE(with.names) : 0));
    with = {values.data(), cast.size(), with.names};
  }
  if (!mode.records || !with.require_grad())
    return py::reinterpret_borrow<py::object>(PyTuple_GET_ITEM(call(rule, name, with).ptr(), 0));
  struct Quiet {  // ops that the rule is made of record nothing
    Quiet() { mode.records = false; }
    ~Quiet() { mode.records = true; }
  };
  const py::object made = [&] {
    const Quiet quiet;
    return call(rule, name, with);
  }();
  const auto outputs = py::reinterpret_borrow<py::object>(PyTuple_GET_ITEM(made.ptr(), 0));
  const auto vjp = py::reinterpret_borrow<py::object>(PyTuple_GET_ITEM(made.ptr(), 1));
  return record(name, with.tuple(), vjp, outputs);
}

// Python's own way to call, without a dictionary of params: a third of a small op's price.
PyObject* apply(PyObject*, PyObject* const* args, Py_ssize_t count, PyObject* names) {
  try {
    check<TypeError>(count > 0, "apply: expected a rule and its inputs, got nothing");
    return apply_rule(args[0], {args + 1, static_cast<size_t>(count - 1), names}).release().ptr();
  } catch (py::error_already_set& error) {
    error.restore();
  } catch (const std::bad_alloc&) {
    PyErr_NoMemory();
  } catch (const std::exception& error) {
    PyErr_SetString(PyExc_TypeError, error.what());
  }
  return nullptr;
}

PyMethodDef methods[] = {
    {"apply", reinterpret_cast<PyCFunction>(reinterpret_cast<void (*)()>(apply)),
     METH_FASTCALL | METH_KEYWORDS, R"(apply($module, rule, /, *inputs, **params)
--

Call a rule; record it when one of its inputs requires a gradient.

Args:
    rule: Function of the inputs and params that returns ``(outputs, vjp)``; ``outputs`` is a
        Tensor or a tuple of them, and ``vjp(dys, needs)`` returns one gradient, or None, per
        input. A vjp may have a ``passage``: what it does to dy first. One that ``takes`` those
        of a rule's vjps, by its name, can do so for them, ``vjp(dys, needs, passage)``: the
        first of its gradients, which only that other vjp asks for, is then ``tape.Passed``.
    *inputs: Tensors or arrays, or None.
    **params: What is not differentiated.

Raises:
    TypeError: If the rule returns something else.

Example:
    >>> import fastnn as fn
    >>> from fastnn.tape import apply
    >>> def double(x):
    ...     return x + x, lambda dy, needs: (dy + dy,)
    >>> x = fn.tensor([1.0], requires_grad=True)
    >>> apply(double, x).backward()
    >>> x.grad.item()
    2.0
)"},
    {nullptr, nullptr, 0, nullptr}};

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
  m.def(
      "set_refuse_caller",
      [](const py::object& function) { refuse_caller = Py_NewRef(function.ptr()); },
      py::arg("function"));
  name_of_rule = PyUnicode_InternFromString("__name__");
  if (name_of_rule == nullptr || PyModule_AddFunctions(m.ptr(), methods) != 0)
    throw py::error_already_set();
  m.def("is_grad_enabled", [] { return mode.records; });
  m.def(
      "set_grad_enabled", [](bool enabled) { return std::exchange(mode.records, enabled); },
      py::arg("enabled"));
  m.def("autocast", [] {
    return py::reinterpret_borrow<py::object>(mode.autocast == nullptr ? Py_None : mode.autocast);
  });
  m.def(
      "set_autocast",
      [](const py::object& autocast) {
        PyObject* before = mode.autocast;
        mode.autocast = autocast.is_none() ? nullptr : Py_NewRef(autocast.ptr());
        return before == nullptr ? py::none() : py::reinterpret_steal<py::object>(before);
      },
      py::arg("autocast"));
  m.def("saved_versions", &saved_versions, py::arg("vjp"));
  m.def("record_in_place", &record_in_place, py::arg("rule_name"), py::arg("inputs"),
        py::arg("vjp"), py::arg("x"));
}

}  // namespace fastnn
