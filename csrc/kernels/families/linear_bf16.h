// Products of bfloat16 matrices, where one is a batch of one: an object of their own, since
// AVX512-BF16 matters here only.
#pragma once
#include "../gemm_batch.h"
#include "../kernel.h"

namespace fastnn {

struct LinearBf16Kernels {
  Kernel<GemmBf16BatchArgs> gemm_bf16_pack, gemm_bf16;
};

}  // namespace fastnn
