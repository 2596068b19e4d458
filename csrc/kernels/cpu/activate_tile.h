// What follows the sums of a tile that a product has just stored: activation, dropout.
#pragma once
#include "../formulas/activation.h"
#include "gemm_micro.h"
#include "philox_batch.h"

namespace fastnn {
namespace {

using ActivateTile = void (*)(float* c, int64_t ldc, int64_t rows, int64_t cols, float param);

template <class F>
void activate_tile(float* c, int64_t ldc, int64_t rows, int64_t cols, float param) {
  for (int64_t i = 0; i < rows; ++i, c += ldc) {
    if (cols == kNR) {  // a constant trip count, which GCC would unroll before it looks for vectors
#pragma GCC unroll 1
      for (int64_t j = 0; j < kNR; ++j) c[j] = F::fwd(c[j], param);
    } else {
      for (int64_t j = 0; j < cols; ++j) c[j] = F::fwd(c[j], param);
    }
  }
}

struct ActivateTable {
  ActivateTile tile[Activations::kSize];
};
template <class... F>
constexpr ActivateTable activate_table(ActivationList<F...>) {
  return {{activate_tile<F>...}};
}
inline constexpr ActivateTable kActivate = activate_table(Activations{});

// The place of a formula among the activations.
template <class F, class G, class... More>
constexpr int activation_of(ActivationList<G, More...>) {
  if constexpr (__is_same(F, G))
    return 0;
  else
    return 1 + activation_of<F>(ActivationList<More...>{});
}
// Cheap enough for registers, before a tile is stored: stores across cache lines are not forwarded
// to loads that come soon.
inline constexpr int kRelu = activation_of<Relu>(Activations{});

// Dropout of the rows from i and the columns from j on of C, which are at c.
template <class T>
void drop_tile(const GemmArgsOf<T>& g, float* c, int64_t ldc, int64_t i, int64_t j, int64_t rows,
               int64_t cols) {
  for (int64_t r = 0; r < rows; ++r, c += ldc)
    for_lanes_at((i + r) * g.ldc + j, cols, *g.draw,
                 [c, keep = g.keep](int64_t x, uint32_t lane)
                     __attribute__((always_inline)) { c[x] = keep_or_drop(c[x], lane, keep); });
}

}  // namespace
}  // namespace fastnn
