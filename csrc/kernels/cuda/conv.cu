// Convolution: which kernel serves a shape, and the small ones around the products.
#include "column.cuh"
#include "conv_depthwise.cuh"

namespace fastnn {
namespace {

bool is_depthwise(const ConvGrid& g) { return g.channels == 1 && g.filters == 1; }

template <class T>
void conv(const ConvArgs& args, Slice s) {
  is_depthwise(args.grid) ? conv_depthwise<T>(args, s) : conv_tiles<T>(args, s);
}
template <class T>
void conv_bwd_weight(const ConvWeightArgs& args, Slice s) {
  is_depthwise(args.grid) ? conv_depthwise_weight<T>(args, s) : conv_weight_tiles<T>(args, s);
}
template <class T>
void conv_bwd_weight_sum(const ConvWeightSumArgs& args, Slice s) {
  const int64_t size = args.grid.groups * args.grid.filters * args.grid.depth();
  sum_columns(args.partials, size, static_cast<T*>(args.dw), args.chunks, size, s);
}

// ---- turned weights ----------------------------------------------------------------------------
template <class T>
__global__ void __launch_bounds__(kElementwiseThreads) conv_pack_kernel(ConvPackArgs args) {
  const ConvPackAxis &h = args.h, &w = args.w_axis;
  const int64_t taps = int64_t{h.taps} * w.taps, all = int64_t{h.all} * w.all;
  const int64_t kernels = args.rows * args.channels;  // of a group
  each_element(args.groups * kernels * taps, [&](int64_t e) {
    const int64_t pair = e / taps, tap = e - pair * taps;  // pair: (group, row, channel)
    const int64_t task = pair / args.channels, channel = pair - task * args.channels;
    const int64_t group = task / args.rows, row = task - group * args.rows;
    const int64_t i = tap / w.taps, j = tap % w.taps;
    const int64_t from = group * kernels + row * args.row_step + channel * args.channel_step;
    static_cast<T*>(args.packed)[e] = static_cast<const T*>(
        args.w)[from * all + (h.first + i * h.step) * w.all + w.first + j * w.step];
  });
}
template <class T>
void conv_pack(const ConvPackArgs& args, Slice s) {
  const int64_t n = args.groups * args.rows * args.channels * args.h.taps * args.w_axis.taps;
  if (n > 0)
    FASTNN_LAUNCH((conv_pack_kernel<T>), element_grid(n), kElementwiseThreads, s.stream, args);
}

// ---- gradient of the bias ----------------------------------------------------------------------
// Sums of chunks of a channel's vectors, image by image. Tasks: (chunk, channel).
template <class T>
__global__ void __launch_bounds__(kConvThreads) conv_bias_kernel(ConvBiasArgs args, const T* dz) {
  const bool aligned = rows_aligned(dz, args.size);
  const int64_t per_plane = ceil_div(args.size, kVec<T>), vectors = args.batch * per_plane;
  for (int64_t task = blockIdx.x; task < args.chunks * args.channels; task += gridDim.x) {
    const int64_t chunk = task / args.channels, channel = task - chunk * args.channels;
    const int64_t end = conv_begin(vectors, chunk + 1, args.chunks);
    double sum = 0;
    for (int64_t v = conv_begin(vectors, chunk, args.chunks) + threadIdx.x; v < end;
         v += kConvThreads) {
      const int64_t image = v / per_plane, i = (v - image * per_plane) * kVec<T>;
      const T* from = dz + (image * args.channels + channel) * args.size + i;
      const auto d = load<kVec<T>>(from, args.size - i, aligned);
      FASTNN_UNROLL
      for (int k = 0; k < kVec<T>; ++k) sum += static_cast<double>(to_float(d.v[k]));
    }
    sum = group_sum<kConvThreads>(sum);
    if (threadIdx.x == 0) args.partials[task] = sum;
  }
}
template <class T>
void conv_bwd_bias(const ConvBiasArgs& args, Slice s) {
  const auto *dy = static_cast<const T*>(args.dy), *saved = static_cast<const T*>(args.saved);
  const int64_t n = args.batch * args.channels * args.size;
  if (saved != nullptr)
    activation_bwd_of<T>(args.activation, Activations{})(
        {dy, saved, args.dz, n, args.activation_param}, s);
  if (args.db == nullptr) return;
  const T* dz = saved != nullptr ? static_cast<const T*>(args.dz) : dy;
  FASTNN_LAUNCH((conv_bias_kernel<T>), grid_for(args.chunks * args.channels), kConvThreads,
                s.stream, args, dz);
  sum_columns(args.partials, args.channels, static_cast<T*>(args.db), args.chunks, args.channels,
              s);
}

template <class T>
void conv_phases(const ConvPhasesArgs& args, Slice s) {
  for (int32_t i = 0; i < args.count; ++i) conv<T>(args.phases[i], s);
}

template <class T>
constexpr ConvKernels kernels() {
  return {
      .conv = conv<T>,
      .conv_phases = conv_phases<T>,
      .conv_pack = conv_pack<T>,
      .conv_bwd_weight = conv_bwd_weight<T>,
      .conv_bwd_weight_sum = conv_bwd_weight_sum<T>,
      .conv_bwd_bias = conv_bwd_bias<T>,
  };
}

}  // namespace

template <>
constinit const ConvKernels cuda::Table<ConvKernels>::of_dtype[kNumTableDTypes] = {
    kernels<float>(), kernels<bf16>(), kernels<f16>(), {}};

}  // namespace fastnn
