// The whole contract between ops and targets: one table of kernels per (target, storage dtype),
// which is the families' tables side by side. A null entry: no such kernel for this dtype here.
#pragma once
#include "families/augment.h"
#include "families/conv.h"
#include "families/dropout.h"
#include "families/elementwise.h"
#include "families/embedding.h"
#include "families/linear.h"
#include "families/linear_bf16.h"
#include "families/loss.h"
#include "families/margin.h"
#include "families/mlp.h"
#include "families/movement.h"
#include "families/norm.h"
#include "families/optim.h"
#include "families/parametric.h"
#include "families/penalty.h"
#include "families/pool.h"
#include "families/random.h"
#include "families/recurrent.h"
#include "families/reduce.h"
#include "families/softmax.h"

namespace fastnn {

template <class... Family>
struct FamilyList : Family... {};
using Kernels =
    FamilyList<AugmentKernels, ConvKernels, DropoutKernels, ElementwiseKernels, EmbeddingKernels,
               LinearKernels, LinearBf16Kernels, LossKernels, MarginKernels, MlpKernels,
               MovementKernels, NormKernels, OptimKernels, ParametricKernels, PenaltyKernels,
               PoolKernels, RandomKernels, RecurrentKernels, ReduceKernels, SoftmaxKernels>;
using KernelTable = Kernels[kNumTableDTypes];

// One per compiled instruction set (cpu/table.cc); see core/dispatch.cc.
namespace v2 {
const KernelTable& kernels();
}
namespace v3 {
const KernelTable& kernels();
}
namespace v4 {
const KernelTable& kernels();
}
namespace v4bf16 {
const KernelTable& kernels();
}
namespace v4amx {
const KernelTable& kernels();
}
namespace arm {
const KernelTable& kernels();
}

}  // namespace fastnn
