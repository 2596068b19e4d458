// The emulator's devices: the contexts of a thread, and the memory of each device. Invariants: as
// with CUDA, a thread that has no context gets device 0's with its first call; and with more than
// one device, only the memory of the device that works is readable, so that a kernel, or the host,
// that follows a pointer of another one is found.
#include <signal.h>
#include <sys/mman.h>
#include <unistd.h>

#include <array>
#include <atomic>
#include <cstdio>
#include <cstdlib>
#include <map>
#include <vector>

#include "emulator_runtime.h"

struct EmulatedContext {};  // of a device, by its place

namespace fastnn::emulator {
namespace {

constexpr int kMost = 8;
std::array<EmulatedContext, kMost> contexts;
std::atomic<uint32_t> made{0};  // which devices have a context
thread_local std::vector<EmulatedContext*> stack;

int device_of(const EmulatedContext* context) {
  return static_cast<int>(context - contexts.data());
}

bool exists(int device) { return device >= 0 && device < device_count(); }

// The memory of a device: one range of addresses, which a system call opens and closes.
struct Arena {
  static constexpr size_t kBytes = size_t{1} << 36;
  char* base = nullptr;
  size_t used = 0;
  std::map<size_t, std::vector<void*>> freed;  // by size
  bool is_open = true;

  bool contains(const void* p) const { return base != nullptr && p >= base && p < base + kBytes; }
};
std::array<Arena, kMost> arenas;

#ifdef __SANITIZE_ADDRESS__
constexpr bool kArenas = false;  // AddressSanitizer wants its own memory
#else
constexpr bool kArenas = true;
#endif
bool has_arenas() { return kArenas && device_count() > 1; }

struct sigaction before;
void on_fault(int, siginfo_t* info, void*) {
  for (int device = 0; device < kMost; ++device)
    if (arenas[size_t(device)].contains(info->si_addr)) {
      char text[96];
      const int n = std::snprintf(text, sizeof text,
                                  "emulator: memory of device %d was touched by work that is not "
                                  "its own\n",
                                  device);
      if (write(STDERR_FILENO, text, size_t(n)) < 0) break;
    }
  sigaction(SIGSEGV, &before, nullptr);  // and again, as anywhere else
}

void make(Arena* arena) {
  if (arena->base != nullptr) return;
  void* base = mmap(nullptr, Arena::kBytes, PROT_READ | PROT_WRITE,
                    MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
  if (base == MAP_FAILED) return;
  arena->base = static_cast<char*>(base);
  static const bool handled = [] {
    struct sigaction action{};
    action.sa_sigaction = on_fault;
    action.sa_flags = SA_SIGINFO;
    return sigaction(SIGSEGV, &action, &before) == 0;
  }();
  static_cast<void>(handled);
}

size_t rounded(size_t bytes) { return (bytes + 255) / 256 * 256; }

template <class F>
void open_those(F belongs) {
  if (!has_arenas()) return;
  for (int device = 0; device < device_count(); ++device) {
    Arena& arena = arenas[size_t(device)];
    const bool open = belongs(device);
    if (arena.base == nullptr || arena.is_open == open) continue;
    mprotect(arena.base, Arena::kBytes, open ? PROT_READ | PROT_WRITE : PROT_NONE);
    arena.is_open = open;
  }
}

}  // namespace

int device_count() {
  static const int count = [] {
    const char* text = std::getenv("FASTNN_EMULATOR_DEVICES");
    const int n = text != nullptr ? std::atoi(text) : 1;
    return n < 1 ? 1 : n > kMost ? kMost : n;
  }();
  return count;
}

int current_device() {
  if (stack.empty()) cudaSetDevice(0);
  return device_of(stack.back());
}

void* allocate_on(int device, size_t bytes) {
  if (!has_arenas()) {
    void* memory = nullptr;  // not rounded up: AddressSanitizer sees the first byte past the end
    return posix_memalign(&memory, 256, bytes + (bytes == 0)) == 0 ? memory : nullptr;
  }
  Arena& arena = arenas[size_t(device)];
  make(&arena);
  const size_t size = rounded(bytes + (bytes == 0));
  std::vector<void*>& freed = arena.freed[size];
  if (!freed.empty()) {
    void* memory = freed.back();
    freed.pop_back();
    return memory;
  }
  if (arena.base == nullptr || arena.used + size > Arena::kBytes) return nullptr;
  void* memory = arena.base + arena.used;
  arena.used += size;
  return memory;
}

void release_on(int device, void* memory, size_t bytes) {
  if (!has_arenas()) return std::free(memory);
  const size_t size = rounded(bytes + (bytes == 0));
  if (size >= size_t{1} << 20) {  // its pages, but for what shares them
    const auto begin = (reinterpret_cast<uintptr_t>(memory) + 4095) / 4096 * 4096;
    const auto end = (reinterpret_cast<uintptr_t>(memory) + size) / 4096 * 4096;
    madvise(reinterpret_cast<void*>(begin), end - begin, MADV_DONTNEED);
  }
  arenas[size_t(device)].freed[size].push_back(memory);
}

void touch(int device) {
  open_those([=](int one) { return one == device; });
}
void touch(const void* one, const void* other) {
  open_those([=](int device) {
    const Arena& arena = arenas[size_t(device)];
    return arena.contains(one) || arena.contains(other);
  });
}

}  // namespace fastnn::emulator

using namespace fastnn::emulator;

cudaError_t cudaGetDeviceCount(int* count) {
  *count = device_count();
  return cudaSuccess;
}
cudaError_t cudaGetDevice(int* device) {
  *device = stack.empty() ? 0 : device_of(stack.back());
  return cudaSuccess;
}
cudaError_t cudaSetDevice(int device) {
  CUcontext context;
  const cudaError_t error = cuDevicePrimaryCtxRetain(&context, device);
  if (error != cudaSuccess) return error;
  if (stack.empty()) stack.push_back(nullptr);
  stack.back() = context;
  return cudaSuccess;
}
cudaError_t cudaGetDeviceProperties(cudaDeviceProp* properties, int device) {
  *properties = {"fastnn emulator", 9, 0, 2, size_t{4} << 30};
  return exists(device) ? cudaSuccess : fail(cudaErrorInvalidDevice, "invalid device ordinal");
}
cudaError_t cudaDeviceGetAttribute(int* value, cudaDeviceAttr attribute, int device) {
  *value = attribute == cudaDevAttrMultiProcessorCount      ? 2
           : attribute == cudaDevAttrComputeCapabilityMajor ? 9
                                                            : 0;
  return exists(device) ? cudaSuccess : fail(cudaErrorInvalidDevice, "invalid device ordinal");
}

CUresult cuDevicePrimaryCtxRetain(CUcontext* context, CUdevice device) {
  if (!exists(device)) return fail(cudaErrorInvalidDevice, "invalid device ordinal");
  made |= 1u << device;
  *context = &contexts[size_t(device)];
  return cudaSuccess;
}
CUresult cuCtxGetCurrent(CUcontext* context) {
  *context = stack.empty() ? nullptr : stack.back();
  return cudaSuccess;
}
CUresult cuCtxPushCurrent(CUcontext context) {
  stack.push_back(context);
  return cudaSuccess;
}
CUresult cuCtxPopCurrent(CUcontext* context) {
  if (stack.empty()) return fail(cudaErrorInvalidContext, "invalid device context");
  *context = stack.back();
  stack.pop_back();
  return cudaSuccess;
}

// For tests: what another library does on this thread, and sees of it. -1: there is no context.
extern "C" {
__attribute__((visibility("default"))) int fastnn_emulator_current_device() {
  return stack.empty() ? -1 : device_of(stack.back());
}
__attribute__((visibility("default"))) int fastnn_emulator_set_device(int device) {
  return cudaSetDevice(device);
}
__attribute__((visibility("default"))) unsigned fastnn_emulator_contexts() { return made; }
}
