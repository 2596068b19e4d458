// The emulator's streams, events and graphs. A launch runs at once, unless its stream is being
// captured, or FASTNN_EMULATOR_LAZY lets work wait until the host synchronises: 1 runs what was
// waited for and nothing else, so that what two streams did not agree on comes too late; "others"
// runs all that other streams can do first, so that it comes too early. Invariant: the order within
// a stream, and what cudaStreamWaitEvent orders; nothing else, since a device promises no more.
#include <algorithm>
#include <atomic>
#include <cstdlib>
#include <deque>
#include <map>
#include <memory>
#include <string_view>
#include <thread>
#include <vector>

#include "emulator_runtime.h"

namespace fastnn::emulator {

// Destroyed when the last graph that retains it is.
struct UserObject {
  void* data;
  void (*destroy)(void*);
  ~UserObject() { destroy(data); }
};

struct Graph {
  int device;
  std::vector<Work> work;  // in the order of the calls, one of those that its forks allow
  std::vector<std::shared_ptr<UserObject>> objects;
};

namespace {

struct Capture {
  Graph graph;
  uint64_t id;
  cudaStreamCaptureMode mode;
  std::thread::id thread;
  Stream* origin;
  bool is_valid = true, is_over = false;
};

// A place in the order of a stream.
struct Mark {
  Stream* stream = nullptr;
  std::shared_ptr<Capture> capture;  // in which it was recorded
  uint64_t count = 0;                // what the stream had been given
  bool done = false;
};

struct Item {
  Work work;                    // or none:
  std::shared_ptr<Mark> after;  // the stream waits for another
};

}  // namespace

struct Stream {
  int device = 0;
  std::deque<Item> queue;  // lazy mode
  std::shared_ptr<Capture> capture;
  uint64_t count = 0;
  bool is_forked = false;  // has work in the capture that its origin does not wait for
};

struct Event {
  int device;
  std::shared_ptr<Mark> mark = std::make_shared<Mark>(Mark{.done = true});
};

namespace {

std::vector<Stream*> streams;
std::vector<std::shared_ptr<Capture>> captures;  // under way
std::atomic<unsigned> host_waits{0};
thread_local cudaStreamCaptureMode thread_mode = cudaStreamCaptureModeGlobal;

std::string_view lazy_mode() {
  const char* value = std::getenv("FASTNN_EMULATOR_LAZY");
  return value != nullptr ? value : "";
}

// CUDA's handles of the default streams of the current device are 0 or 1, and 2 for a thread's.
Stream& of(cudaStream_t stream) {
  static auto* defaults = new std::map<std::pair<int, uintptr_t>, Stream>;
  const auto handle = reinterpret_cast<uintptr_t>(stream);
  if (handle > 2) return *stream;
  const Lock lock(runtime_mutex());
  const std::pair key(current_device(), std::max<uintptr_t>(handle, 1));
  const auto [at, is_new] = defaults->try_emplace(key, Stream{.device = key.first});
  if (is_new) streams.push_back(&at->second);
  return at->second;
}

// Runs a stream up to a mark, or to its end, and before it what it waits for.
void advance(Stream& stream, const Mark* until) {
  while (!stream.queue.empty() && (until == nullptr || !until->done)) {
    const Item item = std::move(stream.queue.front());
    stream.queue.pop_front();
    if (item.after == nullptr)
      item.work();
    else if (!item.after->done)
      advance(*item.after->stream, item.after.get());
  }
}

// For the host, which waits.
cudaError_t finish(Stream& stream, const Mark* until = nullptr) {
  note_host_wait();
  if (lazy_mode() == "others")
    for (size_t i = streams.size(); i-- > 0;)
      if (streams[i] != &stream) advance(*streams[i], nullptr);
  advance(stream, until);
  return cudaPeekAtLastError();
}

cudaError_t invalidate(const std::shared_ptr<Capture>& capture, cudaError_t code) {
  if (capture != nullptr) capture->is_valid = false;
  return fail(code, "");
}

// A copy, so that it outlives its executable while it runs.
Work all_of(const Graph& graph) {
  return [graph] {
    for (const Work& item : graph.work) item();
  };
}

}  // namespace

std::recursive_mutex& runtime_mutex() {
  static auto* mutex = new std::recursive_mutex;
  return *mutex;
}

void note_host_wait() { ++host_waits; }

bool is_lazy() { return !lazy_mode().empty(); }

int device_of(cudaStream_t stream) { return of(stream).device; }

bool is_captured(cudaStream_t stream) {
  const Lock lock(runtime_mutex());
  return of(stream).capture != nullptr;
}

void submit(cudaStream_t stream, Work work) {
  const Lock lock(runtime_mutex());
  Stream& to = of(stream);
  ++to.count;
  if (to.capture != nullptr) {
    to.is_forked = to.capture->origin != &to;
    return to.capture->graph.work.push_back(std::move(work));
  }
  to.queue.push_back({std::move(work), nullptr});
  if (!is_lazy()) advance(to, nullptr);
}

cudaError_t check_no_capture() {
  const Lock lock(runtime_mutex());
  cudaError_t code = cudaSuccess;
  if (thread_mode == cudaStreamCaptureModeRelaxed) return code;
  for (const auto& capture : captures) {
    const bool own = capture->thread == std::this_thread::get_id();
    if (own ? capture->mode != cudaStreamCaptureModeRelaxed
            : capture->mode == cudaStreamCaptureModeGlobal &&
                  thread_mode == cudaStreamCaptureModeGlobal)
      code = invalidate(capture, cudaErrorStreamCaptureUnsupported);
  }
  return code;
}

}  // namespace fastnn::emulator

using namespace fastnn::emulator;

cudaError_t cudaStreamCreateWithFlags(cudaStream_t* stream, unsigned) {
  const Lock lock(runtime_mutex());
  streams.push_back(*stream = new Stream{.device = current_device()});
  return cudaSuccess;
}
cudaError_t cudaStreamDestroy(cudaStream_t stream) {
  const Lock lock(runtime_mutex());
  if (!is_here(stream->device)) return elsewhere("a stream");
  const cudaError_t code = finish(*stream);
  std::erase(streams, stream);
  delete stream;
  return code;
}
cudaError_t cudaStreamSynchronize(cudaStream_t stream) {
  const Lock lock(runtime_mutex());
  Stream& s = of(stream);
  if (!is_here(s.device)) return elsewhere("a stream");
  if (s.capture != nullptr) return invalidate(s.capture, cudaErrorStreamCaptureUnsupported);
  const cudaError_t code = check_no_capture();
  return code != cudaSuccess ? code : finish(s);
}
cudaError_t cudaStreamWaitEvent(cudaStream_t stream, cudaEvent_t event, unsigned) {
  const Lock lock(runtime_mutex());
  Stream& s = of(stream);
  if (!is_here(s.device)) return elsewhere("a stream");
  const std::shared_ptr<Mark>& mark = event->mark;
  if (mark->capture == nullptr) {
    if (s.capture != nullptr && mark->stream != nullptr)
      return invalidate(s.capture, cudaErrorStreamCaptureIsolation);
    s.queue.push_back({nullptr, mark});
    if (!is_lazy()) advance(s, nullptr);
    return cudaSuccess;
  }
  if (mark->capture->is_over) return fail(cudaErrorCapturedEvent, "");
  if (s.capture != nullptr && s.capture != mark->capture) {
    invalidate(mark->capture, cudaErrorStreamCaptureMerge);
    return invalidate(s.capture, cudaErrorStreamCaptureMerge);
  }
  if (mark->stream->count == mark->count) mark->stream->is_forked = false;
  s.capture = mark->capture;
  s.is_forked = s.capture->origin != &s;
  return cudaSuccess;
}
cudaError_t cudaDeviceSynchronize() {
  const Lock lock(runtime_mutex());
  cudaError_t code = check_no_capture();
  for (size_t i = streams.size(); code == cudaSuccess && i-- > 0;)
    if (is_here(streams[i]->device)) code = finish(*streams[i]);
  return code;
}

cudaError_t cudaEventCreateWithFlags(cudaEvent_t* event, unsigned) {
  *event = new Event{.device = current_device()};
  return cudaSuccess;
}
cudaError_t cudaEventRecord(cudaEvent_t event, cudaStream_t stream) {
  const Lock lock(runtime_mutex());
  Stream& s = of(stream);
  if (!is_here(s.device) || !is_here(event->device)) return elsewhere("an event");
  event->mark = std::make_shared<Mark>(Mark{&s, s.capture, s.count});
  if (s.capture != nullptr) return cudaSuccess;
  s.queue.push_back({[mark = event->mark] { mark->done = true; }, nullptr});
  if (!is_lazy()) advance(s, nullptr);
  return cudaSuccess;
}
cudaError_t cudaEventQuery(cudaEvent_t event) {
  const Lock lock(runtime_mutex());
  if (!is_here(event->device)) return elsewhere("an event");
  if (event->mark->capture != nullptr)
    return invalidate(event->mark->capture, cudaErrorCapturedEvent);
  const cudaError_t code = check_no_capture();
  return code != cudaSuccess ? code : event->mark->done ? cudaSuccess : cudaErrorNotReady;
}
cudaError_t cudaEventSynchronize(cudaEvent_t event) {
  const Lock lock(runtime_mutex());
  if (!is_here(event->device)) return elsewhere("an event");
  const std::shared_ptr<Mark> mark = event->mark;
  if (mark->capture != nullptr) return invalidate(mark->capture, cudaErrorCapturedEvent);
  const cudaError_t code = check_no_capture();
  if (code != cudaSuccess) return code;
  if (mark->done) return note_host_wait(), code;  // which another run might not have known
  return finish(*mark->stream, mark.get());
}
cudaError_t cudaEventDestroy(cudaEvent_t event) {
  if (!is_here(event->device)) return elsewhere("an event");
  delete event;
  return cudaSuccess;
}

cudaError_t cudaThreadExchangeStreamCaptureMode(cudaStreamCaptureMode* mode) {
  std::swap(*mode, thread_mode);
  return cudaSuccess;
}
cudaError_t cudaStreamBeginCapture(cudaStream_t stream, cudaStreamCaptureMode mode) {
  static uint64_t last = 0;
  const Lock lock(runtime_mutex());
  if (reinterpret_cast<uintptr_t>(stream) <= 2)
    return fail(cudaErrorStreamCaptureUnsupported, "the default stream cannot be captured");
  if (!is_here(stream->device)) return elsewhere("a stream");
  if (stream->capture != nullptr)
    return invalidate(stream->capture, cudaErrorStreamCaptureUnsupported);
  stream->capture = std::make_shared<Capture>(
      Capture{{.device = stream->device}, ++last, mode, std::this_thread::get_id(), stream});
  captures.push_back(stream->capture);
  return cudaSuccess;
}
cudaError_t cudaStreamEndCapture(cudaStream_t stream, cudaGraph_t* graph) {
  const Lock lock(runtime_mutex());
  *graph = nullptr;
  const std::shared_ptr<Capture> capture = of(stream).capture;
  if (capture == nullptr || capture->origin != stream)
    return fail(cudaErrorInvalidValue, "the stream is not capturing");
  bool unjoined = false;
  for (Stream* s : streams)
    if (s->capture == capture) {
      unjoined = unjoined || s->is_forked;
      s->capture = nullptr, s->is_forked = false;
    }
  std::erase(captures, capture);
  capture->is_over = true;
  if (!capture->is_valid) return fail(cudaErrorStreamCaptureInvalidated, "");
  if (unjoined) return fail(cudaErrorStreamCaptureUnjoined, "");
  *graph = new Graph(std::move(capture->graph));
  return cudaSuccess;
}
cudaError_t cudaStreamGetCaptureInfo(cudaStream_t stream, cudaStreamCaptureStatus* status,
                                     unsigned long long* id, cudaGraph_t* graph) {
  const Lock lock(runtime_mutex());
  const std::shared_ptr<Capture>& capture = of(stream).capture;
  *status = capture == nullptr  ? cudaStreamCaptureStatusNone
            : capture->is_valid ? cudaStreamCaptureStatusActive
                                : cudaStreamCaptureStatusInvalidated;
  if (id != nullptr) *id = capture != nullptr ? capture->id : 0;
  if (graph != nullptr) *graph = capture != nullptr ? &capture->graph : nullptr;
  return cudaSuccess;
}
cudaError_t cudaStreamIsCapturing(cudaStream_t stream, cudaStreamCaptureStatus* status) {
  return cudaStreamGetCaptureInfo(stream, status, nullptr, nullptr);
}

cudaError_t cudaUserObjectCreate(cudaUserObject_t* object, void* data, void (*destroy)(void*),
                                 unsigned, unsigned) {
  *object = new UserObject{data, destroy};
  return cudaSuccess;
}
cudaError_t cudaGraphRetainUserObject(cudaGraph_t graph, cudaUserObject_t object, unsigned,
                                      unsigned) {
  const Lock lock(runtime_mutex());
  graph->objects.emplace_back(object);
  return cudaSuccess;
}
cudaError_t cudaGraphInstantiate(cudaGraphExec_t* executable, cudaGraph_t graph, unsigned) {
  *executable = new Graph(*graph);
  return cudaSuccess;
}
cudaError_t cudaGraphLaunch(cudaGraphExec_t executable, cudaStream_t stream) {
  if (!is_here(device_of(stream)) || !is_here(executable->device)) return elsewhere("a graph");
  submit(stream, all_of(*executable));
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

// For tests: how often the host has waited, or would have if the device had been behind.
extern "C" __attribute__((visibility("default"))) unsigned fastnn_emulator_host_waits() {
  return host_waits;
}
