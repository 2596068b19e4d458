// The generator, and what draws from it: see philox.h.
#pragma once
#include "../kernel.h"

namespace fastnn {

struct RngDraw {
  uint64_t seed, offset;
};
struct RngDrawArgs {
  RngDraw* state;
  RngDraw* draw;
};  // *draw = *state; ++state->offset
// y = lo + (hi - lo) u, u uniform on [0, 1) with 24 bits: word e & 3 of Philox block e >> 2.
struct UniformArgs {
  void* y;
  int64_t n;
  const RngDraw* draw;
  float lo, hi;
};
struct ShuffleKeysArgs {
  uint64_t* keys;
  int64_t n;
  uint64_t seed, epoch;
};

struct RandomKernels {
  Kernel<RngDrawArgs> rng_draw;
  Kernel<UniformArgs> uniform;
  Kernel<ShuffleKeysArgs> shuffle_keys;
};

}  // namespace fastnn
