// Size classes: multiples of 64 bytes up to 1 KiB, then four per power of two, so that at most a
// quarter of a block is waste and freed blocks of nearby sizes are found again.
#include "allocator.h"

#include <sys/mman.h>

#include <bit>
#include <cstdlib>

#include "check.h"

namespace fastnn {
namespace {

constexpr size_t kHugePage = size_t{2} << 20;
constexpr size_t kMaxBytes = size_t{1} << 46;

size_t size_class(size_t bytes) {
  if (bytes <= 1024)
    return bytes == 0 ? kAlignment : (bytes + kAlignment - 1) / kAlignment * kAlignment;
  const size_t step = std::bit_floor(bytes - 1) / 4;
  return (bytes + step - 1) / step * step;
}

void* system_allocate(size_t bytes, int) {
  const bool huge = bytes >= kHugePage;
  const size_t alignment = huge ? kHugePage : kAlignment;
  void* block = std::aligned_alloc(alignment, (bytes + alignment - 1) / alignment * alignment);
  if (block != nullptr && huge) madvise(block, bytes, MADV_HUGEPAGE);
  return block;
}

}  // namespace

const MemorySource kSystemMemory{system_allocate, [](void* block, int) { std::free(block); }};

Pool::~Pool() { trim(); }

void* Pool::allocate(size_t bytes) {
  check<OutOfMemory>(bytes <= kMaxBytes, "allocate: expected at most 2^46 bytes, got ", bytes);
  const std::lock_guard lock(mutex_);
  const size_t size = size_class(bytes);
  void* block = nullptr;
  auto& blocks = free_[size];
  if (!blocks.empty()) {
    block = blocks.back();
    blocks.pop_back();
    cached_bytes_ -= size;
  } else {
    block = source_.allocate(size, source_.device);
    check<OutOfMemory>(block != nullptr, "allocate: the system has no ", size, " bytes left (",
                       live_bytes_, " bytes are in live arrays)");
    ++system_allocations_;
  }
  ++live_blocks_;
  live_bytes_ += size;
  return block;
}

void Pool::release(void* block, size_t bytes) {
  const std::lock_guard lock(mutex_);
  const size_t size = size_class(bytes);
  free_[size].push_back(block);
  cached_bytes_ += size;
  --live_blocks_;
  live_bytes_ -= size;
}

void Pool::trim() {
  const std::lock_guard lock(mutex_);
  for (auto& [size, blocks] : free_)
    for (void* block : blocks) source_.free(block, source_.device);
  free_.clear();
  cached_bytes_ = 0;
}

const std::shared_ptr<Pool>& process_pool() {
  static const auto* pool = new std::shared_ptr<Pool>(std::make_shared<Pool>());
  return *pool;
}

}  // namespace fastnn
