// The elementwise half of linear's backward pass: dz = dy act'(saved) and the bias gradient, the
// column sums of dz, in one pass over memory. The products are GEMMs (gemm.h).
#pragma once
#include "loops.h"

namespace fastnn {
namespace {

constexpr int64_t kSumRows = 8;  // rows added in float32 before they go to the float64 sum

template <class A>
void linear_bwd_rows(const LinearBwdArgs& args, int64_t first, int width, Range rows, float (&acc)[kColumnChunk]) {
  const float a = args.activation_param;
  for (int64_t r = rows.begin; r < rows.end; ++r) {
    const float* dy = args.dy + r * args.cols + first;
    const float* saved = args.saved + (args.saved ? r * args.cols + first : 0);
    float* dz = args.dz + (args.dz ? r * args.cols + first : 0);
#pragma GCC ivdep
    for (int c = 0; c < width; ++c) {
      const float g = args.saved ? A::bwd(dy[c], saved[c], a) : dy[c];
      if (args.dz) dz[c] = g;
      acc[c] += g;
    }
  }
}

template <class... A>
auto linear_bwd_rows_of(int activation, ActivationList<A...>) {
  using Rows = void (*)(const LinearBwdArgs&, int64_t, int, Range, float (&)[kColumnChunk]);
  static constexpr Rows kRows[] = {linear_bwd_rows<A>...};
  return kRows[activation];
}

void linear_bwd(const LinearBwdArgs& args, Slice s) {
  const auto rows_kernel = linear_bwd_rows_of(args.activation, Activations{});
  for (int64_t task = s.begin; task < s.end; ++task) {
    const int64_t first = task * kColumnChunk;
    const int width = static_cast<int>(args.cols - first < kColumnChunk ? args.cols - first : kColumnChunk);
    double total[kColumnChunk] = {};
    for (int64_t r = 0; r < args.rows; r += kSumRows) {
      float acc[kColumnChunk] = {};
      rows_kernel(args, first, width, {r, r + kSumRows < args.rows ? r + kSumRows : args.rows}, acc);
      for (int c = 0; c < width; ++c) total[c] += static_cast<double>(acc[c]);
    }
    if (args.db != nullptr)
      for (int c = 0; c < width; ++c) args.db[first + c] = static_cast<float>(total[c]);
  }
}

}  // namespace
}  // namespace fastnn
