// What the two halves of the emulator share: emulator.cc runs a launch, emulator_runtime.cc decides
// when. Not for kernels.
#pragma once
#include <functional>
#include <string>

#include "emulator.h"

namespace fastnn::emulator {

// Runs a launch now; returns an error text, empty if all is well.
std::string run(dim3 grid, dim3 block, uint32_t cluster, size_t shared_bytes,
                const std::function<void()>& body);

}  // namespace fastnn::emulator
