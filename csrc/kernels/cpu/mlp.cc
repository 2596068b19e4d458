// The fused step of a small network: none on the CPU, where a recorded step is one call already.
#include "../families/mlp.h"

#include "table.h"

namespace fastnn {

template <>
constinit const MlpKernels FASTNN_LEVEL::Table<MlpKernels>::of_dtype[kNumTableDTypes] = {
    {.mlp_step = nullptr}, {}, {}, {}};

}  // namespace fastnn
