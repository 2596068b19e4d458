// What follows the sums of a product, for some neighbouring elements of C: at the end of a tile, or
// in a kernel after the product. Forward a residual, z, the activation and dropout; backward
// dropout and the activation's derivative. Invariants: elements are rounded once, at last; the
// noise of an element is that of its place in memory, so forward, backward and the CPU draw the
// same.
#pragma once
#include "../formulas/dropout.h"
#include "activation.cuh"
#include "blas.h"

namespace fastnn {
// What GemmArgs says of it; all arrays lie as C does.
template <class T>
struct Ending {
  const T *residual, *saved;
  T* z;
  const RngDraw* draw;
  Keep keep;
  int32_t activation;
  float activation_param;
  bool z_is_activated;

  __host__ __device__ __forceinline__ bool is_empty() const {
    return residual == nullptr && saved == nullptr && z == nullptr && draw == nullptr &&
           activation == 0;
  }
};
namespace {

// Of GemmArgs or of a blas::Product.
template <class T, class Args>
__host__ __device__ __forceinline__ Ending<T> ending_of(const Args& g) {
  return {static_cast<const T*>(g.residual),
          static_cast<const T*>(g.saved),
          static_cast<T*>(g.z),
          g.draw,
          g.keep,
          g.activation,
          g.activation_param,
          g.z_is_activated};
}

template <class V, class T>
__device__ __forceinline__ bool aligned_for(const T* p) {
  return reinterpret_cast<uintptr_t>(p) % sizeof(V) == 0;
}

// Dropout of the elements from `at` on, which have lanes of one block of Philox or of two.
template <int kCount>
__device__ __forceinline__ void drop(const RngDraw* state, Keep keep, int64_t at,
                                     float (&v)[kCount]) {
  static_assert(kCount <= kLanesPerBlock);
  const RngDraw draw = *state;
  const auto first = static_cast<uint64_t>(at / kLanesPerBlock);
  const int64_t begin = at % kLanesPerBlock;
  const PhiloxBlock block = philox(first, draw.offset, draw.seed);
  PhiloxBlock next = block;
  if (begin + kCount > kLanesPerBlock) next = philox(first + 1, draw.offset, draw.seed);
  FASTNN_UNROLL
  for (int j = 0; j < kCount; ++j) {
    const int64_t i = begin + j;
    const uint32_t lane =
        i < kLanesPerBlock ? lane_of(block, i) : lane_of(next, i - kLanesPerBlock);
    v[j] = keep_or_drop(v[j], lane, keep);
  }
}

// From the sums with C and bias to what is stored in C, for the elements from `at` on, of which
// `left` are there. put(z, v, left) rounds and stores.
template <int kCount, class T, class Put>
__device__ __forceinline__ void end(const Ending<T>& e, int64_t at, int64_t left,
                                    float (&v)[kCount], Put put) {
  const auto read = [&](const T* x) {
    return load<kCount>(x + at, left, aligned_for<Vec<T, kCount>>(x + at));
  };
  if (e.saved != nullptr) {
    if (e.draw != nullptr) drop(e.draw, e.keep, at, v);
    const auto saved = read(e.saved);
    float s[kCount];
    FASTNN_UNROLL
    for (int j = 0; j < kCount; ++j) s[j] = to_float(saved.v[j]);
    differentiate_all(e.activation, v, s, e.activation_param, Activations{});
    return;
  }
  if (e.residual != nullptr) {
    const auto residual = read(e.residual);
    FASTNN_UNROLL
    for (int j = 0; j < kCount; ++j) v[j] += to_float(residual.v[j]);
  }
  if (e.z != nullptr && !e.z_is_activated) put(e.z + at, v, left);
  if (e.activation != 0) activate_all(e.activation, v, e.activation_param, Activations{});
  if (e.z != nullptr && e.z_is_activated) put(e.z + at, v, left);
  if (e.draw != nullptr) drop(e.draw, e.keep, at, v);
}

}  // namespace
}  // namespace fastnn
