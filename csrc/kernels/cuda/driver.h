// Functions of the driver, found at run time, so that nothing is linked that a machine without one
// lacks.
#pragma once
#include "port.h"

#ifdef FASTNN_EMULATOR
#define FASTNN_DRIVER_FUNCTION(name, version) &name
#else
#include <cudaTypedefs.h>

namespace fastnn {

inline void* driver_function(const char* name, unsigned version) {
  void* entry = nullptr;
  cudaDriverEntryPointQueryResult result;
  if (cudaGetDriverEntryPointByVersion(name, &entry, version, cudaEnableDefault, &result) !=
      cudaSuccess)
    cudaGetLastError();
  return entry;
}

}  // namespace fastnn

// As it was in that version of CUDA; null where the driver has none.
#define FASTNN_DRIVER_FUNCTION(name, version) \
  reinterpret_cast<PFN_##name##_v##version>(driver_function(#name, version))
#endif
