// The streams that a thread's work goes to: fastnn's own, or one of another library. Invariant: a
// thread's work is one order whatever streams carry it, by events; memory that is given back is
// behind all streams that threads work on; and what another library captures is a plan of its own,
// which lives as long as the graph.
#pragma once
#include <cstdint>
#include <functional>
#include <memory>

#include "array.h"

namespace fastnn {

class Plan;

inline constexpr int64_t kLegacyStream = 1;  // the handle that others write as 0

// This thread's work on the device goes to `stream` from now on, which waits for what the thread
// gave before; returns where that went.
void* switch_stream(Device device, void* stream);

// `second` waits for what `first` was given. Within a capture both must be in it: between streams
// of which one is captured there is no order, and nothing happens.
void order_streams(Device device, void* first, void* second);
// The same where one stream is another library's, who relies on it: throws CaptureError, for
// `call`, where one is captured and the other is not in that capture.
void order_with(const char* call, Device device, void* first, void* second);

// What another library that captures this thread's stream has of ours: memory, and what launches
// read. Null where nobody does.
Plan* captured_plan(Device device);
bool is_captured(Device device);
// Throws CaptureError where somebody does: it would not be repeated by the graph.
void refuse_while_captured(Device device, const char* what);
void refuse_while_captured(const char* what);  // of any device

// Calls `let_go` when all work that any thread has given to the device so far is done; perhaps not
// before something else is held, copied or waited for.
void hold_until_used(Device device, std::function<void()> let_go) noexcept;
// fastnn's own stream waits for all others that threads work on: for memory that is given back.
void join_streams(Device device);

// It waits for the legacy default stream, where another library may still read.
void join_legacy_stream(Device device) noexcept;

// While it lives, this thread's work goes to fastnn's own stream, if `when`, and in no order with
// the one before: what is done at once beside a capture.
class OwnStream {
 public:
  OwnStream(Device device, bool when);
  OwnStream(const OwnStream&) = delete;
  ~OwnStream();

 private:
  Device device_;
  void* before_;
};

}  // namespace fastnn
