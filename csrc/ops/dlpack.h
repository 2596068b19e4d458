// DLPack (https://dmlc.github.io/dlpack, version 1.3): the standard's structs, and what arrays of
// other libraries become. Invariant: an array of another library keeps its owner until the last use
// that was launched is over.
#pragma once
#include "common.h"

namespace fastnn {

struct DLDevice {
  int32_t type, id;
};
struct DLDataType {
  uint8_t code, bits;
  uint16_t lanes;
};
struct DLTensor {
  void* data;
  DLDevice device;
  int32_t ndim;
  DLDataType dtype;
  int64_t *shape, *strides;
  uint64_t byte_offset;
};
struct DLManagedTensor {
  DLTensor tensor;
  void* context;
  void (*deleter)(DLManagedTensor*);
};
struct DLManagedTensorVersioned {
  uint32_t major, minor;
  void* context;
  void (*deleter)(DLManagedTensorVersioned*);
  uint64_t flags;
  DLTensor tensor;
};
inline constexpr int32_t kDLCpu = 1, kDLCuda = 2, kDLCudaHost = 3;
inline constexpr uint64_t kDLReadOnly = 1, kDLIsCopied = 2;

// Functions of a library for arrays of a type, which its attribute __dlpack_c_exchange_api__ has in
// a capsule. They return 0, or have set a Python error.
struct DLExchangeApi {
  uint32_t major, minor;
  const DLExchangeApi* previous;
  int (*allocate)(DLTensor* like, DLManagedTensorVersioned** out, void* context,
                  void (*set_error)(void* context, const char* kind, const char* message));
  int (*to_managed)(void* object, DLManagedTensorVersioned** out);
  int (*from_managed)(DLManagedTensorVersioned* tensor, void** object);
  int (*to_tensor)(void* object, DLTensor* out);
  int (*current_stream)(int32_t device_type, int32_t device_id, void** stream);
};

// The array that shares the memory of an object whose type has these functions, without a call of
// Python. Nothing where there are none, or where the memory has to be converted.
std::optional<Array> from_exchange(PyObject* object);

}  // namespace fastnn
