// What a function makes of 0, 1, 2, ..., made ahead by a thread of its own and given in order. The
// thread sleeps while enough is ready, ends after the last, after an error or when it is told to,
// and counts against the pool's budget while it works. What was given belongs to the taker: memory
// comes from pools (allocator.h), which get it back when the taker lets go of it, so nothing that
// is still held is overwritten, and nothing new is allocated once as much as is held was made.
#pragma once
#include <cxxabi.h>
#include <unistd.h>

#include <chrono>
#include <condition_variable>
#include <deque>
#include <exception>
#include <functional>
#include <memory>
#include <mutex>
#include <optional>
#include <thread>
#include <utility>
#include <vector>

#include "check.h"
#include "loading.h"
#include "pause.h"

namespace fastnn {

// Asked for what is made on a thread that fork() left behind, or for more than there is.
struct PrefetchError : std::runtime_error {
  using runtime_error::runtime_error;
};

template <class T>
class Prefetcher {
 public:
  using Make = std::function<T(int64_t)>;

  // `ahead` >= 1 may be ready before they are asked for. The thread calls `idle` before it sleeps:
  // what make() keeps from one call to the next, and others need, it gives back there.
  Prefetcher(
      Make make, int64_t count, int64_t ahead, std::function<void()> idle = [] {})
      : shared_(std::make_shared<Shared>(std::move(make), count, ahead, std::move(idle))),
        process_(getpid()) {
    thread_ = std::make_unique<std::thread>([shared = shared_] { shared->work(); });
  }
  Prefetcher(const Prefetcher&) = delete;
  ~Prefetcher() { close(); }

  // The next, or nothing if it is not ready after `patience`. Throws what make() threw, once.
  std::optional<T> next(std::chrono::milliseconds patience) {
    check<PrefetchError>(process_ == getpid(),
                         "prefetch: expected the process that began, got one that fork() made: "
                         "threads stay behind; begin the epoch again in the child");
    return shared_->next(patience);
  }

  // Tells the thread to make no more; whether it has ended after `patience`.
  bool stop(std::chrono::milliseconds patience) {
    if (thread_ == nullptr || process_ != getpid() || is_own_thread()) return true;
    return shared_->stop(patience);
  }

  // Makes no more, and waits until the thread has ended. On the thread itself (where garbage is
  // collected) it ends after what it is at.
  void close() {
    if (thread_ == nullptr) return;
    if (process_ != getpid()) {  // nobody runs there, and a lock may be held for ever
      static auto* left_behind = new std::vector<std::pair<std::shared_ptr<Shared>, std::thread*>>;
      left_behind->emplace_back(std::move(shared_), thread_.release());
      return;
    }
    const bool own = is_own_thread();
    const auto thread = std::move(thread_);
    shared_->stop(std::chrono::milliseconds(0));
    own ? thread->detach() : thread->join();
    shared_->clear();
  }

 private:
  bool is_own_thread() const { return thread_->get_id() == std::this_thread::get_id(); }

  // Who waits looks first, as the pool does: sleeping and waking up takes longer than a small
  // batch.
  static constexpr int kLooks = 100, kPauses = 10;

  struct Shared {
    Shared(Make f, int64_t n, int64_t most, std::function<void()> g)
        : make(std::move(f)), idle(std::move(g)), count(n), ahead(most) {}

    void work() {
      for (int64_t i = 0; i < count && !is_stopped(); ++i) {
        std::optional<T> made;
        std::exception_ptr thrown;
        try {
          const Loading counted;
          made.emplace(make(i));
        } catch (abi::__forced_unwind&) {  // the interpreter ended, and ends its threads
          throw;
        } catch (...) {
          thrown = std::current_exception();
        }
        if (!put(std::move(made), std::move(thrown))) break;
      }
      end();
    }

    bool is_stopped() {
      const std::lock_guard lock(mutex);
      return stopped;
    }
    bool put(std::optional<T> made, std::exception_ptr thrown) {
      std::unique_lock lock(mutex);
      const auto has_room = [&] { return stopped || static_cast<int64_t>(ready.size()) < ahead; };
      if (!has_room()) {
        lock.unlock();
        idle();
        lock.lock();
        room.wait(lock, has_room);
      }
      error = std::move(thrown);
      if (made && !stopped) ready.push_back(*std::move(made));
      some.notify_all();
      return error == nullptr && !stopped;
    }
    void end() {
      {
        const std::lock_guard lock(mutex);
        ended = true;
        some.notify_all();
      }
      make = nullptr;
    }

    std::optional<T> next(std::chrono::milliseconds patience) {
      std::unique_lock lock(mutex);
      const auto until = std::chrono::system_clock::now() + patience;
      const auto is_due = [&] { return !ready.empty() || ended; };
      if (!is_due() && patience.count() == 0) return std::nullopt;
      for (int look = 0; look < kLooks && !is_due(); ++look) {
        lock.unlock();
        for (int i = 0; i < kPauses; ++i) pause_thread();
        lock.lock();
      }
      if (!is_due() && !some.wait_until(lock, until, is_due)) return std::nullopt;
      if (!ready.empty()) {
        std::optional<T> first(std::move(ready.front()));
        ready.pop_front();
        lock.unlock();  // or the thread would wake up to wait for it
        room.notify_one();
        return first;
      }
      if (error != nullptr) std::rethrow_exception(std::exchange(error, nullptr));
      throw PrefetchError(concat("prefetch: expected to be asked ", count,
                                 " times at most, and not after close()"));
    }

    bool stop(std::chrono::milliseconds patience) {
      std::unique_lock lock(mutex);
      stopped = true;
      room.notify_all();
      const auto until = std::chrono::system_clock::now() + patience;
      return some.wait_until(lock, until, [&] { return ended; });
    }
    void clear() {  // outside the lock: what an item holds may need the interpreter's
      std::deque<T> left;
      std::exception_ptr thrown;
      const std::lock_guard lock(mutex);
      left.swap(ready);
      thrown.swap(error);
    }

    Make make;
    const std::function<void()> idle;
    const int64_t count, ahead;
    std::mutex mutex;
    std::condition_variable some, room;
    std::deque<T> ready;
    std::exception_ptr error;
    bool stopped = false, ended = false;
  };

  std::shared_ptr<Shared> shared_;
  std::unique_ptr<std::thread> thread_;
  const pid_t process_;
};

}  // namespace fastnn
