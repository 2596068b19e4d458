// The emulator's half of the runtime API: memory, copies and errors; streams are in
// emulator_stream.cc. Invariant: like the device, copies from pageable host memory read their
// source before the call returns, and copies from page-locked memory when the stream comes to them.
#include "emulator_runtime.h"

#include <cstdlib>
#include <map>
#include <memory>
#include <vector>

namespace fastnn::emulator {
namespace {

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
  const Lock lock(runtime_mutex());
  const auto after = pinned.upper_bound(memory);
  if (after == pinned.begin()) return false;
  const auto [begin, bytes] = *std::prev(after);
  return static_cast<const char*>(memory) < static_cast<const char*>(begin) + bytes;
}

}  // namespace

cudaError_t fail(cudaError_t code, const std::string& text) {
  if (last_error.code == cudaSuccess) last_error = {code, text};
  return code;
}

cudaError_t elsewhere(const char* what) {
  return fail(cudaErrorInvalidResourceHandle,
              std::string("invalid resource handle: ") + what + " of another device");
}

void launch(dim3 grid, dim3 block, size_t shared_bytes, void* to, std::function<void()> body,
            unsigned cluster) {
  const auto stream = static_cast<cudaStream_t>(to);
  const int device = device_of(stream);
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
cudaError_t cudaPeekAtLastError() { return last_error.code; }
const char* cudaGetErrorString(cudaError_t error) {
  switch (error) {
    case cudaSuccess:
      return "no error";
    case cudaErrorMemoryAllocation:
      return "out of memory";
    case cudaErrorLaunchFailure:
      return last_error.text.c_str();
    case cudaErrorStreamCaptureUnsupported:
      return "operation not permitted when stream is capturing";
    case cudaErrorStreamCaptureInvalidated:
      return "operation failed due to a previous error during capture";
    case cudaErrorStreamCaptureMerge:
      return "operation would result in a merge of separate capture sequences";
    case cudaErrorStreamCaptureUnjoined:
      return "capturing stream has unjoined work";
    case cudaErrorStreamCaptureIsolation:
      return "dependency created on uncaptured work in another stream";
    case cudaErrorCapturedEvent:
      return "operation not permitted on an event last recorded in a capturing stream";
    default:
      return last_error.text.empty() ? "invalid argument" : last_error.text.c_str();
  }
}
cudaError_t cudaDriverGetVersion(int* version) {
  *version = 13000;
  return cudaSuccess;
}
cudaError_t cudaDeviceGetDefaultMemPool(cudaMemPool_t* pool, int) {
  *pool = &live;
  return cudaSuccess;
}
cudaError_t cudaMemPoolSetAttribute(cudaMemPool_t, cudaMemPoolAttr, void*) { return cudaSuccess; }
cudaError_t cudaMemPoolTrimTo(cudaMemPool_t, size_t) { return cudaSuccess; }

cudaError_t cudaMallocAsync(void** memory, size_t bytes, cudaStream_t stream) {
  const int device = device_of(stream);
  if (!is_here(device)) return elsewhere("memory asked for on a stream");
  if (is_captured(stream))
    return fail(cudaErrorInvalidValue, "emulator: memory allocated while capturing");
  const Lock lock(runtime_mutex());
  *memory = bytes > size_t{1} << 40 ? nullptr : allocate_on(device, bytes + kGuardBytes);
  if (*memory == nullptr) return fail(cudaErrorMemoryAllocation, "out of memory");
  touch(device);
  std::memset(*memory, 0xff, bytes);
  std::memset(static_cast<char*>(*memory) + bytes, kGuard, kGuardBytes);
  live[*memory] = {bytes, device};
  return cudaSuccess;
}
cudaError_t cudaFreeAsync(void* memory, cudaStream_t stream) {
  const Lock lock(runtime_mutex());
  if (is_captured(stream))
    return fail(cudaErrorInvalidValue, "emulator: memory freed while capturing");
  const auto found = live.find(memory);
  if (found == live.end())
    return fail(cudaErrorInvalidValue, "emulator: freed twice, or not device memory");
  const auto [bytes, device] = found->second;
  if (!is_here(device) || !is_here(device_of(stream))) return elsewhere("memory");
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
  if (const cudaError_t code = check_no_capture(); code != cudaSuccess) return code;
  if (posix_memalign(memory, 256, bytes != 0 ? bytes : 1) != 0)
    return fail(cudaErrorMemoryAllocation, "out of memory");
  const Lock lock(runtime_mutex());
  pinned[*memory] = bytes;
  return cudaSuccess;
}
cudaError_t cudaFreeHost(void* memory) {
  if (const cudaError_t code = check_no_capture(); code != cudaSuccess) return code;
  const Lock lock(runtime_mutex());
  if (pinned.erase(memory) == 0)
    return fail(cudaErrorInvalidValue, "emulator: freed twice, or not page-locked memory");
  std::free(memory);
  return cudaSuccess;
}

cudaError_t cudaMemcpyAsync(void* to, const void* from, size_t bytes, cudaMemcpyKind kind,
                            cudaStream_t stream) {
  if (bytes == 0) return cudaSuccess;
  if (!is_here(device_of(stream))) return elsewhere("a stream");
  const bool from_pageable = kind == cudaMemcpyHostToDevice && !is_pinned(from);
  const bool to_pageable = kind == cudaMemcpyDeviceToHost && !is_pinned(to);
  if (from_pageable || to_pageable) note_host_wait();  // CUDA may
  if (from_pageable && !is_captured(stream) && is_lazy()) {
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
    const Lock lock(runtime_mutex());
    const auto after = live.upper_bound(const_cast<void*>(memory));
    return after != live.begin() && std::prev(after)->second.device == device;
  };
  if (!is_of(to, to_device) || !is_of(from, from_device))
    return fail(cudaErrorInvalidValue, "invalid argument: memory of another device");
  return cudaMemcpyAsync(to, from, bytes, cudaMemcpyDeviceToDevice, stream);
}
cudaError_t cudaMemsetAsync(void* to, int byte, size_t bytes, cudaStream_t stream) {
  if (!is_here(device_of(stream))) return elsewhere("a stream");
  if (bytes != 0)
    submit(stream, [=] {
      touch(to, nullptr);
      std::memset(to, byte, bytes);
    });
  return cudaSuccess;
}

cudaError_t cudaLaunchHostFunc(cudaStream_t stream, void (*function)(void*), void* data) {
  const int device = device_of(stream);
  if (!is_here(device)) return elsewhere("a stream");
  submit(stream, [=] {
    touch(device);
    function(data);
  });
  return cudaSuccess;
}
