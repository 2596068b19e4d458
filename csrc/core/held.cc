// A later event of the same device cannot be over before an earlier one is asked: what comes out of
// order is only kept a little longer.
#include "held.h"

#include <deque>
#include <map>
#include <mutex>
#include <vector>

#include "dispatch.h"

namespace fastnn {
namespace {

struct Held {
  std::shared_ptr<CudaEvent> event;
  std::function<void()> let_go;
};
struct Queues {
  std::mutex mutex;
  std::map<int, std::deque<Held>> of;  // by device
};
Queues& queues() {
  static auto* all = new Queues;
  return *all;
}

}  // namespace

void hold(Device device, std::shared_ptr<CudaEvent> event, std::function<void()> let_go) {
  {
    const std::lock_guard lock(queues().mutex);
    queues().of[device.index()].push_back({std::move(event), std::move(let_go)});
  }
  release_held();
}

void wait_for_held(Device device) {
  std::shared_ptr<CudaEvent> oldest;
  {
    const std::lock_guard lock(queues().mutex);
    const std::deque<Held>& queue = queues().of[device.index()];
    if (!queue.empty()) oldest = queue.front().event;
  }
  if (oldest == nullptr) return;
  {
    const InterpreterReleased released;
    oldest->wait();
  }
  release_held();
}

void release_held() {
  std::vector<Held> over;
  {
    const std::lock_guard lock(queues().mutex);
    for (auto& [device, queue] : queues().of)
      while (!queue.empty() && queue.front().event->is_done()) {
        over.push_back(std::move(queue.front()));
        queue.pop_front();
      }
  }
  for (const Held& it : over) it.let_go();  // outside the lock: it may need the interpreter's
}

}  // namespace fastnn
