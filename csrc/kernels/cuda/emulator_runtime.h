// What the parts of the emulator share: emulator.cc runs a launch, emulator_stream.cc decides when,
// emulator_device.cc knows where, and emulator_runtime.cc has memory and copies. Not for kernels.
#pragma once
#include <functional>
#include <mutex>
#include <string>

#include "emulator.h"

namespace fastnn::emulator {

// Runs a launch now; returns an error text, empty if all is well.
std::string run(dim3 grid, dim3 block, uint32_t cluster, size_t shared_bytes,
                const std::function<void()>& body);

// Notes the thread's first error, for cudaGetLastError(), and returns it.
cudaError_t fail(cudaError_t code, const std::string& text);
// Where CUDA refuses what belongs to another device, and also where it does not, but whoever asks
// has forgotten whose it is.
cudaError_t elsewhere(const char* what);

// ---- streams: emulator_stream.cc ---------------------------------------------------------------
using Work = std::function<void()>;

// Guards streams and memory. Recursive, since work that runs may fail or free.
std::recursive_mutex& runtime_mutex();
using Lock = std::lock_guard<std::recursive_mutex>;
void note_host_wait();  // counted for tests
bool is_lazy();         // FASTNN_EMULATOR_LAZY: work waits until the host does
bool is_captured(cudaStream_t stream);
int device_of(cudaStream_t stream);
void submit(cudaStream_t stream, Work work);
// Fails, and ends the captures that it is in, where a call may not be made while somebody captures.
cudaError_t check_no_capture();

// ---- devices: emulator_device.cc ---------------------------------------------------------------
// FASTNN_EMULATOR_DEVICES of them, 1 unless told otherwise. With more, the memory of a device can
// only be touched by work of that device: anything else ends the process, and says so.
int device_count();
int current_device();  // as the runtime has it: the first call of a thread makes device 0's context

void* allocate_on(int device, size_t bytes);  // null: there is none
void release_on(int device, void* memory, size_t bytes);
inline bool is_here(int device) { return device == current_device(); }
void touch(int device);                          // what follows is work of this device
void touch(const void* one, const void* other);  // or is about these pointers, of devices or not

}  // namespace fastnn::emulator
