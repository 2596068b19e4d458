// The kernels of one instruction set, from its families. Compiled with -DFASTNN_LEVEL=v4 but
// without that set's flags: it runs on every processor. With FASTNN_BASE_LEVEL the level has only
// its products of bfloat16 to itself, and everything else from that level.
#include "table.h"

#include "../kernels.h"

namespace fastnn {

#if defined(FASTNN_BASE_LEVEL)
namespace FASTNN_BASE_LEVEL {
template <class Family>
struct Table {
  static const Family of_dtype[kNumTableDTypes];
};
}  // namespace FASTNN_BASE_LEVEL
#endif

namespace {

#if defined(FASTNN_BASE_LEVEL)
template <class Family>
struct Source : FASTNN_BASE_LEVEL::Table<Family> {};
template <>
struct Source<LinearBf16Kernels> : FASTNN_LEVEL::Table<LinearBf16Kernels> {};
#else
template <class Family>
struct Source : FASTNN_LEVEL::Table<Family> {};
#endif

template <class... Family>
FamilyList<Family...> of_dtype(int dtype, const FamilyList<Family...>*) {
  return {Source<Family>::of_dtype[dtype]...};
}
Kernels of_dtype(int dtype) { return of_dtype(dtype, static_cast<const Kernels*>(nullptr)); }

}  // namespace

const KernelTable& FASTNN_LEVEL::kernels() {
  static const KernelTable table = {of_dtype(0), of_dtype(1), of_dtype(2), of_dtype(3)};
  return table;
}

}  // namespace fastnn
