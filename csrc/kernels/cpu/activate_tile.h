// Activations of a tile of results that a product has just stored.
#pragma once
#include "../formulas/activation.h"
#include "gemm_micro.h"

namespace fastnn {
namespace {

using ActivateTile = void (*)(float* c, int64_t ldc, int64_t rows, int64_t cols, float param);

template <class F>
void activate_tile(float* c, int64_t ldc, int64_t rows, int64_t cols, float param) {
  for (int64_t i = 0; i < rows; ++i, c += ldc) {
    if (cols == kNR) {  // a constant trip count
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

}  // namespace
}  // namespace fastnn
