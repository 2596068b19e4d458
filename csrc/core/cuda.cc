// Finding, checking and calling the CUDA library.
#include "cuda.h"

#include <dlfcn.h>
#include <unistd.h>

#include <cstdlib>

#include "../kernels/cuda/abi.h"

namespace fastnn {
namespace {

struct Loaded {
  const CudaLibrary* library = nullptr;
  void* stream = nullptr;
  std::string reason;
  pid_t process = 0;
};

std::string& library_path() {
  static auto* path = new std::string;
  return *path;
}

std::string& blas_folders() {
  static auto* folders = new std::string;
  return *folders;
}

std::string error_text(const CudaLibrary& library) {
  const char* text = library.take_error();
  return text == nullptr ? "unknown error" : text;
}

Loaded load() {
  const char* forced = std::getenv("FASTNN_CUDA_LIBRARY");
  const std::string path = forced != nullptr ? forced : library_path();
  if (path.empty())
    return {.reason =
                "the CUDA library is not installed: pip install fastnn-cuda13, or build with "
                "-DFASTNN_CUDA=ON "
                "and set FASTNN_CUDA_LIBRARY"};
  void* handle = dlopen(path.c_str(), RTLD_NOW | RTLD_LOCAL);
  if (handle == nullptr) return {.reason = concat("the CUDA library does not load: ", dlerror())};
  const auto entry =
      reinterpret_cast<decltype(&fastnn_cuda_library)>(dlsym(handle, "fastnn_cuda_library"));
  if (entry == nullptr) return {.reason = concat(path, " is not a fastnn CUDA library")};
  const CudaLibrary& library = *entry();
  if (const char* why = mismatch(library))
    return {.reason = concat(path, " belongs to another version of fastnn: it has ", why,
                             "; install fastnn-cuda13 of the same version")};
  int32_t devices = 0;
  if (library.device_count(&devices) != kCudaOk) return {.reason = error_text(library)};
  if (devices == 0) return {.reason = "no CUDA device was found"};
  library.blas_folders(blas_folders().c_str());
  Loaded loaded{.library = &library, .process = getpid()};
  if (library.set_device(0) != kCudaOk || library.stream_create(&loaded.stream) != kCudaOk)
    return {.reason = error_text(library)};
  return loaded;
}

const Loaded& loaded() {
  static const auto* result = new Loaded(load());
  return *result;
}

const Loaded& usable() {
  const Loaded& it = loaded();
  check<CudaError>(it.library != nullptr, "device 'cuda' is not available: ", it.reason);
  check<CudaError>(
      it.process == getpid(),
      "device 'cuda' cannot be used after fork(): start worker processes with spawn or forkserver");
  return it;
}

void raise(const Loaded& it, CudaCode code, const char* what) {
  if (code == kCudaOk) return;
  const std::string text = concat(what, ": ", error_text(*it.library));
  if (code == kCudaOutOfMemory) throw OutOfMemory(text);
  throw CudaError(text);
}

}  // namespace

const CudaLibrary* cuda_library() { return loaded().library; }
std::string cuda_reason() { return loaded().reason; }
void set_cuda_library_path(std::string path) { library_path() = std::move(path); }

std::string cuda_description() {
  const Loaded& it = usable();
  CudaDevice device{};
  raise(it, it.library->device_info(0, &device), "cuda");
  return concat(device.name, ", compute capability ", device.major, ".", device.minor, ", ",
                it.library->build);
}

void set_cuda_blas_folders(std::string folders) { blas_folders() = std::move(folders); }

CudaBlasReport cuda_blas_report() {
  CudaBlas now{};
  usable().library->blas_report(&now);
  const auto text = [](const char* s) { return std::string(s != nullptr ? s : ""); };
  return {text(now.path), text(now.reason), now.version,      text(now.no_wgmma),
          now.by_library, now.by_wgmma,     now.by_own_tiles, text(now.refused)};
}
void set_cuda_blas_path(int32_t path) { usable().library->blas_path(path); }

bool cuda_makes_sequence(const CudaSequence& shape) {
  const Loaded& it = usable();
  return it.library->makes_sequence(&shape, it.stream);
}
void set_cuda_sequence_path(int32_t path) { usable().library->sequence_path(path); }
CudaSequenceReport cuda_sequence_report() {
  CudaSequences now{};
  usable().library->sequence_report(&now);
  return {now.reason, now.made, now.refused};
}

const KernelTable& cuda_kernels() { return *usable().library->kernels; }
void* cuda_stream() { return usable().stream; }

void* cuda_allocate(size_t bytes) {
  const Loaded& it = usable();
  void* data = nullptr;
  raise(it, it.library->alloc(&data, static_cast<int64_t>(bytes > 0 ? bytes : 1), it.stream),
        "allocate on cuda");
  return data;
}

void cuda_free(void* data) noexcept {
  const Loaded& it = loaded();
  if (it.library != nullptr && it.process == getpid()) it.library->free(data, it.stream);
}

void cuda_copy_bytes(void* to, const void* from, size_t bytes, CudaCopy kind) {
  const Loaded& it = usable();
  const auto copy = kind == CudaCopy::kToHost     ? it.library->copy_to_host
                    : kind == CudaCopy::kToDevice ? it.library->copy_to_device
                                                  : it.library->copy_on_device;
  raise(it, copy(to, from, static_cast<int64_t>(bytes), it.stream), "copy");
  raise(it, it.library->stream_synchronize(it.stream), "copy");
}

void* cuda_allocate_host(size_t bytes) {
  const Loaded& it = usable();
  void* data = nullptr;
  raise(it, it.library->host_alloc(&data, static_cast<int64_t>(bytes)),
        "allocate page-locked memory");
  return data;
}

void cuda_free_host(void* data) noexcept {
  const Loaded& it = loaded();
  if (it.library != nullptr && it.process == getpid()) it.library->host_free(data);
}

std::shared_ptr<void> cuda_copy_later(void* to, const void* from, size_t bytes) {
  const Loaded& it = usable();
  void* created = nullptr;
  raise(it, it.library->event_create(&created), "copy");
  std::shared_ptr<void> event(created, [](void* e) {
    const Loaded& now = loaded();
    if (now.process == getpid()) now.library->event_destroy(e);
  });
  raise(it, it.library->copy_to_device(to, from, static_cast<int64_t>(bytes), it.stream), "copy");
  raise(it, it.library->event_record(created, it.stream), "copy");
  return event;
}

bool cuda_is_done(void* event) {
  const Loaded& it = usable();
  bool done = false;
  raise(it, it.library->event_is_done(event, &done), "copy");
  return done;
}

void cuda_wait(void* event) {
  const Loaded& it = usable();
  raise(it, it.library->event_synchronize(event), "copy");
}

std::shared_ptr<void> cuda_graph(const std::function<void()>& work) {
  const Loaded& it = usable();
  raise(it, it.library->capture_begin(it.stream), "capture");
  work();
  void* graph = nullptr;
  raise(it, it.library->capture_end(it.stream, &graph), "capture");
  return {graph, [](void* g) {
            const Loaded& now = loaded();
            if (now.process == getpid()) now.library->graph_destroy(g);
          }};
}

void cuda_launch_graph(void* graph) {
  const Loaded& it = usable();
  raise(it, it.library->graph_launch(graph, it.stream), "replay");
}

void cuda_raise_after_launch(const char* op) {
  const Loaded& it = usable();
  if (const char* text = it.library->take_error()) throw CudaError(concat(op, ": ", text));
}

}  // namespace fastnn
