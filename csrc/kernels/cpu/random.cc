// Random kernels. Every value is a function of (seed, offset, element), so any split over threads
// draws the same bits; no mask is stored, and backward draws it again.
#include "../families/random.h"

#include "../philox.h"
#include "loops.h"
#include "table.h"

namespace fastnn {
namespace {

// Sixteen Philox blocks side by side, so that the rounds vectorise; their 64 words, block by block,
// are 128 16-bit lanes in memory order (little endian).
struct PhiloxBatch {
  static constexpr int kBlocks = 16;
  uint32_t words[kBlocks * 4];
  FASTNN_FN PhiloxBatch(uint64_t first_block, RngDraw draw) {
    uint32_t w0[kBlocks], w1[kBlocks], w2[kBlocks], w3[kBlocks];
    for (int i = 0; i < kBlocks; ++i) {
      const PhiloxBlock block =
          philox(first_block + static_cast<uint64_t>(i), draw.offset, draw.seed);
      w0[i] = block.word[0];
      w1[i] = block.word[1];
      w2[i] = block.word[2];
      w3[i] = block.word[3];
    }
    for (int i = 0; i < kBlocks; ++i) {
      words[4 * i] = w0[i];
      words[4 * i + 1] = w1[i];
      words[4 * i + 2] = w2[i];
      words[4 * i + 3] = w3[i];
    }
  }
};

// Element e is dropped if its 16-bit lane is below the threshold, whatever the dtype. Forward and
// backward are the same map: y = kept ? x scale : 0.
template <class T>
void dropout(const DropoutArgs& args, Slice s) {
  constexpr int kBatch = PhiloxBatch::kBlocks * kLanesPerBlock;
  const auto* x = static_cast<const T*>(args.x);
  auto* y = static_cast<T*>(args.y);
  const Range r = elements(s, kElementwiseChunk, args.n);
  const RngDraw draw = *args.draw;
  const uint32_t threshold = args.threshold;
  const float scale = args.scale;
  for (int64_t i = r.begin; i < r.end; i += kBatch) {
    const PhiloxBatch batch(static_cast<uint64_t>(i / kLanesPerBlock), draw);
    uint16_t lanes[kBatch];
    __builtin_memcpy(lanes, batch.words, sizeof lanes);
    const int count = static_cast<int>(r.end - i < kBatch ? r.end - i : kBatch);
#pragma GCC ivdep
    for (int l = 0; l < count; ++l)
      y[i + l] = from_float<T>(lanes[l] < threshold ? 0.f : to_float(x[i + l]) * scale);
  }
}

template <class T>
void uniform(const UniformArgs& args, Slice s) {
  auto* y = static_cast<T*>(args.y);
  const Range r = elements(s, kElementwiseChunk, args.n);
  constexpr int kBatch = PhiloxBatch::kBlocks * 4;
  for (int64_t i = r.begin; i < r.end; i += kBatch) {
    const PhiloxBatch batch(static_cast<uint64_t>(i / 4), *args.draw);
    const int count = static_cast<int>(r.end - i < kBatch ? r.end - i : kBatch);
    for (int l = 0; l < count; ++l)
      y[i + l] = from_float<T>(args.lo + (args.hi - args.lo) * uniform01(batch.words[l]));
  }
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
      .dropout = dropout<T>,
      .shuffle_keys = shuffle_keys,
  };
}

}  // namespace

template <>
constinit const RandomKernels FASTNN_LEVEL::Table<RandomKernels>::of_dtype[kNumTableDTypes] = {
    kernels<float>(), kernels<bf16>(), {}, {}};

}  // namespace fastnn
