// Layer normalisation of one element, forward and derivative (Ba, Kiros, Hinton 2016).
#pragma once
#include "../primitives.h"

namespace fastnn {
namespace {

// A float64 mean as two floats: x - hi is exact where x is close to the mean, so that a large
// common offset cancels without float64 arithmetic per element.
struct SplitMean {
  float hi, lo;
};
FASTNN_FN SplitMean split(double mean) {
  const float hi = float(mean);
  return {hi, float(mean - double(hi))};
}

// y = xhat w + b with xhat = (x - mean) rstd, mean and rstd over the row.
FASTNN_FN float normalize(float x, SplitMean mean, float rstd) {
  return ((x - mean.hi) - mean.lo) * rstd;
}
FASTNN_FN float affine(float xhat, float w, float b) { return xhat * w + b; }

// With g = dy w:  dx = rstd (g - mean(g) - xhat mean(g xhat)),  dw = sum dy xhat,  db = sum dy.
FASTNN_FN float normalize_dx(float g, float xhat, float mean_g, float mean_gx, float rstd) {
  return rstd * ((g - mean_g) - xhat * mean_gx);
}

}  // namespace
}  // namespace fastnn
