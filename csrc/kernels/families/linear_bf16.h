// Products whose factors are multiplied as 16-bit numbers and summed in float32, where one is a
// batch of one: an object of their own, since AVX512-BF16 and AMX matter here only.
#pragma once
#include "../gemm_batch.h"
#include "../kernel.h"

namespace fastnn {

struct LinearBf16Kernels {
  // Of bfloat16 matrices; in the table of float16, of those.
  Kernel<GemmBf16BatchArgs> gemm_bf16_pack, gemm_bf16;
  // Of float32 matrices with factors rounded to bfloat16 ("medium": planned as products of bfloat16
  // are) or to TF32 ("high"). Null where they would not be faster than those of float32.
  Kernel<GemmBatchArgs> gemm_medium_pack, gemm_medium, gemm_high;
};

}  // namespace fastnn
