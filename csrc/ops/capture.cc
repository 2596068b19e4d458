// Plans, as capture.py uses them.
#include "../core/capture.h"

#include "common.h"

namespace fastnn {

void bind_capture(py::module_& m) {
  py::class_<Plan, std::shared_ptr<Plan>>(m, "Plan")
      .def(py::init<>())
      .def("begin", &Plan::begin)
      .def("end", &Plan::end)
      .def("replay", &Plan::replay, py::arg("times") = 1)
      .def("raise_data_error", &Plan::raise_data_error)
      .def("is_current", &Plan::is_current)
      .def_property_readonly("num_launches", &Plan::num_nodes)
      .def_property_readonly("system_allocations",
                             [](Plan& plan) { return plan.pool()->system_allocations(); });
  m.def("current_plan", &current_plan, py::return_value_policy::reference);
  m.def("is_recording", [] { return current_plan() != nullptr; });
  m.def(
      "refuse_while_recording",
      [](const std::string& call) { refuse_while_recording(call.c_str()); }, py::arg("call"));
}

}  // namespace fastnn
