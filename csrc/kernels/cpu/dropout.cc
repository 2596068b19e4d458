// Dropout and its relatives. Every factor is a function of (seed, offset, element), so any split
// over threads draws the same bits, and backward draws them again.
#include "../families/dropout.h"

#include "philox_batch.h"
#include "table.h"

namespace fastnn {
namespace {

template <class T>
void dropout(const DropoutArgs& args, Slice s) {
  const auto* x = static_cast<const T*>(args.x);
  auto* y = static_cast<T*>(args.y);
  const Keep keep = args.keep;
  for_lanes(elements(s, kElementwiseChunk, args.n), *args.draw,
            [=](int64_t i, uint32_t lane) __attribute__((always_inline)) {
              y[i] = from_float<T>(keep_or_drop(to_float(x[i]), lane, keep));
            });
}

template <class T>
void dropout_rows(const DropoutRowsArgs& args, Slice s) {
  const Range rows = elements(s, rows_per_task(args.cols), args.rows);
  for (int64_t r = rows.begin; r < rows.end; ++r) {
    const PhiloxBlock block =
        philox(static_cast<uint64_t>(r / kLanesPerBlock), args.draw->offset, args.draw->seed);
    const uint32_t lane = lane_of(block, r % kLanesPerBlock);
    map(static_cast<const T*>(args.x), static_cast<T*>(args.y),
        {r * args.cols, (r + 1) * args.cols},
        [lane, keep = args.keep](float x) { return keep_or_drop(x, lane, keep); });
  }
}

template <class T>
void gaussian_dropout(const GaussianDropoutArgs& args, Slice s) {
  const auto* x = static_cast<const T*>(args.x);
  auto* y = static_cast<T*>(args.y);
  const float sigma = args.sigma;
  for_words(elements(s, kElementwiseChunk, args.n), *args.draw,
            [=](int64_t i, uint32_t word) __attribute__((always_inline)) {
              y[i] = from_float<T>(gaussian_noise(to_float(x[i]), word, sigma));
            });
}

// The binary search takes the same steps whatever u is, so that it vectorises.
template <class T>
void poisson_dropout(const PoissonDropoutArgs& args, Slice s) {
  const auto* x = static_cast<const T*>(args.x);
  auto* y = static_cast<T*>(args.y);
  const int32_t* thresholds = args.thresholds;
  const int32_t half = 1 << args.log2_size >> 1;
  const float first = args.first, scale = args.scale;
  for_words(elements(s, kElementwiseChunk, args.n), *args.draw,
            [=](int64_t i, uint32_t word) __attribute__((always_inline)) {
              const auto u = static_cast<int32_t>(word >> 8);
              int32_t count = 0;
              for (int32_t step = half; step > 0; step >>= 1)
                count += thresholds[count + step - 1] <= u ? step : 0;
              y[i] = from_float<T>(to_float(x[i]) * ((first + static_cast<float>(count)) * scale));
            });
}

template <class T>
void sample_normal(const SampleNormalArgs& args, Slice s) {
  const auto *mean = static_cast<const T*>(args.mean),
             *variance = static_cast<const T*>(args.variance);
  auto* y = static_cast<T*>(args.y);
  for_words(elements(s, kElementwiseChunk, args.n), *args.draw,
            [=](int64_t i, uint32_t word) __attribute__((always_inline)) {
              y[i] = from_float<T>(normal_sample(to_float(mean[i]), to_float(variance[i]), word));
            });
}

template <class T>
void sample_normal_bwd(const SampleNormalBwdArgs& args, Slice s) {
  const auto *dy = static_cast<const T*>(args.dy), *variance = static_cast<const T*>(args.variance);
  auto* dvariance = static_cast<T*>(args.dvariance);
  for_words(elements(s, kElementwiseChunk, args.n), *args.draw,
            [=](int64_t i, uint32_t word) __attribute__((always_inline)) {
              dvariance[i] = from_float<T>(
                  normal_sample_dvariance(to_float(dy[i]), to_float(variance[i]), word));
            });
}

template <class T>
constexpr DropoutKernels kernels() {
  return {
      .dropout = dropout<T>,
      .dropout_rows = dropout_rows<T>,
      .gaussian_dropout = gaussian_dropout<T>,
      .poisson_dropout = poisson_dropout<T>,
      .sample_normal = sample_normal<T>,
      .sample_normal_bwd = sample_normal_bwd<T>,
  };
}

}  // namespace

template <>
constinit const DropoutKernels FASTNN_LEVEL::Table<DropoutKernels>::of_dtype[kNumTableDTypes] = {
    kernels<float>(), kernels<bf16>(), {}, {}};

}  // namespace fastnn
