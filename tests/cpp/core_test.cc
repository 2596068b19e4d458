// The pool, plans and the allocator: every task once, from several threads at once, and no memory
// and no lock per replay. Run under ThreadSanitizer and AddressSanitizer.
#include <pthread.h>
#include <sched.h>

#include <atomic>
#include <chrono>
#include <cstdlib>
#include <new>
#include <numeric>
#include <thread>
#include <vector>

#include "core/dispatch.h"
#include "test.h"

// What this program allocates and locks, on any thread: every `new` of the library ends here, and
// the linker sends its locks to __wrap_ (CMakeLists.txt).
namespace {
std::atomic<int64_t> allocations{0}, locks{0};
}  // namespace
void* operator new(size_t bytes) {
  ++allocations;
  if (void* block = std::malloc(bytes > 0 ? bytes : 1)) return block;
  throw std::bad_alloc();
}
void operator delete(void* block) noexcept { std::free(block); }
void operator delete(void* block, size_t) noexcept { std::free(block); }
extern "C" int __real_pthread_mutex_lock(pthread_mutex_t* mutex);
extern "C" int __wrap_pthread_mutex_lock(pthread_mutex_t* mutex) {
  ++locks;
  return __real_pthread_mutex_lock(mutex);
}

namespace fastnn {
namespace {

struct Counts {
  std::vector<std::atomic<int>> counts;
  explicit Counts(size_t n) : counts(n) {}
};

void count_range(const void* context, int64_t begin, int64_t end) {
  auto& counts = const_cast<Counts*>(static_cast<const Counts*>(context))->counts;
  for (int64_t i = begin; i < end; ++i) counts[static_cast<size_t>(i)].fetch_add(1);
}

void test_every_task_runs_once() {
  for (const int threads : {1, 2, 3, 4, 7}) {
    set_num_threads(threads);
    for (const int64_t tasks : {0, 1, 2, 3, 5, 16, 97, 1000}) {
      for (int repeat = 0; repeat < 20; ++repeat) {
        Counts counts(static_cast<size_t>(tasks));
        parallel_for(tasks, count_range, &counts);
        int wrong = 0;
        for (auto& count : counts.counts) wrong += count != 1;
        EXPECT(wrong == 0, "threads %d tasks %ld", threads, long(tasks));
      }
    }
  }
}

void test_callers_at_once() {
  set_num_threads(4);
  std::vector<std::thread> callers;
  std::atomic<int> wrong{0};
  for (int caller = 0; caller < 4; ++caller)
    callers.emplace_back([&wrong] {
      for (int repeat = 0; repeat < 200; ++repeat) {
        Counts counts(37);
        parallel_for(37, count_range, &counts);
        for (auto& count : counts.counts) wrong += count != 1;
      }
    });
  for (auto& caller : callers) caller.join();
  EXPECT(wrong == 0, "%d tasks ran other than once", wrong.load());
}

// Where the worker of this job may run.
struct Placed {
  std::thread::id caller = std::this_thread::get_id();
  std::atomic<bool> has_worker{false};
  cpu_set_t allowed{};
};

void note_place(const void* context, int64_t, int64_t) {
  auto& job = *const_cast<Placed*>(static_cast<const Placed*>(context));
  if (std::this_thread::get_id() != job.caller) {
    sched_getaffinity(0, sizeof job.allowed, &job.allowed);
    job.has_worker = true;
  }
  while (!job.has_worker) std::this_thread::yield();
}

void test_workers_wake_on_other_processors() {
  cpu_set_t all;
  sched_getaffinity(0, sizeof all, &all);
  set_num_threads(2);
  int left = CPU_COUNT(&all) > 1 ? 2 : 0;  // of the processors to call from
  for (int processor = 0; left > 0; ++processor) {
    if (!CPU_ISSET(processor, &all)) continue;
    cpu_set_t here{};
    CPU_SET(processor, &here);
    sched_setaffinity(0, sizeof here, &here);
    std::this_thread::sleep_for(std::chrono::milliseconds(100));  // until the worker sleeps
    Placed job;
    parallel_for(2, note_place, &job);
    EXPECT(!CPU_ISSET(processor, &job.allowed), "a worker on processor %d", processor);
    EXPECT(CPU_COUNT(&job.allowed) == CPU_COUNT(&all) - 1, "%d allowed", CPU_COUNT(&job.allowed));
    --left;
  }
  sched_setaffinity(0, sizeof all, &all);
}

// The workers of this job wait without a processor, as where another process has taken it.
struct Starved {
  std::thread::id caller = std::this_thread::get_id();
  std::atomic<int> by_workers{0};
};

void starve_workers(const void* context, int64_t, int64_t) {
  auto& job = *const_cast<Starved*>(static_cast<const Starved*>(context));
  const bool is_worker = std::this_thread::get_id() != job.caller;
  job.by_workers += is_worker;
  if (is_worker) std::this_thread::sleep_for(std::chrono::milliseconds(20));
  while (job.by_workers == 0) std::this_thread::yield();
}

void test_works_alone_while_others_take_the_processors() {
  set_num_threads(2);
  Starved starved, after;
  parallel_for(2, starve_workers, &starved);
  EXPECT(starved.by_workers == 1, "%d ranges", starved.by_workers.load());
  after.by_workers = 1;  // nobody waits for a worker
  for (int repeat = 0; repeat < 10; ++repeat) parallel_for(1000, starve_workers, &after);
  EXPECT(after.by_workers == 1, "%d ranges of workers", after.by_workers - 1);
}

Launch over(const Array& x) {
  return {"test", Device::kCpu, x.dtype, ceil_div(x.numel(), kElementwiseChunk), 1e9};
}

// y = x + x + 1, through a temporary that the plan's pool provides.
Array compute(const Array& x) {
  Array t = empty_like(x), y = empty_like(x);
  launch(over(x), &Kernels::binary, static_cast<int>(Binary::kAdd),
         BinaryArgs{read(x), read(x), write(t), x.numel(), 0});
  launch(over(x), &Kernels::binary, static_cast<int>(Binary::kAdd),
         BinaryArgs{read(t), nullptr, write(y), x.numel(), 1});
  return y;
}

void test_replay() {
  set_num_threads(2);
  Array x = empty({50000}, DType::kFloat32);
  auto* values = static_cast<float*>(x.storage->data);
  std::iota(values, values + x.numel(), 0.f);
  Plan plan;
  plan.begin();
  const Array y = compute(x);
  plan.end();
  EXPECT(plan.num_nodes() == 2, "%zu launches", plan.num_nodes());
  const size_t process_blocks = process_pool()->live_blocks(),
               plan_allocations = plan.pool()->system_allocations();
  EXPECT(allocations > 0 && locks > 0, "nothing is counted: new %ld, locks %ld", long(allocations),
         long(locks));
  const int64_t allocations_before = allocations, locks_before = locks;
  for (int step = 0; step < 50; ++step) {
    for (int64_t i = 0; i < x.numel(); ++i) values[i] = static_cast<float>(i + step);
    EXPECT(plan.replay(1) == 1, "replay stopped");
    int wrong = 0;
    for (int64_t i = 0; i < x.numel(); ++i)
      wrong +=
          static_cast<const float*>(y.storage->data)[i] != 2.f * static_cast<float>(i + step) + 1.f;
    EXPECT(wrong == 0, "step %d: %d wrong", step, wrong);
  }
  EXPECT(allocations == allocations_before, "replay called new %ld times",
         long(allocations - allocations_before));
  EXPECT(locks == locks_before, "replay took %ld locks", long(locks - locks_before));
  EXPECT(process_pool()->live_blocks() == process_blocks, "replay allocated");
  EXPECT(plan.pool()->system_allocations() == plan_allocations,
         "replay allocated from the plan's pool");
  EXPECT(plan.is_current(), "x is alive");
  x = Array();
  EXPECT(!plan.is_current(), "x is gone");
}

void test_recording_is_refused_inside_a_recording() {
  Plan outer, inner;
  outer.begin();
  bool threw = false;
  try {
    inner.begin();
  } catch (const CaptureError&) {
    threw = true;
  }
  outer.end();
  EXPECT(threw, "a capture inside a capture");
}

void test_allocator() {
  Pool pool;
  std::vector<std::pair<void*, size_t>> blocks;
  for (size_t bytes = 0; bytes < 5'000'000; bytes = bytes * 3 / 2 + 7) {
    void* block = pool.allocate(bytes);
    EXPECT(reinterpret_cast<uintptr_t>(block) % kAlignment == 0, "%zu bytes", bytes);
    std::memset(block, 1, bytes);
    blocks.emplace_back(block, bytes);
  }
  const size_t allocations = pool.system_allocations();
  for (auto [block, bytes] : blocks) pool.release(block, bytes);
  EXPECT(pool.live_blocks() == 0 && pool.live_bytes() == 0, "%zu live", pool.live_blocks());
  for (auto& [block, bytes] : blocks) block = pool.allocate(bytes);
  EXPECT(pool.system_allocations() == allocations, "freed blocks were not reused");
  for (auto [block, bytes] : blocks) pool.release(block, bytes);
  pool.trim();
  EXPECT(pool.cached_bytes() == 0, "trim left %zu bytes", pool.cached_bytes());
  bool threw = false;
  try {
    pool.allocate(size_t{1} << 60);
  } catch (const OutOfMemory&) {
    threw = true;
  }
  EXPECT(threw, "2^60 bytes");
}

}  // namespace
}  // namespace fastnn

int main() {
  fastnn::test_every_task_runs_once();
  fastnn::test_callers_at_once();
  fastnn::test_replay();
  fastnn::test_recording_is_refused_inside_a_recording();
  fastnn::test_allocator();
  fastnn::test_workers_wake_on_other_processors();
  fastnn::test_works_alone_while_others_take_the_processors();  // for a second: the last
  return report_tests();
}
