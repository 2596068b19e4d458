// Finding, checking and calling the CUDA library.
#include "cuda.h"

#include <dlfcn.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <atomic>
#include <charconv>
#include <cstdlib>
#include <mutex>

#include "../kernels/cuda/abi.h"
#include "stream.h"

namespace fastnn {
namespace {

struct Loaded {
  const CudaLibrary* library = nullptr;
  int devices = 0;
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
  return {.library = &library, .devices = std::min(devices, kMaxCudaDevices), .process = getpid()};
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

void raise(CudaCode code, const char* what) {
  if (code == kCudaOk) return;
  const std::string text = concat(what, ": ", error_text(*loaded().library));
  if (code == kCudaOutOfMemory) throw OutOfMemory(text);
  throw CudaError(text);
}

}  // namespace

void cuda_check(int32_t code, const char* what) { raise(static_cast<CudaCode>(code), what); }

namespace {

// What destructors may still call: not after fork(), nor where there never was a library.
bool is_usable() {
  const Loaded& it = loaded();
  return it.library != nullptr && it.process == getpid();
}

thread_local Device current = Device::cuda(0);

// For what belongs to none: a device that was used, so that no other gets a context for it.
std::atomic<int> used_first{-1};
Device any_device() {
  const int used = used_first.load(std::memory_order_relaxed);
  return used < 0 ? current : Device::cuda(used);
}

// What destructors call. As the process ends, the driver may be gone: there is nothing to give back
// then.
template <class F>
void give_back(Device device, F call) noexcept {
  if (!is_usable()) return;
  try {
    call(OnDevice(device));
  } catch (const CudaError&) {
  }
}

std::string text_of(const char* text) { return text != nullptr ? text : ""; }

}  // namespace

const CudaLibrary* cuda_library() { return loaded().library; }
std::string cuda_reason() { return loaded().reason; }
void set_cuda_library_path(std::string path) { library_path() = std::move(path); }

std::string cuda_description(Device device) {
  const CudaLibrary& library = *usable().library;  // which asks without a context
  CudaDevice info{};
  raise(library.device_info(device.index(), &info), "cuda");
  return concat(info.name, ", compute capability ", info.major, ".", info.minor, ", ",
                library.build);
}

int64_t cuda_memory_bytes(Device device) {
  CudaDevice info{};
  raise(usable().library->device_info(device.index(), &info), "cuda");
  return info.memory_bytes;
}

void set_cuda_blas_folders(std::string folders) { blas_folders() = std::move(folders); }

CudaBlasReport cuda_blas_report(Device device) {
  CudaBlas now{};
  OnDevice(device)->blas_report(&now);
  return {text_of(now.path), text_of(now.reason), now.version,      text_of(now.no_wgmma),
          now.by_library,    now.by_wgmma,        now.by_own_tiles, text_of(now.refused)};
}
void set_cuda_blas_path(int32_t path) { usable().library->blas_path(path); }

bool cuda_makes_sequence(Device device, const CudaSequence& shape) {
  const OnDevice on(device);
  return on->makes_sequence(&shape, cuda_stream(device));
}
void set_cuda_sequence_path(int32_t path) { usable().library->sequence_path(path); }
CudaSequenceReport cuda_sequence_report(Device device) {
  CudaSequences now{};
  OnDevice(device)->sequence_report(&now);
  return {now.reason, now.made, now.refused};
}

// ---- devices -----------------------------------------------------------------------------------
int cuda_device_count() { return loaded().devices; }
Device current_cuda() { return current; }
void set_current_cuda(Device device) { current = device; }

Device cuda_device(int64_t index) {
  const int count = usable().devices;
  check(index >= 0 && index < count, "device: expected a CUDA device below ", count,
        ", got 'cuda:", index, "': there ",
        count == 1 ? "is 1 device, 'cuda:0'" : concat("are ", count, " devices"));
  return Device::cuda(static_cast<int>(index));
}

Device parse_device(std::string_view name) {
  if (name == "cpu") return Device::kCpu;
  if (name == "cuda") return current;
  int64_t index = -1;
  constexpr std::string_view kPrefix = "cuda:";
  if (name.starts_with(kPrefix)) {
    const char *begin = name.data() + kPrefix.size(), *end = name.data() + name.size();
    const auto [after, error] = std::from_chars(begin, end, index);
    if (error != std::errc() || after != end) index = -1;
  }
  check(index >= 0, "device: expected 'cpu', 'cuda' or 'cuda:N', got '", name, "'");
  return cuda_device(index);
}

OnDevice::OnDevice(Device device) {
  const Loaded& it = usable();
  library_ = it.library;
  if (it.devices > 1) raise(library_->enter_device(device.index(), &entered_), "device");
}
OnDevice::~OnDevice() {
  if (entered_) library_->leave_device();
}

// ---- memory ------------------------------------------------------------------------------------
const KernelTable& cuda_kernels() { return *usable().library->kernels; }

void* cuda_own_stream(Device device) {
  static auto* streams = new std::array<std::atomic<void*>, kMaxCudaDevices>{};
  static std::mutex making;
  std::atomic<void*>& stream = (*streams)[static_cast<size_t>(device.index())];
  if (void* made = stream.load(std::memory_order_acquire)) return made;
  const OnDevice on(device);
  const std::lock_guard lock(making);
  void* made = stream.load(std::memory_order_acquire);
  if (made == nullptr) {
    raise(on->stream_create(&made), "stream");
    stream.store(made, std::memory_order_release);
    int none = -1;
    used_first.compare_exchange_strong(none, device.index());
  }
  return made;
}

void* cuda_allocate(size_t bytes, Device device) {
  // A capture would make the allocation a part of the graph, whose replays come when it is done.
  const bool captured = is_captured(device);
  const OwnStream own(device, captured);
  const OnDevice on(device);
  void *data = nullptr, *stream = cuda_stream(device);
  raise(on->alloc(&data, static_cast<int64_t>(bytes > 0 ? bytes : 1), stream), "allocate on cuda");
  if (captured) raise(on->stream_synchronize(stream), "allocate on cuda");
  return data;
}

void cuda_free(void* data, Device device) noexcept {
  give_back(device, [=](const OnDevice& on) {
    join_streams(device);
    on->free(data, cuda_own_stream(device));
  });
}

namespace {

// Each stream waits for the other: the copy for what is written to either, the source's next
// writer for the copy.
void copy_between(Memory to, Memory from, int64_t bytes) {
  CudaEvent written(from.device), copied(to.device);
  written.record();
  written.hold_back(to.device);
  {
    const OnDevice on(to.device);
    raise(on->copy_between(to.data, to.device.index(), from.data, from.device.index(), bytes,
                           cuda_stream(to.device)),
          "copy");
  }
  copied.record();
  copied.hold_back(from.device);
}

}  // namespace

void cuda_copy_bytes(Memory to, Memory from, size_t size) {
  const auto bytes = static_cast<int64_t>(size);
  const bool both = to.device.is_cuda() && from.device.is_cuda();
  if (both && to.device != from.device) return copy_between(to, from, bytes);
  const Device device = to.device.is_cuda() ? to.device : from.device;
  if (!both) refuse_while_captured(device, "a copy between host and device");
  const OnDevice on(device);
  void* stream = cuda_stream(device);
  const auto copy = both                  ? on->copy_on_device
                    : to.device.is_cuda() ? on->copy_to_device
                                          : on->copy_to_host;
  raise(copy(to.data, from.data, bytes, stream), "copy");
  if (!both) raise(on->stream_synchronize(stream), "copy");
}

void cuda_fill_bytes(Memory to, uint8_t byte, size_t bytes) {
  raise(OnDevice(to.device)->fill_bytes(to.data, byte, static_cast<int64_t>(bytes),
                                        cuda_stream(to.device)),
        "fill");
}

void* cuda_allocate_host(size_t bytes) {
  void* data = nullptr;
  raise(OnDevice(any_device())->host_alloc(&data, static_cast<int64_t>(bytes)),
        "allocate page-locked memory");
  return data;
}

void cuda_free_host(void* data) noexcept {
  give_back(any_device(), [=](const OnDevice& on) { on->host_free(data); });
}

CudaEvent::CudaEvent(Device device) : device_(device) {
  raise(OnDevice(device_)->event_create(&event_), "event");
}
CudaEvent::~CudaEvent() {
  give_back(device_, [this](const OnDevice& on) { on->event_destroy(event_); });
}
void CudaEvent::record(void* stream) {
  if (stream == nullptr) stream = cuda_stream(device_);
  raise(OnDevice(device_)->event_record(event_, stream), "event");
}
bool CudaEvent::is_done() const {
  bool done = false;
  raise(OnDevice(device_)->event_is_done(event_, &done), "event");
  return done;
}
void CudaEvent::wait() const { raise(OnDevice(device_)->event_synchronize(event_), "event"); }
void CudaEvent::hold_back(Device other, void* stream) const {
  if (stream == nullptr) stream = cuda_stream(other);
  raise(OnDevice(other)->stream_wait(stream, event_), "event");
}

std::shared_ptr<CudaEvent> cuda_copy_later(Memory to, Memory from, size_t bytes) {
  const Device device = to.device.is_cuda() ? to.device : from.device;
  const OnDevice on(device);
  auto event = std::make_shared<CudaEvent>(device);
  const auto copy = to.device.is_cuda() ? on->copy_to_device : on->copy_to_host;
  raise(copy(to.data, from.data, static_cast<int64_t>(bytes), cuda_stream(device)), "copy");
  event->record();
  return event;
}

std::shared_ptr<void> cuda_graph(Device device, const std::function<void()>& work) {
  const OwnStream own(device, true);  // another library's may be one that cannot be captured
  const OnDevice on(device);
  void* stream = cuda_stream(device);
  raise(on->capture_begin(stream), "capture");
  work();
  void* graph = nullptr;
  raise(on->capture_end(stream, &graph), "capture");
  return {graph, [device](void* g) {
            give_back(device, [=](const OnDevice& on) { on->graph_destroy(g); });
          }};
}

void cuda_launch_graph(Device device, void* graph) {
  // On another's stream it is in the order of fastnn's own too, whose workspaces it uses.
  void *own = cuda_own_stream(device), *stream = cuda_stream(device);
  order_streams(device, own, stream);
  raise(OnDevice(device)->graph_launch(graph, stream), "replay");
  order_streams(device, stream, own);
}

void cuda_raise_after_launch(const char* op) {
  if (const char* text = usable().library->take_error()) throw CudaError(concat(op, ": ", text));
}

}  // namespace fastnn
