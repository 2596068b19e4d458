// The gradient of convolution's bias, and of what is before its activation.
#pragma once
#include "../families/conv.h"
#include "../formulas/activation.h"
#include "loops.h"

namespace fastnn {
namespace {

// Adds one plane of a channel, at `at`, to the sums of its dz.
template <class A>
void conv_bwd_plane(const ConvBiasArgs& args, int64_t at, Lanes& sums) {
  const float* dy = static_cast<const float*>(args.dy) + at;
  if (args.saved == nullptr)
    return for_blocks(args.size, [&](int64_t i, int lanes) __attribute__((always_inline)) {
      sums += load_lanes(dy + i, lanes, 0.f);
    });
  const float *saved = static_cast<const float*>(args.saved) + at, a = args.activation_param;
  float* dz = static_cast<float*>(args.dz) + at;
  for_blocks(args.size, [&](int64_t i, int lanes) __attribute__((always_inline)) {
    float v[kBlockLanes], s[kBlockLanes];
    load_block(dy + i, lanes, 0.f, v);
    load_block(saved + i, lanes, 0.f, s);
    FASTNN_FOR_LANES(l) v[l] = A::bwd(v[l], s[l], a);
    store_block(dz + i, lanes, v);
    if (lanes < kBlockLanes)
      FASTNN_FOR_LANES(l) v[l] = l < lanes ? v[l] : 0;
    sums += Lanes(v);
  });
}

using ConvBwdPlane = void (*)(const ConvBiasArgs&, int64_t, Lanes&);
template <class... A>
ConvBwdPlane conv_bwd_plane_of(int activation, ActivationList<A...>) {
  static constexpr ConvBwdPlane kOf[] = {conv_bwd_plane<A>...};
  return kOf[activation];
}

// Tasks: channels. Some of an image at a time, since those lie side by side.
void conv_bwd_bias(const ConvBiasArgs& args, Slice s) {
  constexpr int64_t kTogether = 16;
  const auto plane = conv_bwd_plane_of(args.activation, Activations{});
  for (int64_t begin = s.begin, end; begin < s.end; begin = end) {
    end = least(s.end, begin + kTogether);
    Lanes sums[kTogether];
    for (int64_t n = 0; n < args.batch; ++n)
      for (int64_t c = begin; c < end; ++c)
        plane(args, (n * args.channels + c) * args.size, sums[c - begin]);
    for (int64_t c = begin; c < end && args.db != nullptr; ++c)
      static_cast<float*>(args.db)[c] = static_cast<float>(combine(sums[c - begin]));
  }
}

}  // namespace
}  // namespace fastnn
