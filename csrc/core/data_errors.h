// What launches report about their data (labels out of range, gradients that are not finite), and
// when the host looks. A recording's launches report to its plan (capture.h). Of the others, those
// of the CPU are looked at by their call. For a CUDA device nobody waits: what was reported stays
// in this thread's status word, so that updates change nothing, until the host sees it: in the next
// call that reports, if the device has come so far, and at the latest when the thread reads from
// the device or synchronises with it. Invariant: the first report in the order of the calls is the
// one that is raised, once; what was reported after it goes with it.
#pragma once
#include <functional>
#include <string>

#include "../kernels/status.h"
#include "array.h"

namespace fastnn {

// One status word in the memory of a device.
class StatusWord {
 public:
  explicit StatusWord(Device device) : device_(device) {}
  Status* pointer();  // allocates and clears on first use
  uint64_t value() const;
  void clear();

 private:
  Device device_;
  Status host_{kStatusOk};
  StoragePtr cuda_;
};

// Says in words what a kernel reported.
using Describe = std::function<std::string(DataError code, int64_t index)>;

class UnseenReports;

// Where a launch reports. Throws ValueError, before the launch, what the thread's launches before
// reported to the same device, if that is known by now.
class StatusSite {
 public:
  StatusSite(Device device, Describe describe);
  Status* status() const { return status_; }
  int32_t site() const { return site_; }
  void raise() const;  // after the launch: throws what is known of it

 private:
  Describe describe_;
  StatusWord* cpu_ = nullptr;
  UnseenReports* cuda_ = nullptr;
  Status* status_;
  int32_t site_ = 0;
};

// For launches that report nothing themselves, and change nothing once others have.
Status* current_status(Device device);

// The device tells what this thread's launches so far reported, when it comes to it.
void ask_for_data_errors(Device device);
// Throws ValueError if they reported anything; waits for the device, unless that is known.
void raise_data_errors(Device device);

}  // namespace fastnn
