// What cluster.h is under the emulator: the semantics of the PTX ISA. A write to another block's
// shared memory happens as early or as late as it may, as the schedule has it. Invariant: what the
// device leaves undefined (memory of a block that has not begun, or has ended) or would hang on is
// an error that says so.
#pragma once
#include <cstdlib>
#include <vector>

#include "port.h"

#define FASTNN_HAS_CLUSTERS 1

namespace fastnn::cluster {

inline uint32_t rank() { return emulator::cluster_rank(); }
inline uint32_t size() { return emulator::cluster_size(); }

// ---- the barrier -------------------------------------------------------------------------------
struct Barrier {
  uint64_t serial = 0, phase = 0;  // how many phases have ended
  uint32_t arrivals = 0;
  std::vector<uint64_t> arrived;  // for each thread, the phase it is in, counted from 1; 0: none
};
inline Barrier& barrier() {
  static Barrier own;
  if (own.serial != emulator::block_serial()) {
    own = {emulator::block_serial(), 0, 0, {}};
    own.arrived.assign(size_t{size()} * blockDim.x, 0);
  }
  return own;
}
inline uint32_t thread_of_cluster() { return rank() * blockDim.x + threadIdx.x; }

inline void arrive(std::source_location where = std::source_location::current()) {
  __syncwarp(~0u, where);
  Barrier& all = barrier();
  uint64_t& own = all.arrived[thread_of_cluster()];
  if (own != 0) return emulator::fault("arrives at the cluster's barrier twice, without a wait");
  own = all.phase + 1;
  if (++all.arrivals < all.arrived.size()) return;
  emulator::finish_work();  // what was written before is there for all
  all.arrivals = 0, ++all.phase;
}
inline void wait(std::source_location where = std::source_location::current()) {
  __syncwarp(~0u, where);
  Barrier& all = barrier();
  uint64_t& own = all.arrived[thread_of_cluster()];
  if (own == 0) return emulator::fault("waits at the cluster's barrier, and has not arrived");
  const auto ended = [](const void* phase, uint64_t asked) {
    return *static_cast<const uint64_t*>(phase) >= asked;
  };
  const uint64_t asked = own;
  own = 0;
  emulator::wait({.kind = emulator::Wait::kEvent,
                  .where = where,
                  .happened = ended,
                  .object = &all.phase,
                  .value = asked});
}

// ---- the others' shared memory -----------------------------------------------------------------
// Null, and a fault, where there is none.
inline void* map(void* own, size_t bytes, uint32_t to) {
  const auto offset =
      static_cast<size_t>(static_cast<char*>(own) - static_cast<char*>(emulator::dynamic_shared()));
  const std::string name = "shared memory of rank " + std::to_string(to);
  if (to >= size()) {
    emulator::fault(name + " in a cluster of " + std::to_string(size()));
  } else if (offset + bytes > emulator::dynamic_shared_bytes()) {
    emulator::fault(name + " is written outside of it");
  } else if (to != rank() && barrier().phase == 0) {
    emulator::fault(name + " is written before a barrier tells that the block has begun");
  } else if (emulator::has_ended(to)) {
    emulator::fault(name + " is written after the block has ended");
  } else {
    return static_cast<char*>(emulator::dynamic_shared_of(to)) + offset;
  }
  return nullptr;
}
// FASTNN_EMULATOR_CLUSTERS=wrong: so that what is made of wrong sequences can be tested.
inline bool are_wrong() {
  const char* asked = std::getenv("FASTNN_EMULATOR_CLUSTERS");
  return asked != nullptr && std::strcmp(asked, "wrong") == 0;
}
inline void store(float* own, uint32_t to, float x) {
  if (are_wrong()) x += 1;
  if (void* at = map(own, sizeof x, to)) emulator::later([=] { std::memcpy(at, &x, sizeof x); });
}

// ---- launches ----------------------------------------------------------------------------------
template <class... Params>
cudaError_t launch(void (*kernel)(Params...), const Shape& shape, void* stream, Params... params) {
  emulator::launch({shape.grid}, {shape.threads}, shape.shared_bytes, stream,
                   emulator::bind(kernel, params...), shape.cluster);
  return cudaSuccess;
}
template <class Kernel>
int32_t most_at_once(Kernel*, const Shape&) {
  return 2;  // few, so that small shapes have several rows in each
}

}  // namespace fastnn::cluster
