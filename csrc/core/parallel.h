// The thread pool. Work arrives as a number of tasks that is a function of shape only, so results
// do not depend on who runs which task. Each thread has its share, and helps with the others' when
// it is done. The caller works too and never waits for a worker that has not started; it works
// alone for a while where another process keeps taking its workers' processors. A thread that finds
// the pool busy runs alone. Nothing starts before the first use.
#pragma once
#include <cstdint>
#include <string>

namespace fastnn {

using TaskRange = void (*)(const void* context, int64_t begin, int64_t end);

// Runs tasks [0, tasks) on at most num_threads() threads, in ranges, in any order.
void parallel_for(int64_t tasks, TaskRange run, const void* context);

int num_threads();
void set_num_threads(int threads);  // at least 1
std::string num_threads_reason();   // which rule chose the number

// For pthread_atfork: the child abandons its parent's workers and starts its own when needed;
// threads that loaded stay behind as well.
void abandon_pool_after_fork();

}  // namespace fastnn
