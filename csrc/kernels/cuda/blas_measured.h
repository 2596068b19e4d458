// Which path was the fastest where it was measured: tools/gpu_check.py prints these lines.
// Invariant: nothing stands here that was not measured on the device it speaks of.
#pragma once
#include <span>

#include "blas.h"

namespace fastnn::blas {

// A shape of a form: whether each factor is contiguous along k.
struct Measured {
  Type type;
  bool a_along_k, b_along_k;
  int64_t m, n, k;
  Path fastest;
};
// Nothing has been measured yet.
inline constexpr std::span<const Measured> kMeasured{};

// The first entry of the product's form, each of whose sizes is within a factor of two of the
// product's; kAnyone if there is none.
constexpr Path fastest_of(std::span<const Measured> measured, const Product& p) {
  const auto near = [](int64_t x, int64_t y) { return x <= 2 * y && y <= 2 * x; };
  for (const Measured& it : measured)
    if (it.type == p.type && it.a_along_k == (p.a_col == 1) && it.b_along_k == (p.b_row == 1) &&
        near(it.m, p.m) && near(it.n, p.n) && near(it.k, p.k))
      return it.fastest;
  return kAnyone;
}

}  // namespace fastnn::blas
