// The emulator's half of the runtime API: memory, streams and graphs. A launch runs at once, unless
// its stream is being captured, or FASTNN_EMULATOR_LAZY=1 lets work wait until the host
// synchronises: so host code that reads a result or frees an input too early is found without a
// GPU. Invariant: like the device, copies from pageable host memory read their source before the
// call returns, and copies from page-locked memory when the stream comes to them.
#include "emulator_runtime.h"

#include <cstdlib>
#include <deque>
#include <map>
#include <memory>
#include <mutex>
#include <vector>

namespace fastnn::emulator {

using Work = std::function<void()>;

struct Graph {
  int device;
  std::vector<Work> work;
};

struct Stream {
  int device;
  std::deque<Work> queue;        // lazy mode
  std::unique_ptr<Graph> graph;  // while capturing
};

struct Event {
  int device;
  std::shared_ptr<bool> done = std::make_shared<bool>(true);
  Stream* stream = nullptr;  // where it was recorded
};

namespace {

std::recursive_mutex mutex;
struct Block {
  size_t bytes;
  int device;
};
std::map<void*, Block> live;           // device memory: what may be freed and copied
std::map<const void*, size_t> pinned;  // page-locked memory of the host

struct LastError {
  cudaError_t code = cudaSuccess;
  std::string text;
};
thread_local LastError last_error;

// What follows device memory, so that a write past its end is found when it is freed.
// AddressSanitizer sees the first byte itself, and a read as well.
#ifdef __SANITIZE_ADDRESS__
constexpr size_t kGuardBytes = 0;
#else
constexpr size_t kGuardBytes = 64;
#endif
constexpr unsigned char kGuard = 0xa5;
bool guarded(const void* memory, size_t bytes) {
  const auto* end = static_cast<const unsigned char*>(memory) + bytes;
  bool ok = true;
  for (size_t i = 0; i < kGuardBytes; ++i) ok = ok && end[i] == kGuard;
  return ok;
}

bool is_pinned(const void* memory) {
  const std::lock_guard<std::recursive_mutex> lock(mutex);
  const auto after = pinned.upper_bound(memory);
  if (after == pinned.begin()) return false;
  const auto [begin, bytes] = *std::prev(after);
  return static_cast<const char*>(memory) < static_cast<const char*>(begin) + bytes;
}

bool lazy() {
  const char* value = std::getenv("FASTNN_EMULATOR_LAZY");
  return value != nullptr && value[0] == '1';
}
// Null is the default stream of the current device.
Stream& of(void* stream) {
  static auto* defaults = new std::map<int, Stream>;
  if (stream != nullptr) return *static_cast<Stream*>(stream);
  const int device = current_device();
  const std::lock_guard<std::recursive_mutex> lock(mutex);
  return defaults->try_emplace(device, device).first->second;
}

// Where CUDA refuses what belongs to another device, and also where it does not, but whoever asks
// has forgotten whose it is.
bool is_here(int device) { return device == current_device(); }
cudaError_t elsewhere(const char* what) {
  return fail(cudaErrorInvalidResourceHandle,
              std::string("invalid resource handle: ") + what + " of another device");
}

// Work of the device of a stream.
void submit(void* stream, Work work) {
  Stream& to = of(stream);
  const std::lock_guard<std::recursive_mutex> lock(mutex);
  if (to.graph != nullptr) return to.graph->work.push_back(std::move(work));
  if (lazy()) return to.queue.push_back(std::move(work));
  work();
}

void step(Stream* stream) {
  const Work work = std::move(stream->queue.front());
  stream->queue.pop_front();
  work();
}
cudaError_t drain(Stream* stream) {
  const std::lock_guard<std::recursive_mutex> lock(mutex);
  while (!stream->queue.empty()) step(stream);
  return last_error.code;
}

}  // namespace

cudaError_t fail(cudaError_t code, const std::string& text) {
  if (last_error.code == cudaSuccess) last_error = {code, text};
  return code;
}

void launch(dim3 grid, dim3 block, size_t shared_bytes, void* stream, std::function<void()> body,
            unsigned cluster) {
  const int device = of(stream).device;
  if (!is_here(device)) return static_cast<void>(elsewhere("a launch on a stream"));
  submit(stream, [=, body = std::move(body)] {
    touch(device);
    const std::string error = run(grid, block, cluster, shared_bytes, body);
    if (!error.empty()) fail(cudaErrorLaunchFailure, "emulator: " + error);
  });
}

}  // namespace fastnn::emulator

using namespace fastnn::emulator;

cudaError_t cudaGetLastError() {
  const cudaError_t code = last_error.code;
  last_error.code = cudaSuccess;
  return code;
}
const char* cudaGetErrorString(cudaError_t error) {
  switch (error) {
    case cudaSuccess:
      return "no error";
    case cudaErrorMemoryAllocation:
      return "out of memory";
    case cudaErrorLaunchFailure:
      return last_error.text.c_str();
    default:
      return last_error.text.empty() ? "invalid argument" : last_error.text.c_str();
  }
}
cudaError_t cudaDriverGetVersion(int* version) {
  *version = 13000;
  return cudaSuccess;
}
cudaError_t cudaStreamCreateWithFlags(cudaStream_t* stream, unsigned) {
  *stream = new Stream{.device = current_device()};
  return cudaSuccess;
}
cudaError_t cudaStreamDestroy(cudaStream_t stream) {
  if (!is_here(stream->device)) return elsewhere("a stream");
  const cudaError_t code = drain(stream);
  delete stream;
  return code;
}
cudaError_t cudaStreamSynchronize(cudaStream_t stream) {
  Stream& s = of(stream);
  if (!is_here(s.device)) return elsewhere("a stream");
  if (s.graph != nullptr)
    return fail(cudaErrorInvalidValue, "operation not permitted when stream is capturing");
  return drain(&s);
}

cudaError_t cudaEventCreateWithFlags(cudaEvent_t* event, unsigned) {
  *event = new Event{.device = current_device()};
  return cudaSuccess;
}
cudaError_t cudaEventRecord(cudaEvent_t event, cudaStream_t stream) {
  if (!is_here(of(stream).device) || !is_here(event->device)) return elsewhere("an event");
  event->done = std::make_shared<bool>(false);
  event->stream = &of(stream);
  submit(stream, [done = event->done] { *done = true; });
  return cudaSuccess;
}
cudaError_t cudaEventQuery(cudaEvent_t event) {
  if (!is_here(event->device)) return elsewhere("an event");
  const std::lock_guard<std::recursive_mutex> lock(mutex);
  return *event->done ? cudaSuccess : cudaErrorNotReady;
}
cudaError_t cudaEventSynchronize(cudaEvent_t event) {
  if (!is_here(event->device)) return elsewhere("an event");
  return event->stream != nullptr ? drain(event->stream) : cudaSuccess;
}
cudaError_t cudaEventDestroy(cudaEvent_t event) {
  if (!is_here(event->device)) return elsewhere("an event");
  delete event;
  return cudaSuccess;
}
// The event may be of another device, whose stream goes on until it has come there.
cudaError_t cudaStreamWaitEvent(cudaStream_t stream, cudaEvent_t event, unsigned) {
  if (!is_here(of(stream).device)) return elsewhere("a stream");
  submit(stream, [done = event->done, on = event->stream] {
    while (!*done && !on->queue.empty()) step(on);
  });
  return cudaSuccess;
}

cudaError_t cudaDeviceGetDefaultMemPool(cudaMemPool_t* pool, int) {
  *pool = &live;
  return cudaSuccess;
}
cudaError_t cudaMemPoolSetAttribute(cudaMemPool_t, cudaMemPoolAttr, void*) { return cudaSuccess; }
cudaError_t cudaMemPoolTrimTo(cudaMemPool_t, size_t) { return cudaSuccess; }

cudaError_t cudaMallocAsync(void** memory, size_t bytes, cudaStream_t stream) {
  const int device = of(stream).device;
  if (!is_here(device)) return elsewhere("memory asked for on a stream");
  if (of(stream).graph != nullptr)
    return fail(cudaErrorInvalidValue, "emulator: memory allocated while capturing");
  const std::lock_guard<std::recursive_mutex> lock(mutex);
  *memory = bytes > size_t{1} << 40 ? nullptr : allocate_on(device, bytes + kGuardBytes);
  if (*memory == nullptr) return fail(cudaErrorMemoryAllocation, "out of memory");
  touch(device);
  std::memset(*memory, 0xff, bytes);
  std::memset(static_cast<char*>(*memory) + bytes, kGuard, kGuardBytes);
  live[*memory] = {bytes, device};
  return cudaSuccess;
}
cudaError_t cudaFreeAsync(void* memory, cudaStream_t stream) {
  const std::lock_guard<std::recursive_mutex> lock(mutex);
  const auto found = live.find(memory);
  if (found == live.end())
    return fail(cudaErrorInvalidValue, "emulator: freed twice, or not device memory");
  const auto [bytes, device] = found->second;
  if (!is_here(device) || !is_here(of(stream).device)) return elsewhere("memory");
  live.erase(found);
  submit(stream, [=] {
    touch(device);
    if (!guarded(memory, bytes))
      fail(cudaErrorLaunchFailure, "emulator: device memory was written past its end");
    std::memset(memory, 0xff, bytes);  // a use after this reads NaN even without AddressSanitizer
    release_on(device, memory, bytes + kGuardBytes);
  });
  return cudaSuccess;
}
cudaError_t cudaMallocHost(void** memory, size_t bytes) {
  if (posix_memalign(memory, 256, bytes != 0 ? bytes : 1) != 0)
    return fail(cudaErrorMemoryAllocation, "out of memory");
  const std::lock_guard<std::recursive_mutex> lock(mutex);
  pinned[*memory] = bytes;
  return cudaSuccess;
}
cudaError_t cudaFreeHost(void* memory) {
  const std::lock_guard<std::recursive_mutex> lock(mutex);
  if (pinned.erase(memory) == 0)
    return fail(cudaErrorInvalidValue, "emulator: freed twice, or not page-locked memory");
  std::free(memory);
  return cudaSuccess;
}

cudaError_t cudaMemcpyAsync(void* to, const void* from, size_t bytes, cudaMemcpyKind kind,
                            cudaStream_t stream) {
  if (bytes == 0) return cudaSuccess;
  if (!is_here(of(stream).device)) return elsewhere("a stream");
  if (kind == cudaMemcpyHostToDevice && of(stream).graph == nullptr && lazy() && !is_pinned(from)) {
    auto staged = std::make_shared<std::vector<char>>(bytes);
    std::memcpy(staged->data(), from, bytes);
    submit(stream, [=] {
      touch(to, nullptr);
      std::memcpy(to, staged->data(), bytes);
    });
  } else {
    submit(stream, [=] {
      touch(to, from);
      std::memmove(to, from, bytes);
    });
  }
  return cudaSuccess;
}
cudaError_t cudaMemcpyPeerAsync(void* to, int to_device, const void* from, int from_device,
                                size_t bytes, cudaStream_t stream) {
  const auto is_of = [](const void* memory, int device) {
    const std::lock_guard<std::recursive_mutex> lock(mutex);
    const auto after = live.upper_bound(const_cast<void*>(memory));
    return after != live.begin() && std::prev(after)->second.device == device;
  };
  if (!is_of(to, to_device) || !is_of(from, from_device))
    return fail(cudaErrorInvalidValue, "invalid argument: memory of another device");
  return cudaMemcpyAsync(to, from, bytes, cudaMemcpyDeviceToDevice, stream);
}
cudaError_t cudaMemsetAsync(void* to, int byte, size_t bytes, cudaStream_t stream) {
  if (!is_here(of(stream).device)) return elsewhere("a stream");
  if (bytes != 0)
    submit(stream, [=] {
      touch(to, nullptr);
      std::memset(to, byte, bytes);
    });
  return cudaSuccess;
}

cudaError_t cudaStreamBeginCapture(cudaStream_t stream, cudaStreamCaptureMode) {
  if (stream == nullptr)
    return fail(cudaErrorInvalidValue, "the default stream cannot be captured");
  if (!is_here(stream->device)) return elsewhere("a stream");
  drain(stream);
  stream->graph = std::make_unique<Graph>(stream->device);
  return cudaSuccess;
}
cudaError_t cudaStreamEndCapture(cudaStream_t stream, cudaGraph_t* graph) {
  *graph = stream != nullptr ? stream->graph.release() : nullptr;
  return *graph != nullptr ? cudaSuccess
                           : fail(cudaErrorInvalidValue, "the stream is not capturing");
}
cudaError_t cudaStreamIsCapturing(cudaStream_t stream, cudaStreamCaptureStatus* status) {
  *status =
      of(stream).graph != nullptr ? cudaStreamCaptureStatusActive : cudaStreamCaptureStatusNone;
  return cudaSuccess;
}
cudaError_t cudaLaunchHostFunc(cudaStream_t stream, void (*function)(void*), void* data) {
  const int device = of(stream).device;
  if (!is_here(device)) return elsewhere("a stream");
  submit(stream, [=] {
    touch(device);
    function(data);
  });
  return cudaSuccess;
}
cudaError_t cudaGraphInstantiate(cudaGraphExec_t* executable, cudaGraph_t graph, unsigned) {
  *executable = new Graph(*graph);
  return cudaSuccess;
}
cudaError_t cudaGraphLaunch(cudaGraphExec_t executable, cudaStream_t stream) {
  if (!is_here(of(stream).device) || !is_here(executable->device)) return elsewhere("a graph");
  submit(stream, [work = executable->work] {
    for (const Work& item : work) item();
  });
  return cudaSuccess;
}
cudaError_t cudaGraphDestroy(cudaGraph_t graph) {
  delete graph;
  return cudaSuccess;
}
cudaError_t cudaGraphExecDestroy(cudaGraphExec_t executable) {
  delete executable;
  return cudaSuccess;
}
