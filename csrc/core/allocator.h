// Memory for arrays: 64-byte aligned blocks from caches of freed ones, so that a training loop
// stops asking the system after its first step. Large blocks are huge-page aligned and advised:
// page faults, not arithmetic, set the price of large fresh tensors.
#pragma once
#include <cstddef>
#include <cstdint>
#include <memory>
#include <mutex>
#include <unordered_map>
#include <vector>

namespace fastnn {

inline constexpr size_t kAlignment = 64;

// Whom a pool asks for memory.
struct MemorySource {
  void* (*allocate)(size_t bytes, int device);  // null or throws OutOfMemory when there is none
  void (*free)(void* block, int device);
  int device = 0;  // of CUDA, where the memory is one's
};
extern const MemorySource kSystemMemory;

// Where blocks come from and go back to. A plan (capture.h) owns a private pool, so that what is
// freed while recording is reused at the same place of the recording only.
class Pool {
 public:
  explicit Pool(MemorySource source = kSystemMemory) : source_(source) {}
  Pool(const Pool&) = delete;
  ~Pool();

  void* allocate(size_t bytes);             // throws OutOfMemory
  void release(void* block, size_t bytes);  // bytes as asked for
  void trim();                              // gives the cached blocks back to the system

  size_t live_blocks() const { return locked(live_blocks_); }
  size_t live_bytes() const { return locked(live_bytes_); }
  size_t cached_bytes() const { return locked(cached_bytes_); }
  size_t system_allocations() const { return locked(system_allocations_); }

  // Held around fork(), so that the child finds the pool whole.
  std::mutex& mutex() { return mutex_; }

 private:
  size_t locked(const size_t& count) const {
    const std::lock_guard lock(mutex_);
    return count;
  }

  MemorySource source_;
  std::unordered_map<size_t, std::vector<void*>> free_;  // by size class
  mutable std::mutex mutex_;
  size_t live_blocks_ = 0, live_bytes_ = 0, cached_bytes_ = 0, system_allocations_ = 0;
};

// The pool of the process, never destroyed: arrays may outlive static destructors.
const std::shared_ptr<Pool>& process_pool();

}  // namespace fastnn
