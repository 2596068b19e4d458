// The CUDA library as the core sees it: loaded on first use, or absent with a reason. Nothing here
// needs a CUDA header or a driver.
#pragma once
#include <functional>
#include <memory>
#include <string>

#include "array.h"

namespace fastnn {

struct CudaLibrary;
struct CudaSequence;

// Loads the library once. Null when it cannot be used; cuda_reason() then says exactly why.
const CudaLibrary* cuda_library();
std::string cuda_reason();
std::string cuda_description();                   // device name and build, when available
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
CudaBlasReport cuda_blas_report();
// Whether a recurrent layer is one launch; who makes them from now on; and what info() tells.
bool cuda_makes_sequence(const CudaSequence& shape);
void set_cuda_sequence_path(int32_t path);
struct CudaSequenceReport {
  std::string reason;
  int64_t made;
  std::string refused;
};
CudaSequenceReport cuda_sequence_report();

// All throw CudaError with the reason when there is no usable library.
const KernelTable& cuda_kernels();
void* cuda_stream();
void* cuda_allocate(size_t bytes);
void cuda_free(void* data) noexcept;
enum class CudaCopy { kToDevice, kToHost, kOnDevice };
void cuda_copy_bytes(void* to, const void* from, size_t bytes, CudaCopy kind);  // synchronous
// Page-locked memory of the host.
void* cuda_allocate_host(size_t bytes);
void cuda_free_host(void* data) noexcept;
// Copies to the device when the stream comes to it. Returns the event after it.
std::shared_ptr<void> cuda_copy_later(void* to, const void* from, size_t bytes);
bool cuda_is_done(void* event);
void cuda_wait(void* event);
void cuda_raise_after_launch(const char* op);
// The launches of `work` as one graph: recorded, not run.
std::shared_ptr<void> cuda_graph(const std::function<void()>& work);
void cuda_launch_graph(void* graph);

}  // namespace fastnn
