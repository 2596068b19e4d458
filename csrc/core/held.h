// What a device may still read is kept until an event says that it has: batches in page-locked
// memory, and arrays of other libraries. One queue per device, in the order of the events.
#pragma once
#include <functional>
#include <memory>

#include "cuda.h"

namespace fastnn {

// `let_go` is called, and destroyed, once the event is over; perhaps not before the next call here,
// and on that call's thread.
void hold(Device device, std::shared_ptr<CudaEvent> event, std::function<void()> let_go);
// Waits for the oldest.
void wait_for_held(Device device);
// Lets go of what the devices are done with.
void release_held();

}  // namespace fastnn
