// The CPU's table of kernels. Compiled once per instruction set with -DFASTNN_TABLE=kernels_v4 and
// that set's flags, it exports that one symbol: everything else is in anonymous namespaces and no
// standard library is used, so that the linker cannot mix code of two sets.
#include "activation.h"
#include "dropout.h"
#include "gemm.h"
#include "linear.h"
#include "norm.h"
#include "optim.h"
#include "reduce.h"
#include "softmax.h"

namespace fastnn {
namespace {

// What exists for one dtype only is null for the others: launch() says so by name.
template <class T, class Args>
constexpr Kernel<Args> float32_only(Kernel<Args> kernel) {
  return sizeof(T) == sizeof(float) ? kernel : nullptr;
}

#pragma GCC diagnostic error "-Wmissing-field-initializers"  // a forgotten entry does not compile
template <class T, class... A>
constexpr Kernels table(ActivationList<A...>) {
  return {
      .activation_fwd = {activation_fwd<T, A>...},
      .activation_bwd = {activation_bwd<T, A>...},
      .binary = {binary<T, Add>, binary<T, Sub>, binary<T, Mul>, binary<T, Div>, binary<T, Rsub>,
                 binary<T, Rdiv>},
      .fill = fill<T>,
      .to_float32 = convert<float, T>,
      .from_float32 = convert<T, float>,
      .uniform = uniform<T>,
      .gemm_pack = float32_only<T, GemmArgs>(gemm_pack),
      .gemm_packed = float32_only<T, GemmArgs>(gemm_packed),
      .gemm_small = float32_only<T, GemmArgs>(gemm_small),
      .linear_bwd = float32_only<T, LinearBwdArgs>(linear_bwd),
      .layer_norm_fwd = layer_norm_fwd<T>,
      .layer_norm_bwd = layer_norm_bwd<T>,
      .layer_norm_bwd_params = layer_norm_bwd_params<T>,
      .softmax_fwd = softmax_fwd<T, false>,
      .log_softmax_fwd = softmax_fwd<T, true>,
      .softmax_bwd = softmax_bwd<T, false>,
      .log_softmax_bwd = softmax_bwd<T, true>,
      .logsumexp_fwd = logsumexp_fwd<T>,
      .logsumexp_bwd = logsumexp_bwd<T>,
      .cross_entropy_fwd = cross_entropy_fwd<T>,
      .cross_entropy_bwd = cross_entropy_bwd<T>,
      .sum_chunks = sum_chunks<T>,
      .sum_combine = sum_combine<T>,
      .count_correct = float32_only<T, CountCorrectArgs>(count_correct),
      .accumulate = float32_only<T, AccumulateArgs>(accumulate),
      .rng_draw = rng_draw,
      .dropout = dropout<T>,
      .shuffle_keys = shuffle_keys,
      .gather = gather,
      .advance = advance,
      .optim_begin = optim_begin,
      .optim_check = optim_check<T>,
      .sgd = sgd<T>,
      .adam = adam<T>,
      .grad_norm_chunks = grad_norm_chunks<T>,
      .grad_norm_combine = grad_norm_combine,
      .grad_scale = grad_scale<T>,
  };
}

}  // namespace

// In the order of DType. float16 and uint8 have no kernels on the CPU yet.
constinit const KernelTable FASTNN_TABLE = {
    table<float>(Activations{}), table<bf16>(Activations{}), {}, {}};

}  // namespace fastnn
