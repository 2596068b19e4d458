// Noise that multiplies activations in training. A formula takes the random bits of its element,
// so that backward, given the same bits, applies the same map to the gradient.
#pragma once
#include "../philox.h"

namespace fastnn {

// An element whose 16-bit lane is below the threshold becomes `dropped`, another x scale + shift.
// Without a shift (-0, which changes no bit of x scale) the map is its own derivative.
struct Keep {
  uint32_t threshold;
  float scale, shift, dropped;
};

namespace {

FASTNN_FN float keep_or_drop(float x, uint32_t lane, Keep keep) {
  return lane < keep.threshold ? keep.dropped : mad(x, keep.scale, keep.shift);
}

// x (1 + sigma z), z standard normal.
FASTNN_FN float gaussian_noise(float x, uint32_t word, float sigma) {
  return x * mad(sigma, standard_normal(word), 1.f);
}

// A draw from N(mean, variance), and its derivative by the variance.
FASTNN_FN float normal_sample(float mean, float variance, uint32_t word) {
  return mad(sqrt(variance), standard_normal(word), mean);
}
FASTNN_FN float normal_sample_dvariance(float dy, float variance, uint32_t word) {
  const float slope = 0.5f * standard_normal(word) / sqrt(variance);
  return variance == 0.f ? 0.f : dy * slope;
}

}  // namespace
}  // namespace fastnn
