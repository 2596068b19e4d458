// The small kernels: arithmetic, conversions, sums, random numbers, and what optimizers do with all
// gradients. The random ones against Philox written out here, the rest against float64.
#include "cuda_emulator_test.h"

namespace fastnn::test {
namespace {

constexpr Slice kAll{0, 1, nullptr};  // the CUDA kernels do all tasks, whatever the slice says

template <class T>
void test_arithmetic(int64_t n, int64_t shift) {
  const std::string what = text("%s n=%ld shift=%ld", kName<T>, long(n), long(shift));
  const std::vector<double> xs = normal<T>(n), zs = normal<T>(n);
  Buffer<T> x(xs, shift), z(zs, 0), y(n, shift), filled(n, shift), narrow(n, shift);
  Buffer<float> wide(n, 0);
  for (int op = 0; op < static_cast<int>(Binary::kSize); ++op) {
    for (const bool scalar : {false, true}) {
      expect(same_on_all_schedules([&] {
               kernels<T>().binary[op]({x.data(), scalar ? nullptr : z.data(), y.data(), n, 1.5f},
                                       kAll);
               return y.bits();
             }),
             what + ": schedules differ");
      bool ok = true;
      for (int64_t i = 0; i < n; ++i) {
        const double a = xs[size_t(i)], b = scalar ? 1.5 : zs[size_t(i)];
        const double all[] = {a + b, a - b, a * b, a / b, b - a, b / a};
        const double want = rounded<T>(all[op]);
        ok = ok && (std::isnan(want) || close(y[i], want, tolerance<T>(want, std::abs(want), 1)));
      }
      expect(ok, what + text(": binary %d scalar=%d", op, scalar));
    }
  }
  kernels<T>().to_float32({x.data(), wide.data(), n}, kAll);
  kernels<T>().from_float32({wide.data(), narrow.data(), n}, kAll);
  kernels<T>().fill({nullptr, y.data(), n, 2.5f}, kAll);
  kernels<T>().fill({x.data(), filled.data(), n, 2.f}, kAll);
  bool ok = narrow.bits() == x.bits();
  for (int64_t i = 0; i < n; ++i)
    ok = ok && wide[i] == xs[size_t(i)] && y[i] == 2.5 && filled[i] == rounded<T>(2 * xs[0]);
  expect(ok, what + ": to_float32, from_float32, fill");
}

template <class T>
void test_sums(int64_t n, int64_t shift) {
  const std::vector<double> xs = normal<T>(n, 1e3, 1);
  const int64_t tasks = ceil_div(n, kReduceChunk);
  Buffer<T> x(xs, shift), y(1);
  Buffer<double> partials(tasks), total(1);
  Buffer<Status> status(1);
  status.data()->word = kStatusOk;
  const SumArgs args{x.data(), y.data(), partials.data(), n, 0.5f, status.data(), 7};
  double want = 0;
  for (const double v : xs) want += 0.5 * v;
  expect(same_on_all_schedules([&] {
           kernels<T>().sum_chunks(args, kAll);
           kernels<T>().sum_combine(args, kAll);
           return partials.bits() + y.bits();
         }),
         "sum: schedules differ");
  const double rounded_want = rounded<T>(want);
  const bool finite = std::isfinite(rounded_want);
  expect(close(y[0], rounded_want, tolerance<T>(want, std::abs(want), 1)) &&
             (status.data()->word == kStatusOk) == (finite || std::is_same_v<T, f16>),
         text("sum %s n=%ld: %.9g, not %.9g", kName<T>, long(n), y[0], want));
  if (n == 0) return;
  x.set(n - 1, NAN);
  kernels<T>().sum_chunks(args, kAll);
  kernels<T>().sum_combine(args, kAll);
  expect(status.data()->word == status_word(7, 0, DataError::kNanLoss), "sum: NaN is reported");
}

void test_counters() {
  Buffer<float> x(std::vector<double>{1.5}, 0);
  Buffer<double> sum(std::vector<double>{2.0}, 0);
  Buffer<int64_t> value(std::vector<double>{40.0}, 0);
  Buffer<RngDraw> state(1), draw(1);
  *state.data() = {11, 5};
  kernels<float>().accumulate({x.data(), sum.data(), 4.0}, kAll);
  kernels<float>().advance({value.data(), 2}, kAll);
  kernels<float>().rng_draw({state.data(), draw.data()}, kAll);
  expect(sum[0] == 8 && value.data()[0] == 42, "accumulate, advance");
  expect(draw.data()->offset == 5 && draw.data()->seed == 11 && state.data()->offset == 6,
         "rng_draw");
}

// Philox4x32 with 7 rounds, by the paper.
void philox_words(uint64_t block, uint64_t offset, uint64_t seed, uint32_t (&c)[4]) {
  c[0] = uint32_t(block), c[1] = uint32_t(block >> 32);
  c[2] = uint32_t(offset), c[3] = uint32_t(offset >> 32);
  uint32_t k[2] = {uint32_t(seed), uint32_t(seed >> 32)};
  for (int round = 0; round < 7; ++round, k[0] += 0x9E3779B9, k[1] += 0xBB67AE85) {
    const uint64_t p = uint64_t{0xD2511F53} * c[0], q = uint64_t{0xCD9E8D57} * c[2];
    const uint32_t next[4] = {uint32_t(q >> 32) ^ c[1] ^ k[0], uint32_t(q),
                              uint32_t(p >> 32) ^ c[3] ^ k[1], uint32_t(p)};
    for (int i = 0; i < 4; ++i) c[i] = next[i];
  }
}

template <class T>
void test_random(int64_t n, int64_t shift) {
  const std::vector<double> xs = normal<T>(n);
  Buffer<T> x(xs, shift), y(n, 0), u(n, shift);
  Buffer<RngDraw> draw(1);
  *draw.data() = {0x123456789abcdef0, uint64_t{2} << 56 | 77};
  const uint32_t threshold = 20000;
  expect(same_on_all_schedules([&] {
           kernels<T>().dropout({x.data(), y.data(), n, draw.data(), {threshold, 1.5f, -0.f, 0.f}},
                                kAll);
           kernels<T>().uniform({u.data(), n, draw.data(), -1.f, 3.f}, kAll);
           return y.bits() + u.bits();
         }),
         "dropout, uniform: schedules differ");
  bool dropped = true, drawn = true;
  for (int64_t e = 0; e < n; ++e) {
    uint32_t words[4];
    philox_words(uint64_t(e) >> 3, draw.data()->offset, draw.data()->seed, words);
    const uint32_t lane = words[(e & 7) / 2] >> (e % 2 * 16) & 0xffff;
    dropped = dropped && y[e] == (lane < threshold ? 0 : rounded<T>(1.5 * xs[size_t(e)]));
    philox_words(uint64_t(e) >> 2, draw.data()->offset, draw.data()->seed, words);
    drawn = drawn && u[e] == rounded<T>(-1 + 4 * double(words[e & 3] >> 8) * 0x1p-24);
  }
  expect(dropped && drawn,
         text("dropout %d, uniform %d: %s n=%ld", dropped, drawn, kName<T>, long(n)));
}

// ---- clipping: one parameter of two chunks, and a short one that is unaligned -------------------
template <class T>
struct Gradients {
  static constexpr int64_t kLong = 20001, kShort = 13;
  std::vector<double> g0 = normal<T>(kLong);
  Buffer<T> g{g0, 0}, h{normal<T>(kShort), 1};
  Buffer<TensorChunk> chunks{3};
  Buffer<Status> status{1};
  Buffer<double> sums{3};
  Buffer<float> norm{2};
  GradNormArgs args{};

  Gradients() {
    TensorChunk* rows = chunks.data();
    rows[0] = {nullptr, g.data(), {}, nullptr, kOptimChunk, 0};
    rows[1] = {nullptr, g.data() + kOptimChunk, {}, nullptr, kLong - kOptimChunk, kOptimChunk};
    rows[2] = {nullptr, h.data(), {}, nullptr, kShort, 2 * kOptimChunk};
    status.data()->word = kStatusOk;
    args.chunks = rows, args.status = status.data(), args.sums = sums.data();
    args.norm = norm.data(), args.norm_type = 2, args.max_norm = 2, args.num_chunks = 3;
  }
};

template <class T>
void test_clip() {
  Gradients<T> o;
  double squares = 0;
  for (int64_t i = 0; i < o.kLong; ++i) squares += o.g[i] * o.g[i];
  for (int64_t i = 0; i < o.kShort; ++i) squares += o.h[i] * o.h[i];
  const double want = std::sqrt(squares);
  expect(same_on_all_schedules([&] {
           kernels<T>().grad_norm_sum(o.args, kAll);
           kernels<T>().grad_norm_combine(o.args, kAll);
           return o.sums.bits() + o.norm.bits();
         }),
         "grad_norm: schedules differ");
  kernels<T>().grad_scale(o.args, kAll);
  bool ok = close(o.norm[0], want, 0x1p-24 * want) && close(o.norm[1], 2 / want, 0x1p-22 / want);
  for (int64_t i = 0; i < o.kLong; ++i)
    ok = ok && close(o.g[i], o.g0[size_t(i)] * 2 / want,
                     tolerance<T>(o.g0[size_t(i)] * 2 / want, std::abs(o.g0[size_t(i)] / want), 8));
  expect(ok, text("gradients are clipped: %s norm %.9g, not %.9g", kName<T>, o.norm[0], want));
  o.args.max_norm = 0x1p-10f;
  kernels<T>().grad_clamp(o.args, kAll);
  for (int64_t i = 0; i < o.kLong; ++i) ok = ok && std::abs(o.g[i]) <= 0x1p-10;
  expect(ok, text("gradients are clamped: %s", kName<T>));
  o.h.set(3, INFINITY);
  kernels<T>().grad_norm_sum(o.args, kAll);
  kernels<T>().grad_norm_combine(o.args, kAll);
  expect(o.status.data()->word == status_word(0, 0, DataError::kBadGradient),
         "an infinite norm is reported");
  const std::string before = o.g.bits();
  kernels<T>().grad_clamp(o.args, kAll);
  kernels<T>().grad_scale(o.args, kAll);
  expect(o.g.bits() == before, "clip: nothing changes once the status is set");
}

template <class T>
void test_dtype() {
  for (const int64_t n : {1, 3, 4, 5, 8, 9, 16, 31, 64, 130, 2049, 30001}) {
    test_arithmetic<T>(n, n % 3);
    test_random<T>(n, n % 3);
  }
  for (const int64_t n : {0, 1, 7, 130, 16384, 16385, 120001}) test_sums<T>(n, n % 2);
  test_clip<T>();
}

}  // namespace

void test_small_kernels() {
  test_counters();
  test_dtype<float>();
  test_dtype<bf16>();
  test_dtype<f16>();
}

}  // namespace fastnn::test
