// How a family's kernels get into the table. Each family's .cu exports one symbol, its
// specialisation of Table. One that is missing does not link, an entry that is missing does not
// compile; what does not exist yet is an explicit nullptr.
#pragma once
#include "../kernel.h"

namespace fastnn::cuda {

// In the order of DType: float32, bfloat16, float16; uint8 has none.
template <class Family>
struct Table {
  static const Family of_dtype[kNumTableDTypes];
};

}  // namespace fastnn::cuda

namespace fastnn {
namespace {

// What exists for one dtype only is null for the others: launch() says so by name.
template <class T, class Args>
constexpr Kernel<Args> float32_only(Kernel<Args> kernel) {
  return sizeof(T) == sizeof(float) ? kernel : nullptr;
}

}  // namespace
}  // namespace fastnn
