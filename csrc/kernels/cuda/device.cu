// Which device a thread works on. A device's primary context, which is the runtime's, is made when
// the device is first entered, and kept.
#include <mutex>

#include "device.h"
#include "driver.h"

namespace fastnn::device {
namespace {

// The driver's codes are the runtime's.
cudaError_t checked(CUresult result) { return static_cast<cudaError_t>(result); }

cudaError_t primary(int32_t device, CUcontext* context) {
  static const auto retain = FASTNN_DRIVER_FUNCTION(cuDevicePrimaryCtxRetain, 7000);
  static auto* contexts = new std::array<CUcontext, kMax>{};
  static std::mutex mutex;
  if (device < 0 || device >= kMax) return cudaErrorInvalidDevice;
  const std::lock_guard lock(mutex);
  CUcontext& made = (*contexts)[static_cast<size_t>(device)];
  const cudaError_t error = made == nullptr ? checked(retain(&made, device)) : cudaSuccess;
  *context = made;
  return error;
}

}  // namespace

cudaError_t enter(int32_t device, bool* entered) {
  static const auto get = FASTNN_DRIVER_FUNCTION(cuCtxGetCurrent, 4000);
  static const auto push = FASTNN_DRIVER_FUNCTION(cuCtxPushCurrent, 4000);
  *entered = false;
  CUcontext wanted = nullptr, now = nullptr;
  cudaError_t error = primary(device, &wanted);
  if (error == cudaSuccess) error = checked(get(&now));
  if (error != cudaSuccess || now == wanted) return error;
  error = checked(push(wanted));
  *entered = error == cudaSuccess;
  return error;
}

cudaError_t leave() {
  static const auto pop = FASTNN_DRIVER_FUNCTION(cuCtxPopCurrent, 4000);
  CUcontext left;
  return checked(pop(&left));
}

}  // namespace fastnn::device
