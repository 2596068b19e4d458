// What port.h includes instead of <cuda_runtime.h> when the kernels are compiled with g++: the
// words of the CUDA language, the intrinsics that our kernels use and the part of the runtime API
// that table.cu calls. Each CUDA thread is a fiber and one block (or one cluster of blocks, see
// emulator_cluster.h) runs at a time, on the calling thread. Invariant: a result may not depend on
// the order in which fibers or blocks run, and the schedule
// (FASTNN_EMULATOR_SCHEDULE=forward|reverse|random:SEED) is there to show it when one does. Fresh
// memory, device and shared, is all ones: NaN in every float format.
#pragma once
#include <bit>
#include <cstdint>
#include <cstring>
#include <functional>
#include <source_location>
#include <string>
#include <type_traits>

#define __global__
#define __device__
#define __host__
#define __forceinline__ inline
#define __launch_bounds__(...)

struct dim3 {
  unsigned x = 1, y = 1, z = 1;
};

// Of the fiber that runs; written by the scheduler only.
inline dim3 threadIdx, blockIdx, blockDim, gridDim;

namespace fastnn::emulator {

using Location = std::source_location;

// What a thread waits for. Threads that meet must have come to the same line: CUDA leaves anything
// else undefined, and hardware often lets it pass.
struct Wait {
  enum Kind { kNothing, kBlock, kWarp, kEvent } kind = kNothing;
  Location where;
  bool (*happened)(const void* object, uint64_t value) = nullptr;  // kEvent: go on when it has
  const void* object = nullptr;
  uint32_t mask = 0;    // kWarp: the lanes that meet
  uint64_t value = 0;   // kWarp: what this lane brings; kEvent: for `happened`
  uint32_t source = 0;  //        the lane that it reads,
  uint64_t result = 0;  //        what it read there,
  uint32_t ballot = 0;  //        and which lanes brought a non-zero value
};

// Called on a fiber: gives control back until the others have come.
const Wait& wait(const Wait& request);

// What the device does by itself beside the threads: at once, or when no thread can go on without
// it, or between, as the schedule has it.
void later(std::function<void()> work);
bool at_once();  // the schedule's answer for one such piece of work
// A thread did what the device leaves undefined, or refuses; the launch fails with the first.
void fault(const std::string& what);

// Runs all blocks of a launch, or appends it to the stream's graph or queue. Errors are sticky
// until cudaGetLastError(), as on the device. `cluster` blocks that follow one another along x run
// together.
void launch(dim3 grid, dim3 block, size_t shared_bytes, void* stream, std::function<void()> body,
            unsigned cluster = 1);

// For tests of indices beyond 2^31: of each launch only the last block runs, of a grid of so many;
// 0: all. A kernel that strides over its grid then begins where it would have come to.
inline uint32_t last_block_of = 0;

// The arguments as they are now, like a launch on the device.
template <class F, class... Args>
std::function<void()> bind(F kernel, Args... args) {
  return [=] { kernel(args...); };
}

void* dynamic_shared();  // of the block that runs, 1024-byte aligned
size_t dynamic_shared_bytes();
uint64_t block_serial();  // counts the blocks, or clusters, that were started

// Of the blocks that run together.
uint32_t cluster_size();
uint32_t cluster_rank();
void* dynamic_shared_of(uint32_t rank);
bool has_ended(uint32_t rank);  // all threads of the block have returned
void finish_work();             // all that waits of later()

// Static shared memory: one copy, since one block runs at a time, poisoned when a block first sees
// it.
template <class T, size_t kCount>
struct Shared {
  T value[kCount];
  uint64_t serial = 0;
  T* get() {
    if (cluster_size() > 1) fault("static shared memory of clusters is not emulated");
    if (serial != block_serial()) {
      std::memset(value, 0xff, sizeof value);
      serial = block_serial();
    }
    return value;
  }
};

inline uint32_t lane() { return threadIdx.x % 32; }

template <class T>
T exchange(uint32_t mask, T value, uint32_t source, Location where) {
  static_assert(std::is_arithmetic_v<T> && (sizeof(T) == 4 || sizeof(T) == 8));
  Wait request{.kind = Wait::kWarp, .where = where, .mask = mask, .source = source};
  std::memcpy(&request.value, &value, sizeof value);
  const uint64_t result = wait(request).result;
  std::memcpy(&value, &result, sizeof value);
  return value;
}

inline uint32_t vote(uint32_t mask, bool value, Location where) {
  return wait({.kind = Wait::kWarp, .where = where, .mask = mask, .value = value}).ballot;
}

}  // namespace fastnn::emulator

// ---- intrinsics ------------------------------------------------------------------------------
inline void __syncthreads(std::source_location where = std::source_location::current()) {
  fastnn::emulator::wait({.kind = fastnn::emulator::Wait::kBlock, .where = where});
}
inline void __syncwarp(uint32_t mask = ~0u,
                       std::source_location where = std::source_location::current()) {
  fastnn::emulator::wait({.kind = fastnn::emulator::Wait::kWarp, .where = where, .mask = mask});
}
template <class T>
T __shfl_sync(uint32_t mask, T value, int source,
              std::source_location where = std::source_location::current()) {
  return fastnn::emulator::exchange(mask, value, static_cast<uint32_t>(source) % 32, where);
}
template <class T>
T __shfl_xor_sync(uint32_t mask, T value, int lanes,
                  std::source_location where = std::source_location::current()) {
  return fastnn::emulator::exchange(mask, value, (fastnn::emulator::lane() ^ lanes) % 32, where);
}
template <class T>
T __shfl_down_sync(uint32_t mask, T value, unsigned lanes,
                   std::source_location where = std::source_location::current()) {
  const uint32_t own = fastnn::emulator::lane(), source = own + lanes;
  return fastnn::emulator::exchange(mask, value, source < 32 ? source : own, where);
}
template <class T>
T __shfl_up_sync(uint32_t mask, T value, unsigned lanes,
                 std::source_location where = std::source_location::current()) {
  const uint32_t own = fastnn::emulator::lane();
  return fastnn::emulator::exchange(mask, value, own >= lanes ? own - lanes : own, where);
}
inline uint32_t __ballot_sync(uint32_t mask, bool value,
                              std::source_location where = std::source_location::current()) {
  return fastnn::emulator::vote(mask, value, where);
}
inline bool __any_sync(uint32_t mask, bool value,
                       std::source_location where = std::source_location::current()) {
  return fastnn::emulator::vote(mask, value, where) != 0;
}
inline bool __all_sync(uint32_t mask, bool value,
                       std::source_location where = std::source_location::current()) {
  return fastnn::emulator::vote(mask, !value, where) == 0;
}
// Fibers do not preempt each other.
inline unsigned long long atomicMin(unsigned long long* address, unsigned long long value) {
  const unsigned long long old = *address;
  if (value < old) *address = value;
  return old;
}
inline unsigned long long atomicAdd(unsigned long long* address, unsigned long long value) {
  const unsigned long long old = *address;
  *address = old + value;
  return old;
}
inline void __threadfence() {}

// ---- runtime API: emulator_runtime.cc, emulator_stream.cc ------------------------------------
// Exported under CUDA's names: a test can be another library of the process.
enum cudaError_t : int {
  cudaSuccess = 0,
  cudaErrorInvalidValue = 1,
  cudaErrorMemoryAllocation = 2,
  cudaErrorInsufficientDriver = 35,
  cudaErrorNoDevice = 100,
  cudaErrorInvalidDevice = 101,
  cudaErrorInvalidContext = 201,
  cudaErrorInvalidResourceHandle = 400,
  cudaErrorNotReady = 600,
  cudaErrorLaunchFailure = 719,
  cudaErrorStreamCaptureUnsupported = 900,
  cudaErrorStreamCaptureInvalidated = 901,
  cudaErrorStreamCaptureMerge = 902,
  cudaErrorStreamCaptureUnjoined = 904,
  cudaErrorStreamCaptureIsolation = 905,
  cudaErrorCapturedEvent = 907,
};
enum cudaMemcpyKind {
  cudaMemcpyHostToDevice = 1,
  cudaMemcpyDeviceToHost,
  cudaMemcpyDeviceToDevice
};
enum cudaDeviceAttr {
  cudaDevAttrMultiProcessorCount = 16,
  cudaDevAttrComputeCapabilityMajor = 75,
  cudaDevAttrComputeCapabilityMinor
};
enum cudaMemPoolAttr { cudaMemPoolAttrReleaseThreshold = 4 };
enum cudaStreamCaptureMode {
  cudaStreamCaptureModeGlobal,
  cudaStreamCaptureModeThreadLocal,
  cudaStreamCaptureModeRelaxed
};
enum cudaStreamCaptureStatus {
  cudaStreamCaptureStatusNone,
  cudaStreamCaptureStatusActive,
  cudaStreamCaptureStatusInvalidated
};
inline constexpr unsigned cudaStreamNonBlocking = 1, cudaEventDisableTiming = 2;
inline constexpr unsigned cudaUserObjectNoDestructorSync = 1, cudaGraphUserObjectMove = 1;

namespace fastnn::emulator {
struct Stream;
struct Graph;
struct Event;
struct UserObject;
}  // namespace fastnn::emulator
using cudaStream_t = fastnn::emulator::Stream*;
using cudaEvent_t = fastnn::emulator::Event*;
using cudaGraph_t = fastnn::emulator::Graph*;
using cudaGraphExec_t = fastnn::emulator::Graph*;
using cudaUserObject_t = fastnn::emulator::UserObject*;
using cudaMemPool_t = void*;

// The part of the driver that device.cu asks. Its codes are the runtime's.
using CUresult = cudaError_t;
using CUdevice = int;
using CUcontext = struct EmulatedContext*;
CUresult cuDevicePrimaryCtxRetain(CUcontext* context, CUdevice device);
CUresult cuCtxGetCurrent(CUcontext* context);
CUresult cuCtxPushCurrent(CUcontext context);
CUresult cuCtxPopCurrent(CUcontext* context);

struct cudaDeviceProp {
  char name[256];
  int major, minor, multiProcessorCount;
  size_t totalGlobalMem;
};

extern "C" {
#pragma GCC visibility push(default)
cudaError_t cudaGetLastError();
cudaError_t cudaPeekAtLastError();
const char* cudaGetErrorString(cudaError_t error);
cudaError_t cudaDriverGetVersion(int* version);
cudaError_t cudaGetDeviceCount(int* count);
cudaError_t cudaGetDevice(int* device);
cudaError_t cudaSetDevice(int device);
cudaError_t cudaGetDeviceProperties(cudaDeviceProp* properties, int device);
cudaError_t cudaDeviceGetAttribute(int* value, cudaDeviceAttr attribute, int device);
cudaError_t cudaStreamCreateWithFlags(cudaStream_t* stream, unsigned flags);
cudaError_t cudaStreamDestroy(cudaStream_t stream);
cudaError_t cudaStreamSynchronize(cudaStream_t stream);
cudaError_t cudaDeviceSynchronize();
cudaError_t cudaStreamWaitEvent(cudaStream_t stream, cudaEvent_t event, unsigned flags);
cudaError_t cudaEventCreateWithFlags(cudaEvent_t* event, unsigned flags);
cudaError_t cudaEventRecord(cudaEvent_t event, cudaStream_t stream);
cudaError_t cudaEventQuery(cudaEvent_t event);
cudaError_t cudaEventSynchronize(cudaEvent_t event);
cudaError_t cudaEventDestroy(cudaEvent_t event);
cudaError_t cudaDeviceGetDefaultMemPool(cudaMemPool_t* pool, int device);
cudaError_t cudaMemPoolSetAttribute(cudaMemPool_t pool, cudaMemPoolAttr attribute, void* value);
cudaError_t cudaMemPoolTrimTo(cudaMemPool_t pool, size_t bytes);
cudaError_t cudaMallocAsync(void** memory, size_t bytes, cudaStream_t stream);
cudaError_t cudaFreeAsync(void* memory, cudaStream_t stream);
cudaError_t cudaMallocHost(void** memory, size_t bytes);
cudaError_t cudaFreeHost(void* memory);
cudaError_t cudaMemcpyAsync(void* to, const void* from, size_t bytes, cudaMemcpyKind kind,
                            cudaStream_t stream);
cudaError_t cudaMemcpyPeerAsync(void* to, int to_device, const void* from, int from_device,
                                size_t bytes, cudaStream_t stream);
cudaError_t cudaMemsetAsync(void* to, int byte, size_t bytes, cudaStream_t stream);
cudaError_t cudaStreamBeginCapture(cudaStream_t stream, cudaStreamCaptureMode mode);
cudaError_t cudaStreamEndCapture(cudaStream_t stream, cudaGraph_t* graph);
cudaError_t cudaStreamIsCapturing(cudaStream_t stream, cudaStreamCaptureStatus* status);
cudaError_t cudaStreamGetCaptureInfo(cudaStream_t stream, cudaStreamCaptureStatus* status,
                                     unsigned long long* id, cudaGraph_t* graph = nullptr);
cudaError_t cudaThreadExchangeStreamCaptureMode(cudaStreamCaptureMode* mode);
cudaError_t cudaUserObjectCreate(cudaUserObject_t* object, void* data, void (*destroy)(void*),
                                 unsigned references, unsigned flags);
cudaError_t cudaGraphRetainUserObject(cudaGraph_t graph, cudaUserObject_t object, unsigned count,
                                      unsigned flags);
cudaError_t cudaLaunchHostFunc(cudaStream_t stream, void (*function)(void*), void* data);
cudaError_t cudaGraphInstantiate(cudaGraphExec_t* executable, cudaGraph_t graph, unsigned flags);
cudaError_t cudaGraphLaunch(cudaGraphExec_t executable, cudaStream_t stream);
cudaError_t cudaGraphDestroy(cudaGraph_t graph);
cudaError_t cudaGraphExecDestroy(cudaGraphExec_t executable);
#pragma GCC visibility pop
}
enum cudaFuncAttribute { cudaFuncAttributeMaxDynamicSharedMemorySize = 8 };
template <class Kernel>
cudaError_t cudaFuncSetAttribute(Kernel*, cudaFuncAttribute, int) {
  return cudaSuccess;
}
