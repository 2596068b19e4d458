// Activations, forward and backward, for every functor of the list. The formulas are those of
// formulas/activation.h; here is only which arrays they run over.
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

// The kernel of one activation of many.
template <class T, class... A>
constexpr Kernel<ActivationBwdArgs> activation_bwd_of(int activation, ActivationList<A...>) {
  constexpr Kernel<ActivationBwdArgs> kAll[] = {activation_bwd<T, A>...};
  return kAll[activation];
}

// Calls f(A*) for one activation A of many, where the choice is made in a kernel.
template <class F, class... A>
__device__ __forceinline__ void with_activation(int32_t which, ActivationList<A...>, F f) {
  int32_t i = 0;
  ((i++ == which ? f(static_cast<A*>(nullptr)) : static_cast<void>(0)), ...);
}
template <class... A>
__device__ __forceinline__ float activate(int32_t which, float x, float a,
                                          ActivationList<A...> all) {
  float y = x;
  with_activation(which, all, [&]<class One>(One*) { y = One::fwd(x, a); });
  return y;
}
// The same for some elements, which are chosen for once.
template <int kCount, class... A>
__device__ __forceinline__ void activate_all(int32_t which, float (&x)[kCount], float a,
                                             ActivationList<A...> all) {
  with_activation(which, all, [&]<class One>(One*) {
    FASTNN_UNROLL
    for (int j = 0; j < kCount; ++j) x[j] = One::fwd(x[j], a);
  });
}
// And dy times the derivative at what was saved.
template <int kCount, class... A>
__device__ __forceinline__ void differentiate_all(int32_t which, float (&dy)[kCount],
                                                  const float (&saved)[kCount], float a,
                                                  ActivationList<A...> all) {
  with_activation(which, all, [&]<class One>(One*) {
    FASTNN_UNROLL
    for (int j = 0; j < kCount; ++j) dy[j] = One::bwd(dy[j], saved[j], a);
  });
}

}  // namespace
}  // namespace fastnn
