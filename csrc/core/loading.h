// Threads that prepare data count against the pool's budget while they work: between these calls
// the pool runs on one thread less, and what the calling thread launches runs on it alone.
#pragma once

namespace fastnn {

void begin_loading();
void end_loading();

}  // namespace fastnn
