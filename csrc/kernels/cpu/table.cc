// The kernels of one instruction set, from its families. Compiled with -DFASTNN_LEVEL=v4 but
// without that set's flags: it runs on every processor.
#include "table.h"

#include "../kernels.h"

namespace fastnn {
namespace {

template <class... Family>
FamilyList<Family...> of_dtype(int dtype, const FamilyList<Family...>*) {
  return {FASTNN_LEVEL::Table<Family>::of_dtype[dtype]...};
}
Kernels of_dtype(int dtype) { return of_dtype(dtype, static_cast<const Kernels*>(nullptr)); }

}  // namespace

const KernelTable& FASTNN_LEVEL::kernels() {
  static const KernelTable table = {of_dtype(0), of_dtype(1), of_dtype(2), of_dtype(3)};
  return table;
}

}  // namespace fastnn
