// One job at a time. `gate` says whether workers may join the job (open bit) and how many have
// (low bits); job fields change only while it is closed and empty.
#include "parallel.h"

#include <pthread.h>
#include <sched.h>

#include <algorithm>
#include <atomic>
#include <cstdlib>
#include <fstream>
#include <thread>
#include <vector>

#include "check.h"
#include "loading.h"
#include "pause.h"

namespace fastnn {
namespace {

constexpr uint64_t kOpen = uint64_t{1} << 63;
constexpr int kSpins = 4000;             // about 30 us: the gap between the launches of one step
constexpr int64_t kRangesPerThread = 4;  // so that one slow core does not hold up the others
constexpr int kMaxThreads = 256;

class ThreadPool {
 public:
  void run(int64_t tasks, TaskRange run, const void* context, int threads) {
    if (busy_.test_and_set(std::memory_order_acquire)) return run(context, 0, tasks);
    start_workers(threads - 1);
    run_ = run;
    context_ = context;
    tasks_ = tasks;
    range_ = std::max<int64_t>(1, tasks / (threads * kRangesPerThread));
    limit_ = threads - 1;
    next_.store(0, std::memory_order_relaxed);
    gate_.store(kOpen, std::memory_order_release);
    epoch_.fetch_add(1, std::memory_order_seq_cst);
    if (sleepers_.load(std::memory_order_seq_cst) > 0) epoch_.notify_all();
    take_ranges();
    gate_.fetch_and(~kOpen, std::memory_order_acq_rel);
    for (int i = 0; gate_.load(std::memory_order_acquire) != 0; ++i)
      i < kSpins ? pause_thread() : std::this_thread::yield();
    busy_.clear(std::memory_order_release);
  }

 private:
  void start_workers(int count) {
    for (; workers_ < count; ++workers_) std::thread(&ThreadPool::work, this, workers_).detach();
  }

  void work(int id) {
    uint32_t seen = 0;
    for (;;) {
      seen = wait_for_job(seen);
      if (id >= limit_.load(std::memory_order_relaxed) || !join()) continue;
      take_ranges();
      gate_.fetch_sub(1, std::memory_order_acq_rel);
    }
  }

  bool join() {
    uint64_t gate = gate_.load(std::memory_order_acquire);
    while (gate & kOpen)
      if (gate_.compare_exchange_weak(gate, gate + 1, std::memory_order_acq_rel)) return true;
    return false;
  }

  uint32_t wait_for_job(uint32_t seen) {
    for (int i = 0; i < kSpins; ++i, pause_thread())
      if (const uint32_t epoch = epoch_.load(std::memory_order_acquire); epoch != seen)
        return epoch;
    sleepers_.fetch_add(1, std::memory_order_seq_cst);
    epoch_.wait(seen, std::memory_order_seq_cst);
    sleepers_.fetch_sub(1, std::memory_order_seq_cst);
    return epoch_.load(std::memory_order_acquire);
  }

  void take_ranges() {
    for (;;) {
      const int64_t begin = next_.fetch_add(range_, std::memory_order_relaxed);
      if (begin >= tasks_) return;
      run_(context_, begin, std::min(begin + range_, tasks_));
    }
  }

  std::atomic_flag busy_ = ATOMIC_FLAG_INIT;
  std::atomic<uint64_t> gate_{0};
  std::atomic<uint32_t> epoch_{0};
  std::atomic<int> sleepers_{0};
  std::atomic<int> limit_{0};
  std::atomic<int64_t> next_{0};
  TaskRange run_ = nullptr;
  const void* context_ = nullptr;
  int64_t tasks_ = 0, range_ = 1;
  int workers_ = 0;
};

// Never destroyed: workers may outlive static destructors, and a forked child leaves it behind.
std::atomic<ThreadPool*> pool{nullptr};

ThreadPool& the_pool() {
  ThreadPool* current = pool.load(std::memory_order_acquire);
  if (current != nullptr) return *current;
  auto* fresh = new ThreadPool;
  if (pool.compare_exchange_strong(current, fresh)) return *fresh;
  delete fresh;
  return *current;
}

struct ThreadCount {
  int threads;
  std::string reason;
};

int cgroup_quota() {  // whole processors that the control group may use, or 0 for no limit
  std::ifstream v2("/sys/fs/cgroup/cpu.max");
  double quota = 0, period = 0;
  if (v2 >> quota >> period && period > 0)
    return std::max(1, static_cast<int>(quota / period + 0.5));
  std::ifstream v1_quota("/sys/fs/cgroup/cpu/cpu.cfs_quota_us"),
      v1_period("/sys/fs/cgroup/cpu/cpu.cfs_period_us");
  if (v1_quota >> quota && v1_period >> period && quota > 0 && period > 0)
    return std::max(1, static_cast<int>(quota / period + 0.5));
  return 0;
}

int from_environment(const char* name) {
  const char* text = std::getenv(name);
  const int threads = text == nullptr ? 0 : std::atoi(text);
  return std::clamp(threads, 0, kMaxThreads);
}

ThreadCount detect_threads() {
  for (const char* name : {"FASTNN_NUM_THREADS", "OMP_NUM_THREADS"})
    if (const int threads = from_environment(name)) return {threads, name};
  cpu_set_t set;
  CPU_ZERO(&set);
  const int allowed = sched_getaffinity(0, sizeof set, &set) == 0 ? CPU_COUNT(&set) : 1;
  const int quota = cgroup_quota();
  if (quota > 0 && quota < allowed) return {quota, "control group quota"};
  return {std::clamp(allowed, 1, kMaxThreads), "processors this process may use"};
}

ThreadCount& thread_count() {
  static auto* count = new ThreadCount(detect_threads());
  return *count;
}

}  // namespace

namespace {

std::atomic<int> loaders{0};  // at work
thread_local bool is_loader = false;

}  // namespace

Loading::Loading() {
  is_loader = true;
  loaders.fetch_add(1, std::memory_order_relaxed);
}
Loading::~Loading() {
  loaders.fetch_sub(1, std::memory_order_relaxed);
  is_loader = false;
}

void parallel_for(int64_t tasks, TaskRange run, const void* context) {
  const int free = thread_count().threads - loaders.load(std::memory_order_relaxed);
  const int threads = static_cast<int>(std::min<int64_t>(free, tasks));
  if (threads <= 1 || is_loader) return run(context, 0, tasks);
  the_pool().run(tasks, run, context, threads);
}

int num_threads() { return thread_count().threads; }

void set_num_threads(int threads) {
  check(threads >= 1 && threads <= kMaxThreads,
        "set_num_threads: expected 1 <= threads <= ", kMaxThreads, ", got ", threads);
  thread_count() = {threads, "set_num_threads"};
}

std::string num_threads_reason() { return thread_count().reason; }

void abandon_pool_after_fork() {
  pool.store(nullptr, std::memory_order_release);
  loaders.store(0, std::memory_order_relaxed);
}

}  // namespace fastnn
