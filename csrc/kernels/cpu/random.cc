// The generator, initial values and shuffling. Every value is a function of (seed, offset,
// element), so any split over threads draws the same bits.
#include "../families/random.h"

#include "philox_batch.h"
#include "table.h"

namespace fastnn {
namespace {

template <class T>
void uniform(const UniformArgs& args, Slice s) {
  auto* y = static_cast<T*>(args.y);
  const Range r = elements(s, kElementwiseChunk, args.n);
  const float lo = args.lo, hi = args.hi;
  for_words(r, *args.draw, [=](int64_t i, uint32_t word) __attribute__((always_inline)) {
    y[i] = from_float<T>(lo + (hi - lo) * uniform01(word));
  });
}

void rng_draw(const RngDrawArgs& args, Slice) {
  *args.draw = *args.state;
  ++args.state->offset;
}

// Sorting samples by these keys shuffles them: 64 bits of (seed, epoch, sample).
void shuffle_keys(const ShuffleKeysArgs& args, Slice s) {
  const Range r = elements(s, kElementwiseChunk, args.n);
  const uint64_t offset = uint64_t(Stream::kShuffle) << 56 | args.epoch;
  for (int64_t i = r.begin; i < r.end; ++i) {
    const PhiloxBlock block = philox(static_cast<uint64_t>(i), offset, args.seed);
    args.keys[i] = uint64_t{block.word[1]} << 32 | block.word[0];
  }
}

template <class T>
constexpr RandomKernels kernels() {
  return {
      .rng_draw = rng_draw,
      .uniform = uniform<T>,
      .shuffle_keys = shuffle_keys,
  };
}

}  // namespace

template <>
constinit const RandomKernels FASTNN_LEVEL::Table<RandomKernels>::of_dtype[kNumTableDTypes] = {
    kernels<float>(), kernels<bf16>(), {}, {}};

}  // namespace fastnn
