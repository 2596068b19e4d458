// Activations, forward and backward, for every functor of the list; and elementwise arithmetic. The
// formulas are those of formulas/activation.h; here is only which arrays they run over.
#pragma once
#include "engine.cuh"

namespace fastnn {
namespace {

template <class A>
struct Forward {
  float a;
  __device__ __forceinline__ float operator()(float x) const { return A::fwd(x, a); }
};
template <class A>
struct Backward {
  float a;
  __device__ __forceinline__ float operator()(float dy, float saved) const {
    return A::bwd(dy, saved, a);
  }
};

template <class T, class A>
void activation_fwd(const ActivationFwdArgs& args, Slice s) {
  elementwise<T, T, 1>({{static_cast<const T*>(args.x)}}, static_cast<T*>(args.y), args.n,
                       Forward<A>{args.a}, s);
}

template <class T, class A>
void activation_bwd(const ActivationBwdArgs& args, Slice s) {
  elementwise<T, T, 2>({{static_cast<const T*>(args.dy), static_cast<const T*>(args.saved)}},
                       static_cast<T*>(args.dx), args.n, Backward<A>{args.a}, s);
}

// ---- arithmetic --------------------------------------------------------------------------------
struct Add {
  __device__ __forceinline__ float operator()(float x, float z) const { return x + z; }
};
struct Sub {
  __device__ __forceinline__ float operator()(float x, float z) const { return x - z; }
};
struct Mul {
  __device__ __forceinline__ float operator()(float x, float z) const { return x * z; }
};
struct Div {
  __device__ __forceinline__ float operator()(float x, float z) const { return x / z; }
};
template <class Op>
struct Reversed {
  __device__ __forceinline__ float operator()(float x, float z) const { return Op()(z, x); }
};
template <class Op>
struct WithScalar {
  float z;
  __device__ __forceinline__ float operator()(float x) const { return Op()(x, z); }
};
struct Same {
  __device__ __forceinline__ float operator()(float x) const { return x; }
};

template <class T, class Op>
void binary(const BinaryArgs& args, Slice s) {
  const auto* x = static_cast<const T*>(args.x);
  const auto* z = static_cast<const T*>(args.z);
  auto* y = static_cast<T*>(args.y);
  if (z == nullptr) return elementwise<T, T, 1>({{x}}, y, args.n, WithScalar<Op>{args.scalar}, s);
  elementwise<T, T, 2>({{x, z}}, y, args.n, Op(), s);
}

template <class To, class From>
void convert(const CopyArgs& args, Slice s) {
  elementwise<From, To, 1>({{static_cast<const From*>(args.x)}}, static_cast<To*>(args.y), args.n,
                           Same(), s);
}

template <class T>
__global__ void __launch_bounds__(kElementwiseThreads) fill_kernel(FillArgs args) {
  auto* y = static_cast<T*>(args.y);
  const bool aligned = is_aligned(y);
  const float factor = args.x == nullptr ? 1.f : to_float(*static_cast<const T*>(args.x));
  Vec<T, kVec<T>> v;
  FASTNN_UNROLL
  for (int k = 0; k < kVec<T>; ++k) v.v[k] = from_float<T>(factor * args.value);
  const int64_t step = int64_t{gridDim.x} * kElementwiseThreads * kVec<T>;
  for (int64_t i = (blockIdx.x * int64_t{kElementwiseThreads} + threadIdx.x) * kVec<T>; i < args.n;
       i += step)
    store(y + i, v, args.n - i, aligned);
}
template <class T>
void fill(const FillArgs& args, Slice s) {
  if (args.n <= 0) return;
  const int64_t grid = grid_for(ceil_div(args.n, kElementwiseThreads * kVec<T>));
  FASTNN_LAUNCH(fill_kernel<T>, grid, kElementwiseThreads, s.stream, args);
}

}  // namespace
}  // namespace fastnn
