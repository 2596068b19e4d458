// What draws random numbers: see philox.h.
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
struct DropoutArgs {
  const void* x;
  void* y;
  int64_t n;
  const RngDraw* draw;
  uint32_t threshold;
  float scale;
};
struct ShuffleKeysArgs {
  uint64_t* keys;
  int64_t n;
  uint64_t seed, epoch;
};

struct RandomKernels {
  Kernel<RngDrawArgs> rng_draw;
  Kernel<UniformArgs> uniform;
  Kernel<DropoutArgs> dropout;
  Kernel<ShuffleKeysArgs> shuffle_keys;
};

}  // namespace fastnn
