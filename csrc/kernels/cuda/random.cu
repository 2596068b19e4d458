// The generator, initial values and shuffling.
#include "noise.cuh"

namespace fastnn {
namespace {

__global__ void rng_draw_kernel(RngDrawArgs args) {
  *args.draw = *args.state;
  ++args.state->offset;
}
inline void rng_draw(const RngDrawArgs& args, Slice s) {
  FASTNN_LAUNCH(rng_draw_kernel, 1, 1, s.stream, args);
}

struct Between {
  float lo, hi;
  __device__ __forceinline__ float operator()(uint32_t word) const {
    return lo + (hi - lo) * uniform01(word);
  }
};
template <class T>
void uniform(const UniformArgs& args, Slice s) {
  noise<T, 0>({}, args.y, args.n, args.draw, Between{args.lo, args.hi}, s);
}

template <class T>
constexpr RandomKernels kernels() {
  return {
      .rng_draw = rng_draw,
      .uniform = uniform<T>,
      .shuffle_keys = nullptr,  // orders are sorted on the host
  };
}

}  // namespace

template <>
constinit const RandomKernels cuda::Table<RandomKernels>::of_dtype[kNumTableDTypes] = {
    kernels<float>(), kernels<bf16>(), kernels<f16>(), {}};

}  // namespace fastnn
