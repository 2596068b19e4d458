// Normalisation of one element, forward and derivative, and the statistics it needs (Ioffe, Szegedy
// 2015; Ba, Kiros, Hinton 2016; Wu, He 2018; Zhang, Sennrich 2019).
#pragma once
#include "../primitives.h"

namespace fastnn {
namespace {

// Mean and variance of n numbers x from sum = sum (x - shift) and squares = sum (x - shift)^2, in
// float64. When shift is one of the numbers, (mean - shift)^2 <= n var, so the subtraction costs at
// most a factor n of the 2^-53: one pass over memory is as good as two, at any common offset.
struct Statistics {
  double mean, var;
};
FASTNN_FN Statistics statistics(double shift, double sum, double squares, double n) {
  const double of_one = 1.0 / n, mean = sum * of_one, var = (squares - sum * mean) * of_one;
  return {shift + mean, var < 0.0 ? 0.0 : var};
}
// Of several runs of equally many numbers together.
FASTNN_FN Statistics statistics_of(const Statistics* runs, int64_t count) {
  const double of_one = 1.0 / double(count);
  Statistics all = {0, 0};
  for (int64_t i = 0; i < count; ++i) all.mean += runs[i].mean * of_one;
  for (int64_t i = 0; i < count; ++i) {
    const double d = runs[i].mean - all.mean;
    all.var += (runs[i].var + d * d) * of_one;
  }
  return all;
}
FASTNN_FN float reciprocal_std(double var, float eps) {
  return float(1.0 / __builtin_sqrt(var + double(eps)));
}

// A float64 mean as two floats: x - hi is exact where x is close to the mean, so that a large
// common offset cancels without float64 arithmetic per element.
struct SplitMean {
  float hi, lo;
};
FASTNN_FN SplitMean split(double mean) {
  const float hi = float(mean);
  return {hi, float(mean - double(hi))};
}

// y = xhat w + b with xhat = (x - mean) rstd, which is rounded as often as one factor and one sum.
FASTNN_FN float normalize(float x, SplitMean mean, float rstd) {
  return mad(x - mean.hi, rstd, -(mean.lo * rstd));
}
FASTNN_FN float affine(float xhat, float w, float b) { return mad(xhat, w, b); }

// With g = dy w:  dx = rstd (g - mean(g) - xhat mean(g xhat)),  dw = sum dy xhat,  db = sum dy.
// Without a mean (rms_norm) the first term is 0, for constant statistics both are.
FASTNN_FN float normalize_dx(float g, float xhat, float mean_g, float mean_gx, float rstd) {
  return rstd * ((g - mean_g) - xhat * mean_gx);
}

}  // namespace
}  // namespace fastnn
