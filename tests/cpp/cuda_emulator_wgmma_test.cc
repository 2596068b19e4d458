// The wgmma kernels under the emulator, against float64 at odd sizes and on all schedules; and a
// small kernel of the same parts that is wrong on purpose, in each way that the emulator must
// catch.
#include "cuda_emulator_test.h"
#include "kernels/cuda/blas_measured.h"
#include "kernels/cuda/wgmma/factors.h"
#include "kernels/cuda/wgmma/products.h"
#include "kernels/cuda/wgmma/ring.h"
#include "kernels/formulas/activation.h"

namespace fastnn::test {
namespace {

using blas::Product;

struct Case {
  const char* form;  // N or T for each factor, of row-major matrices
  int64_t m, n, k;
  wgmma::Cut cut;
  bool bias = false, c = false, z = false;
  int32_t activation = 0;
  int64_t items = 1;
  bool one_b = false;     // for all items
  int64_t workspace = 0;  // in bytes; float32 is split, if there is one
};
constexpr int32_t kGelu = 9;

// A row-major matrix of `items`, with rows of whole 16 bytes and NaN between them.
template <class T>
struct Matrix {
  int64_t rows, cols, ld, items;
  Buffer<T> memory;
  Matrix(int64_t r, int64_t c, int64_t count)
      : rows(r), cols(c), ld((c + 7) / 8 * 8 + 8), items(count), memory(count * r * ld) {
    const std::vector<double> values = normal<T>(count * r * c);
    for (int64_t i = 0; i < count * r; ++i)
      for (int64_t j = 0; j < c; ++j) memory.set(i * ld + j, values[size_t(i * c + j)]);
  }
  double at(int64_t item, int64_t i, int64_t j) { return memory[(item * rows + i) * ld + j]; }
};
// TMA rounds float32 to TF32.
template <class T>
double factor_value(double x, bool splits) {
  if (splits) return x;
  if constexpr (std::is_same_v<T, float>)
    return from_bits(static_cast<int32_t>(
        wgmma::tf32_bits(static_cast<uint32_t>(to_bits(static_cast<float>(x))))));
  return x;
}

template <class T>
void test_product(const Case& t) {
  const bool a_plain = t.form[0] == 'N', b_plain = t.form[1] == 'N';
  Matrix<T> a(a_plain ? t.m : t.k, a_plain ? t.k : t.m, t.items);
  Matrix<T> b(b_plain ? t.k : t.n, b_plain ? t.n : t.k, t.one_b ? 1 : t.items);
  const bool splits = t.workspace != 0;
  Buffer<unsigned char> workspace(t.workspace);
  const int64_t ldc = t.n + 3, c_step = t.m * ldc;
  const std::vector<double> c = normal<T>(t.items * c_step), bias = normal<T>(t.n);
  Buffer<T> c_memory(c, 1), bias_memory(bias, 1);
  Buffer<T> d(t.items * c_step, 1), z(t.items * c_step, 1);
  const Product p{.a = a.memory.data(),
                  .b = b.memory.data(),
                  .c = t.c ? c_memory.data() : nullptr,
                  .bias = t.bias ? bias_memory.data() : nullptr,
                  .z = t.z ? z.data() : nullptr,
                  .d = d.data(),
                  .m = t.m,
                  .n = t.n,
                  .k = t.k,
                  .a_row = a_plain ? a.ld : 1,
                  .a_col = a_plain ? 1 : a.ld,
                  .b_row = b_plain ? b.ld : 1,
                  .b_col = b_plain ? 1 : b.ld,
                  .ldc = ldc,
                  .items = t.items,
                  .a_step = a.rows * a.ld,
                  .b_step = t.one_b ? 0 : b.rows * b.ld,
                  .c_step = c_step,
                  .type = std::is_same_v<T, float>  ? blas::kFloat32
                          : std::is_same_v<T, bf16> ? blas::kBFloat16
                                                    : blas::kFloat16,
                  .compute = sizeof(T) == 4 && !splits ? blas::kAsTf32 : blas::kExact,
                  .activation = t.activation,
                  .activation_param = 0};
  const std::string name = text("wgmma %s %s %ldx%ldx%ld, %d columns", kName<T>, t.form, long(t.m),
                                long(t.n), long(t.k), t.cut.width);
  expect(splits ? wgmma::can_split(p) : wgmma::can_make(p), name + ": can be made");
  const bool same = same_on_all_schedules([&] {
    std::memset(static_cast<void*>(d.data()), 0xff, sizeof(T) * size_t(d.size()));
    std::memset(static_cast<void*>(z.data()), 0xff, sizeof(T) * size_t(z.size()));
    const std::string why =
        splits ? wgmma::make_split(p, t.cut, {workspace.data(), size_t(t.workspace)}, nullptr)
               : wgmma::make(p, t.cut, nullptr);
    const char* error = library().take_error();
    expect(why.empty() && error == nullptr, name + ": " + why + (error != nullptr ? error : ""));
    return d.bits() + z.bits();
  });
  expect(same, name + ": the same bits on all schedules");
  bool right = true, untouched = true;
  for (int64_t item = 0; item < t.items; ++item)
    for (int64_t i = 0; i < t.m; ++i) {
      for (int64_t j = 0; j < t.n; ++j) {
        double sum = t.c ? c[size_t(item * c_step + i * ldc + j)] : 0, size = std::abs(sum);
        if (t.bias) sum += bias[size_t(j)], size += std::abs(bias[size_t(j)]);
        for (int64_t p_ = 0; p_ < t.k; ++p_) {
          const double x = factor_value<T>(a_plain ? a.at(item, i, p_) : a.at(item, p_, i), splits);
          const int64_t of = t.one_b ? 0 : item;
          const double y = factor_value<T>(b_plain ? b.at(of, p_, j) : b.at(of, j, p_), splits);
          sum += x * y, size += std::abs(x * y);
        }
        const int64_t at = item * c_step + i * ldc + j;
        double want = sum;
        if (t.activation == blas::kReluActivation) want = std::max(sum, 0.);
        if (t.activation == kGelu) want = 0.5 * sum * (1 + std::erf(sum / std::sqrt(2.)));
        right = check(close(d[at], want, tolerance<T>(want, size, 32)),
                      [&] {
                        return text("%s [%ld, %ld, %ld]: %g, not %g", name.c_str(), long(item),
                                    long(i), long(j), d[at], want);
                      }) &&
                right;
        if (t.z) right = right && close(z[at], sum, tolerance<T>(sum, size, 32));
      }
      for (int64_t j = t.n; j < ldc; ++j)
        untouched = untouched && std::isnan(d[item * c_step + i * ldc + j]);
    }
  expect(right, name);
  expect(untouched, name + ": nothing beyond the columns of C");
}

void test_products() {
  test_product<bf16>({"NT", 70, 66, 100, {128, 1}, true});
  test_product<bf16>({"NN", 130, 140, 72, {128, 2}, true, false, false, blas::kReluActivation});
  test_product<bf16>({"TN", 136, 261, 200, {256, 2}});
  test_product<bf16>({"NN", 65, 300, 65, {256, 1}, false, true});
  test_product<bf16>({"NT", 40, 129, 7 * 64 + 8, {256, 1}, true, false, true, kGelu});
  test_product<f16>({"NT", 129, 257, 64, {256, 1}, true});
  test_product<f16>({"TN", 8, 128, 330, {128, 2}, false, true, true, blas::kReluActivation});
  test_product<f16>({"NN", 3, 5, 1, {128, 1}, true, false, false, kGelu, 3, true});
  test_product<bf16>({"TN", 33, 24, 40, {128, 2}, false, false, false, 0, 3});
  test_product<float>({"NT", 130, 66, 100, {128, 2}, true, true, true, kGelu});
  test_product<float>({"NT", 31, 258, 37, {256, 1}});
  test_product<float>({.form = "TN",
                       .m = 30,
                       .n = 67,
                       .k = 70,
                       .cut = {128, 1},
                       .c = true,
                       .workspace = 3 * 97 * 4 * 40});  // three parts of k
  test_product<float>({.form = "NN",
                       .m = 9,
                       .n = 130,
                       .k = 33,
                       .cut = {128, 2},
                       .bias = true,
                       .z = true,
                       .activation = kGelu,
                       .workspace = 1 << 20});
}

// What TMA or these kernels cannot do goes on to another path.
void test_refusals() {
  alignas(16) static unsigned char memory[4096];
  const auto made = [](auto change) {
    Product p{};
    p.a = p.b = memory, p.d = memory;
    p.m = 16, p.n = 24, p.k = 32, p.items = 1, p.ldc = 24;
    p.a_row = 32, p.a_col = 1, p.b_row = 1, p.b_col = 32;
    p.type = blas::kBFloat16, p.compute = blas::kExact;
    change(p);
    return wgmma::can_make(p);
  };
  expect(made([](Product&) {}), "a plain product");
  expect(!made([](Product& p) { p.a = memory + 2; }), "an A that is not aligned");
  expect(!made([](Product& p) { p.b = memory + 8; }), "a B that is not aligned");
  expect(!made([](Product& p) { p.a_row = 33; }), "rows of A that are not aligned");
  expect(!made([](Product& p) { p.a_row = 24; }), "rows of A that overlap");
  expect(!made([](Product& p) { p.a_col = 2; }), "an A without neighbours");
  expect(!made([](Product& p) { p.a_row = 1, p.a_col = 16; }), "two transposed factors");
  expect(made([](Product& p) { p.b_row = 24, p.b_col = 1; }), "a B in rows");
  expect(!made([](Product& p) { p.ldc = 23; }), "rows of C that overlap");
  expect(!made([](Product& p) { p.type = blas::kFloat32; }), "exact float32");
  const auto tf32 = [](Product& p) { p.type = blas::kFloat32, p.compute = blas::kAsTf32; };
  expect(made(tf32), "TF32 along k");
  expect(!made([&](Product& p) { tf32(p), p.b_row = 24, p.b_col = 1; }), "TF32 in rows");
  expect(!made([](Product& p) { p.items = 2, p.a_step = 100, p.b_step = 768; }),
         "items that lie between rows");
  expect(made([](Product& p) { p.items = 2, p.a_step = 512, p.b_step = 0; }), "one B for all");
}

void test_measured() {
  using blas::fastest_of, blas::Measured;
  const Measured lines[] = {{blas::kBFloat16, true, true, 100, 100, 100, blas::kByWgmma},
                            {blas::kBFloat16, true, true, 400, 400, 400, blas::kByCublasLt}};
  Product p{};
  p.m = p.n = p.k = 200, p.type = blas::kBFloat16, p.a_col = p.b_row = 1;
  expect(fastest_of(lines, p) == blas::kByWgmma, "the first line that is near");
  p.m = 201;
  expect(fastest_of(lines, p) == blas::kByCublasLt, "the next one");
  p.k = 801;
  expect(fastest_of(lines, p) == blas::kAnyone, "none is near");
  p.k = 200, p.b_row = 2;
  expect(fastest_of(lines, p) == blas::kAnyone, "another form");
  p.b_row = 1, p.type = blas::kFloat16;
  expect(fastest_of(lines, p) == blas::kAnyone, "another type");
}

// ---- wrong on purpose --------------------------------------------------------------------------

enum Bug {
  kNoBug,
  kReadsBeforeFull,
  kFillsBeforeEmpty,
  kWrongParity,
  kReleasesEarly,
  kNoFence,
  kNoLastWait,
  kWrongStride,
  kNoSwizzle,
  kExpectsTooFew,
  kExpectsTooMany,
  kNoMeeting,
  kTooManyReaders,
};
constexpr int kStages = 2, kBlocks = 5;
using A = wgmma::Factor<2, 64, true>;
using B = wgmma::Factor<2, 128, true>;

__device__ void fill_with(Bug bug, const wgmma::Job<bf16>& job, unsigned char* shared,
                          wgmma::Ring<kStages> ring) {
  for (int32_t k = 0; k < kBlocks; ++k) {
    unsigned char* stage = shared + uint32_t(ring.stage) * (A::kBytes + B::kBytes);
    if (bug != kFillsBeforeEmpty) ring.wait_empty();
    const uint32_t off = bug == kExpectsTooFew ? -B::kBytes : bug == kExpectsTooMany ? 16u : 0u;
    wgmma::arrive_expecting(ring.full(), A::kBytes + B::kBytes + off);
    wgmma::load_tile(stage, &job.a, ring.full(), k * A::kDepth, 0, 0);
    wgmma::load_tile(stage + A::kBytes, &job.b, ring.full(), k * B::kDepth, 0, 0);
    ring.next();
  }
}
__device__ void multiply_with(Bug bug, float* y, unsigned char* shared, wgmma::Ring<kStages> ring) {
  const int lane = int(threadIdx.x) % 32, warp = int(threadIdx.x) / 32 % 4;
  float d[64] = {};
  int last = -1;
  if (bug == kWrongParity) ring.round = 1;
  for (int k = 0; k < kBlocks; ++k) {
    const uint32_t a =
        wgmma::shared_address(shared) + uint32_t(ring.stage) * (A::kBytes + B::kBytes);
    if (bug != kReadsBeforeFull) ring.wait_full();
    if (bug != kNoFence) wgmma::fence();
    for (int step = 0; step < 4; ++step) {
      uint64_t to_b = B::at(a + A::kBytes, 0, step);
      if (bug == kWrongStride) to_b ^= uint64_t{3} << 37;  // 512 and 1024 change places
      if (bug == kNoSwizzle) to_b &= ~(uint64_t{3} << 62);
      wgmma::multiply<bf16, 128, true, true>(d, A::at(a, 0, step), to_b);
    }
    wgmma::commit();
    if (bug == kReleasesEarly && lane == 0) ring.release(ring.stage);
    wgmma::wait_products<1>();
    if (bug != kReleasesEarly && last >= 0 && lane == 0) ring.release(last);
    last = ring.stage;
    ring.next();
  }
  if (bug != kNoLastWait) wgmma::wait_products<0>();
  for (int i = 0; i < 64; ++i)
    y[(16 * warp + lane / 4 + i / 2 % 2 * 8) * 128 + i / 4 * 8 + lane % 4 * 2 + i % 2] = d[i];
}
__global__ void small_kernel(const FASTNN_GRID_CONSTANT wgmma::Job<bf16> job, float* y, Bug bug) {
  FASTNN_DYNAMIC_SHARED(unsigned char, shared);
  wgmma::Ring<kStages> ring{
      reinterpret_cast<wgmma::Barrier*>(shared + kStages * (A::kBytes + B::kBytes))};
  if (threadIdx.x == 0) ring.initialise_all(bug == kTooManyReaders ? 5 : 4);
  if (bug != kNoMeeting) __syncthreads();
  if (threadIdx.x < 128) {
    if (threadIdx.x == 0) fill_with(bug, job, shared, ring);
  } else {
    multiply_with(bug, y, shared, ring);
  }
}

// The first error of all schedules; "wrong" where results are, and empty where all is well.
std::string outcome(Bug bug) {
  constexpr int64_t kK = kBlocks * 64;
  Matrix<bf16> a(64, kK, 1), b(128, kK, 1);
  Product p{};
  p.a = a.memory.data(), p.b = b.memory.data();
  p.m = 64, p.n = 128, p.k = kK, p.items = 1;
  p.a_row = a.ld, p.a_col = 1, p.b_row = 1, p.b_col = b.ld;
  p.type = blas::kBFloat16;
  wgmma::Job<bf16> job{};
  wgmma::Matrix of_a = wgmma::factor_a(p);
  of_a.box[1] = 64;
  expect(
      wgmma::encode(of_a, &job.a).empty() && wgmma::encode(wgmma::factor_b(p, 128), &job.b).empty(),
      "the maps of the small kernel");
  Buffer<float> y(64 * 128);
  std::string first;
  for (const char* schedule : {"forward", "reverse", "random:1", "random:2"}) {
    setenv("FASTNN_EMULATOR_SCHEDULE", schedule, 1);
    constexpr size_t kBytes = kStages * (A::kBytes + B::kBytes + 2 * sizeof(wgmma::Barrier));
    FASTNN_LAUNCH_SHARED(small_kernel, 1, 256, kBytes, nullptr, job, y.data(), bug);
    const char* error = library().take_error();
    std::string found = error != nullptr ? error : "";
    for (int64_t i = 0; found.empty() && i < 64; ++i)
      for (int64_t j = 0; j < 128; ++j) {
        double sum = 0, size = 0;
        for (int64_t k = 0; k < kK; ++k)
          sum += a.at(0, i, k) * b.at(0, j, k), size += std::abs(a.at(0, i, k) * b.at(0, j, k));
        if (!close(y[i * 128 + j], sum, 32 * 0x1p-24 * size)) found = "wrong";
      }
    if (first.empty()) first = found;
  }
  setenv("FASTNN_EMULATOR_SCHEDULE", "forward", 1);
  return first;
}

void test_bugs() {
  const auto finds = [](Bug bug, const char* part) { expect_found(bug, outcome(bug), part); };
  finds(kNoBug, "");
  finds(kReadsBeforeFull, "more arrivals than a barrier waits for");
  finds(kFillsBeforeEmpty, "more arrivals than a barrier waits for");
  finds(kWrongParity, "more arrivals than a barrier waits for");
  finds(kReleasesEarly, "wrong");
  finds(kNoFence, "a product without a fence since the last group");
  finds(kNoLastWait, "wrong");
  finds(kWrongStride, "wrong");
  finds(kNoSwizzle, "only swizzles of 128 bytes are emulated");
  finds(kExpectsTooFew, "waits for what never comes");
  finds(kExpectsTooMany, "waits for what never comes");
  finds(kNoMeeting, "a barrier was used before it was initialised");
  finds(kTooManyReaders, "waits for what never comes");
}

}  // namespace

void test_wgmma() {
  test_bugs();
  test_products();
  test_refusals();
  test_measured();
}

}  // namespace fastnn::test
