// How a family's kernels get into the table. Each family's .cc is compiled once per instruction set
// with -DFASTNN_LEVEL=v4 and that set's flags, and exports one symbol, its specialisation of Table:
// everything else is in anonymous namespaces and no standard library is used, so that the linker
// cannot mix code of two sets. One that is missing does not link, an entry that is missing does not
// compile.
#pragma once
#include "../kernel.h"

#pragma GCC diagnostic error "-Wmissing-field-initializers"

namespace fastnn {
namespace FASTNN_LEVEL {

// In the order of DType. float16 has no kernels on the CPU yet, uint8 those of augment.
template <class Family>
struct Table {
  static const Family of_dtype[kNumTableDTypes];
};

}  // namespace FASTNN_LEVEL

namespace {

// What exists for one dtype only is null for the others: launch() says so by name.
template <class T, class Args>
constexpr Kernel<Args> float32_only(Kernel<Args> kernel) {
  return sizeof(T) == sizeof(float) ? kernel : nullptr;
}

}  // namespace
}  // namespace fastnn
