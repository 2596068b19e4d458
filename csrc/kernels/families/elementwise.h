// Activations and elementwise arithmetic. Tasks: chunks of kElementwiseChunk elements.
#pragma once
#include "../formulas/activation.h"
#include "../kernel.h"

namespace fastnn {

inline constexpr int kNumActivations = Activations::kSize;

struct ActivationFwdArgs {
  const void* x;
  void* y;
  int64_t n;
  float a;
};
struct ActivationBwdArgs {
  const void *dy, *saved;
  void* dx;
  int64_t n;
  float a;
};
// y = op(x, z). A null z stands for `scalar`.
struct BinaryArgs {
  const void *x, *z;
  void* y;
  int64_t n;
  float scalar;
};
enum class Binary : int { kAdd, kSub, kMul, kDiv, kRsub, kRdiv, kSize };
// sum = x + z (sum may be null), y = act(sum).
struct AddActivationArgs {
  const void *x, *z;
  void *y, *sum;
  int64_t n;
  float a;
};
struct FillArgs {
  const void* x;
  void* y;
  int64_t n;
  float value;
};  // y = value, or value x[0]
struct CopyArgs {
  const void* x;
  void* y;
  int64_t n;
};  // x is float32 in `from_float32`, else y is

struct ElementwiseKernels {
  Kernel<ActivationFwdArgs> activation_fwd[kNumActivations];
  Kernel<ActivationBwdArgs> activation_bwd[kNumActivations];
  Kernel<BinaryArgs> binary[static_cast<int>(Binary::kSize)];
  Kernel<AddActivationArgs> add_activation[kNumActivations];
  Kernel<FillArgs> fill;
  Kernel<CopyArgs> to_float32, from_float32;
};

}  // namespace fastnn
