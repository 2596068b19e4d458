// Dropout and its relatives: what a probability of dropping means for the kernels. Backward calls
// the same functions with the same draw.
#include <cmath>

#include "common.h"

namespace fastnn {
namespace {

constexpr double kLanes = 65536;

void check_probability(const char* op, double p) {
  check(p >= 0 && p <= 1, op, ": expected 0 <= p <= 1, got ", p);
}

uint32_t threshold_of(double p) { return static_cast<uint32_t>(p * kLanes + 0.5); }

// The first `axes` axes have a draw for each of their elements; what lies below stays together. An
// element's draw is that of its place in memory, so backward takes dy in the layout of y.
Array dropout(const AnyLayout& x, const Array& draw, double p, bool inverted,
              std::optional<int> axes) {
  check_probability("dropout", p);
  if (x.layout == Layout::kNhwc && axes.value_or(0) > 1)  // planes
    return to_layout(dropout({to_layout(x, Layout::kNchw)}, draw, p, inverted, axes), x.layout);
  Array y = empty_like(x);
  const Array local = draw_on(draw, x.device());
  const Keep keep = keep_of(p, inverted);
  int64_t rows = 1;
  for (int i = 0; i < axes.value_or(x.shape.ndim); ++i) rows *= x.shape.dims[i];
  const int64_t cols = rows > 0 ? x.numel() / rows : 0;
  if (cols == 1) {
    launch(elementwise("dropout", x, kCostPerExp), &Kernels::dropout,
           DropoutArgs{read(x), write(y), rows, read_as<RngDraw>(local), keep});
  } else if (cols > 0) {
    launch(row_wise("dropout", x, rows, cols, kCostPerElement), &Kernels::dropout_rows,
           DropoutRowsArgs{read(x), write(y), rows, cols, read_as<RngDraw>(local), keep});
  }
  return y;
}

// Dropped elements take SELU's lower limit a' = -1.7581; a and b keep mean 0 and variance 1
// (Klambauer et al. 2017). Backward is the slope: a where kept, else 0.
Array alpha_dropout(const AnyLayout& x, const Array& draw, double p, bool backward) {
  check_probability("alpha_dropout", p);
  constexpr double kSaturation = -1.7580993408473766;
  Array y = empty_like(x);
  const Array local = draw_on(draw, x.device());
  const uint32_t threshold = threshold_of(p);
  const double rate = threshold / kLanes;
  Keep keep{threshold, 0.f, -0.f, 0.f};
  if (rate < 1) {
    const double a = 1 / std::sqrt((1 - rate) * (1 + rate * kSaturation * kSaturation));
    const double b = -a * kSaturation * rate;
    keep.scale = static_cast<float>(a);
    if (!backward) {
      keep.shift = static_cast<float>(b);
      keep.dropped = static_cast<float>(a * kSaturation + b);
    }
  }
  launch(elementwise("alpha_dropout", x, kCostPerExp), &Kernels::dropout,
         DropoutArgs{read(x), write(y), x.numel(), read_as<RngDraw>(local), keep});
  return y;
}

Array gaussian_dropout(const AnyLayout& x, const Array& draw, double p) {
  check(p >= 0 && p < 1, "gaussian_dropout: expected 0 <= p < 1, got ", p);
  Array y = empty_like(x);
  const Array local = draw_on(draw, x.device());
  launch(elementwise("gaussian_dropout", x, 3 * kCostPerExp), &Kernels::gaussian_dropout,
         GaussianDropoutArgs{read(x), write(y), x.numel(), read_as<RngDraw>(local),
                             static_cast<float>(std::sqrt(p / (1 - p)))});
  return y;
}

// The distribution function of Poisson(rate) in units of 2^-24, where it is neither 0 nor 1: its
// values from `first` on.
std::vector<int32_t> poisson_thresholds(double rate, int64_t* first) {
  constexpr double kUnits = 1 << 24;
  const auto start = static_cast<int64_t>(std::max(0.0, rate - 8 * std::sqrt(rate)));
  const auto stop = static_cast<int64_t>(rate + 12 * std::sqrt(rate)) + 64;
  std::vector<int32_t> thresholds;
  double below = 0;
  for (int64_t k = start; k < stop; ++k) {
    const auto count = static_cast<double>(k);
    below += std::exp(count * std::log(rate) - rate - std::lgamma(count + 1));
    const double threshold = std::floor(below * kUnits + 0.5);
    if (threshold >= kUnits) break;
    if (threshold == 0) continue;
    if (thresholds.empty()) *first = k;
    thresholds.push_back(static_cast<int32_t>(threshold));
  }
  return thresholds;
}

Array poisson_dropout(const AnyLayout& x, const Array& draw, double p) {
  check(p >= 1 / kLanes && p < 1, "poisson_dropout: expected p = 0 or 2^-16 <= p < 1, got ", p);
  const double rate = (1 - p) / p;
  int64_t first = 0;
  const std::vector<int32_t> thresholds = poisson_thresholds(rate, &first);
  int32_t log2_size = 0;
  while ((size_t{1} << log2_size) <= thresholds.size()) ++log2_size;
  Array table = allocate_constant({int64_t{1} << log2_size}, DType::kFloat32);
  auto* entries = static_cast<int32_t*>(table.storage->data);
  std::fill_n(entries, size_t{1} << log2_size, INT32_MAX);
  std::copy(thresholds.begin(), thresholds.end(), entries);
  table = constant_on(table, x.device());
  Array y = empty_like(x);
  const Array local = draw_on(draw, x.device());
  launch(elementwise("poisson_dropout", x, 6 * kCostPerExp), &Kernels::poisson_dropout,
         PoissonDropoutArgs{read(x), write(y), x.numel(), read_as<RngDraw>(local),
                            read_as<int32_t>(table), log2_size, static_cast<float>(first),
                            static_cast<float>(1 / rate)});
  return y;
}

Array sample_normal(const Array& mean, const Array& variance, const Array& draw) {
  check_same("sample_normal", "mean", mean, "variance", variance);
  Array y = empty_like(mean);
  const Array local = draw_on(draw, mean.device());
  launch(
      elementwise("sample_normal", mean, 3 * kCostPerExp), &Kernels::sample_normal,
      SampleNormalArgs{read(mean), read(variance), write(y), y.numel(), read_as<RngDraw>(local)});
  return y;
}

Array sample_normal_bwd(const Array& dy, const Array& variance, const Array& draw) {
  check_same("sample_normal", "the output", variance, "its gradient", dy);
  Array dvariance = empty_like(dy);
  const Array local = draw_on(draw, dy.device());
  launch(elementwise("sample_normal", dy, 3 * kCostPerExp), &Kernels::sample_normal_bwd,
         SampleNormalBwdArgs{read(dy), read(variance), write(dvariance), dy.numel(),
                             read_as<RngDraw>(local)});
  return dvariance;
}

}  // namespace

Keep keep_of(double p, bool inverted) {
  const uint32_t threshold = threshold_of(p);
  const double kept = kLanes - threshold;
  return {threshold, inverted && kept > 0 ? static_cast<float>(kLanes / kept) : 1.f, -0.f, 0.f};
}

void bind_dropout(py::module_& m) {
  m.def("dropout", &dropout, py::arg("x"), py::arg("draw"), py::arg("p"), py::arg("inverted"),
        py::arg("axes"));
  m.def("alpha_dropout", &alpha_dropout, py::arg("x"), py::arg("draw"), py::arg("p"),
        py::arg("backward"));
  m.def("gaussian_dropout", &gaussian_dropout, py::arg("x"), py::arg("draw"), py::arg("p"));
  m.def("poisson_dropout", &poisson_dropout, py::arg("x"), py::arg("draw"), py::arg("p"));
  m.def("sample_normal", &sample_normal, py::arg("mean"), py::arg("variance"), py::arg("draw"));
  m.def("sample_normal_bwd", &sample_normal_bwd, py::arg("dy"), py::arg("variance"),
        py::arg("draw"));
}

}  // namespace fastnn
