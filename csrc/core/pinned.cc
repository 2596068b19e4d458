// The pool, and copies from it.
#include "pinned.h"

#include "cuda.h"
#include "dispatch.h"
#include "held.h"
#include "stream.h"

namespace fastnn {
namespace {

constexpr size_t kMostUnderWay = 8;  // so that the host does not run ahead of its memory

}  // namespace

const std::shared_ptr<Pool>& pinned_pool() {
  static const auto* pool = new std::shared_ptr<Pool>(std::make_shared<Pool>(
      MemorySource{[](size_t bytes, int) { return cuda_allocate_host(bytes); },
                   [](void* block, int) { cuda_free_host(block); }}));
  return *pool;
}

Array empty_pinned(const Shape& shape, DType dtype, Device) {
  release_held();
  return from_pool(shape, dtype, Device::kCpu, pinned_pool());
}

void copy_later(const Array& from, const Array& to) {
  if (from.bytes() == 0) return;
  refuse_while_captured(to.device(), "a copy between host and device");
  auto event = cuda_copy_later({to.storage->data, to.device()}, from.storage->data, from.bytes());
  hold(to.device(), std::move(event), [kept = from.storage] {});
  wait_for_held(to.device(), kMostUnderWay);
}

}  // namespace fastnn
