// One job at a time. `gate` says whether workers may join the job (open bit) and how many have
// (low bits); job fields change only while it is closed and empty.
#include "parallel.h"

#include <pthread.h>
#include <sched.h>

#include <algorithm>
#include <atomic>
#include <cstdlib>
#include <ctime>
#include <fstream>
#include <thread>
#include <vector>

#include "check.h"
#include "loading.h"
#include "pause.h"

namespace fastnn {
namespace {

constexpr uint64_t kOpen = uint64_t{1} << 63;
constexpr int kSpins = 4000;  // 30 to 200 us: more than the gap between the launches of one step
constexpr int kMaxThreads = 256;
// A range is this part of what is left of a share: one slow core does not hold up the others.
constexpr int64_t kRangesPerShare = 4;
// Where another process takes a worker's processor amid a range, everybody waits for the turns of a
// scheduler, milliseconds. Such losses add up, and a time forgives one kForgiven-th of itself;
// above kCrowded the caller works alone, kPatience times as long as the last took, and tries again.
// So they take a few per cent of the time at most, and a loss now and then changes nothing.
constexpr int64_t kForgiven = 20, kCrowded = 8'000'000, kPatience = 20;  // the second in ns

int64_t time_of(clockid_t clock) {
  timespec time{};
  clock_gettime(clock, &time);
  return time.tv_sec * int64_t{1'000'000'000} + time.tv_nsec;
}

class ThreadPool {
 public:
  void run(int64_t tasks, TaskRange run, const void* context, int threads) {
    if (is_crowded() || busy_.test_and_set(std::memory_order_acquire))
      return run(context, 0, tasks);
    start_workers(threads - 1);
    run_ = run;
    context_ = context;
    threads_.store(threads, std::memory_order_relaxed);
    for (int i = 0; i < threads; ++i) {
      shares_[i].next.store(tasks * i / threads, std::memory_order_relaxed);
      shares_[i].end = tasks * (i + 1) / threads;
    }
    gate_.store(kOpen, std::memory_order_release);
    epoch_.fetch_add(1, std::memory_order_seq_cst);
    if (sleepers_.load(std::memory_order_seq_cst) > 0) wake_workers(threads);
    take_ranges(0);
    gate_.fetch_and(~kOpen, std::memory_order_acq_rel);
    for (int i = 0; i < kSpins && has_workers(); ++i) pause_thread();
    if (has_workers()) wait_for_late_workers();
    busy_.clear(std::memory_order_release);
  }

 private:
  void start_workers(int count) {
    while (workers_ < count) {
      ++workers_;
      std::thread worker(&ThreadPool::work, this, workers_);
      shares_[workers_].handle = worker.native_handle();
      pthread_getcpuclockid(worker.native_handle(), &shares_[workers_].clock);
      worker.detach();
    }
  }

  // Linux may wake a thread where its waker runs, although another processor has nothing to do;
  // then they take turns, of milliseconds. So workers are kept off the processor of who wakes them.
  void wake_workers(int threads) {
    const int here = sched_getcpu();
    for (int thread = 1; thread < threads; ++thread) keep_off(here, shares_[thread]);
    epoch_.notify_all();
  }

  bool has_workers() const { return gate_.load(std::memory_order_acquire) != 0; }

  bool is_crowded() {
    const int64_t until = crowded_until_.load(std::memory_order_relaxed);
    if (until == 0) return false;
    if (time_of(CLOCK_MONOTONIC) < until) return true;
    crowded_until_.store(0, std::memory_order_relaxed);
    return false;
  }

  // A late worker is at a long range, or has no processor: its own clock tells which.
  void wait_for_late_workers() {
    int64_t lost = 0;
    for (int thread = 1; thread < threads_.load(std::memory_order_relaxed); ++thread) {
      const Share& share = shares_[thread];
      const int64_t wall = time_of(CLOCK_MONOTONIC), own = time_of(share.clock);
      while (share.at_work.load(std::memory_order_acquire)) std::this_thread::yield();
      lost += time_of(CLOCK_MONOTONIC) - wall - (time_of(share.clock) - own);
    }
    while (has_workers()) std::this_thread::yield();
    count_loss(std::max<int64_t>(0, lost));
  }

  void count_loss(int64_t lost) {
    const int64_t now = time_of(CLOCK_MONOTONIC);
    const int64_t before = std::max<int64_t>(0, losses_ - (now - last_loss_) / kForgiven);
    losses_ = std::min(before + lost, kCrowded);
    last_loss_ = now;
    if (losses_ < kCrowded) return;
    last_loss_ += kPatience * lost;
    crowded_until_.store(last_loss_, std::memory_order_relaxed);
  }

  // Threads are numbered as their shares: the caller is 0.
  void work(int thread) {
    uint32_t seen = 0;
    for (;;) {
      seen = wait_for_job(seen);
      if (thread >= threads_.load(std::memory_order_relaxed) || !join(thread)) continue;
      take_ranges(thread);
      shares_[thread].at_work.store(false, std::memory_order_release);
      gate_.fetch_sub(1, std::memory_order_acq_rel);
    }
  }

  bool join(int thread) {
    std::atomic<bool>& at_work = shares_[thread].at_work;
    at_work.store(true, std::memory_order_relaxed);
    uint64_t gate = gate_.load(std::memory_order_acquire);
    while (gate & kOpen)
      if (gate_.compare_exchange_weak(gate, gate + 1, std::memory_order_acq_rel)) return true;
    at_work.store(false, std::memory_order_relaxed);
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

  // Of the thread's own share first, then what is left of the others'.
  void take_ranges(int thread) {
    const int threads = threads_.load(std::memory_order_relaxed);
    for (int i = 0; i < threads; ++i) {
      Share& share = shares_[(thread + i) % threads];
      int64_t begin = share.next.load(std::memory_order_relaxed);
      while (begin < share.end) {
        const int64_t end = begin + std::max<int64_t>(1, (share.end - begin) / kRangesPerShare);
        if (!share.next.compare_exchange_weak(begin, end, std::memory_order_relaxed)) continue;
        run_(context_, begin, end);
        begin = share.next.load(std::memory_order_relaxed);
      }
    }
  }

  // What one thread begins with: the same part of every job of one size, whose data its cache has.
  struct alignas(64) Share {
    std::atomic<int64_t> next{0};
    int64_t end = 0;
    std::atomic<bool> at_work{false};   // the worker, who may find the gate closed
    clockid_t clock = CLOCK_MONOTONIC;  // of the time that the worker has had a processor
    pthread_t handle{};
    int kept_off = -1;  // the processor that it would be allowed if the pool did not keep it off
  };

  static void keep_off(int processor, Share& worker) {
    cpu_set_t set;
    if (worker.kept_off == processor) return;
    if (pthread_getaffinity_np(worker.handle, sizeof set, &set) != 0) return;
    if (worker.kept_off >= 0) CPU_SET(worker.kept_off, &set);
    const bool was_allowed = CPU_ISSET(processor, &set);
    CPU_CLR(processor, &set);
    // It fails where no other processor is allowed, and changes nothing.
    if (pthread_setaffinity_np(worker.handle, sizeof set, &set) == 0)
      worker.kept_off = was_allowed ? processor : -1;
  }

  std::atomic_flag busy_ = ATOMIC_FLAG_INIT;
  std::atomic<uint64_t> gate_{0};
  std::atomic<uint32_t> epoch_{0};
  std::atomic<int> sleepers_{0};
  std::atomic<int> threads_{1};
  std::atomic<int64_t> crowded_until_{0};
  TaskRange run_ = nullptr;
  const void* context_ = nullptr;
  Share shares_[kMaxThreads];
  int64_t losses_ = 0, last_loss_ = 0;
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
