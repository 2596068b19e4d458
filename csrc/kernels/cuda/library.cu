// The CUDA library behind its C ABI: the tables of all families, and the functions of abi.h over
// the runtime API. Invariant: nothing here waits for the device, but for those that synchronize.
#include <cstdio>
#include <cstring>

#include "abi.h"
#include "blas.h"
#include "device.h"
#include "port.h"
#include "sequence/sequences.h"
#include "table.h"

namespace fastnn {
namespace {

template <class... Family>
FamilyList<Family...> of_dtype(int dtype, const FamilyList<Family...>*) {
  return {cuda::Table<Family>::of_dtype[dtype]...};
}
Kernels of_dtype(int dtype) { return of_dtype(dtype, static_cast<const Kernels*>(nullptr)); }

// ---- errors
// --------------------------------------------------------------------------------------
thread_local char error_text[512];  // of the first failure that has not been taken

CudaCode fail(CudaCode code, const char* text) {
  if (error_text[0] == '\0') std::snprintf(error_text, sizeof error_text, "%s", text);
  return code;
}
CudaCode check(cudaError_t error) {
  if (error == cudaSuccess) return kCudaOk;
  const CudaCode code = fail(error == cudaErrorMemoryAllocation ? kCudaOutOfMemory : kCudaError,
                             cudaGetErrorString(error));
  cudaGetLastError();  // reported here, so not again by take_error()
  return code;
}
const char* take_error() {
  // Where there is no driver, every call says so again, and device_count() said it better.
  const cudaError_t error = cudaGetLastError();
  if (error != cudaErrorInsufficientDriver && error != cudaErrorNoDevice) check(error);
  thread_local char taken[sizeof error_text];
  std::memcpy(taken, error_text, sizeof taken);
  error_text[0] = '\0';
  return taken[0] != '\0' ? taken : nullptr;
}

// ---- devices
// -------------------------------------------------------------------------------------
CudaCode device_count(int32_t* count) {
  int driver = 0, devices = 0;
  *count = 0;
  const cudaError_t error = cudaGetDeviceCount(&devices);
  if (error == cudaSuccess && devices > 0) {
    *count = devices;
    return kCudaOk;
  }
  cudaGetLastError();
  if (cudaDriverGetVersion(&driver) != cudaSuccess || driver == 0)
    return fail(kCudaError, "no NVIDIA driver was found");
#ifdef CUDART_VERSION
  if (driver < CUDART_VERSION / 1000 * 1000) {
    char text[160];
    std::snprintf(text, sizeof text,
                  "the NVIDIA driver is too old: it supports CUDA %d.%d, fastnn needs %d.0",
                  driver / 1000, driver % 1000 / 10, CUDART_VERSION / 1000);
    return fail(kCudaError, text);
  }
#endif
  return fail(kCudaError,
              error == cudaSuccess ? "no CUDA device was found" : cudaGetErrorString(error));
}

CudaCode device_info(int32_t device, CudaDevice* info) {
  cudaDeviceProp properties;
  const CudaCode code = check(cudaGetDeviceProperties(&properties, device));
  if (code != kCudaOk) return code;
  *info = {};
  std::snprintf(info->name, sizeof info->name, "%s", properties.name);
  info->major = properties.major;
  info->minor = properties.minor;
  info->multiprocessors = properties.multiProcessorCount;
  info->memory_bytes = static_cast<int64_t>(properties.totalGlobalMem);
  int driver = 0;
  const CudaCode driver_code = check(cudaDriverGetVersion(&driver));
  info->driver = driver;
  return driver_code;
}

CudaCode current_pool(cudaMemPool_t* pool) {
  int device = 0;
  const CudaCode code = check(cudaGetDevice(&device));
  return code != kCudaOk ? code : check(cudaDeviceGetDefaultMemPool(pool, device));
}

CudaCode enter_device(int32_t device, bool* entered) {
  return check(device::enter(device, entered));
}
CudaCode leave_device() { return check(device::leave()); }

// By default the pool gives memory back at each synchronisation, and asks for it again.
CudaCode keep_freed_memory() {
  cudaMemPool_t pool;
  const CudaCode code = current_pool(&pool);
  uint64_t keep = ~uint64_t{0};
  return code != kCudaOk
             ? code
             : check(cudaMemPoolSetAttribute(pool, cudaMemPoolAttrReleaseThreshold, &keep));
}

// ---- streams, memory, graphs
// ---------------------------------------------------------------------
cudaStream_t as_stream(void* stream) { return static_cast<cudaStream_t>(stream); }

// While any thread captures in CUDA's default mode, as torch does, calls that wait, or may, are
// refused, and end the capture. Those here are about fastnn's own work, which is not in it.
class BesideCaptures {
 public:
  BesideCaptures() { cudaThreadExchangeStreamCaptureMode(&mode_); }
  BesideCaptures(const BesideCaptures&) = delete;
  ~BesideCaptures() { cudaThreadExchangeStreamCaptureMode(&mode_); }

 private:
  cudaStreamCaptureMode mode_ = cudaStreamCaptureModeRelaxed;
};

CudaCode stream_create(void** stream) {
  const CudaCode code = keep_freed_memory();
  return code != kCudaOk ? code
                         : check(cudaStreamCreateWithFlags(reinterpret_cast<cudaStream_t*>(stream),
                                                           cudaStreamNonBlocking));
}
CudaCode stream_destroy(void* stream) { return check(cudaStreamDestroy(as_stream(stream))); }
CudaCode stream_synchronize(void* stream) {
  const BesideCaptures beside;
  return check(cudaStreamSynchronize(as_stream(stream)));
}

cudaEvent_t as_event(void* event) { return static_cast<cudaEvent_t>(event); }
CudaCode stream_wait(void* stream, void* event) {
  return check(cudaStreamWaitEvent(as_stream(stream), as_event(event), 0));
}
CudaCode event_create(void** event) {
  return check(
      cudaEventCreateWithFlags(reinterpret_cast<cudaEvent_t*>(event), cudaEventDisableTiming));
}
CudaCode event_record(void* event, void* stream) {
  return check(cudaEventRecord(as_event(event), as_stream(stream)));
}
CudaCode event_is_done(void* event, bool* done) {
  const BesideCaptures beside;
  const cudaError_t error = cudaEventQuery(as_event(event));
  *done = error == cudaSuccess;
  if (error != cudaErrorNotReady) return check(error);
  cudaGetLastError();  // no failure
  return kCudaOk;
}
CudaCode event_synchronize(void* event) {
  const BesideCaptures beside;
  return check(cudaEventSynchronize(as_event(event)));
}
CudaCode event_destroy(void* event) { return check(cudaEventDestroy(as_event(event))); }

CudaCode alloc(void** memory, int64_t bytes, void* stream) {
  const BesideCaptures beside;
  return check(
      cudaMallocAsync(memory, static_cast<size_t>(bytes > 0 ? bytes : 1), as_stream(stream)));
}
CudaCode free_memory(void* memory, void* stream) {
  return memory == nullptr ? kCudaOk : check(cudaFreeAsync(memory, as_stream(stream)));
}
CudaCode trim() {
  cudaMemPool_t pool;
  const CudaCode code = current_pool(&pool);
  return code != kCudaOk ? code : check(cudaMemPoolTrimTo(pool, 0));
}
CudaCode host_alloc(void** memory, int64_t bytes) {
  const BesideCaptures beside;
  return check(cudaMallocHost(memory, static_cast<size_t>(bytes > 0 ? bytes : 1)));
}
CudaCode host_free(void* memory) {
  const BesideCaptures beside;
  return check(cudaFreeHost(memory));
}

template <cudaMemcpyKind kKind>
CudaCode copy(void* to, const void* from, int64_t bytes, void* stream) {
  if (bytes <= 0) return kCudaOk;
  return check(cudaMemcpyAsync(to, from, static_cast<size_t>(bytes), kKind, as_stream(stream)));
}
CudaCode copy_between(void* to, int32_t to_device, const void* from, int32_t from_device,
                      int64_t bytes, void* stream) {
  if (bytes <= 0) return kCudaOk;
  return check(cudaMemcpyPeerAsync(to, to_device, from, from_device, static_cast<size_t>(bytes),
                                   as_stream(stream)));
}
CudaCode fill_bytes(void* to, int32_t byte, int64_t bytes, void* stream) {
  if (bytes <= 0) return kCudaOk;
  return check(cudaMemsetAsync(to, byte, static_cast<size_t>(bytes), as_stream(stream)));
}

CudaCode capture_begin(void* stream) {
  return check(cudaStreamBeginCapture(as_stream(stream), cudaStreamCaptureModeThreadLocal));
}
CudaCode capture_end(void* stream, void** graph) {
  const BesideCaptures beside;
  cudaGraph_t recorded;
  CudaCode code = check(cudaStreamEndCapture(as_stream(stream), &recorded));
  if (code != kCudaOk) return code;
  code = check(cudaGraphInstantiate(reinterpret_cast<cudaGraphExec_t*>(graph), recorded, 0));
  cudaGraphDestroy(recorded);
  return code;
}
CudaCode stream_capture(void* stream, uint64_t* id) {
  cudaStreamCaptureStatus status;
  unsigned long long capture = 0;
  const CudaCode code = check(cudaStreamGetCaptureInfo(as_stream(stream), &status, &capture));
  *id = code == kCudaOk && status != cudaStreamCaptureStatusNone ? capture : 0;
  return code;
}
CudaCode capture_retain(void* stream, void (*let_go)(void*), void* data) {
  cudaStreamCaptureStatus status;
  unsigned long long capture = 0;
  cudaGraph_t graph = nullptr;
  cudaUserObject_t object;
  CudaCode code = check(cudaStreamGetCaptureInfo(as_stream(stream), &status, &capture, &graph));
  if (code == kCudaOk)
    code = check(cudaUserObjectCreate(&object, data, let_go, 1, cudaUserObjectNoDestructorSync));
  return code != kCudaOk
             ? code
             : check(cudaGraphRetainUserObject(graph, object, 1, cudaGraphUserObjectMove));
}
CudaCode graph_launch(void* graph, void* stream) {
  return check(cudaGraphLaunch(static_cast<cudaGraphExec_t>(graph), as_stream(stream)));
}
CudaCode graph_destroy(void* graph) {
  return check(cudaGraphExecDestroy(static_cast<cudaGraphExec_t>(graph)));
}

#ifndef FASTNN_VERSION
#define FASTNN_VERSION "unknown"
#endif
#define FASTNN_TEXT2(x) #x
#define FASTNN_TEXT(x) FASTNN_TEXT2(x)
#ifdef FASTNN_EMULATOR
constexpr bool kEmulated = true;
constexpr const char* kBuild = "emulator";
#else
constexpr bool kEmulated = false;
constexpr const char* kBuild =
    "nvcc " FASTNN_TEXT(__CUDACC_VER_MAJOR__) "." FASTNN_TEXT(__CUDACC_VER_MINOR__);
#endif

const CudaLibrary& library() {
  // Copied here, since other files' values are no constant expressions.
  static const KernelTable table = {of_dtype(0), of_dtype(1), of_dtype(2), of_dtype(3)};
  static const CudaLibrary library = {
      .abi_version = kCudaAbiVersion,
      .library_size = sizeof(CudaLibrary),
      .kernels_size = sizeof(Kernels),
      .layout_hash = kLayoutHash,
      .build = kBuild,
      .version = FASTNN_VERSION,
      .emulated = kEmulated,
      .kernels = &table,
      .take_error = take_error,
      .device_count = device_count,
      .device_info = device_info,
      .enter_device = enter_device,
      .leave_device = leave_device,
      .stream_create = stream_create,
      .stream_destroy = stream_destroy,
      .stream_synchronize = stream_synchronize,
      .stream_wait = stream_wait,
      .event_create = event_create,
      .event_record = event_record,
      .event_is_done = event_is_done,
      .event_synchronize = event_synchronize,
      .event_destroy = event_destroy,
      .alloc = alloc,
      .free = free_memory,
      .trim = trim,
      .host_alloc = host_alloc,
      .host_free = host_free,
      .copy_to_device = copy<cudaMemcpyHostToDevice>,
      .copy_to_host = copy<cudaMemcpyDeviceToHost>,
      .copy_on_device = copy<cudaMemcpyDeviceToDevice>,
      .copy_between = copy_between,
      .fill_bytes = fill_bytes,
      .capture_begin = capture_begin,
      .capture_end = capture_end,
      .stream_capture = stream_capture,
      .capture_retain = capture_retain,
      .graph_launch = graph_launch,
      .graph_destroy = graph_destroy,
      .blas_folders = blas::set_folders,
      .blas_report = blas::report,
      .blas_path = [](int32_t path) { blas::set_path(static_cast<blas::Path>(path)); },
      .makes_sequence = [](const CudaSequence* shape,
                           void* stream) { return sequence::makes(*shape, stream); },
      .sequence_path = sequence::set_path,
      .sequence_report = sequence::report,
  };
  return library;
}

}  // namespace
}  // namespace fastnn

extern "C" __attribute__((visibility("default"))) const fastnn::CudaLibrary* fastnn_cuda_library() {
  return &fastnn::library();
}
