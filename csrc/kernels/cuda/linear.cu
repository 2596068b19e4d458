// Matrix products, and the backward of a layer: by cuBLASLt or wgmma kernels where there are any
// (blas.h), else by own tiles, which need no packing, so that one kernel serves all plans.
#include <bit>

#include "blas.h"
#include "gemm.cuh"
#include "table.h"

namespace fastnn {
namespace {

template <class T>
constexpr blas::Type kBlasType = blas::kFloat32;
template <>
constexpr blas::Type kBlasType<bf16> = blas::kBFloat16;
template <>
constexpr blas::Type kBlasType<f16> = blas::kFloat16;

template <class First, class Second, class... Rest>
constexpr bool second_is_relu(ActivationList<First, Second, Rest...>) {
  return std::is_same_v<Second, Relu>;
}
static_assert(second_is_relu(Activations{}) && blas::kReluActivation == 1);

// The same product by own tiles, for the check of the others.
template <class T>
void own_tiles(const blas::Product& p, void* stream) {
  GemmBatchArgsOf<T> batch{};
  GemmArgsOf<T>& g = batch.one;
  batch.items = p.items, batch.terms = 1;
  g.a = static_cast<const T*>(p.a), g.b = static_cast<const T*>(p.b), g.c = static_cast<T*>(p.d);
  g.m = p.m, g.n = p.n, g.k = p.k, g.ldc = p.ldc;
  g.a_row = p.a_row, g.a_col = p.a_col, g.b_row = p.b_row, g.b_col = p.b_col;
  g.bias = static_cast<const T*>(p.bias);
  g.z = static_cast<T*>(p.z);
  g.activation = p.activation, g.activation_param = p.activation_param;
  g.residual = static_cast<const T*>(p.residual), g.saved = static_cast<const T*>(p.saved);
  g.z_is_activated = p.z_is_activated, g.draw = p.draw, g.keep = p.keep;
  g.column_sums = static_cast<T*>(p.column_sums);
  if (p.items > 1) {
    batch.num_axes = 1;
    batch.axes[0] = {p.items, p.a_step, p.b_step, p.c_step, 0};
  }
  if (p.c != nullptr) {
    const auto bytes = static_cast<size_t>(p.items * p.c_step) * sizeof(T);
    cudaMemcpyAsync(p.d, p.c, bytes, cudaMemcpyDeviceToDevice, static_cast<cudaStream_t>(stream));
    g.accumulate = true;
  }
  gemm_batch(batch, {0, 1, stream});
}

template <class T>
blas::Product product_of(const GemmBatchArgsOf<T>& batch, blas::Compute compute) {
  const GemmArgsOf<T>& g = batch.one;
  const GemmBatchAxis axis = batch.num_axes > 0 ? batch.axes[0] : GemmBatchAxis{};
  return {.a = g.a,
          .b = g.b,
          .c = g.accumulate ? g.c : nullptr,
          .bias = g.bias,
          .z = g.z,
          .d = g.c,
          .m = g.m,
          .n = g.n,
          .k = g.k,
          .a_row = g.a_row,
          .a_col = g.a_col,
          .b_row = g.b_row,
          .b_col = g.b_col,
          .ldc = g.ldc,
          .items = batch.items,
          .a_step = axis.a,
          .b_step = axis.b,
          .c_step = axis.c,
          .type = kBlasType<T>,
          .compute = compute,
          .activation = g.activation,
          .activation_param = g.activation_param,
          .residual = g.residual,
          .saved = g.saved,
          .draw = g.draw,
          .keep = g.keep,
          .column_sums = g.column_sums,
          .partial_sums = g.column_sums != nullptr ? g.scratch : nullptr,
          .z_is_activated = g.z_is_activated,
          .d_is_float = false};
}

// Whether another has made the product.
template <class T>
bool by_blas(const GemmBatchArgsOf<T>& batch, Slice s, blas::Compute compute) {
  const GemmArgsOf<T>& g = batch.one;
  if (g.m <= 0 || g.n <= 0 || g.k <= 0 || batch.items <= 0) return false;
  if (batch.terms != 1 || batch.num_axes > 1 || (g.bias != nullptr && batch.items > 1))
    return false;
  const blas::Product p = product_of(batch, compute);
  for (const blas::Path path : blas::paths_of(p))
    if (blas::multiply(path, p, s.stream, own_tiles<T>)) return true;
  return false;
}

template <class T, blas::Compute kCompute = blas::kExact>
void product(const GemmBatchArgsOf<T>& batch, Slice s) {
  if (by_blas(batch, s, kCompute)) return;
  blas::count_own();
  gemm_batch(batch, s);
}
void product_of_one(const GemmArgs& g, Slice s) {
  product(GemmBatchArgs{.one = g, .axes = {}, .num_axes = 0, .items = 1, .terms = 1}, s);
}
// The arguments are of any 16-bit numbers: here, of float16.
void product_f16(const GemmBf16BatchArgs& batch, Slice s) {
  product(std::bit_cast<GemmBatchArgsOf<f16>>(batch), s);
}

}  // namespace

template <>
constinit const LinearKernels cuda::Table<LinearKernels>::of_dtype[kNumTableDTypes] = {
    {
        .gemm_pack = nullptr,
        .gemm_packed = nullptr,
        .gemm_small = product_of_one,
        .gemm_batch_pack = nullptr,
        .gemm_batch = product<float>,
        .gemm_spans = nullptr,
        .gemm_span_sums = nullptr,
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
    {
        .gemm_pack = nullptr,
        .gemm_packed = nullptr,
        .gemm_small = nullptr,
        .gemm_batch_pack = nullptr,
        .gemm_batch = nullptr,
        .gemm_spans = nullptr,
        .gemm_span_sums = nullptr,
        .linear_bwd = linear_bwd<f16>,
    },
    {}};

template <>
constinit const LinearBf16Kernels cuda::Table<LinearBf16Kernels>::of_dtype[kNumTableDTypes] = {
    {
        .gemm_bf16_pack = nullptr,
        .gemm_bf16 = nullptr,
        .gemm_medium_pack = nullptr,
        .gemm_medium = product<float, blas::kAsBFloat16>,
        .gemm_high = product<float, blas::kAsTf32>,
    },
    {
        .gemm_bf16_pack = nullptr,
        .gemm_bf16 = product<bf16>,
        .gemm_medium_pack = nullptr,
        .gemm_medium = nullptr,
        .gemm_high = nullptr,
    },
    {
        .gemm_bf16_pack = nullptr,
        .gemm_bf16 = product_f16,
        .gemm_medium_pack = nullptr,
        .gemm_medium = nullptr,
        .gemm_high = nullptr,
    },
    {}};

}  // namespace fastnn
