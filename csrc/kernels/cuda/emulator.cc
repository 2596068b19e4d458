// The scheduler of the emulator: runs the blocks of a launch one after the other, those of a
// cluster together, and their threads as fibers between one meeting point (barrier, shuffle, vote,
// event) and the next. Within a cluster one block runs as far as it can before another one does.
// Invariant: threads that meet must stand at the same line, all of them; anything else, or an event
// that never comes, is an error that names the lines, never a hang.
#include "emulator.h"

#include <algorithm>
#include <cstdio>
#include <cstdlib>
#include <memory>
#include <mutex>
#include <numeric>
#include <string>
#include <vector>

#include "emulator_fiber.h"
#include "emulator_runtime.h"

namespace fastnn::emulator {
namespace {

// The order of blocks and of threads: forward, reverse, or drawn anew for each round.
class Schedule {
 public:
  Schedule() {
    const char* name = std::getenv("FASTNN_EMULATOR_SCHEDULE");
    const std::string text = name != nullptr ? name : "forward";
    if (text.starts_with("random:")) {
      kind_ = kRandom;
      random_ = std::strtoull(text.c_str() + 7, nullptr, 10) * 0x9E3779B97F4A7C15 + 1;
    } else if (text == "reverse") {
      kind_ = kReverse;
    } else if (text != "forward") {
      std::fprintf(stderr,
                   "FASTNN_EMULATOR_SCHEDULE: expected forward, reverse or random:SEED, got '%s'\n",
                   name);
      std::abort();
    }
  }
  // Whether asynchronous work is done as it is issued.
  bool at_once() { return kind_ == kReverse || (kind_ == kRandom && next() % 2 == 0); }
  // Of `count` pieces of work that wait, the one that is done next.
  size_t pick(size_t count) { return kind_ == kRandom ? next() % count : 0; }
  void order(std::vector<uint32_t>* items) {
    if (kind_ == kForward) return;
    if (kind_ == kReverse) return std::sort(items->rbegin(), items->rend());
    for (size_t i = items->size(); i > 1; --i) std::swap((*items)[i - 1], (*items)[next() % i]);
  }

 private:
  uint64_t next() {  // xorshift64*
    random_ ^= random_ >> 12, random_ ^= random_ << 25, random_ ^= random_ >> 27;
    return (random_ * 0x2545F4914F6CDD1D) >> 16;
  }
  enum { kForward, kReverse, kRandom } kind_ = kForward;
  uint64_t random_ = 1;
};

struct Thread {
  Fiber* fiber = nullptr;  // null before the first step and after the last one
  bool done = false;
  Wait wait;
};

bool same_place(const Location& a, const Location& b) {
  return a.line() == b.line() && a.column() == b.column() &&
         std::strcmp(a.file_name(), b.file_name()) == 0;
}

dim3 place_in(dim3 size, uint32_t index) {
  return {index % size.x, index / size.x % size.y, index / size.x / size.y};
}

// The blocks that run together: one, or those of a cluster, whose threads follow one another.
class Blocks {
 public:
  // Runs `count` blocks from `first` on to their end; returns an error text, empty if all is well.
  std::string run(uint32_t first, uint32_t count, const std::function<void()>& body,
                  Schedule* schedule) {
    body_ = &body;
    first_ = first, count_ = count;
    size_ = blockDim.x * blockDim.y * blockDim.z;
    threads_.assign(size_t{count} * size_, Thread());
    order_.resize(threads_.size());
    std::iota(order_.begin(), order_.end(), 0);
    next_fresh_ = 0;
    schedule_ = schedule;
    work_.clear();
    fault_.clear();
    schedule->order(&order_);
    std::string error = rounds(schedule);
    if (error.empty() && !work_.empty()) error = "asynchronous work was left as the block ended";
    if (!error.empty()) {  // the fibers in flight are lost: their stacks are used again
      idle_.clear();
      for (auto& fiber : fibers_) fiber->start(&Blocks::work), idle_.push_back(fiber.get());
    }
    return error;
  }

  void later(std::function<void()> work) {
    if (at_once()) return work();
    work_.push_back(std::move(work));
  }
  bool at_once() { return schedule_->at_once(); }
  void fault(const std::string& what) {
    if (fault_.empty()) fault_ = name_of(current_) + ": " + what;
  }
  uint32_t size() const { return count_; }
  uint32_t rank() const { return current_ / size_; }
  bool has_ended(uint32_t rank) const {
    const auto begin = threads_.begin() + int64_t{rank} * size_;
    return std::all_of(begin, begin + size_, [](const Thread& t) { return t.done; });
  }
  void finish_work() {
    while (!work_.empty()) do_one();
  }

  const Wait& wait(const Wait& request) {
    Thread& thread = threads_[current_];
    thread.wait = request;
    const uint32_t index = current_;
    thread.fiber->yield();
    return threads_[index].wait;
  }

 private:
  std::string rounds(Schedule* schedule) {
    while (next_fresh_ < order_.size()) resume(idle_fiber(), nullptr);
    for (;;) {
      if (!fault_.empty()) return fault_;
      std::vector<uint32_t> ready = release();
      if (!work_.empty() && (ready.empty() || schedule->at_once())) {
        do_one();
        if (ready.empty()) continue;
      }
      if (ready.empty()) return blocked();
      if (count_ > 1) keep_one_block(&ready);
      schedule->order(&ready);
      for (const uint32_t t : ready) {
        enter(t);
        resume(threads_[t].fiber, &threads_[t]);
      }
    }
  }

  void do_one() {
    const auto next = work_.begin() + static_cast<int64_t>(schedule_->pick(work_.size()));
    const std::function<void()> work = std::move(*next);
    work_.erase(next);
    work();
  }

  // Of the threads that may go on, those of the schedule's first block.
  void keep_one_block(std::vector<uint32_t>* ready) {
    std::vector<uint32_t> ranks;
    for (const uint32_t t : *ready)
      if (std::find(ranks.begin(), ranks.end(), t / size_) == ranks.end())
        ranks.push_back(t / size_);
    std::sort(ranks.begin(), ranks.end());
    schedule_->order(&ranks);
    std::erase_if(*ready, [&](uint32_t t) { return t / size_ != ranks.front(); });
  }

  Fiber* idle_fiber() {
    if (idle_.empty()) {
      fibers_.push_back(std::make_unique<Fiber>());
      fibers_.back()->start(&Blocks::work);
      idle_.push_back(fibers_.back().get());
    }
    Fiber* fiber = idle_.back();
    idle_.pop_back();
    return fiber;
  }
  void resume(Fiber* fiber, const Thread* thread) {
    running_ = fiber;
    if (thread == nullptr || !thread->done) fiber->resume();
  }

  // The life of a fiber: it takes fresh threads and runs them, one after the other, until one of
  // them has to wait. So a kernel without barriers costs one switch per block.
  static void work() {
    Blocks& self = blocks();
    self.running_->arrived();
    for (;;) {
      Fiber* fiber = self.running_;
      while (self.next_fresh_ < self.order_.size()) {
        const uint32_t index = self.order_[self.next_fresh_++];
        self.threads_[index].fiber = fiber;
        self.enter(index);
        (*self.body_)();
        self.threads_[self.current_].done = true;
        self.threads_[self.current_].fiber = nullptr;
      }
      self.idle_.push_back(fiber);
      fiber->yield();
    }
  }
  void enter(uint32_t index) {
    current_ = index;
    threadIdx = place_in(blockDim, index % size_);
    blockIdx = place_in(gridDim, first_ + index / size_);
  }

  // The threads that may go on, since all they have to meet have come.
  std::vector<uint32_t> release() {
    std::vector<uint32_t> ready;
    for (uint32_t warp = 0; warp < threads_.size(); warp += 32) release_warp(warp, &ready);
    for (uint32_t t = 0; t < threads_.size(); ++t) {
      const Wait& wait = threads_[t].wait;
      if (!threads_[t].done && wait.kind == Wait::kEvent && wait.happened(wait.object, wait.value))
        ready.push_back(t);
    }
    for (uint32_t rank = 0; rank < count_; ++rank) {
      const uint32_t begin = rank * size_;
      const auto own = [&](uint32_t t) { return t / size_ == rank; };
      if (!all_at_barrier(begin) || std::any_of(ready.begin(), ready.end(), own)) continue;
      for (uint32_t t = begin; t < begin + size_; ++t) ready.push_back(t);
    }
    return ready;
  }

  // A thread that has returned does not count for a shuffle, as on the device.
  void release_warp(uint32_t warp, std::vector<uint32_t>* ready) {
    const uint32_t lanes = std::min<uint32_t>(32, static_cast<uint32_t>(threads_.size()) - warp);
    uint32_t checked = 0, go = 0;
    for (uint32_t lane = 0; lane < lanes; ++lane) {
      const Thread& thread = threads_[warp + lane];
      if (thread.done || thread.wait.kind != Wait::kWarp || (checked >> lane & 1) != 0) continue;
      const uint32_t mask = thread.wait.mask;
      checked |= mask;
      bool complete = (mask >> lane & 1) != 0;
      for (uint32_t l = 0; l < lanes; ++l) {
        const Thread& other = threads_[warp + l];
        if ((mask >> l & 1) == 0 || other.done) continue;
        complete = complete && other.wait.kind == Wait::kWarp && other.wait.mask == mask &&
                   same_place(other.wait.where, thread.wait.where);
      }
      if (complete) go |= mask, meet(warp, lanes, mask);
    }
    for (uint32_t lane = 0; lane < lanes; ++lane)
      if ((go >> lane & 1) != 0 && !threads_[warp + lane].done) ready->push_back(warp + lane);
  }

  void meet(uint32_t warp, uint32_t lanes, uint32_t mask) {
    uint32_t ballot = 0;
    const auto present = [&](uint32_t l) {
      return l < lanes && (mask >> l & 1) != 0 && !threads_[warp + l].done;
    };
    for (uint32_t l = 0; l < lanes; ++l)
      if (present(l) && threads_[warp + l].wait.value != 0) ballot |= 1u << l;
    for (uint32_t l = 0; l < lanes; ++l) {
      if (!present(l)) continue;
      Wait& wait = threads_[warp + l].wait;
      // The value of a lane that is not there is undefined.
      wait.result = present(wait.source) ? threads_[warp + wait.source].wait.value : ~uint64_t{0};
      wait.ballot = ballot;
    }
  }

  bool all_at_barrier(uint32_t begin) const {
    const auto at = threads_.begin() + begin;
    return std::all_of(at, at + size_, [&](const Thread& t) {
      return !t.done && t.wait.kind == Wait::kBlock && same_place(t.wait.where, at->wait.where);
    });
  }
  std::string name_of(uint32_t thread) const {
    const std::string name = "thread " + std::to_string(thread % size_);
    return count_ == 1 ? name : name + " of rank " + std::to_string(thread / size_);
  }
  std::string text_of(uint32_t thread, const Wait& wait) const {
    const std::string file = wait.where.file_name();
    return name_of(thread) + " at " + file.substr(file.rfind('/') + 1) + ":" +
           std::to_string(wait.where.line());
  }

  // Nobody can go on: all have returned, or they wait for each other.
  std::string blocked() const {
    uint32_t waiting = 0;
    while (waiting < threads_.size() && threads_[waiting].done) ++waiting;
    if (waiting == threads_.size()) return "";
    const Wait& wait = threads_[waiting].wait;
    if (wait.kind == Wait::kEvent) return text_of(waiting, wait) + " waits for what never comes";
    const std::string what =
        std::string(wait.kind == Wait::kBlock ? "__syncthreads" : "warp operation") +
        ": divergent: " + text_of(waiting, wait);
    const uint32_t begin = waiting / size_ * size_;
    for (uint32_t t = begin; t < begin + size_; ++t) {
      if (threads_[t].done && wait.kind == Wait::kBlock)
        return what + " waits for " + name_of(t) + ", which has returned";
      const bool meets = !threads_[t].done && threads_[t].wait.kind == wait.kind &&
                         threads_[t].wait.mask == wait.mask &&
                         same_place(threads_[t].wait.where, wait.where);
      if (!threads_[t].done && !meets) return what + " waits for " + text_of(t, threads_[t].wait);
    }
    return what + " does not take part itself";
  }

 public:
  static Blocks& blocks() {
    static Blocks blocks;
    return blocks;
  }

 private:
  const std::function<void()>* body_ = nullptr;
  uint32_t first_ = 0, count_ = 1, size_ = 1;  // the blocks; threads of each
  std::vector<Thread> threads_;
  std::vector<uint32_t> order_;
  size_t next_fresh_ = 0;
  uint32_t current_ = 0;
  Schedule* schedule_ = nullptr;
  std::vector<std::function<void()>> work_;
  std::string fault_;
  Fiber* running_ = nullptr;
  std::vector<std::unique_ptr<Fiber>> fibers_;
  std::vector<Fiber*> idle_;
};

std::mutex mutex;  // one launch at a time: threadIdx and the fibers are shared
uint64_t serial = 0;
struct Free {
  void operator()(void* memory) const { std::free(memory); }
};
std::vector<std::unique_ptr<void, Free>> dynamic_memory;  // of each block that runs
size_t dynamic_bytes = 0;

// Poisoned; false if there is none.
bool take_dynamic_memory(uint32_t blocks, size_t bytes) {
  dynamic_memory.clear();
  dynamic_bytes = bytes;
  for (uint32_t i = 0; i < blocks; ++i) {
    void* memory = nullptr;
    if (bytes != 0 && posix_memalign(&memory, 1024, bytes) != 0) return false;
    dynamic_memory.emplace_back(memory == nullptr ? nullptr : std::memset(memory, 0xff, bytes));
  }
  return true;
}

bool is_valid(dim3 grid, dim3 block, uint32_t cluster, size_t shared_bytes) {
  const uint64_t threads = uint64_t{block.x} * block.y * block.z;
  if (threads == 0 || threads > 1024 || shared_bytes > (227 << 10)) return false;
  if (grid.x == 0 || grid.x > 0x7fffffff || grid.y > 65535 || grid.z > 65535 ||
      grid.y * grid.z == 0)
    return false;
  // Blocks of a cluster have whole warps here.
  return cluster == 1 || (cluster != 0 && cluster <= 16 && grid.x % cluster == 0 &&
                          threads % 32 == 0 && grid.y * grid.z == 1);
}

}  // namespace

const Wait& wait(const Wait& request) { return Blocks::blocks().wait(request); }
void later(std::function<void()> work) { Blocks::blocks().later(std::move(work)); }
bool at_once() { return Blocks::blocks().at_once(); }
void fault(const std::string& what) { Blocks::blocks().fault(what); }
void finish_work() { Blocks::blocks().finish_work(); }
uint32_t cluster_size() { return Blocks::blocks().size(); }
uint32_t cluster_rank() { return Blocks::blocks().rank(); }
bool has_ended(uint32_t rank) { return Blocks::blocks().has_ended(rank); }
void* dynamic_shared_of(uint32_t rank) { return dynamic_memory[rank].get(); }
void* dynamic_shared() { return dynamic_shared_of(cluster_rank()); }
size_t dynamic_shared_bytes() { return dynamic_bytes; }
uint64_t block_serial() { return serial; }

std::string run(dim3 grid, dim3 block, uint32_t cluster, size_t shared_bytes,
                const std::function<void()>& body) {
  const std::lock_guard<std::mutex> lock(mutex);
  if (!is_valid(grid, block, cluster, shared_bytes)) return "invalid configuration argument";
  Schedule schedule;
  if (last_block_of != 0) grid.x = last_block_of;
  std::vector<uint32_t> clusters(last_block_of != 0 ? 1
                                                    : size_t{grid.x} * grid.y * grid.z / cluster);
  std::iota(clusters.begin(), clusters.end(), last_block_of != 0 ? last_block_of - 1 : 0);
  schedule.order(&clusters);
  gridDim = grid;
  blockDim = block;
  for (const uint32_t c : clusters) {
    ++serial;
    if (!take_dynamic_memory(cluster, shared_bytes)) return "out of memory";
    std::string error = Blocks::blocks().run(c * cluster, cluster, body, &schedule);
    if (!error.empty()) return error;
  }
  return "";
}

}  // namespace fastnn::emulator
