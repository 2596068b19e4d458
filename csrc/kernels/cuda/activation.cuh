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

}  // namespace
}  // namespace fastnn
