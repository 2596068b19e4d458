// What the parts of the emulator share: emulator.cc runs a launch, emulator_runtime.cc decides
// when, emulator_device.cc knows where. Not for kernels.
#pragma once
#include <functional>
#include <string>

#include "emulator.h"

namespace fastnn::emulator {

// Runs a launch now; returns an error text, empty if all is well.
std::string run(dim3 grid, dim3 block, uint32_t cluster, size_t shared_bytes,
                const std::function<void()>& body);

// Notes the thread's first error, for cudaGetLastError(), and returns it.
cudaError_t fail(cudaError_t code, const std::string& text);

// ---- devices: emulator_device.cc ---------------------------------------------------------------
// FASTNN_EMULATOR_DEVICES of them, 1 unless told otherwise. With more, the memory of a device can
// only be touched by work of that device: anything else ends the process, and says so.
int device_count();
int current_device();  // as the runtime has it: the first call of a thread makes device 0's context

void* allocate_on(int device, size_t bytes);  // null: there is none
void release_on(int device, void* memory, size_t bytes);
void touch(int device);                          // what follows is work of this device
void touch(const void* one, const void* other);  // or is about these pointers, of devices or not

}  // namespace fastnn::emulator
