// What the library knows about the machine and about itself.
#include <pthread.h>

#include "../core/cuda.h"
#include "../core/loading.h"
#include "common.h"

namespace fastnn {
namespace {

void before_fork() { process_pool()->mutex().lock(); }
void after_fork_in_parent() { process_pool()->mutex().unlock(); }
void after_fork_in_child() {
  process_pool()->mutex().unlock();
  abandon_pool_after_fork();
}

}  // namespace

void bind_system(py::module_& m) {
  pthread_atfork(before_fork, after_fork_in_parent, after_fork_in_child);
  interpreter_lock.release = +[]() -> void* { return PyEval_SaveThread(); };
  interpreter_lock.acquire =
      +[](void* state) { PyEval_RestoreThread(static_cast<PyThreadState*>(state)); };

  m.def("cpu_level", &cpu_level);
  m.def("cpu_level_reason", &cpu_level_reason);
  m.def("num_threads", &num_threads);
  m.def("num_threads_reason", &num_threads_reason);
  m.def("set_num_threads", &set_num_threads, py::arg("threads"));
  m.def("begin_loading", &begin_loading);
  m.def("end_loading", &end_loading);
  m.def("cuda_is_available", [] { return cuda_library() != nullptr; });
  m.def("cuda_reason", &cuda_reason);
  m.def("cuda_description", &cuda_description);
  m.def("set_cuda_library_path", &set_cuda_library_path, py::arg("path"));
  m.def("set_cuda_blas_folders", &set_cuda_blas_folders, py::arg("folders"));
  m.def("cuda_blas_report", [] {
    const CudaBlasReport r = cuda_blas_report();
    return std::make_tuple(r.path, r.reason, r.version, r.by_library, r.by_own_tiles, r.refused);
  });
  m.def("memory_stats", [] {
    const Pool& pool = *process_pool();
    py::dict stats;
    stats["live_blocks"] = pool.live_blocks();
    stats["live_bytes"] = pool.live_bytes();
    stats["cached_bytes"] = pool.cached_bytes();
    stats["system_allocations"] = pool.system_allocations();
    return stats;
  });
  m.def("trim_memory", [] { process_pool()->trim(); });
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
