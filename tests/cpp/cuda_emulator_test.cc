// Every CUDA kernel, run by the emulator, against the textbook form in float64: over tails,
// unaligned pointers and long rows, in poisoned outputs between guards, under several schedules,
// whose results must be bit-identical. Exits with 1 on any failure.
#include "cuda_emulator_test.h"

#include "kernels/formulas/norm.h"

namespace fastnn::test {
namespace {

// ---- activations -------------------------------------------------------------------------------
double logistic(double x) {
  return x >= 0 ? 1 / (1 + std::exp(-x)) : std::exp(x) / (1 + std::exp(x));
}
double logistic_slope(double x) { return logistic(x) * logistic(-x); }
constexpr double kSqrt2OverPi = 0.79788456080286535588;

double oracle_fwd(const std::string& name, double x, double a) {
  if (name == "identity") return x;
  if (name == "relu") return x <= 0 ? 0 : x;
  if (name == "leaky_relu") return x > 0 ? x : a * x;
  if (name == "elu") return x > 0 ? x : a * std::expm1(x);
  if (name == "selu")
    return 1.0507009873554804934 * (x > 0 ? x : 1.6732632423543772848 * std::expm1(x));
  if (name == "sigmoid") return logistic(x);
  if (name == "tanh") return std::tanh(x);
  if (name == "softplus") return (std::fmax(a * x, 0) + std::log1p(std::exp(-std::abs(a * x)))) / a;
  if (name == "silu") return x * logistic(a * x);
  if (name == "gelu") return 0.5 * x * std::erfc(-x / std::sqrt(2.0));
  if (name == "gelu_tanh") return x * logistic(2 * kSqrt2OverPi * (x + 0.044715 * x * x * x));
  if (name == "relu6") return x <= 0 ? 0 : x >= 6 ? 6 : x;
  if (name == "hardsigmoid") return x <= -3 ? 0 : x >= 3 ? 1 : (x + 3) / 6;
  if (name == "hardswish") return x <= -3 ? 0 : x >= 3 ? x : x * (x + 3) / 6;
  return 0.125;  // an activation without an oracle fails
}
double oracle_slope(const std::string& name, double x, double a) {
  if (name == "identity") return 1;
  if (name == "relu") return x > 0 ? 1 : 0;
  if (name == "leaky_relu") return x > 0 ? 1 : a;
  if (name == "elu") return x > 0 ? 1 : a * std::exp(x);
  if (name == "selu")
    return 1.0507009873554804934 * (x > 0 ? 1 : 1.6732632423543772848 * std::exp(x));
  if (name == "sigmoid") return logistic_slope(x);
  if (name == "tanh") return 4 * logistic_slope(2 * x);
  if (name == "softplus") return logistic(a * x);
  if (name == "silu") return logistic(a * x) + a * x * logistic_slope(a * x);
  if (name == "gelu")
    return 0.5 * std::erfc(-x / std::sqrt(2.0)) + 0.5 * kSqrt2OverPi * x * std::exp(-0.5 * x * x);
  if (name == "gelu_tanh") {
    const double z = 2 * kSqrt2OverPi * (x + 0.044715 * x * x * x);
    return logistic(z) + x * logistic_slope(z) * 2 * kSqrt2OverPi * (1 + 3 * 0.044715 * x * x);
  }
  if (name == "relu6") return std::isnan(x) ? x : x > 0 && x < 6 ? 1 : 0;
  if (name == "hardsigmoid") return std::isnan(x) ? x : x > -3 && x < 3 ? 1.0 / 6 : 0;
  if (name == "hardswish") return x <= -3 ? 0 : x >= 3 ? 1 : x / 3 + 0.5;
  return 0.125;
}

template <class T, class A>
void test_activation(int index, int64_t n, int64_t shift) {
  const float a = A::kDefault;
  std::vector<double> values = normal<T>(n, 0, 3), dys = normal<T>(n);
  if (n > 4) values[1] = NAN, values[2] = 0, values[3] = -0.0, values[4] = rounded<T>(-100);
  Buffer<T> x(values, shift), y(n, shift), dy(dys, 0), dx(n, 0);
  Buffer<T>& saved = A::kSaved == Saved::kInput ? x : y;
  const Slice all{0, ceil_div(n, kElementwiseChunk), nullptr};
  const bool same = same_on_all_schedules([&] {
    kernels<T>().activation_fwd[index]({x.data(), y.data(), n, a}, all);
    kernels<T>().activation_bwd[index]({dy.data(), saved.data(), dx.data(), n, a}, all);
    return y.bits() + dx.bits();
  });
  const std::string what = text("%s %s n=%ld shift=%ld", A::kName, kName<T>, long(n), long(shift));
  expect(same, what + ": schedules differ");
  bool ok = true;
  for (int64_t i = 0; i < n; ++i) {
    const double v = values[size_t(i)], g = dys[size_t(i)];
    const double want = oracle_fwd(A::kName, v, a), slope = g * oracle_slope(A::kName, v, a);
    const double fwd = tolerance<T>(want, std::abs(want), 8);
    const double bwd = tolerance<T>(slope, std::abs(slope) + std::abs(g), 8);
    ok = ok && check(close(y[i], want, fwd) &&
                         (std::isnan(v) ? A::kName == std::string("identity") || std::isnan(dx[i])
                                        : close(dx[i], slope, bwd)),
                     [&] {
                       return what + text(" [%ld] x=%g: y %.9g, not %.9g; dx %.9g, not %.9g",
                                          long(i), v, y[i], want, dx[i], slope);
                     });
  }
  expect(ok, what);
  // In place.
  const std::string expected = y.bits();
  kernels<T>().activation_fwd[index]({x.data(), x.data(), n, a}, all);
  expect(x.bits() == expected, what + ": in place");
}

template <class T, class... A>
void test_activations(ActivationList<A...>) {
  for (const int64_t n :
       {1, 2, 3, 4, 5, 7, 8, 9, 15, 16, 17, 31, 32, 33, 64, 127, 128, 129, 130, 2049}) {
    int index = 0;
    ((test_activation<T, A>(index++, n, n % 3)), ...);
  }
  test_activation<T, Gelu>(9, 50001, 0);
  test_activation<T, Gelu>(9, 50001, 1);
  kernels<T>().activation_fwd[0]({nullptr, nullptr, 0, 0.f}, {0, 0, nullptr});
  expect(library().take_error() == nullptr, "an empty array launches nothing");
}

// ---- layer normalisation -----------------------------------------------------------------------
struct NormCase {
  int64_t rows, cols, shift;
  double offset, scale;
  bool affine;
};
struct NormOracle {
  std::vector<double> xhat, rstd;
};
NormOracle normalise(const NormCase& c, const std::vector<double>& x, double eps) {
  NormOracle o{x, std::vector<double>(size_t(c.rows))};
  for (int64_t r = 0; r < c.rows; ++r) {
    double* row = o.xhat.data() + r * c.cols;
    long double mean = 0, variance = 0;
    for (int64_t i = 0; i < c.cols; ++i) mean += row[i];
    mean /= c.cols;
    for (int64_t i = 0; i < c.cols; ++i) variance += (row[i] - mean) * (row[i] - mean);
    const double rstd = 1 / std::sqrt(double(variance / c.cols) + eps);
    for (int64_t i = 0; i < c.cols; ++i) row[i] = double(row[i] - mean) * rstd;
    o.rstd[size_t(r)] = rstd;
  }
  return o;
}

template <class T>
struct NormArrays {
  static constexpr float kEps = 1e-5f;
  NormCase c;
  int64_t tasks;
  std::vector<double> xs, dys, ws, bs;
  Buffer<T> x, dy, w, b, y, dx, dw, db;
  Buffer<double> mean, partials;
  Buffer<float> rstd;

  explicit NormArrays(const NormCase& shape)
      : c(shape),
        tasks(ceil_div(c.rows, rows_per_task(c.cols))),
        xs(normal<T>(c.rows * c.cols, c.offset, c.scale)),
        dys(normal<T>(c.rows * c.cols)),
        ws(normal<T>(c.cols, 1, 0.2)),
        bs(normal<T>(c.cols, 0, 0.2)),
        x(xs, c.shift),
        dy(dys, 0),
        w(ws, c.shift),
        b(bs, 0),
        y(c.rows * c.cols, c.shift),
        dx(c.rows * c.cols, 0),
        dw(c.cols),
        db(c.cols),
        mean(c.rows),
        partials(tasks * 2 * c.cols),
        rstd(c.rows) {
    if (!c.affine) ws.assign(ws.size(), 1), bs.assign(bs.size(), 0);
  }
  std::string run() {
    const Slice all{0, tasks, nullptr}, columns{0, ceil_div(c.cols, kColumnChunk), nullptr};
    const LayerNormBwdArgs bwd{dy.data(),       x.data(),    c.affine ? w.data() : nullptr,
                               mean.data(),     rstd.data(), dx.data(),
                               partials.data(), dw.data(),   db.data(),
                               c.rows,          c.cols};
    kernels<T>().layer_norm_fwd(
        {x.data(), c.affine ? w.data() : nullptr, c.affine ? b.data() : nullptr, y.data(),
         mean.data(), rstd.data(), c.rows, c.cols, kEps},
        all);
    kernels<T>().layer_norm_bwd(bwd, all);
    kernels<T>().layer_norm_bwd_params(bwd, columns);
    return y.bits() + mean.bits() + rstd.bits() + dx.bits() + dw.bits() + db.bits();
  }
};

// Outputs within 4 u max(1, |o|), where the affine part does not cancel; gradients within 16 u of
// the sum of the magnitudes they are made of.
template <class T>
void check_norm(NormArrays<T>& t, const std::string& what) {
  const NormCase& c = t.c;
  const NormOracle o = normalise(c, t.xs, double(NormArrays<T>::kEps));
  std::vector<double> dw(size_t(c.cols)), db(size_t(c.cols)), dw_size(size_t(c.cols)),
      db_size(size_t(c.cols));
  bool ok = true;
  for (int64_t r = 0; r < c.rows && ok; ++r) {
    const double* xhat = o.xhat.data() + r * c.cols;
    const double* dy = t.dys.data() + r * c.cols;
    double mean_g = 0, mean_gx = 0, size_g = 0, size_gx = 0;
    for (int64_t i = 0; i < c.cols; ++i) {
      const double g = dy[i] * t.ws[size_t(i)];
      mean_g += g / double(c.cols), mean_gx += g * xhat[i] / double(c.cols);
      size_g += std::abs(g) / double(c.cols), size_gx += std::abs(g * xhat[i]) / double(c.cols);
      dw[size_t(i)] += dy[i] * xhat[i],
          dw_size[size_t(i)] += std::abs(dy[i]) * (std::abs(xhat[i]) + 1);
      db[size_t(i)] += dy[i], db_size[size_t(i)] += std::abs(dy[i]);
    }
    for (int64_t i = 0; i < c.cols && ok; ++i) {
      const double want = xhat[i] * t.ws[size_t(i)] + t.bs[size_t(i)], g = dy[i] * t.ws[size_t(i)];
      const double rstd = o.rstd[size_t(r)], dx = rstd * (g - mean_g - xhat[i] * mean_gx);
      const double size =
          rstd * (std::abs(g) + size_g + (std::abs(xhat[i]) + 1) * (size_gx + size_g));
      const double sized =
          std::fmax(1, std::abs(want - t.bs[size_t(i)]) + std::abs(t.bs[size_t(i)]));
      const double got = t.y[r * c.cols + i], got_dx = t.dx[r * c.cols + i];
      ok = check(close(got, want, tolerance<T>(want, sized, 4)) &&
                     close(got_dx, dx, tolerance<T>(dx, size, 16)),
                 [&] {
                   return what + text(" [%ld, %ld]: y %.9g, not %.9g; dx %.9g, not %.9g", long(r),
                                      long(i), got, want, got_dx, dx);
                 });
    }
  }
  for (int64_t i = 0; i < c.cols && ok; ++i) {
    const size_t j = size_t(i);
    ok = check(close(t.dw[i], dw[j], tolerance<T>(dw[j], dw_size[j], 16)) &&
                   close(t.db[i], db[j], tolerance<T>(db[j], db_size[j], 16)),
               [&] {
                 return what + text(" [%ld]: dw %.9g, not %.9g; db %.9g, not %.9g", long(i),
                                    t.dw[i], dw[j], t.db[i], db[j]);
               });
  }
  expect(ok, what);
}

template <class T>
void test_norm(const NormCase& c) {
  const std::string what = text("layer_norm %s (%ld, %ld) shift=%ld offset=%g", kName<T>,
                                long(c.rows), long(c.cols), long(c.shift), c.offset);
  NormArrays<T> t(c);
  if (c.rows * c.cols <= 40000) {
    expect(same_on_all_schedules([&] { return t.run(); }), what + ": schedules differ");
  } else {
    t.run();
  }
  check_norm(t, what);
  // Without dx, and without partials: the rest stays the same.
  const std::string dx = t.dx.bits(), partials = t.partials.bits();
  LayerNormBwdArgs bwd{t.dy.data(),
                       t.x.data(),
                       c.affine ? t.w.data() : nullptr,
                       t.mean.data(),
                       t.rstd.data(),
                       nullptr,
                       t.partials.data(),
                       nullptr,
                       nullptr,
                       c.rows,
                       c.cols};
  kernels<T>().layer_norm_bwd(bwd, {0, t.tasks, nullptr});
  bwd.dx = t.dx.data(), bwd.partials = nullptr;
  kernels<T>().layer_norm_bwd(bwd, {0, t.tasks, nullptr});
  expect(t.dx.bits() == dx && t.partials.bits() == partials, what + ": one gradient alone");
  expect(library().take_error() == nullptr, what + ": no error");
}

template <class T>
void test_norms() {
  for (const int64_t cols : {1, 2, 3, 4, 5, 7, 8, 9, 31, 33, 64, 100, 127, 128, 129, 130, 255, 257})
    for (const int64_t rows : {1, 3, 40}) test_norm<T>({rows, cols, rows % 3, 0, 1, cols % 2 == 0});
  for (const int64_t cols :
       {512, 513, 1000, 1024, 1032, 2048, 2052, 4096, 4100, 8200, 16400, 33000})
    test_norm<T>({3, cols, cols == 4096, 0, 1, cols % 3 != 0});
  test_norm<T>({0, 5, 0, 0, 1, true});
  test_norm<T>({300, 64, 0, 0, 1, true});
  test_norm<T>({3000, 16, 0, 0, 1, true});
  if constexpr (!std::is_same_v<T, f16>) test_norm<T>({9, 100, 0, 1e30, 1e30, true});
  if constexpr (std::is_same_v<T, float>) {
    for (const int64_t cols : {64, 1024, 9000}) test_norm<T>({4, cols, 0, 1e8, 100, false});
    test_norm<T>({4, 256, 0, 2e3, 1, true});
    for (const int64_t cols : {1, 3}) test_norm<T>({70000, cols, 0, 0, 1, true});
  }
}

template <class T>
void test_dtype() {
  test_activations<T>(Activations{});
  test_norms<T>();
}

}  // namespace

void test_kernels() {
  test_dtype<float>();
  test_dtype<bf16>();
  test_dtype<f16>();
}

}  // namespace fastnn::test

int main() {
  fastnn::test::test_machinery();
  fastnn::test::test_streams();
  fastnn::test::test_kernels();
  fastnn::test::test_large();
  fastnn::test::test_optimizers();
  fastnn::test::test_wgmma();
  fastnn::test::test_mlp();
  fastnn::test::test_ending();
  fastnn::test::test_clusters();
  fastnn::test::test_small_kernels();
  std::printf("%d passed, %d failed\n", fastnn::test::passed, fastnn::test::failed);
  return fastnn::test::failed == 0 ? 0 : 1;
}
