// What the GEMM tools share: aligned arrays, and the strides of NN, NT and TN.
#pragma once
#include <sys/mman.h>

#include <cstdlib>
#include <cstring>

#include "../csrc/kernels/cpu/gemm_spans.h"

namespace fastnn {
namespace {

struct AlignedScratch {  // aligned and in huge pages, as core/allocator.cc does it
  explicit AlignedScratch(int64_t floats) {
    const size_t bytes = floats * 4 + 64, unit = bytes < 1 << 21 ? 64 : 1 << 21;
    const size_t whole = (bytes + unit - 1) / unit * unit;
    p = static_cast<float*>(std::aligned_alloc(unit, whole));
    if (unit > 64) madvise(p, whole, MADV_HUGEPAGE);
    std::memset(p, 0xff, floats * 4);  // NaN
  }
  ~AlignedScratch() { std::free(p); }
  float* p;
};

void set_transposes(GemmArgs& g, bool ta, bool tb, int64_t pad) {
  g.a_row = ta ? 1 : g.k + pad;
  g.a_col = ta ? g.m + pad : 1;
  g.b_row = tb ? 1 : g.n + pad;
  g.b_col = tb ? g.k + pad : 1;
}

}  // namespace
}  // namespace fastnn
