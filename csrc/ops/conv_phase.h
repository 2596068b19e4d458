// A phase of a transposed convolution: outputs a stride apart, which are a convolution of stride 1.
#pragma once
#include <numeric>

#include "../kernels/conv_phases.h"

namespace fastnn {
namespace {

// Of an axis, the positions first, first + stride, ... of the wide side: they are a convolution of
// stride 1 over the narrow side. With d = dilation, q = first + stride t reads, of the narrow side,
// (q + pad - i d) / stride for the taps i where that is whole: every `step`-th one.
struct Phase {
  ConvAxis axis;
  ConvPackAxis taps;
};
Phase phase_of(const ConvAxis& a, int64_t first) {
  const int32_t common = std::gcd(a.dilation, a.stride), step = a.stride / common;
  int32_t tap = 0;
  while (tap < a.taps && (first + a.pad - int64_t{tap} * a.dilation) % a.stride != 0) ++tap;
  const int32_t taps = tap < a.taps ? (a.taps - tap + step - 1) / step : 0;
  const int32_t dilation = a.dilation / common;
  // The turned taps begin with the last.
  const int64_t pad = taps > 0 ? int64_t{dilation} * (taps - 1) -
                                     (first + a.pad - int64_t{tap} * a.dilation) / a.stride
                               : 0;
  return {{a.out, ceil_div(a.in - first, a.stride), taps, 1, dilation, static_cast<int32_t>(pad)},
          {taps, tap + (taps - 1) * step, -step, a.taps}};
}

}  // namespace
}  // namespace fastnn
