// Augmentation on the CPU: one picture after the other, by augment_program.h.
#include "../families/augment.h"

#include "../augment_program.h"
#include "augment_loops.h"
#include "table.h"

namespace fastnn {
namespace {

template <class T>
void augment(const AugmentArgs& args, Slice s) {
  AugmentLoops loops;
  const int64_t each = ceil_div(args.rows, args.tasks);
  for (int64_t task = s.begin; task < s.end; ++task) {
    const int64_t end = least((task + 1) * each, args.rows);
    for (int64_t i = task * each; i < end; ++i)
      augment_one(loops, args, sizeof(T) == sizeof(float), i,
                  args.scratch + task * args.scratch_bytes);
  }
}

template <class T>
void mix(const MixArgs& args, Slice s) {
  AugmentLoops loops;
  for (int64_t i = s.begin; i < s.end; ++i) mix_one<T>(loops, args, i);
}

template <class T>
constexpr AugmentKernels kernels() {
  return {
      .augment = augment<T>,
      .mix = mix<T>,
  };
}

}  // namespace

template <>
constinit const AugmentKernels FASTNN_LEVEL::Table<AugmentKernels>::of_dtype[kNumTableDTypes] = {
    kernels<float>(), {}, {}, kernels<uint8_t>()};

}  // namespace fastnn
