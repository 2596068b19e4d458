// A product as a launch of the kernel for its type, transposes and width.
#pragma once
#include "../column.cuh"
#include "factors.h"
#include "kernel.cuh"
#include "products.h"

namespace fastnn::wgmma {
namespace {

template <class T, class Tile>
std::string launch(const Job<T>& parts, const blas::Product& p, int64_t blocks, void* stream) {
  Job<T> job = parts;
  const std::string why_a = encode(factor_a(p), &job.a);
  const std::string why_b = encode(factor_b(p, Tile::kWidth), &job.b);
  if (!why_a.empty() || !why_b.empty()) return why_a.empty() ? why_b : why_a;
  cudaError_t error =
      cudaFuncSetAttribute(wgmma_kernel<T, Tile>, cudaFuncAttributeMaxDynamicSharedMemorySize,
                           static_cast<int>(Tile::kSharedBytes));
  if (error == cudaSuccess) {
    FASTNN_LAUNCH_SHARED((wgmma_kernel<T, Tile>), blocks, kThreads, Tile::kSharedBytes, stream,
                         job);
    error = cudaGetLastError();
  }
  return error == cudaSuccess ? "" : cudaGetErrorString(error);
}

template <class T, bool kAAlongK, bool kBAlongK>
std::string launch_wide_or_not(const Job<T>& job, const blas::Product& p, Cut cut, void* stream) {
  return cut.width == 256 ? launch<T, Tile<T, 256, kAAlongK, kBAlongK>>(job, p, cut.blocks, stream)
                          : launch<T, Tile<T, 128, kAAlongK, kBAlongK>>(job, p, cut.blocks, stream);
}

template <class T>
std::string launch_of(const blas::Product& p, Cut cut, void* stream) {
  Job<T> job{};
  job.c = static_cast<const T*>(p.c), job.bias = static_cast<const T*>(p.bias);
  job.d = static_cast<T*>(p.d), job.ending = ending_of<T>(p);
  job.sums = p.column_sums != nullptr ? p.partial_sums : nullptr;
  job.in_registers = p.c == nullptr && !blas::has_ending(p);
  job.m = p.m, job.n = p.n, job.k = p.k, job.ldc = p.ldc;
  job.items = p.items, job.c_step = p.c_step;
  job.a_items = p.a_step != 0, job.b_items = p.b_step != 0;
  if (a_is_along_k(p) && b_is_along_k(p))
    return launch_wide_or_not<T, true, true>(job, p, cut, stream);
  if constexpr (sizeof(T) == 2)
    return a_is_along_k(p) ? launch_wide_or_not<T, true, false>(job, p, cut, stream)
                           : launch_wide_or_not<T, false, false>(job, p, cut, stream);
  return "TF32 has no transposed factors";
}

template <class T>
std::string make_of(const blas::Product& p, Cut cut, void* stream) {
  const std::string why = launch_of<T>(p, cut, stream);
  if (why.empty() && p.column_sums != nullptr)
    sum_columns(p.partial_sums, p.n, static_cast<T*>(p.column_sums), ceil_div(p.m, kGemmSumRows),
                p.n, {0, 1, stream});
  return why;
}

}  // namespace
}  // namespace fastnn::wgmma
