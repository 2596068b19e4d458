// A ring of tiles in shared memory between one thread that has them filled and warps that read
// them: for each stage a barrier that says it is full, and one that says it is empty. Invariant:
// both sides go round in the same order; the parity of a side is that of its round.
#pragma once
#include "instructions.h"

#ifdef FASTNN_HAS_WGMMA
namespace fastnn::wgmma {

template <int kStages>
struct Ring {
  Barrier* barriers;  // kStages that say "full", then as many that say "empty"
  int stage = 0;
  uint32_t round = 0;

  // By one thread; then the block meets.
  __device__ __forceinline__ void initialise_all(uint32_t readers) {
    for (int s = 0; s < kStages; ++s)
      initialise(barriers + s, 1), initialise(barriers + kStages + s, readers);
    publish_barriers();
  }
  __device__ __forceinline__ void next() {
    if (++stage == kStages) stage = 0, round ^= 1;
  }
  __device__ __forceinline__ Barrier* full() const { return barriers + stage; }
  // The one before the first round counts as read.
  __device__ __forceinline__ void wait_empty() { wait(barriers + kStages + stage, round ^ 1); }
  __device__ __forceinline__ void wait_full() { wait(full(), round); }
  // By one lane of each warp that reads.
  __device__ __forceinline__ void release(int read) { arrive(barriers + kStages + read); }
};

}  // namespace fastnn::wgmma
#endif
