// Capture and replay. While a thread records, every launch also appends itself to a plan, fresh
// arrays come from the plan's private pool, and the plan keeps every storage it touches alive.
// Replay runs the launches again: no Python, no checks, no allocation. Since arguments are POD and
// what changes lives in memory, the second run is the first with other data.
#pragma once
#include <memory>
#include <optional>
#include <unordered_set>
#include <vector>

#include "array.h"
#include "data_errors.h"

namespace fastnn {

// A launch with its types erased.
struct Node {
  using AnyKernel = void (*)();
  using Invoke = void (*)(AnyKernel kernel, const void* args, Slice slice);
  AnyKernel kernel;
  Invoke invoke;
  size_t args;  // offset in the plan's argument bytes
  int64_t tasks;
  bool parallel;
  Device device;
};

class Plan : public std::enable_shared_from_this<Plan> {
 public:
  Plan();
  ~Plan();
  Plan(const Plan&) = delete;

  void begin();  // this thread records into the plan until end(); throws CaptureError if it records
                 // already
  void end();

  // Runs the recorded launches `times` times; stops after a run that set the status word. Returns
  // the number of whole runs.
  int64_t replay(int64_t times);
  // Throws ValueError if the status word is set, and clears it.
  void raise_data_error();
  // False when somebody let go of a storage that the plan reads: the recording is stale.
  bool is_current() const;

  void append(Node node, const void* args, size_t bytes);
  void retain(const StoragePtr& storage);        // something that others hold too
  void own(const StoragePtr& storage);           // something that only the plan needs
  void keep(std::shared_ptr<const void> other);  // whose memory the launches use
  int32_t add_site(Describe describe);

  size_t num_nodes() const { return nodes_.size(); }
  // A plan is of the CPU and one CUDA device, the first that it meets; throws CaptureError for
  // another.
  const std::shared_ptr<Pool>& pool(Device device = Device::kCpu);
  Status* status(Device device);

 private:
  // What a plan has on a CUDA device.
  struct OnCuda {
    Device device;
    std::shared_ptr<Pool> pool;
    StatusWord status;
  };
  OnCuda& on_cuda(Device device);
  void run_once() const;
  int64_t run_into(Plan& captured, int64_t times);

  std::vector<Node> nodes_;
  int64_t cpu_nodes_ = 0;
  std::shared_ptr<void> graph_;  // of a plan whose launches are all CUDA's, from its first replay
  std::vector<std::max_align_t> args_;
  std::vector<StoragePtr> storages_, owned_;
  std::unordered_set<const Storage*> seen_;
  std::vector<std::shared_ptr<const void>> kept_;
  std::vector<Describe> sites_;
  std::shared_ptr<Pool> pool_;
  StatusWord status_{Device::kCpu};
  std::optional<OnCuda> cuda_;
};

Plan* current_plan();  // the plan this thread records into, or null
// Also while another library captures the thread's stream (stream.h): then its graph's plan does.
void retain_while_recording(const StoragePtr& storage);
// Throws CaptureError naming `call`, which a recording cannot hold.
void refuse_while_recording(const char* call);

}  // namespace fastnn
