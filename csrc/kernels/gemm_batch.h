// A batch of products of one shape in one launch. Every product is cut and summed as it is alone
// (gemm_plan.h), so an item of the batch has the bits of the same product by itself.
#pragma once
#include "gemm_plan.h"

namespace fastnn {

inline constexpr int kGemmBatchAxes = 8;

// A leading axis of the batch, and what one step on it adds to the addresses; 0 where an operand is
// the same for the whole axis, or where C is the sum over it.
struct GemmBatchAxis {
  int64_t size, a, b, c, bias;
};

// C[i] = act(A[i] B[i] + bias[i]), or C[i] = sum_t A[i, t] B[i, t], t in order, then without
// bias, z or activation. The axes of the items stand before those of the terms.
struct GemmBatchArgs {
  GemmArgs one;  // the first product; scratch for all of them
  GemmBatchAxis axes[kGemmBatchAxes];
  int32_t num_axes;
  int64_t items, terms;
};

// Internal linkage: the kernels of every instruction set include this, and must not share code.
namespace {

// The arguments of product `index`, which counts terms within items.
constexpr GemmArgs gemm_item(const GemmBatchArgs& batch, const GemmPlan& plan, int64_t index) {
  GemmArgs g = batch.one;
  if (plan.packed) g.scratch += index * plan.scratch();
  for (int32_t axis = batch.num_axes - 1; axis >= 0; --axis) {
    const GemmBatchAxis& along = batch.axes[axis];
    const int64_t at = index % along.size;
    index /= along.size;
    g.a += at * along.a;
    g.b += at * along.b;
    g.c += at * along.c;
    if (g.z) g.z += at * along.c;
    if (g.bias) g.bias += at * along.bias;
  }
  return g;
}

}  // namespace
}  // namespace fastnn
