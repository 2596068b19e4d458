// Noise that multiplies activations in training, drawn by counter; no mask is stored.
#include "../formulas/dropout.h"
#include "noise.cuh"
#include "row.cuh"

namespace fastnn {
namespace {

// Element e takes 16-bit lane e & 7 of block e >> 3, low half of each word first.
template <class T>
__global__ void __launch_bounds__(kElementwiseThreads) dropout_kernel(DropoutArgs args) {
  constexpr int kCount = static_cast<int>(kLanesPerBlock);
  const auto* x = static_cast<const T*>(args.x);
  auto* y = static_cast<T*>(args.y);
  const bool aligned = is_aligned(x) && is_aligned(y);
  const RngDraw draw = *args.draw;
  const int64_t step = int64_t{gridDim.x} * kElementwiseThreads * kCount;
  for (int64_t i = (blockIdx.x * int64_t{kElementwiseThreads} + threadIdx.x) * kCount; i < args.n;
       i += step) {
    auto v = load<kCount>(x + i, args.n - i, aligned);
    const PhiloxBlock block = philox(static_cast<uint64_t>(i / kCount), draw.offset, draw.seed);
    FASTNN_UNROLL
    for (int k = 0; k < kCount; ++k)
      v.v[k] = from_float<T>(keep_or_drop(to_float(v.v[k]), lane_of(block, k), args.keep));
    store(y + i, v, args.n - i, aligned);
  }
}

template <class T>
void dropout(const DropoutArgs& args, Slice s) {
  if (args.n <= 0) return;
  const int64_t grid = grid_for(ceil_div(args.n, kElementwiseThreads * kLanesPerBlock));
  FASTNN_LAUNCH(dropout_kernel<T>, grid, kElementwiseThreads, s.stream, args);
}

// Rows are kept or dropped whole: row r by lane r.
struct DropoutRows {
  static constexpr int kSums = 0;
  DropoutRowsArgs args;
  template <class Group, class Sums>
  __device__ __forceinline__ void row(const Group& g, Sums&) const {
    const PhiloxBlock block =
        philox(static_cast<uint64_t>(g.r / kLanesPerBlock), args.draw->offset, args.draw->seed);
    const int64_t at = g.r % kLanesPerBlock;
    const uint32_t lane = lane_of(block, at);
    g.map(g.row(args.x), args.y,
          [&](int64_t, float v) { return keep_or_drop(v, lane, args.keep); });
  }
};

// ---- a word for each element -------------------------------------------------------------------
struct GaussianNoise {
  float sigma;
  __device__ __forceinline__ float operator()(uint32_t word, float x) const {
    return gaussian_noise(x, word, sigma);
  }
};
// The number of thresholds <= u, by a binary search.
struct PoissonNoise {
  const int32_t* thresholds;
  int32_t half;
  float first, scale;
  __device__ __forceinline__ float operator()(uint32_t word, float x) const {
    const auto u = static_cast<int32_t>(word >> 8);
    int32_t count = 0;
    for (int32_t step = half; step > 0; step >>= 1)
      count += thresholds[count + step - 1] <= u ? step : 0;
    return x * ((first + static_cast<float>(count)) * scale);
  }
};
struct NormalSample {
  __device__ __forceinline__ float operator()(uint32_t word, float mean, float variance) const {
    return normal_sample(mean, variance, word);
  }
};
struct NormalSampleSlope {
  __device__ __forceinline__ float operator()(uint32_t word, float dy, float variance) const {
    return normal_sample_dvariance(dy, variance, word);
  }
};

template <class T>
void gaussian_dropout(const GaussianDropoutArgs& args, Slice s) {
  noise<T, 1>({{static_cast<const T*>(args.x)}}, args.y, args.n, args.draw,
              GaussianNoise{args.sigma}, s);
}
template <class T>
void poisson_dropout(const PoissonDropoutArgs& args, Slice s) {
  noise<T, 1>({{static_cast<const T*>(args.x)}}, args.y, args.n, args.draw,
              PoissonNoise{args.thresholds, 1 << args.log2_size >> 1, args.first, args.scale}, s);
}
template <class T>
void sample_normal(const SampleNormalArgs& args, Slice s) {
  noise<T, 2>({{static_cast<const T*>(args.mean), static_cast<const T*>(args.variance)}}, args.y,
              args.n, args.draw, NormalSample{}, s);
}
template <class T>
void sample_normal_bwd(const SampleNormalBwdArgs& args, Slice s) {
  noise<T, 2>({{static_cast<const T*>(args.dy), static_cast<const T*>(args.variance)}},
              args.dvariance, args.n, args.draw, NormalSampleSlope{}, s);
}

template <class T>
constexpr DropoutKernels kernels() {
  return {
      .dropout = dropout<T>,
      .dropout_rows = for_rows_of<T, DropoutRows>,
      .gaussian_dropout = gaussian_dropout<T>,
      .poisson_dropout = poisson_dropout<T>,
      .sample_normal = sample_normal<T>,
      .sample_normal_bwd = sample_normal_bwd<T>,
  };
}

}  // namespace

template <>
constinit const DropoutKernels cuda::Table<DropoutKernels>::of_dtype[kNumTableDTypes] = {
    kernels<float>(), kernels<bf16>(), kernels<f16>(), {}};

}  // namespace fastnn
