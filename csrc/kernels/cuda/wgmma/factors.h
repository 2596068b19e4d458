// The factors of a product as TMA copies them.
#pragma once
#include "../blas.h"
#include "job.h"
#include "tensor_map.h"

namespace fastnn::wgmma {

inline bool a_is_along_k(const blas::Product& p) { return p.a_col == 1; }
inline bool b_is_along_k(const blas::Product& p) { return p.b_row == 1; }
inline uint32_t size_of(const blas::Product& p) { return p.type == blas::kFloat32 ? 4 : 2; }

// Of `side` rows or columns by k, with `other` elements from line to line and `step` from item to
// item; `high` of its rows or columns are in a tile.
inline Matrix factor(const blas::Product& p, const void* base, bool along_k, int64_t side,
                     int64_t other, int64_t step, int high) {
  const uint32_t size = size_of(p), line = kLineBytes / size;
  const auto s = static_cast<uint64_t>(side), k = static_cast<uint64_t>(p.k);
  const bool one = p.items == 1 || step == 0;
  const auto lines = static_cast<uint64_t>(along_k ? side : p.k);
  const uint64_t between = static_cast<uint64_t>(other) * size;
  return {.base = base,
          .extent = {along_k ? k : s, lines, one ? 1 : static_cast<uint64_t>(p.items)},
          .step = {between, one ? between * lines : static_cast<uint64_t>(step) * size},
          .box = {line, along_k ? static_cast<uint32_t>(high) : line, 1},
          .size = size};
}
inline Matrix factor_a(const blas::Product& p) {
  const bool along_k = a_is_along_k(p);
  return factor(p, p.a, along_k, p.m, along_k ? p.a_row : p.a_col, p.a_step, kRows);
}
inline Matrix factor_b(const blas::Product& p, int high) {
  const bool along_k = b_is_along_k(p);
  return factor(p, p.b, along_k, p.n, along_k ? p.b_col : p.b_row, p.b_step, high);
}

}  // namespace fastnn::wgmma
