// What the library knows about the machine and about itself.
#include <cxxabi.h>
#include <pthread.h>
#include <unistd.h>

#include "../core/cuda.h"
#include "../core/pinned.h"
#include "common.h"
#include "interpreter.h"

namespace fastnn {
namespace {

void before_fork() {
  process_pool()->mutex().lock();
  pinned_pool()->mutex().lock();
}
void after_fork_in_parent() {
  pinned_pool()->mutex().unlock();
  process_pool()->mutex().unlock();
}
void after_fork_in_child() {
  after_fork_in_parent();
  abandon_pool_after_fork();
}

// Longer kernels let other Python threads run. Threads of our own hold no lock to release; the
// thread that ends the interpreter keeps it.
void* release_interpreter() {
  return PyGILState_Check() != 0 && !interpreter_ends() ? PyEval_SaveThread() : nullptr;
}
void acquire_interpreter(void* state) {
  if (state == nullptr) return;
  try {
    PyEval_RestoreThread(static_cast<PyThreadState*>(state));
  } catch (abi::__forced_unwind&) {  // a daemon thread that Python ends, through destructors
    for (;;) pause();
  }
}

// The unwinder is a part of this library and makes its tables when something is thrown for the
// first time; one that the system's calls before that, to end a thread, would abort.
void prepare_unwinder() {
  try {
    throw 0;
  } catch (int) {
  }
}

py::dict stats_of(const Pool& pool) {
  py::dict stats;
  stats["live_blocks"] = pool.live_blocks();
  stats["live_bytes"] = pool.live_bytes();
  stats["cached_bytes"] = pool.cached_bytes();
  stats["system_allocations"] = pool.system_allocations();
  return stats;
}

}  // namespace

void bind_system(py::module_& m) {
  pthread_atfork(before_fork, after_fork_in_parent, after_fork_in_child);
  prepare_unwinder();
  interpreter_lock = {release_interpreter, acquire_interpreter};

  m.def("cpu_level", &cpu_level);
  m.def("cpu_level_reason", &cpu_level_reason);
  m.def("num_threads", &num_threads);
  m.def("num_threads_reason", &num_threads_reason);
  m.def("set_num_threads", &set_num_threads, py::arg("threads"));
  m.def("cuda_is_available", [] { return cuda_library() != nullptr; });
  m.def("cuda_reason", &cuda_reason);
  m.def(
      "cuda_description", [](int64_t i) { return cuda_description(cuda_device(i)); },
      py::arg("index"));
  m.def("cuda_device_count", &cuda_device_count);
  m.def(
      "device_name", [](const std::string& name) { return device_name(parse_device(name)); },
      py::arg("device"));
  m.def("current_cuda", [] { return current_cuda().index(); });
  m.def("set_current_cuda", [](int64_t i) { set_current_cuda(cuda_device(i)); }, py::arg("index"));
  m.def("set_cuda_library_path", &set_cuda_library_path, py::arg("path"));
  m.def("set_cuda_blas_folders", &set_cuda_blas_folders, py::arg("folders"));
  m.def(
      "cuda_blas_report",
      [](int64_t index) {
        const CudaBlasReport r = cuda_blas_report(cuda_device(index));
        return std::make_tuple(r.path, r.reason, r.version, r.no_wgmma, r.by_library, r.by_wgmma,
                               r.by_own_tiles, r.refused);
      },
      py::arg("index"));
  m.def("set_cuda_blas_path", &set_cuda_blas_path, py::arg("path"));
  m.def(
      "cuda_sequence_report",
      [](int64_t index) {
        const CudaSequenceReport r = cuda_sequence_report(cuda_device(index));
        return std::make_tuple(r.reason, r.made, r.refused);
      },
      py::arg("index"));
  m.def("set_cuda_sequence_path", &set_cuda_sequence_path, py::arg("path"));
  m.def("memory_stats", [] { return stats_of(*process_pool()); });
  m.def("pinned_memory_stats", [] { return stats_of(*pinned_pool()); });
  m.def("trim_memory", [] {
    process_pool()->trim();
    pinned_pool()->trim();
  });
}

bool interpreter_ends() {
#if PY_VERSION_HEX >= 0x030D0000
  return Py_IsFinalizing() != 0;
#else
  return _Py_IsFinalizing() != 0;
#endif
}

}  // namespace fastnn

// For threadpoolctl. Here, because the linker hides what comes from the static core.
extern "C" {
__attribute__((visibility("default"))) int fastnn_get_num_threads() {
  return fastnn::num_threads();
}
__attribute__((visibility("default"))) void fastnn_set_num_threads(int threads) {
  fastnn::set_num_threads(threads < 1 ? 1 : threads);
}
}
