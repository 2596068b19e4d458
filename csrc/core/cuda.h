// The CUDA library as the core sees it: loaded on first use, or absent with a reason. Nothing here
// needs a CUDA header or a driver. Invariant: whoever calls it is on the device that the call is
// about, and leaves the thread as it was (OnDevice); no context is made on any other device.
#pragma once
#include <functional>
#include <memory>
#include <string>
#include <string_view>

#include "array.h"

namespace fastnn {

struct CudaLibrary;
struct CudaSequence;

// Loads the library once. Null when it cannot be used; cuda_reason() then says exactly why.
const CudaLibrary* cuda_library();
std::string cuda_reason();
// Device name and build, when available.
std::string cuda_description(Device device);
int64_t cuda_memory_bytes(Device device);
void set_cuda_library_path(std::string path);     // where the wheel fastnn-cuda13 put it
void set_cuda_blas_folders(std::string folders);  // where to look for cuBLASLt, colons between
void set_cuda_blas_path(int32_t path);            // who makes products, as in abi.h
// What cuda::info() tells of products, as in abi.h.
struct CudaBlasReport {
  std::string path, reason;
  int64_t version;
  std::string no_wgmma;
  int64_t by_library, by_wgmma, by_own_tiles;
  std::string refused;
};
CudaBlasReport cuda_blas_report(Device device);
// Whether a recurrent layer is one launch; who makes them from now on; and what info() tells.
bool cuda_makes_sequence(Device device, const CudaSequence& shape);
void set_cuda_sequence_path(int32_t path);
struct CudaSequenceReport {
  std::string reason;
  int64_t made;
  std::string refused;
};
CudaSequenceReport cuda_sequence_report(Device device);

// ---- devices -----------------------------------------------------------------------------------
int cuda_device_count();  // 0 where there is no usable library
// What "cuda" means on this thread: device 0, or what it was set to.
Device current_cuda();
void set_current_cuda(Device device);
Device cuda_device(int64_t index);  // throws ValueError where there is no such device
// "cpu", "cuda" (the current device) or "cuda:1". Throws ValueError for anything else.
Device parse_device(std::string_view name);

// The way to the library: makes a device the thread's current one for CUDA while it lives, and puts
// back what was there, since the caller may be in the middle of another. Where there is one device
// it does nothing.
class OnDevice {
 public:
  explicit OnDevice(Device device);  // throws CudaError with the reason when there is no library
  OnDevice(const OnDevice&) = delete;
  ~OnDevice();
  const CudaLibrary* operator->() const { return library_; }

 private:
  const CudaLibrary* library_;
  bool entered_ = false;
};

// All throw CudaError with the reason when there is no usable library.
const KernelTable& cuda_kernels();
void cuda_check(int32_t code, const char* what);  // throws what the library said, for its CudaCode
void* cuda_own_stream(Device device);             // made on first use
void* cuda_stream(Device device);  // that or another's, where this thread's work goes
void* cuda_allocate(size_t bytes, Device device);
void cuda_free(void* data, Device device) noexcept;
struct Memory {
  void* data;
  Device device;
};
void cuda_fill_bytes(Memory to, uint8_t byte, size_t bytes);
// The host waits for copies to or from it; between devices both streams do; within one nobody does.
// Throws CaptureError for the host's while another library captures the thread's stream.
void cuda_copy_bytes(Memory to, Memory from, size_t bytes);
// Page-locked memory of the host, which all devices know.
void* cuda_allocate_host(size_t bytes);
void cuda_free_host(void* data) noexcept;
void cuda_raise_after_launch(const char* op);
// The launches of `work` as one graph: recorded, not run.
std::shared_ptr<void> cuda_graph(Device device, const std::function<void()>& work);
void cuda_launch_graph(Device device, void* graph);

// A place on the stream of a device.
class CudaEvent {
 public:
  explicit CudaEvent(Device device);
  CudaEvent(const CudaEvent&) = delete;
  ~CudaEvent();
  void record(void* stream = nullptr);  // the thread's, unless it is another
  bool is_done() const;
  void wait() const;  // the host
  // A stream of this or another device: the thread's, unless it is another.
  void hold_back(Device other, void* stream = nullptr) const;

 private:
  Device device_;
  void* event_ = nullptr;
};
// Copies to or from page-locked memory of the host when the stream comes to it. Returns the event
// after it.
std::shared_ptr<CudaEvent> cuda_copy_later(Memory to, Memory from, size_t bytes);

}  // namespace fastnn
