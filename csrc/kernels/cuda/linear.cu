// Matrix products, and the backward of a layer. They need no packing, so one kernel serves all
// plans.
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
    {},
    {}};

template <>
constinit const LinearBf16Kernels cuda::Table<LinearBf16Kernels>::of_dtype[kNumTableDTypes] = {
    {}, {.gemm_bf16_pack = nullptr, .gemm_bf16 = gemm_batch<bf16>}, {}, {}};

}  // namespace fastnn
