// Augmentation: a block for each picture, and for each pair of pictures that is mixed.
#include "augment_loops.cuh"

namespace fastnn {
namespace {

#define FASTNN_AUGMENT_LOOPS(name)             \
  FASTNN_SHARED(int64_t, counts, 256);         \
  FASTNN_SHARED(int32_t, below, 257);          \
  FASTNN_SHARED(float, memory, 256);           \
  FASTNN_SHARED(double, lanes, kAugmentLanes); \
  AugmentLoops name { counts, below, memory, lanes }

__global__ void __launch_bounds__(kAugmentThreads) augment_kernel(AugmentArgs args, bool is_float) {
  FASTNN_AUGMENT_LOOPS(loops);
  for (int64_t i = blockIdx.x; i < args.rows; i += gridDim.x)
    augment_one(loops, args, is_float, i, args.scratch + blockIdx.x * args.scratch_bytes);
}
template <class T>
void augment(const AugmentArgs& args, Slice s) {
  if (args.rows <= 0) return;
  FASTNN_LAUNCH(augment_kernel, grid_for(args.tasks), kAugmentThreads, s.stream, args,
                sizeof(T) == sizeof(float));
}

template <class T>
__global__ void __launch_bounds__(kAugmentThreads) mix_kernel(MixArgs args) {
  FASTNN_AUGMENT_LOOPS(loops);
  for (int64_t i = blockIdx.x; i < args.rows; i += gridDim.x) mix_one<T>(loops, args, i);
}
template <class T>
void mix(const MixArgs& args, Slice s) {
  if (args.rows <= 0) return;
  FASTNN_LAUNCH((mix_kernel<T>), grid_for(args.rows), kAugmentThreads, s.stream, args);
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
constinit const AugmentKernels cuda::Table<AugmentKernels>::of_dtype[kNumTableDTypes] = {
    kernels<float>(), {}, {}, kernels<uint8_t>()};

}  // namespace fastnn
