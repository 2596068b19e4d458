// Activations, forward and backward, for every functor of the list; and elementwise arithmetic.
#include "activation.cuh"

namespace fastnn {
namespace {

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

// The stored sum is what backward takes the slope at, so y is of the rounded one.
template <class T, class A>
__global__ void __launch_bounds__(kElementwiseThreads)
    add_activation_kernel(AddActivationArgs args) {
  constexpr int kCount = kVec<T>;
  const auto *x = static_cast<const T*>(args.x), *z = static_cast<const T*>(args.z);
  auto *y = static_cast<T*>(args.y), *sum = static_cast<T*>(args.sum);
  const bool aligned = is_aligned(x) && is_aligned(z) && is_aligned(y) && is_aligned(sum);
  const int64_t step = int64_t{gridDim.x} * kElementwiseThreads * kCount;
  for (int64_t i = (blockIdx.x * int64_t{kElementwiseThreads} + threadIdx.x) * kCount; i < args.n;
       i += step) {
    auto v = load<kCount>(x + i, args.n - i, aligned);
    const auto w = load<kCount>(z + i, args.n - i, aligned);
    FASTNN_UNROLL
    for (int k = 0; k < kCount; ++k) v.v[k] = from_float<T>(to_float(v.v[k]) + to_float(w.v[k]));
    if (sum != nullptr) store(sum + i, v, args.n - i, aligned);
    FASTNN_UNROLL
    for (int k = 0; k < kCount; ++k) v.v[k] = from_float<T>(A::fwd(to_float(v.v[k]), args.a));
    store(y + i, v, args.n - i, aligned);
  }
}
template <class T, class A>
void add_activation(const AddActivationArgs& args, Slice s) {
  if (args.n <= 0) return;
  const int64_t grid = grid_for(ceil_div(args.n, kElementwiseThreads * kVec<T>));
  FASTNN_LAUNCH((add_activation_kernel<T, A>), grid, kElementwiseThreads, s.stream, args);
}

template <class T, class... A>
constexpr ElementwiseKernels kernels(ActivationList<A...>) {
  return {
      .activation_fwd = {activation_fwd<T, A>...},
      .activation_bwd = {activation_bwd<T, A>...},
      .binary = {binary<T, Add>, binary<T, Sub>, binary<T, Mul>, binary<T, Div>,
                 binary<T, Reversed<Sub>>, binary<T, Reversed<Div>>},
      .add_activation = {add_activation<T, A>...},
      .fill = fill<T>,
      .to_float32 = convert<float, T>,
      .from_float32 = convert<T, float>,
  };
}

}  // namespace

template <>
constinit const ElementwiseKernels cuda::Table<ElementwiseKernels>::of_dtype[kNumTableDTypes] = {
    kernels<float>(Activations{}), kernels<bf16>(Activations{}), kernels<f16>(Activations{}), {}};

}  // namespace fastnn
