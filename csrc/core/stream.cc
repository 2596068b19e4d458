// Who works on which stream, and the plans of graphs that others capture.
#include "stream.h"

#include <array>
#include <atomic>
#include <map>
#include <mutex>
#include <utility>
#include <vector>

#include "../kernels/cuda/abi.h"
#include "capture.h"
#include "cuda.h"
#include "held.h"

namespace fastnn {
namespace {

// What a thread has switched to; null: fastnn's own.
void*& switched(Device device) {
  thread_local std::array<void*, kMaxCudaDevices> to{};
  return to[static_cast<size_t>(device.index())];
}

struct Captured {
  Device device;
  std::shared_ptr<Plan> plan;
};
struct Shared {
  std::mutex mutex;
  std::map<std::pair<int, void*>, int> entered;  // streams of others, by how many threads
  std::map<uint64_t, Captured> captured;         // by the number of the capture
  std::vector<std::shared_ptr<Plan>> over;       // of graphs that are gone
};
Shared& shared() {
  static auto* all = new Shared;
  return *all;
}
std::atomic<int> num_entered{0};

void count(Device device, void* stream, int by) {
  if (stream == nullptr) return;
  const std::lock_guard lock(shared().mutex);
  int& threads = shared().entered[{device.index(), stream}];
  threads += by, num_entered += by;
  if (threads == 0) shared().entered.erase({device.index(), stream});
}

// 0 where nobody captures the stream.
uint64_t capture_of(Device device, void* stream) {
  uint64_t id = 0;
  const OnDevice on(device);
  cuda_check(on->stream_capture(stream, &id), "stream");
  return id;
}

void order(Device device, void* first, void* second) {
  CudaEvent event(device);
  event.record(first);
  event.hold_back(device, second);
}

// Here, since CUDA may not be called when a graph goes.
void release_plans() {
  std::vector<std::shared_ptr<Plan>> over;  // destroyed outside the lock
  const std::lock_guard lock(shared().mutex);
  over.swap(shared().over);
}

// CUDA calls this when the graph is gone, on any thread, and may not be called from here.
void let_go_of(void* data) {
  const std::unique_ptr<uint64_t> id(static_cast<uint64_t*>(data));
  const std::lock_guard lock(shared().mutex);
  const auto found = shared().captured.find(*id);
  shared().over.push_back(std::move(found->second.plan));
  shared().captured.erase(found);
}

}  // namespace

void* cuda_stream(Device device) {
  void* stream = switched(device);
  return stream != nullptr ? stream : cuda_own_stream(device);
}

void* switch_stream(Device device, void* stream) {
  release_plans();
  void* own = cuda_own_stream(device);
  void*& now = switched(device);
  void *const before = now, *const next = stream == own ? nullptr : stream;
  order_streams(device, before != nullptr ? before : own, stream);
  count(device, next, 1);
  now = next;
  count(device, before, -1);
  return before != nullptr ? before : own;
}

void order_streams(Device device, void* first, void* second) {
  if (first == second || capture_of(device, first) != capture_of(device, second)) return;
  order(device, first, second);
}

void order_with(const char* call, Device device, void* first, void* second) {
  if (first == second) return;
  check<CaptureError>(capture_of(device, first) == capture_of(device, second), call,
                      ": expected both libraries to work in one capture, got a stream that is "
                      "captured and one that is not in it; use fastnn.cuda.stream() inside");
  order(device, first, second);
}

bool is_captured(Device device) {
  void* stream = device.is_cuda() ? switched(device) : nullptr;
  return stream != nullptr && capture_of(device, stream) != 0;
}

Plan* captured_plan(Device device) {
  void* stream = device.is_cuda() ? switched(device) : nullptr;
  const uint64_t id = stream != nullptr ? capture_of(device, stream) : 0;
  if (id == 0) return nullptr;
  {
    const std::lock_guard lock(shared().mutex);
    if (const auto found = shared().captured.find(id); found != shared().captured.end())
      return found->second.plan.get();
  }
  auto plan = std::make_shared<Plan>();
  Plan* made = plan.get();
  auto data = std::make_unique<uint64_t>(id);
  {
    const std::lock_guard lock(shared().mutex);
    shared().captured.emplace(id, Captured{device, std::move(plan)});
  }
  const OnDevice on(device);
  cuda_check(on->capture_retain(stream, let_go_of, data.release()), "capture");
  return made;
}

void refuse_while_captured(Device device, const char* what) {
  check<CaptureError>(!is_captured(device),
                      "capture: expected work that the host does not wait for, while another "
                      "library captures the stream, got ",
                      what, "; do it before or after");
}

void refuse_while_captured(const char* what) {
  for (int i = 0; i < kMaxCudaDevices; ++i)
    if (switched(Device::cuda(i)) != nullptr) refuse_while_captured(Device::cuda(i), what);
}

void hold_until_used(Device device, std::function<void()> let_go) noexcept {
  try {
    auto event = std::make_shared<CudaEvent>(device);
    join_streams(device);
    event->record(cuda_own_stream(device));
    hold(device, std::move(event), std::move(let_go));
  } catch (const std::exception&) {
    // No device to ask, as after fork(): it is never known to be done.
  }
}

void join_streams(Device device) {
  if (num_entered.load(std::memory_order_acquire) == 0) return;
  std::vector<void*> streams;
  {
    const std::lock_guard lock(shared().mutex);
    for (const auto& [at, threads] : shared().entered)
      if (at.first == device.index()) streams.push_back(at.second);
  }
  for (void* stream : streams) order_streams(device, stream, cuda_own_stream(device));
}

void join_legacy_stream(Device device) noexcept {
  try {
    order_streams(device, reinterpret_cast<void*>(kLegacyStream), cuda_own_stream(device));
  } catch (const CudaError&) {  // as the process ends
  }
}

OwnStream::OwnStream(Device device, bool when)
    : device_(device),
      before_(when ? std::exchange(switched(device), nullptr) : switched(device)) {}
OwnStream::~OwnStream() { switched(device_) = before_; }

}  // namespace fastnn
