// Threads that prepare data count against the pool's budget while they work: while one has such an
// object the pool runs on one thread less, and what that thread launches runs on it alone.
#pragma once

namespace fastnn {

struct Loading {
  Loading();
  Loading(const Loading&) = delete;
  ~Loading();
};

}  // namespace fastnn
