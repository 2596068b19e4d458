// The module _core: errors, then one binder per family (csrc/ops).
#include "ops/common.h"

namespace fastnn {
namespace {

void translate(std::exception_ptr error) {
  try {
    std::rethrow_exception(error);
  } catch (const ValueError& e) {
    PyErr_SetString(PyExc_ValueError, e.what());
  } catch (const TypeError& e) {
    PyErr_SetString(PyExc_TypeError, e.what());
  } catch (const OutOfMemory& e) {
    PyErr_SetString(PyExc_MemoryError, e.what());
  }
}

}  // namespace

PYBIND11_MODULE(_core, m) {
  m.doc() = "Kernels and ops of fastnn; use the package, not this module.";
  py::register_exception<CaptureError>(m, "CaptureError", PyExc_RuntimeError);
  py::register_exception<CudaError>(m, "CudaError", PyExc_RuntimeError);
  py::register_exception_translator(translate);
  for (const auto bind :
       {bind_tensor,     bind_dlpack,         bind_system,    bind_capture, bind_arrays,
        bind_activation, bind_linear,         bind_norm,      bind_softmax, bind_reduce,
        bind_dropout,    bind_optim,          bind_clip,      bind_penalty, bind_random,
        bind_pool,       bind_embedding,      bind_shape,     bind_loss,    bind_matmul,
        bind_margin,     bind_parametric,     bind_recurrent, bind_conv,    bind_augment,
        bind_stacked,    bind_recurrent_norm, bind_prefetch,  bind_mlp,     bind_tape_node,
        bind_streams})
    bind(m);
}

}  // namespace fastnn
