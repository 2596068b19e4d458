// The current device of a thread, and what is kept by device.
#pragma once
#include <array>
#include <cstdint>

#include "port.h"

namespace fastnn::device {

inline constexpr int kMax = 64;  // kMaxCudaDevices

// By the driver's stack of contexts: unlike cudaSetDevice(), leave() makes no context where the
// thread had none, and puts back one that is not the runtime's.
cudaError_t enter(int32_t device, bool* entered);
cudaError_t leave();

inline int current() {
  int device = 0;
  cudaGetDevice(&device);
  return device;
}

// A T for each device.
template <class T>
class Each {
 public:
  T& here() { return all_[static_cast<size_t>(current())]; }  // of the current device

 private:
  std::array<T, kMax> all_{};
};

}  // namespace fastnn::device
