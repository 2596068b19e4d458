// What the CUDA kernels are made of: vectors of 16 bytes, the elementwise loop, and sums over a
// warp or a block. Invariants: indices have 64 bits; a missing or unaligned element costs speed,
// never correctness; sums are float64, in an order that depends on the shape only; no float
// atomics.
#pragma once
#include "../kernels.h"
#include "port.h"
#include "table.h"

namespace fastnn {
namespace {

// ---- vectors -----------------------------------------------------------------------------------
template <class T, int kCount>
struct alignas(kCount * sizeof(T) < 16 ? kCount * sizeof(T) : 16) Vec {
  T v[kCount];
};
template <class T>
inline constexpr int kVec = 16 / sizeof(T);  // elements of one 16-byte access

__device__ __forceinline__ bool is_aligned(const void* p) {
  return reinterpret_cast<uintptr_t>(p) % 16 == 0;
}
// Rows of `cols` elements that start at p: is each of them aligned?
template <class T>
__device__ __forceinline__ bool rows_aligned(const T* p, int64_t cols) {
  return is_aligned(p) && cols % kVec<T> == 0;
}

// The `left` elements from p on, at most kCount; the rest is zero. `aligned` speaks of p.
template <int kCount, class T>
__device__ __forceinline__ Vec<T, kCount> load(const T* p, int64_t left, bool aligned) {
  if (aligned && left >= kCount) return *reinterpret_cast<const Vec<T, kCount>*>(p);
  Vec<T, kCount> x;
  FASTNN_UNROLL
  for (int k = 0; k < kCount; ++k) x.v[k] = k < left ? p[k] : from_float<T>(0.f);
  return x;
}
template <int kCount, class T>
__device__ __forceinline__ void store(T* p, const Vec<T, kCount>& x, int64_t left, bool aligned) {
  if (aligned && left >= kCount) {
    *reinterpret_cast<Vec<T, kCount>*>(p) = x;
    return;
  }
  FASTNN_UNROLL
  for (int k = 0; k < kCount; ++k)
    if (k < left) p[k] = x.v[k];
}

// ---- elementwise -------------------------------------------------------------------------------
inline constexpr int kElementwiseThreads = 256;
inline constexpr int kElementwiseUnroll = 2;  // vectors in flight per thread and input

template <class From, int kInputs>
struct Inputs {
  const From* x[kInputs > 0 ? kInputs : 1];
};

// y[i] = f(x0[i], x1[i], ..., i). y may be one of the inputs: an element is read before it is
// written.
template <class From, class To, int kInputs, class F>
__global__ void __launch_bounds__(kElementwiseThreads)
    elementwise_kernel(Inputs<From, kInputs> in, To* y, int64_t n, F f) {
  constexpr int kCount = kVec<From> > kVec<To> ? kVec<From> : kVec<To>;
  constexpr int64_t kTile = int64_t{kElementwiseThreads} * kElementwiseUnroll * kCount;
  bool aligned = is_aligned(y);
  FASTNN_UNROLL
  for (int j = 0; j < kInputs; ++j) aligned = aligned && is_aligned(in.x[j]);
  for (int64_t tile = blockIdx.x * kTile; tile < n; tile += gridDim.x * kTile) {
    Vec<From, kCount> x[kElementwiseUnroll][kInputs];
    FASTNN_UNROLL
    for (int u = 0; u < kElementwiseUnroll; ++u) {
      const int64_t i = tile + (u * kElementwiseThreads + int64_t{threadIdx.x}) * kCount;
      FASTNN_UNROLL
      for (int j = 0; j < kInputs; ++j) x[u][j] = load<kCount>(in.x[j] + i, n - i, aligned);
    }
    FASTNN_UNROLL
    for (int u = 0; u < kElementwiseUnroll; ++u) {
      const int64_t i = tile + (u * kElementwiseThreads + int64_t{threadIdx.x}) * kCount;
      Vec<To, kCount> out;
      FASTNN_UNROLL
      for (int k = 0; k < kCount; ++k) {
        if constexpr (kInputs == 1) out.v[k] = from_float<To>(f(to_float(x[u][0].v[k])));
        if constexpr (kInputs == 2)
          out.v[k] = from_float<To>(f(to_float(x[u][0].v[k]), to_float(x[u][1].v[k])));
      }
      store(y + i, out, n - i, aligned);
    }
  }
}

template <class From, class To, int kInputs, class F>
void elementwise(const Inputs<From, kInputs>& in, To* y, int64_t n, F f, Slice s) {
  if (n <= 0) return;
  constexpr int kCount = kVec<From> > kVec<To> ? kVec<From> : kVec<To>;
  const int64_t grid = grid_for(ceil_div(n, kElementwiseThreads * kElementwiseUnroll * kCount));
  FASTNN_LAUNCH((elementwise_kernel<From, To, kInputs, F>), grid, kElementwiseThreads, s.stream, in,
                y, n, f);
}

// Calls use(e) for e < n, spread over all threads of a launch of element_grid(n) blocks of
// kElementwiseThreads.
template <class F>
__device__ __forceinline__ void each_element(int64_t n, F use) {
  for (int64_t e = blockIdx.x * int64_t{kElementwiseThreads} + threadIdx.x; e < n;
       e += int64_t{gridDim.x} * kElementwiseThreads)
    use(e);
}
inline int64_t element_grid(int64_t n) { return grid_for(ceil_div(n, kElementwiseThreads)); }

// ---- sums over the threads of a group ----------------------------------------------------------
// A group is one warp, or the whole block of kThreads. Every thread gets the same bits.
__device__ __forceinline__ double warp_sum(double x) {
  FASTNN_UNROLL
  for (int lanes = kWarp / 2; lanes > 0; lanes /= 2) x += __shfl_xor_sync(0xffffffff, x, lanes);
  return x;
}

template <int kThreads, int kSums>
__device__ __forceinline__ void group_sum(double (&x)[kSums]) {
  FASTNN_UNROLL
  for (int j = 0; j < kSums; ++j) x[j] = warp_sum(x[j]);
  if constexpr (kThreads > kWarp) {
    constexpr int kWarps = kThreads / kWarp;
    FASTNN_SHARED(double, part, kSums* kWarps);
    __syncthreads();  // the last call's values have been read
    if (threadIdx.x % kWarp == 0) {
      FASTNN_UNROLL
      for (int j = 0; j < kSums; ++j) part[j * kWarps + threadIdx.x / kWarp] = x[j];
    }
    __syncthreads();
    FASTNN_UNROLL
    for (int j = 0; j < kSums; ++j) {
      x[j] = 0;
      for (int w = 0; w < kWarps; ++w) x[j] += part[j * kWarps + w];
    }
  }
}
template <int kThreads>
__device__ __forceinline__ double group_sum(double x) {
  double sums[1] = {x};
  group_sum<kThreads>(sums);
  return sums[0];
}

// Any combination that does not depend on the order: the largest, the least.
template <int kThreads, class X, class F>
__device__ __forceinline__ X group_reduce(X x, F f) {
  FASTNN_UNROLL
  for (int lanes = kWarp / 2; lanes > 0; lanes /= 2)
    x = f(x, __shfl_xor_sync(0xffffffff, x, lanes));
  if constexpr (kThreads > kWarp) {
    constexpr int kWarps = kThreads / kWarp;
    FASTNN_SHARED(X, part, kWarps);
    __syncthreads();  // the last call's values have been read
    if (threadIdx.x % kWarp == 0) part[threadIdx.x / kWarp] = x;
    __syncthreads();
    x = part[0];
    for (int w = 1; w < kWarps; ++w) x = f(x, part[w]);
  }
  return x;
}

// ---- the status word, and counters
// ---------------------------------------------------------------------------
__device__ __forceinline__ bool is_ok(const Status* status) { return status->word == kStatusOk; }
// The smallest word wins, whichever thread comes first.
__device__ __forceinline__ void report(Status* status, int32_t site, int64_t index,
                                       DataError code) {
  atomicMin(reinterpret_cast<unsigned long long*>(&status->word), status_word(site, index, code));
}
// Of integers, so that the order does not matter.
__device__ __forceinline__ void add(int64_t* sum, int64_t n) {
  atomicAdd(reinterpret_cast<unsigned long long*>(sum), static_cast<unsigned long long>(n));
}
static_assert(sizeof(unsigned long long) == sizeof(uint64_t));

}  // namespace
}  // namespace fastnn
