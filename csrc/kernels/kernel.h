// What a kernel is: `void(const Args&, Slice)`. Args are POD, so that a launch can be recorded and
// replayed, and whatever changes from step to step (step count, learning rate, RNG offset, batch)
// lives in memory the Args point to. The number of tasks is a function of shape only (slice.h,
// gemm_plan.h).
#pragma once
#include <cstdint>

#include "slice.h"
#include "status.h"

namespace fastnn {

enum class DType : uint8_t { kFloat32, kBFloat16, kFloat16, kUInt8, kInt64 };
inline constexpr int kNumTableDTypes = 4;  // int64 has no table: labels and indices are arguments

template <class Args>
using Kernel = void (*)(const Args&, Slice);

}  // namespace fastnn
