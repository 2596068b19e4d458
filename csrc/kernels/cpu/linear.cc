// The elementwise half of linear's backward pass: dz = dy act'(saved) and the bias gradient, the
// column sums of dz, in one pass over memory. The products are GEMMs (gemm.h).
#include "../families/linear.h"

#include "gemm_spans.h"
#include "loops.h"
#include "table.h"

namespace fastnn {
namespace {

constexpr int64_t kSumRows = 16;  // rows added in float32 before they go to the float64 sum

// Columns [first, first + width) of some rows; kFull says that width is kColumnChunk.
template <class T, class A, bool kFull>
void linear_bwd_rows(const LinearBwdArgs& args, int64_t first, int width, Range rows,
                     double (&total)[kColumnChunk]) {
  const int n = kFull ? kColumnChunk : width;
  const float a = args.activation_param;
  float acc[kColumnChunk] = {};
  for (int64_t r = rows.begin; r < rows.end; ++r) {
    const auto* dy = static_cast<const T*>(args.dy) + r * args.cols + first;
    if (args.saved == nullptr) {
      for (int c = 0; c < n; ++c) acc[c] += to_float(dy[c]);
      continue;
    }
    const auto* saved = static_cast<const T*>(args.saved) + r * args.cols + first;
    auto* dz = static_cast<T*>(args.dz) + r * args.cols + first;
#pragma GCC ivdep
    for (int c = 0; c < n; ++c) {
      const float g = A::bwd(to_float(dy[c]), to_float(saved[c]), a);
      dz[c] = from_float<T>(g);
      acc[c] += g;
    }
  }
  for (int c = 0; c < n; ++c) total[c] += static_cast<double>(acc[c]);
}

using LinearBwdRows = void (*)(const LinearBwdArgs&, int64_t, int, Range, double (&)[kColumnChunk]);

template <class T, class... A>
LinearBwdRows linear_bwd_rows_of(int activation, bool full, ActivationList<A...>) {
  static constexpr LinearBwdRows kRows[2][sizeof...(A)] = {{linear_bwd_rows<T, A, false>...},
                                                           {linear_bwd_rows<T, A, true>...}};
  return kRows[full][activation];
}

// The arguments of one layer.
template <class T>
LinearBwdArgs layer_of(LinearBwdArgs args, int64_t item) {
  const int64_t at = item * args.rows * args.cols;
  args.dy = static_cast<const T*>(args.dy) + at;
  if (args.saved != nullptr) args.saved = static_cast<const T*>(args.saved) + at;
  if (args.dz != nullptr) args.dz = static_cast<T*>(args.dz) + at;
  if (args.db != nullptr) args.db = static_cast<T*>(args.db) + item * args.cols;
  return args;
}

// Tasks: chunks of kColumnChunk columns of a layer.
template <class T>
void linear_bwd_layer(const LinearBwdArgs& args, Slice s) {
  for (int64_t task = s.begin; task < s.end; ++task) {
    const int64_t first = task * kColumnChunk, left = args.cols - first;
    const bool full = left >= kColumnChunk;
    const int width = static_cast<int>(full ? kColumnChunk : left);
    const auto run = linear_bwd_rows_of<T>(args.activation, full, Activations{});
    double total[kColumnChunk] = {};
    for (int64_t r = 0; r < args.rows; r += kSumRows)
      run(args, first, width, {r, least(r + kSumRows, args.rows)}, total);
    if (args.db != nullptr)
      for (int c = 0; c < width; ++c)
        static_cast<T*>(args.db)[first + c] = from_float<T>(static_cast<float>(total[c]));
  }
}

// Tasks: those of each layer. Without `saved` (no activation) dz is dy, not written.
template <class T>
void linear_bwd(const LinearBwdArgs& args, Slice s) {
  for_items(s, ceil_div(args.cols, kColumnChunk),
            [&](int64_t item, Slice part) { linear_bwd_layer<T>(layer_of<T>(args, item), part); });
}

}  // namespace

template <>
constinit const LinearKernels FASTNN_LEVEL::Table<LinearKernels>::of_dtype[kNumTableDTypes] = {
    {
        .gemm_pack = gemm_pack<float>,
        .gemm_packed = gemm_packed,
        .gemm_small = gemm_small,
        .gemm_batch_pack = gemm_batch_pack<float>,
        .gemm_batch = gemm_batch,
        .gemm_spans = gemm_spans,
        .gemm_span_sums = gemm_span_sums,
        .linear_bwd = linear_bwd<float>,
    },
    {
        .gemm_pack = nullptr,
        .gemm_packed = nullptr,
        .gemm_small = nullptr,
        .gemm_batch_pack = nullptr,
        .gemm_batch = nullptr,
        .gemm_spans = nullptr,
        .gemm_span_sums = nullptr,
        .linear_bwd = linear_bwd<bf16>,
    },
    {},
    {}};

}  // namespace fastnn
