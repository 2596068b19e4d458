// Activations, forward and backward, for every functor of the list; and elementwise arithmetic.
#include "../families/elementwise.h"

#include "loops.h"
#include "table.h"

namespace fastnn {
namespace {

template <class T, class A>
void activation_fwd(const ActivationFwdArgs& args, Slice s) {
  const float a = args.a;
  map(static_cast<const T*>(args.x), static_cast<T*>(args.y),
      elements(s, kElementwiseChunk, args.n),
      [a](float x) __attribute__((always_inline)) { return A::fwd(x, a); });
}

template <class T, class A>
void activation_bwd(const ActivationBwdArgs& args, Slice s) {
  const float a = args.a;
  zip(static_cast<const T*>(args.dy), static_cast<const T*>(args.saved), static_cast<T*>(args.dx),
      elements(s, kElementwiseChunk, args.n),
      [a](float dy, float saved) __attribute__((always_inline)) { return A::bwd(dy, saved, a); });
}

struct Add {
  static float f(float x, float z) { return x + z; }
};
struct Sub {
  static float f(float x, float z) { return x - z; }
};
struct Mul {
  static float f(float x, float z) { return x * z; }
};
struct Div {
  static float f(float x, float z) { return x / z; }
};
struct Rsub {
  static float f(float x, float z) { return z - x; }
};
struct Rdiv {
  static float f(float x, float z) { return z / x; }
};

template <class T, class Op>
void binary(const BinaryArgs& args, Slice s) {
  const auto* x = static_cast<const T*>(args.x);
  const auto* z = static_cast<const T*>(args.z);
  const Range r = elements(s, kElementwiseChunk, args.n);
  const float scalar = args.scalar;
  if (z == nullptr)
    return map(x, static_cast<T*>(args.y), r, [scalar](float v) { return Op::f(v, scalar); });
  zip(x, z, static_cast<T*>(args.y), r, [](float v, float w) { return Op::f(v, w); });
}

// The stored sum is what backward takes the slope at, so y is of the rounded one.
template <class T, class A>
void add_activation(const AddActivationArgs& args, Slice s) {
  const auto *x = static_cast<const T*>(args.x), *z = static_cast<const T*>(args.z);
  auto *y = static_cast<T*>(args.y), *sum = static_cast<T*>(args.sum);
  const Range r = elements(s, kElementwiseChunk, args.n);
  const float a = args.a;
  const auto activate = [a](T v) __attribute__((always_inline)) {
    return from_float<T>(A::fwd(to_float(v), a));
  };
  if (sum == nullptr) {
#pragma GCC ivdep
    for (int64_t i = r.begin; i < r.end; ++i)
      y[i] = activate(from_float<T>(to_float(x[i]) + to_float(z[i])));
  } else {
#pragma GCC ivdep
    for (int64_t i = r.begin; i < r.end; ++i) {
      sum[i] = from_float<T>(to_float(x[i]) + to_float(z[i]));
      y[i] = activate(sum[i]);
    }
  }
}

template <class T>
void fill(const FillArgs& args, Slice s) {
  auto* y = static_cast<T*>(args.y);
  const float factor = args.x == nullptr ? 1.f : to_float(*static_cast<const T*>(args.x));
  const T value = from_float<T>(factor * args.value);
  const Range r = elements(s, kElementwiseChunk, args.n);
  for (int64_t i = r.begin; i < r.end; ++i) y[i] = value;
}

template <class To, class From>
void convert(const CopyArgs& args, Slice s) {
  const auto* x = static_cast<const From*>(args.x);
  auto* y = static_cast<To*>(args.y);
  const Range r = elements(s, kElementwiseChunk, args.n);
#pragma GCC ivdep
  for (int64_t i = r.begin; i < r.end; ++i) y[i] = from_float<To>(to_float(x[i]));
}

template <class T, class... A>
constexpr ElementwiseKernels kernels(ActivationList<A...>) {
  return {
      .activation_fwd = {activation_fwd<T, A>...},
      .activation_bwd = {activation_bwd<T, A>...},
      .binary = {binary<T, Add>, binary<T, Sub>, binary<T, Mul>, binary<T, Div>, binary<T, Rsub>,
                 binary<T, Rdiv>},
      .add_activation = {add_activation<T, A>...},
      .fill = fill<T>,
      .to_float32 = convert<float, T>,
      .from_float32 = convert<T, float>,
  };
}

}  // namespace

template <>
constinit const ElementwiseKernels
    FASTNN_LEVEL::Table<ElementwiseKernels>::of_dtype[kNumTableDTypes] = {
        kernels<float>(Activations{}), kernels<bf16>(Activations{}), {}, {}};

}  // namespace fastnn
