// Activations and elementwise arithmetic.
#include "common.h"

namespace fastnn {
namespace {

struct ActivationInfo {
  const char* name;
  bool saves_output;
  float default_parameter;
};

template <class... A>
constexpr std::array<ActivationInfo, sizeof...(A)> describe(ActivationList<A...>) {
  return {{{A::kName, A::kSaved == Saved::kOutput, A::kDefault}...}};
}
constexpr auto kInfo = describe(Activations{});

Array activation_fwd(const AnyLayout& x, int kind, float a) {
  Array y = empty_like(x);
  const ActivationFwdArgs args{read(x), write(y), x.numel(), a};
  launch(elementwise(kInfo[kind].name, x, kCostPerExp), &Kernels::activation_fwd, kind, args);
  return y;
}

// x = f(x) in the memory of x.
void activation_(const AnyLayout& x, int kind, float a) {
  check_writable(kInfo[kind].name, "input", x);
  launch(elementwise(kInfo[kind].name, x, kCostPerExp), &Kernels::activation_fwd, kind,
         ActivationFwdArgs{read(x), write(x), x.numel(), a});
}

Array activation_bwd(const AnyLayout& dy, const AnyLayout& saved, int kind, float a) {
  check_same(kInfo[kind].name, "the output", saved, "its gradient", dy);
  check_layout(kInfo[kind].name, "the output", saved, "its gradient", dy);
  Array dx = empty_like(dy);
  const ActivationBwdArgs args{read(dy), read(saved), write(dx), dy.numel(), a};
  launch(elementwise(kInfo[kind].name, dy, kCostPerExp), &Kernels::activation_bwd, kind, args);
  return dx;
}

constexpr const char* kBinaryNames[] = {"add", "sub", "mul", "div", "rsub", "rdiv"};

Array binary(int kind, const AnyLayout& x, const AnyLayout& other) {
  const Array z = to_layout(other, x.layout);
  check_same(kBinaryNames[kind], "input", x, "other", z);
  Array y = empty_like(x);
  const BinaryArgs args{read(x), read(z), write(y), x.numel(), 0.f};
  launch(elementwise(kBinaryNames[kind], x), &Kernels::binary, kind, args);
  return y;
}

Array binary_scalar(int kind, const AnyLayout& x, float z) {
  Array y = empty_like(x);
  const BinaryArgs args{read(x), nullptr, write(y), x.numel(), z};
  launch(elementwise(kBinaryNames[kind], x), &Kernels::binary, kind, args);
  return y;
}

// act(x + z), and x + z itself when `save_sum`: what the activation's derivative needs.
std::pair<Array, OptionalArray> add_activation(const AnyLayout& x, const AnyLayout& other, int kind,
                                               float a, bool save_sum) {
  const Array z = to_layout(other, x.layout);
  check_same("add", "input", x, "other", z);
  Array y = empty_like(x);
  OptionalArray sum;
  if (save_sum) sum = empty_like(x);
  const AddActivationArgs args{read(x),   read(z), write(y), sum ? write(*sum) : nullptr,
                               x.numel(), a};
  launch(elementwise("add", x, kCostPerExp), &Kernels::add_activation, kind, args);
  return {y, sum};
}

}  // namespace

void bind_activation(py::module_& m) {
  py::dict activations;
  for (int i = 0; i < kNumActivations; ++i)
    activations[kInfo[i].name] =
        py::make_tuple(i, kInfo[i].saves_output, kInfo[i].default_parameter);
  m.attr("ACTIVATIONS") = activations;
  m.def("activation_fwd", &activation_fwd, py::arg("x"), py::arg("kind"), py::arg("a"));
  m.def("activation_", &activation_, py::arg("x"), py::arg("kind"), py::arg("a"));
  m.def("activation_bwd", &activation_bwd, py::arg("dy"), py::arg("saved"), py::arg("kind"),
        py::arg("a"));
  m.def("add_activation", &add_activation, py::arg("x"), py::arg("z"), py::arg("kind"),
        py::arg("a"), py::arg("save_sum"));
  py::dict binaries;
  for (int i = 0; i < static_cast<int>(Binary::kSize); ++i) binaries[kBinaryNames[i]] = i;
  m.attr("BINARIES") = binaries;
  m.def("binary", &binary, py::arg("kind"), py::arg("x"), py::arg("z"));
  m.def("binary_scalar", &binary_scalar, py::arg("kind"), py::arg("x"), py::arg("z"));
}

}  // namespace fastnn
