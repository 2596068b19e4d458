// What is made ahead: everything once and in order, errors where they are due, ends at any moment,
// and memory that nobody overwrites while it is held. Run under ThreadSanitizer and
// AddressSanitizer.
#include "core/prefetch.h"

#include <sys/wait.h>

#include <algorithm>
#include <atomic>
#include <string>
#include <thread>
#include <vector>

#include "core/array.h"
#include "core/parallel.h"
#include "test.h"

namespace fastnn {
namespace {

constexpr std::chrono::milliseconds kLong{10'000}, kNone{0};

void test_order() {
  for (const int64_t ahead : {1, 2, 7}) {
    Prefetcher<int64_t> squares([](int64_t i) { return i * i; }, 1000, ahead);
    int wrong = 0;
    for (int64_t i = 0; i < 1000; ++i) wrong += squares.next(kLong) != i * i;
    EXPECT(wrong == 0, "ahead %ld: %d wrong", long(ahead), wrong);
    std::string error;
    try {
      squares.next(kLong);
    } catch (const PrefetchError& e) {
      error = e.what();
    }
    EXPECT(error == "prefetch: expected to be asked 1000 times at most, and not after close()",
           "%s", error.c_str());
  }
}

void test_it_stays_ahead_and_no_further() {
  std::atomic<int64_t> made{0};
  Prefetcher<int64_t> counts([&](int64_t) { return ++made; }, 100, 3);
  EXPECT(counts.next(kLong) == 1, "the first");
  while (made < 5) std::this_thread::yield();  // one given, three ready, one in hand
  std::this_thread::sleep_for(std::chrono::milliseconds(20));
  EXPECT(made == 5, "%ld made", long(made));
  counts.close();
  EXPECT(made == 5, "%ld made after close()", long(made));
  counts.close();
}

void test_it_says_when_it_is_idle() {
  std::atomic<int64_t> idle{0};
  Prefetcher<int64_t> numbers([](int64_t i) { return i; }, 100, 2, [&] { ++idle; });
  while (idle < 1) std::this_thread::yield();
  for (int64_t i = 0; i < 100; ++i) EXPECT(numbers.next(kLong) == i, "number %ld", long(i));
  EXPECT(idle <= 98, "%ld times", long(idle));
}

void test_an_error_comes_where_it_is_due() {
  Prefetcher<int64_t> broken(
      [](int64_t i) {
        if (i == 2) throw ValueError("the third is broken");
        return i;
      },
      5, 2);
  EXPECT(broken.next(kLong) == 0 && broken.next(kLong) == 1, "those before");
  int errors = 0;
  for (int i = 0; i < 2; ++i) {
    try {
      broken.next(kLong);
    } catch (const ValueError&) {
      ++errors;
    } catch (const PrefetchError&) {
      errors += 10;
    }
  }
  EXPECT(errors == 11, "the error once, then the end: %d", errors);
}

void test_patience_ends() {
  std::atomic<bool> go{false};
  Prefetcher<int> slow(
      [&](int64_t) {
        while (!go) std::this_thread::yield();
        return 1;
      },
      1, 1);
  EXPECT(!slow.next(kNone) && !slow.next(std::chrono::milliseconds(5)), "nothing is there yet");
  go = true;
  EXPECT(slow.next(kLong) == 1, "now it is");
  EXPECT(slow.stop(kLong) && slow.stop(kNone), "it has ended");
}

// Ended at every moment, with what is ready let go of; Array counts what is left.
void test_it_ends_at_any_moment() {
  const size_t live = process_pool()->live_blocks();
  for (int round = 0; round < 300; ++round) {
    Prefetcher<Array> arrays([](int64_t) { return empty({100}, DType::kFloat32); }, 50, 2);
    for (int i = 0; i < round % 7; ++i) EXPECT(arrays.next(kLong)->numel() == 100, "an array");
  }
  EXPECT(process_pool()->live_blocks() == live, "%zu arrays are left",
         process_pool()->live_blocks() - live);
}

// The ring: what is let go of is filled again, what is held is not.
void test_memory_is_used_again_but_never_while_held() {
  const auto fill = [](int64_t i) {
    Array y = empty({30'000}, DType::kInt64);
    auto* v = static_cast<int64_t*>(y.storage->data);
    for (int64_t k = 0; k < y.numel(); ++k) v[k] = i;
    return y;
  };
  const auto is = [](const Array& y, int64_t i) {
    const auto* v = static_cast<const int64_t*>(y.storage->data);
    return std::all_of(v, v + y.numel(), [i](int64_t x) { return x == i; });
  };
  std::vector<Array> kept;
  const size_t before = process_pool()->system_allocations();
  int wrong = 0;
  Prefetcher<Array> ring(fill, 400, 2);
  for (int64_t i = 0; i < 400; ++i) {
    Array y = *ring.next(kLong);
    wrong += !is(y, i);
    if (i < 4) kept.push_back(y);
  }
  for (int64_t i = 0; i < 4; ++i) wrong += !is(kept[static_cast<size_t>(i)], i);
  EXPECT(wrong == 0, "%d were overwritten", wrong);
  // Four kept, one in use, two ready, one in hand.
  EXPECT(process_pool()->system_allocations() <= before + 8, "%zu allocations",
         process_pool()->system_allocations() - before);
}

// While the thread works the pool has one thread less, and what the thread launches runs on it.
void test_the_budget() {
  set_num_threads(2);
  std::atomic<int> at_work{0};
  std::atomic<bool> go{false};
  const TaskRange note = [](const void* seen, int64_t, int64_t) {
    static_cast<std::atomic<int>*>(const_cast<void*>(seen))->fetch_add(1);
  };
  Prefetcher<int> one(
      [&](int64_t) {
        std::atomic<int> own{0};
        parallel_for(64, note, &own);
        at_work = 1;
        while (!go) std::this_thread::yield();
        return own.load();
      },
      1, 1);
  while (at_work == 0) std::this_thread::yield();
  std::atomic<int> ranges{0};
  parallel_for(64, note, &ranges);
  EXPECT(ranges == 1, "%d ranges beside a thread that loads", ranges.load());
  go = true;
  EXPECT(one.next(kLong) == 1, "what it launches is one range");
  one.close();
  ranges = 0;
  parallel_for(64, note, &ranges);
  EXPECT(ranges > 1, "%d ranges after it", ranges.load());
}

// A child has no such thread: it is told so, and ends.
[[maybe_unused]] void test_fork() {
  Prefetcher<int64_t> numbers([](int64_t i) { return i; }, 1000, 2);
  EXPECT(numbers.next(kLong) == 0, "the first");
  const pid_t child = fork();
  if (child == 0) {
    try {
      numbers.next(kLong);
    } catch (const PrefetchError& e) {
      numbers.close();
      Prefetcher<int64_t> own([](int64_t i) { return i; }, 10, 2);
      std::exit(
          own.next(kLong) == 0 && std::string(e.what()).find("fork") != std::string::npos ? 0 : 1);
    }
    _exit(2);
  }
  int status = 0;
  waitpid(child, &status, 0);
  EXPECT(WIFEXITED(status) && WEXITSTATUS(status) == 0, "the child: %d", status);
  EXPECT(numbers.next(kLong) == 1, "the parent goes on");
}

}  // namespace
}  // namespace fastnn

int main() {
  fastnn::test_order();
  fastnn::test_it_stays_ahead_and_no_further();
  fastnn::test_it_says_when_it_is_idle();
  fastnn::test_an_error_comes_where_it_is_due();
  fastnn::test_patience_ends();
  fastnn::test_it_ends_at_any_moment();
  fastnn::test_memory_is_used_again_but_never_while_held();
  fastnn::test_the_budget();
#ifndef __SANITIZE_THREAD__  // which refuses to start threads in a forked child
  fastnn::test_fork();
#endif
  return report_tests();
}
