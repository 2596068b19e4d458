// Page-locked memory of the host: a device copies from it while the host goes on. Its blocks are
// kept when they are freed, since locking pages costs more than any copy.
#pragma once
#include <memory>

#include "array.h"

namespace fastnn {

// The pool of the process, never destroyed. Throws CudaError where there is no CUDA.
const std::shared_ptr<Pool>& pinned_pool();

// Such memory for an array of the CPU. A function like empty(), for who takes either.
Array empty_pinned(const Shape& shape, DType dtype, Device device = Device::kCpu);

// Copies to a device and does not wait for it: `from` is held until an event on the stream says
// that it was read, so its memory is not given to anybody before. Of memory that is not
// page-locked, what is read is what is there now.
void copy_later(const Array& from, const Array& to);

// The same by way of page-locked memory: `from` may be changed at once. For what is small.
void copy_staged(const Array& from, const Array& to);

}  // namespace fastnn
