// Matrix products, and the backward of a layer. They need no packing, so one kernel serves all
// plans.
#include <bit>

#include "gemm.cuh"

namespace fastnn {

template <>
constinit const LinearKernels cuda::Table<LinearKernels>::of_dtype[kNumTableDTypes] = {
    {
        .gemm_pack = nullptr,
        .gemm_packed = nullptr,
        .gemm_small = gemm,
        .gemm_batch_pack = nullptr,
        .gemm_batch = gemm_batch<float>,
        .linear_bwd = linear_bwd<float>,
    },
    {
        .gemm_pack = nullptr,
        .gemm_packed = nullptr,
        .gemm_small = nullptr,
        .gemm_batch_pack = nullptr,
        .gemm_batch = nullptr,
        .linear_bwd = linear_bwd<bf16>,
    },
    {
        .gemm_pack = nullptr,
        .gemm_packed = nullptr,
        .gemm_small = nullptr,
        .gemm_batch_pack = nullptr,
        .gemm_batch = nullptr,
        .linear_bwd = linear_bwd<f16>,
    },
    {}};

namespace {

// The arguments are of any 16-bit numbers: here, of float16.
void gemm_f16(const GemmBf16BatchArgs& batch, Slice s) {
  gemm_batch(std::bit_cast<GemmBatchArgsOf<f16>>(batch), s);
}

constexpr LinearBf16Kernels products(Kernel<GemmBf16BatchArgs> gemm) {
  return {
      .gemm_bf16_pack = nullptr,
      .gemm_bf16 = gemm,
      .gemm_medium_pack = nullptr,
      .gemm_medium = nullptr,
      .gemm_high = nullptr,
  };
}

}  // namespace

template <>
constinit const LinearBf16Kernels cuda::Table<LinearBf16Kernels>::of_dtype[kNumTableDTypes] = {
    {}, products(gemm_batch<bf16>), products(gemm_f16), {}};

}  // namespace fastnn
