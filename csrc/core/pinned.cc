// Copies under way are a queue: one stream reads them in order.
#include "pinned.h"

#include <deque>

#include "cuda.h"
#include "dispatch.h"

namespace fastnn {
namespace {

constexpr size_t kMostUnderWay = 8;  // so that the host does not run ahead of its memory

struct Copy {
  StoragePtr from;
  std::shared_ptr<void> event;
};
struct UnderWay {
  std::mutex mutex;
  std::deque<Copy> copies;
};
UnderWay& under_way() {
  static auto* all = new UnderWay;
  return *all;
}

}  // namespace

const std::shared_ptr<Pool>& pinned_pool() {
  static const auto* pool = new std::shared_ptr<Pool>(
      std::make_shared<Pool>(MemorySource{cuda_allocate_host, cuda_free_host}));
  return *pool;
}

Array empty_pinned(const Shape& shape, DType dtype, Device) {
  release_copied();
  return from_pool(shape, dtype, Device::kCpu, pinned_pool());
}

void copy_later(const Array& from, const Array& to) {
  if (from.bytes() == 0) return;
  UnderWay& all = under_way();
  std::shared_ptr<void> oldest;
  {
    const std::lock_guard lock(all.mutex);
    all.copies.push_back(
        {from.storage, cuda_copy_later(to.storage->data, from.storage->data, from.bytes())});
    if (all.copies.size() > kMostUnderWay) oldest = all.copies.front().event;
  }
  if (oldest != nullptr) {
    const InterpreterReleased released;
    cuda_wait(oldest.get());
  }
  release_copied();
}

void release_copied() {
  UnderWay& all = under_way();
  std::deque<Copy> read;  // let go of outside the lock: a lent buffer may need the interpreter's
  const std::lock_guard lock(all.mutex);
  while (!all.copies.empty() && cuda_is_done(all.copies.front().event.get())) {
    read.push_back(std::move(all.copies.front()));
    all.copies.pop_front();
  }
}

}  // namespace fastnn
