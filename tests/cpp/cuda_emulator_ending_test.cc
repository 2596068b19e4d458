// What follows the sums of a product (ending.cuh), by each kernel that ends one: own tiles, wgmma,
// three products of TF32, and the kernel after another library's sums. Against float64, at odd
// sizes and strides, on all schedules. Oracles that are wrong on purpose show that the comparison
// tells, and own tiles that are, that the check on first use does.
#include "cuda_emulator_test.h"
#include "kernels/cuda/blas_ending.h"
#include "kernels/cuda/wgmma/products.h"
#include "kernels/formulas/activation.h"

namespace fastnn::test {
namespace {

using blas::Product;

enum Bug {
  kNoBug,
  kLanesOfRow,       // counted in each row
  kLanesOfColumns,   // as if rows followed one another without a gap
  kNoScale,          // what is kept stays as it is
  kResidualAtLast,   // after the activation
  kOtherZ,           // before for after the activation
  kRoundedTwice,     // before what follows the sums too
  kDerivativeOfSum,  // at the sum
  kNumBugs
};

struct Case {
  int64_t m, n, k;
  int32_t activation;
  bool bias, residual, z, z_is_activated, drops, backward, sums;
};
constexpr int32_t kRelu = 1, kTanh = 6, kGelu = 9;

template <class F>
void with_activation_of(int32_t which, F f) {
  const auto among = [&]<class... A>(ActivationList<A...>) {
    int32_t i = 0;
    ((i++ == which ? f(static_cast<A*>(nullptr)) : static_cast<void>(0)), ...);
  };
  among(Activations{});
}

// A product and its arrays, which are not aligned where nothing asks for it; rows of C are apart.
template <class T>
struct Setting {
  Case t;
  int64_t ldc;
  std::vector<double> x, w, bias, residual, saved;
  Buffer<T> a, b, bias_memory, residual_memory, saved_memory, z, d, sums;
  Buffer<float> partial_sums;
  Buffer<uint64_t> draw;
  Product p{};

  static int64_t pitch(int64_t cols) { return (cols + 7) / 8 * 8; }
  explicit Setting(const Case& of)
      : t(of),
        ldc(of.n + 3),
        x(normal<T>(of.m * pitch(of.k))),
        w(normal<T>(of.backward ? of.k * pitch(of.n) : of.n * pitch(of.k))),
        bias(normal<T>(of.n)),
        residual(normal<T>(of.m * ldc)),
        saved(normal<T>(of.m * ldc, 0, 0.5)),
        a(x, 0),
        b(w, 0),
        bias_memory(bias, 1),
        residual_memory(residual, 1),
        saved_memory(saved, 1),
        z(of.m * ldc, 1),
        d(of.m * ldc, 1),
        sums(of.n, 1),
        partial_sums(gemm_sums(of.m, of.n)),
        draw(2) {
    draw.data()[0] = 7, draw.data()[1] = (uint64_t{2} << 56) + 5;
    p.a = a.data(), p.b = b.data(), p.d = d.data();
    p.m = t.m, p.n = t.n, p.k = t.k, p.items = 1, p.ldc = ldc, p.c_step = t.m * ldc;
    p.a_row = pitch(t.k), p.a_col = 1;
    p.b_row = t.backward ? pitch(t.n) : 1, p.b_col = t.backward ? 1 : pitch(t.k);
    p.type = std::is_same_v<T, float>  ? blas::kFloat32
             : std::is_same_v<T, bf16> ? blas::kBFloat16
                                       : blas::kFloat16;
    p.compute = blas::kExact, p.activation = t.activation;
    if (t.bias) p.bias = bias_memory.data();
    if (t.residual) p.residual = residual_memory.data();
    if (t.backward && t.activation != 0) p.saved = saved_memory.data();
    if (t.z) p.z = z.data(), p.z_is_activated = t.z_is_activated;
    if (t.drops) p.draw = reinterpret_cast<RngDraw*>(draw.data());
    p.keep = {19661, 65536.f / (65536 - 19661), -0.f, 0.f};
    if (t.sums) p.column_sums = sums.data(), p.partial_sums = partial_sums.data();
  }
  void poison() {
    for (Buffer<T>* y : {&z, &d, &sums})
      std::memset(static_cast<void*>(y->data()), 0xff, sizeof(T) * size_t(y->size()));
    std::memset(partial_sums.data(), 0xff, sizeof(float) * size_t(partial_sums.size()));
  }
  // The sum of the products of C[i, j], and of their absolute values.
  std::pair<double, double> sum_at(int64_t i, int64_t j) const {
    double sum = 0, size = 0;
    for (int64_t q = 0; q < t.k; ++q) {
      const double y = x[size_t(i * p.a_row + q)] * w[size_t(q * p.b_row + j * p.b_col)];
      sum += y, size += std::abs(y);
    }
    return {sum, size};
  }
};

uint32_t lane_at(const RngDraw& draw, int64_t e) {
  const PhiloxBlock block = philox(uint64_t(e / 8), draw.offset, draw.seed);
  return block.word[e % 8 / 2] >> (e % 2 * 16) & 0xffff;
}

// An element of C and of z, and the size of what they are made of.
struct Element {
  double d, z, size;
};
// The activation in float32, whose error is far below the bound; its slope is at most 1.13.
template <class T>
Element element(const Setting<T>& s, int64_t i, int64_t j, Bug bug) {
  const Case& t = s.t;
  const auto place = size_t(i * s.ldc + j);
  auto [v, size] = s.sum_at(i, j);
  if (t.bias) v += s.bias[size_t(j)], size += std::abs(s.bias[size_t(j)]);
  if (bug == kRoundedTwice) v = rounded<T>(v);
  const int64_t e = bug == kLanesOfRow ? j : bug == kLanesOfColumns ? i * t.n + j : int64_t(place);
  const auto drop = [&](double y) {
    if (!t.drops) return y;
    const double scale = bug == kNoScale ? 1 : double(s.p.keep.scale);
    return lane_at(*s.p.draw, e) < s.p.keep.threshold ? 0 : y * scale;
  };
  const double residual = t.residual ? s.residual[place] : 0;
  size += std::abs(residual);
  if (s.p.saved != nullptr) {
    const double at = bug == kDerivativeOfSum ? v : s.saved[place];
    float y = static_cast<float>(drop(v));
    with_activation_of(t.activation,
                       [&]<class A>(A*) { y = A::bwd(y, static_cast<float>(at), 0); });
    return {y, 0, 1.5 * size};
  }
  if (bug != kResidualAtLast) v += residual;
  const double before = v;
  float y = static_cast<float>(v);
  with_activation_of(t.activation, [&]<class A>(A*) { y = A::fwd(y, 0); });
  v = y;
  if (bug == kResidualAtLast) v += residual;
  const bool activated = t.z_is_activated != (bug == kOtherZ);
  return {drop(v), activated ? v : before, 1.5 * size};
}

// Whether the results are what they should be. `says`: prints what is not.
template <class T>
bool is_right(Setting<T>& s, const std::string& name, Bug bug, bool says) {
  const Case& t = s.t;
  const auto tell = [&](bool ok, const char* what, int64_t i, int64_t j, double got, double want) {
    if (!says) return ok;
    return check(ok, [&] {
      return text("%s: %s[%ld, %ld] is %g, not %g", name.c_str(), what, long(i), long(j), got,
                  want);
    });
  };
  bool right = true;
  for (int64_t i = 0; i < t.m; ++i)
    for (int64_t j = 0; j < s.ldc; ++j) {
      const int64_t at = i * s.ldc + j;
      if (j >= t.n) {
        right = right && std::isnan(s.d[at]) && std::isnan(s.z[at]);  // nothing beyond C
        continue;
      }
      const Element want = element(s, i, j, bug);
      const double d_off = tolerance<T>(want.d, want.size, 40);
      right = tell(close(s.d[at], want.d, d_off), "d", i, j, s.d[at], want.d) && right;
      if (!t.z) continue;
      const double z_off = tolerance<T>(want.z, want.size, 40);
      right = tell(close(s.z[at], want.z, z_off), "z", i, j, s.z[at], want.z) && right;
    }
  for (int64_t j = 0; j < t.n && t.sums; ++j) {
    double sum = 0, size = 0;  // of C as it is stored
    for (int64_t i = 0; i < t.m; ++i)
      sum += s.d[i * s.ldc + j], size += std::abs(s.d[i * s.ldc + j]);
    const double off = tolerance<T>(sum, size, 17);
    right = tell(close(s.sums[j], sum, off), "sums", 0, j, s.sums[j], sum) && right;
  }
  return right;
}

// ---- who ends products -------------------------------------------------------------------------

template <class T>
void by_tiles(const Product& p, void* stream) {
  using Of = std::conditional_t<sizeof(T) == sizeof(float), float, bf16>;
  const auto read = [](const void* x) { return static_cast<const Of*>(x); };
  GemmBatchArgsOf<Of> batch{};
  batch.items = batch.terms = 1;
  batch.one = {.a = read(p.a),
               .b = read(p.b),
               .c = static_cast<Of*>(p.d),
               .m = p.m,
               .n = p.n,
               .k = p.k,
               .a_row = p.a_row,
               .a_col = p.a_col,
               .b_row = p.b_row,
               .b_col = p.b_col,
               .ldc = p.ldc,
               .bias = read(p.bias),
               .z = static_cast<Of*>(p.z),
               .activation = p.activation,
               .activation_param = p.activation_param,
               .accumulate = false,
               .scratch = nullptr,
               .residual = read(p.residual),
               .z_is_activated = p.z_is_activated,
               .draw = p.draw,
               .keep = p.keep,
               .saved = read(p.saved),
               .column_sums = static_cast<Of*>(p.column_sums)};
  blas::set_path(blas::kByTiles);
  if constexpr (sizeof(T) == sizeof(float))
    kernels<T>().gemm_batch(batch, {0, 1, stream});
  else
    kernels<T>().gemm_bf16(batch, {0, 1, stream});
  blas::set_path(blas::kAnyone);
}

// The sums of another library.
template <class T>
std::string sums_of(const Setting<T>& s, const Product& q) {
  const int64_t first = (static_cast<const T*>(q.a) - static_cast<const T*>(s.p.a)) / q.a_row;
  for (int64_t i = 0; i < q.m; ++i)
    for (int64_t j = 0; j < q.n; ++j) {
      double sum = s.sum_at(first + i, j).first;
      if (q.bias != nullptr) sum += s.bias[size_t(j)];
      static_cast<float*>(q.d)[i * q.ldc + j] = static_cast<float>(sum);
    }
  return "";
}

template <class T>
void test_way(const Case& t, const char* way,
              const std::function<std::string(const Setting<T>&)>& make) {
  Setting<T> s(t);
  const std::string name = text("%s %s %ldx%ldx%ld, activation %d%s", way, kName<T>, long(t.m),
                                long(t.n), long(t.k), t.activation, t.backward ? ", backward" : "");
  const bool same = same_on_all_schedules([&] {
    s.poison();
    const std::string why = make(s);
    const char* error = library().take_error();
    expect(why.empty() && error == nullptr, name + ": " + why + (error != nullptr ? error : ""));
    return s.d.bits() + s.z.bits() + s.sums.bits();
  });
  expect(same, name + ": the same bits on all schedules");
  expect(is_right(s, name, kNoBug, true), name);
  const auto told = [&](Bug bug, bool may_be) {
    if (may_be) expect(!is_right(s, name, bug, false), name + text(": tells bug %d", int(bug)));
  };
  told(kLanesOfRow, t.drops);
  told(kLanesOfColumns, t.drops);
  told(kNoScale, t.drops);
  told(kResidualAtLast, t.residual && t.activation != 0);
  told(kOtherZ, t.z && t.activation != 0);
  told(kRoundedTwice, sizeof(T) == 2);
  told(kDerivativeOfSum, s.p.saved != nullptr);
  if (!t.sums) return;
  // A row that is missing, in the column where it is the most.
  const int64_t last = (t.m - 1) * s.ldc;
  int64_t column = 0;
  for (int64_t j = 1; j < t.n; ++j)
    if (std::fabs(s.d[last + j]) > std::fabs(s.d[last + column])) column = j;
  const double missing = s.d[last + column];
  s.sums.set(column, s.sums[column] - missing);
  expect(missing == 0 || !is_right(s, name, kNoBug, false), name + ": tells a missing row");
}

template <class T>
void test_tiles(const Case& t) {
  test_way<T>(t, "tiles", [](const Setting<T>& s) {
    by_tiles<T>(s.p, nullptr);
    return std::string();
  });
}
template <class T>
void test_kernel_after(const Case& t, size_t bytes) {
  Buffer<float> sums(static_cast<int64_t>(bytes) / 4);
  test_way<T>(t, "in two", [&](const Setting<T>& s) {
    expect(blas::can_be_in_two(s.p), "can be made in two");
    const blas::Maker make = [&](const Product& q) { return sums_of(s, q); };
    return blas::make_in_two(s.p, make, sums.data(), bytes, nullptr);
  });
}
template <class T>
void test_wgmma_ending(const Case& t, wgmma::Cut cut) {
  test_way<T>(t, "wgmma", [=](const Setting<T>& s) {
    expect(wgmma::can_make(s.p), "can be made by wgmma");
    return wgmma::make(s.p, cut, nullptr);
  });
}
void test_split_ending(const Case& t, int64_t bytes) {
  Buffer<unsigned char> workspace(bytes);
  test_way<float>(t, "3xtf32", [&](const Setting<float>& s) {
    return wgmma::make_split(s.p, {128, 2}, {workspace.data(), size_t(bytes)}, nullptr);
  });
}

void test_endings() {
  //               m   n    k   activation  bias  residual z  activated drops backward sums
  const Case all{37, 133, 40, kGelu, true, true, true, false, true, false, false};
  const Case activated{70, 66, 24, kTanh, true, false, true, true, true, false, false};
  const Case plain{18, 45, 16, 0, false, true, false, false, true, false, true};
  const Case relu{35, 29, 48, kRelu, false, false, false, false, true, true, true};
  const Case gelu{130, 141, 24, kGelu, false, false, false, false, false, true, true};
  const Case tanh{33, 261, 16, kTanh, false, false, false, false, true, true, true};
  test_tiles<float>(all), test_tiles<bf16>(activated), test_tiles<f16>(plain);
  test_tiles<bf16>(relu), test_tiles<float>(gelu), test_tiles<f16>(tanh);
  test_kernel_after<float>(all, 0), test_kernel_after<float>(relu, 0);
  test_kernel_after<bf16>(all, 133 * 4 * 9);  // nine rows at a time
  test_kernel_after<f16>(activated, 1 << 16), test_kernel_after<bf16>(plain, 1 << 16);
  test_kernel_after<f16>(gelu, 141 * 4 * 129);  // 128 rows, then two
  test_wgmma_ending<bf16>(all, {128, 2}), test_wgmma_ending<f16>(all, {256, 1});
  test_wgmma_ending<bf16>(activated, {128, 1}), test_wgmma_ending<f16>(plain, {128, 1});
  test_wgmma_ending<bf16>(relu, {128, 1}), test_wgmma_ending<f16>(gelu, {128, 2});
  test_wgmma_ending<bf16>(tanh, {256, 2});
  test_split_ending(all, 1 << 20);
  test_split_ending(gelu, 3 * (130 + 141) * 4 * 32);
  test_split_ending({20, 9, 70, kRelu, false, false, false, false, true, true, true},
                    3 * 29 * 4 * 40);  // three parts of k
}

// ---- the check on first use --------------------------------------------------------------------

int wrong_part;  // of the own tiles that others are compared with
void wrong_tiles(const Product& p, void* stream) {
  Product q = p;
  if (wrong_part == 1) q.residual = nullptr;
  if (wrong_part == 2) q.draw = nullptr;
  if (wrong_part == 3) q.saved = p.a;
  if (wrong_part == 4) q.z_is_activated = !p.z_is_activated;
  by_tiles<bf16>(q, stream);
  if (wrong_part != 5) return;
  q.m -= 1, q.d = q.z = nullptr;  // sums without the last row
  std::vector<bf16> rest(size_t(p.m * p.ldc));
  q.d = rest.data();
  by_tiles<bf16>(q, stream);
}

void test_checks() {
  const Case forward{70, 66, 24, kGelu, false, true, true, true, true, false, false};
  const Case backward{70, 66, 24, kRelu, false, false, false, false, true, true, true};
  for (const int part : {1, 2, 3, 4, 5, 0}) {  // a class that was wrong once stays refused
    wrong_part = part;
    Case t = part == 3 || part == 5 || part == 0 ? backward : forward;
    t.bias = part % 2 == 1;  // a class for each
    if (part == 0) t.m = 71;
    if (part == 5) t.activation = kTanh;
    if (part == 4) t.n = 67;
    Setting<bf16> s(t);
    s.poison();
    const bool made = blas::multiply(blas::kByWgmma, s.p, nullptr, wrong_tiles);
    expect(made == (part == 0), text("the check of part %d", part));
    if (made) expect(is_right(s, "after the check", kNoBug, true), "what was checked is right");
  }
}

}  // namespace

void test_ending() {
  test_endings();
  test_checks();
}

}  // namespace fastnn::test
