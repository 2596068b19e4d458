// The CUDA table of kernels of one dtype. Compiled once per dtype, with -DFASTNN_DTYPE=bf16 and
// -DFASTNN_TABLE=kernels_cuda_bf16, it exports that one symbol. Invariant: what does not exist yet is
// an explicit nullptr (a forgotten entry does not compile).
#include "activation.cuh"
#include "norm.cuh"
#include "optim.cuh"

namespace fastnn {
namespace {

template <class T, class... A>
constexpr Kernels table(ActivationList<A...>) {
  return {
      .activation_fwd = {activation_fwd<T, A>...},
      .activation_bwd = {activation_bwd<T, A>...},
      .binary = {},
      .fill = nullptr,
      .to_float32 = nullptr,
      .from_float32 = nullptr,
      .uniform = nullptr,
      .gemm_pack = nullptr,
      .gemm_packed = nullptr,
      .gemm_small = nullptr,
      .linear_bwd = nullptr,
      .layer_norm_fwd = layer_norm_fwd<T>,
      .layer_norm_bwd = layer_norm_bwd<T>,
      .layer_norm_bwd_params = layer_norm_bwd_params<T>,
      .softmax_fwd = nullptr,
      .log_softmax_fwd = nullptr,
      .softmax_bwd = nullptr,
      .log_softmax_bwd = nullptr,
      .logsumexp_fwd = nullptr,
      .logsumexp_bwd = nullptr,
      .cross_entropy_fwd = nullptr,
      .cross_entropy_bwd = nullptr,
      .sum_chunks = nullptr,
      .sum_combine = nullptr,
      .count_correct = nullptr,
      .accumulate = nullptr,
      .rng_draw = nullptr,
      .dropout = nullptr,
      .shuffle_keys = nullptr,
      .gather = nullptr,
      .advance = nullptr,
      .optim_begin = optim_begin,
      .optim_check = optim_check<T>,
      .sgd = nullptr,
      .adam = adam<T>,
      .grad_norm_chunks = nullptr,
      .grad_norm_combine = nullptr,
      .grad_scale = nullptr,
  };
}

}  // namespace

extern const Kernels FASTNN_TABLE;
constinit const Kernels FASTNN_TABLE = table<FASTNN_DTYPE>(Activations{});

}  // namespace fastnn
