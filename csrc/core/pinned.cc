// Copies to a device under way are a queue: one stream reads them in order.
#include "pinned.h"

#include <deque>
#include <map>

#include "cuda.h"
#include "dispatch.h"

namespace fastnn {
namespace {

constexpr size_t kMostUnderWay = 8;  // so that the host does not run ahead of its memory

struct Copy {
  StoragePtr from;
  std::shared_ptr<CudaEvent> event;
};
struct UnderWay {
  std::mutex mutex;
  std::map<int, std::deque<Copy>> copies;  // by device
};
UnderWay& under_way() {
  static auto* all = new UnderWay;
  return *all;
}

}  // namespace

const std::shared_ptr<Pool>& pinned_pool() {
  static const auto* pool = new std::shared_ptr<Pool>(std::make_shared<Pool>(
      MemorySource{[](size_t bytes, int) { return cuda_allocate_host(bytes); },
                   [](void* block, int) { cuda_free_host(block); }}));
  return *pool;
}

Array empty_pinned(const Shape& shape, DType dtype, Device) {
  release_copied();
  return from_pool(shape, dtype, Device::kCpu, pinned_pool());
}

void copy_later(const Array& from, const Array& to) {
  if (from.bytes() == 0) return;
  UnderWay& all = under_way();
  std::shared_ptr<CudaEvent> oldest;
  {
    const std::lock_guard lock(all.mutex);
    std::deque<Copy>& copies = all.copies[to.device().index()];
    copies.push_back({from.storage, cuda_copy_later({to.storage->data, to.device()},
                                                    from.storage->data, from.bytes())});
    if (copies.size() > kMostUnderWay) oldest = copies.front().event;
  }
  if (oldest != nullptr) {
    const InterpreterReleased released;
    oldest->wait();
  }
  release_copied();
}

void release_copied() {
  UnderWay& all = under_way();
  std::vector<Copy> read;  // let go of outside the lock: a lent buffer may need the interpreter's
  const std::lock_guard lock(all.mutex);
  for (auto& [device, copies] : all.copies)
    while (!copies.empty() && copies.front().event->is_done()) {
      read.push_back(std::move(copies.front()));
      copies.pop_front();
    }
}

}  // namespace fastnn
