// The CUDA table of kernels of one dtype. Compiled once per dtype, with -DFASTNN_DTYPE=bf16 and
// -DFASTNN_TABLE=kernels_cuda_bf16, it exports that one symbol. Invariant: what does not exist yet
// is an explicit nullptr (a forgotten entry does not compile), or a whole family of them.
#include "activation.cuh"
#include "dropout.cuh"
#include "norm.cuh"
#include "optim.cuh"

namespace fastnn {
namespace {

template <class T, class... A>
constexpr ElementwiseKernels elementwise(ActivationList<A...>) {
  return {
      .activation_fwd = {activation_fwd<T, A>...},
      .activation_bwd = {activation_bwd<T, A>...},
      .binary = {binary<T, Add>, binary<T, Sub>, binary<T, Mul>, binary<T, Div>,
                 binary<T, Reversed<Sub>>, binary<T, Reversed<Div>>},
      .add_activation = {},  // pending
      .fill = fill<T>,
      .to_float32 = convert<float, T>,
      .from_float32 = convert<T, float>,
  };
}

template <class T>
constexpr NormKernels norm() {
  return {
      .layer_norm_fwd = layer_norm_fwd<T>,
      .rms_norm_fwd = nullptr,
      .layer_norm_bwd = layer_norm_bwd<T>,
      .rms_norm_bwd = nullptr,
      .layer_norm_bwd_params = layer_norm_bwd_params<T>,
      .plane_norm_fwd = nullptr,
      .column_norm_fwd = nullptr,
      .plane_norm_bwd = nullptr,
      .column_norm_bwd = nullptr,
      .channel_norm_bwd_params = nullptr,
      .running_stats = nullptr,
  };
}

template <class T>
constexpr DropoutKernels dropout_family() {
  return {
      .dropout = dropout<T>,
      .dropout_rows = nullptr,
      .gaussian_dropout = nullptr,
      .poisson_dropout = nullptr,
      .sample_normal = nullptr,
      .sample_normal_bwd = nullptr,
  };
}

template <class T>
constexpr RandomKernels random() {
  return {
      .rng_draw = rng_draw,
      .uniform = uniform<T>,
      .shuffle_keys = nullptr,
  };
}

template <class T>
constexpr ReduceKernels reduce() {
  return {
      .sum_chunks = sum_chunks<T>,
      .sum_combine = sum_combine<T>,
      .count_correct = nullptr,
      .accumulate = sizeof(T) == sizeof(float) ? accumulate : nullptr,
  };
}

template <class T, class... R>
constexpr OptimKernels optim(OptimRuleList<R...>) {
  return {
      .optim_begin = optim_begin,
      .optim_check = optim_check<T>,
      .optim_update = {optim_update<T, R>...},
      .grad_norm_max = nullptr,
      .grad_norm_sum = grad_norm_sum<T>,
      .grad_norm_combine = grad_norm_combine,
      .grad_scale = grad_scale<T>,
      .grad_clamp = grad_clamp<T>,
  };
}

template <class T>
constexpr Kernels table() {
  return {
      AugmentKernels{},  // pending
      ConvKernels{},     // pending
      dropout_family<T>(),
      elementwise<T>(Activations{}),
      EmbeddingKernels{},   // pending
      LinearKernels{},      // pending
      LinearBf16Kernels{},  // pending
      LossKernels{},        // pending
      MarginKernels{},      // pending
      MovementKernels{
          .gather = nullptr, .copy_rows = nullptr, .transpose = nullptr, .advance = advance},
      norm<T>(),
      optim<T>(OptimRules{}),
      ParametricKernels{},  // pending
      PenaltyKernels{},     // pending
      PoolKernels{},        // pending
      random<T>(),
      RecurrentKernels{},  // pending
      reduce<T>(),
      SoftmaxKernels{},  // pending
  };
}

}  // namespace

extern const Kernels FASTNN_TABLE;
constinit const Kernels FASTNN_TABLE = table<FASTNN_DTYPE>();

}  // namespace fastnn
