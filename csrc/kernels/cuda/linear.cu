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
        .gemm_batch = gemm_batch,
        .linear_bwd = linear_bwd,
    },
    {},
    {},
    {}};

}  // namespace fastnn
