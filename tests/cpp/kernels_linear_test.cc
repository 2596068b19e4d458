// Matrix products, alone and in batches, and the backward of a layer.
#include "kernels_test.h"

namespace fastnn {
namespace {

// CUDA's kernels read all operands in place: they have no panels to pack.
#ifdef FASTNN_TEST_CUDA
constexpr bool kPacks = false;
#else
constexpr bool kPacks = true;
#endif

// Nor have they spans of k.
bool in_spans(const GemmArgs& args) { return kPacks && gemm_splits(args); }
bool in_spans(const GemmBf16Args&) { return false; }
template <class T>
int64_t span_count(const GemmArgsOf<T>& args) {
  return gemm_span_cut(args.k).parts;
}

void run_batch(const Kernels& k, const GemmBatchArgs& args, const GemmPlan& plan) {
  const int64_t products = args.items * args.terms;
  if (in_spans(args.one)) {
    k.gemm_spans(args, {0, args.items * span_count(args.one) * plan.tasks(), nullptr});
    return k.gemm_span_sums(args, {0, args.items * plan.rows.parts, nullptr});
  }
  if (plan.packed && kPacks) k.gemm_batch_pack(args, {0, products * plan.pack_tasks(), nullptr});
  k.gemm_batch(args, {0, args.items * plan.tasks(), nullptr});
}
void run_batch(const Kernels& k, const GemmBf16BatchArgs& args, const GemmPlan& plan) {
  const int64_t products = args.items * args.terms;
  if (kPacks) k.gemm_bf16_pack(args, {0, products * plan.pack_tasks(), nullptr});
  k.gemm_bf16(args, {0, args.items * plan.tasks(), nullptr});
}
void run_gemm(const Kernels& k, const GemmArgs& args, const GemmPlan& plan) {
  if (!plan.packed) return k.gemm_small(args, {0, plan.tasks(), nullptr});
  k.gemm_pack(args, {0, plan.pack_tasks(), nullptr});
  k.gemm_packed(args, {0, plan.tasks(), nullptr});
}
void run_gemm(const Kernels& k, const GemmBf16Args& args, const GemmPlan& plan) {
  run_batch(k, {.one = args, .items = 1, .terms = 1}, plan);
}

// Of float32, with factors rounded to bfloat16, where there is such a kernel.
struct Medium {};
GemmPlan plan_of(const GemmArgs& args, Medium) {
  return gemm_plan_as(kPacks, GemmBf16Args{.m = args.m, .n = args.n, .k = args.k});
}
void run_gemm(const Kernels& k, const GemmArgs& args, const GemmPlan& plan, Medium) {
  if (k.gemm_medium == nullptr) return;
  const GemmBatchArgs batch{.one = args, .items = 1, .terms = 1};
  if (kPacks) k.gemm_medium_pack(batch, {0, plan.pack_tasks(), nullptr});
  k.gemm_medium(batch, {0, plan.tasks(), nullptr});
}

// T is the type of the arguments, V that of buffers of the same size.
template <class T, class V, class... How>
Bytes gemm(const Kernels& k, int64_t m, int64_t n, int64_t depth, bool packed, bool transposed,
           How... how) {
  Buffer<V> a(m * depth), b(depth * n), c(m * n, true), z(m * n, true), bias(n);
  GemmArgsOf<T> args{};
  args.a = reinterpret_cast<T*>(a.get());
  args.b = reinterpret_cast<T*>(b.get());
  args.c = reinterpret_cast<T*>(c.get());
  args.z = reinterpret_cast<T*>(z.get());
  args.bias = reinterpret_cast<T*>(bias.get());
  args.m = m;
  args.n = n;
  args.k = depth;
  args.a_row = transposed ? 1 : depth;
  args.a_col = transposed ? m : 1;
  args.b_row = 1;
  args.b_col = depth;
  args.ldc = n;
  args.activation = 1;
  GemmPlan plan = gemm_plan_as(packed && kPacks, args);
  if constexpr (sizeof...(How) > 0) plan = plan_of(args, how...);
  auto* scratch = static_cast<float*>(
      std::aligned_alloc(64, static_cast<size_t>(plan.scratch() * 4 + 64) / 64 * 64));
  args.scratch = scratch;
  run_gemm(k, args, plan, how...);
  std::free(scratch);
  Bytes out;
  append(out, c);
  append(out, z);
  return out;
}

// Two by three products, the second axis summed over or not; B is the same on the first.
template <class T, class V>
Bytes gemm_batch(const Kernels& k, int64_t m, int64_t n, int64_t depth, bool summed) {
  Buffer<V> a(6 * m * depth), b(3 * depth * n), c((summed ? 2 : 6) * m * n, true);
  GemmBatchArgsOf<T> args{};
  args.one = {.m = m, .n = n, .k = depth};
  args.one.a = reinterpret_cast<T*>(a.get());
  args.one.b = reinterpret_cast<T*>(b.get());
  args.one.c = reinterpret_cast<T*>(c.get());
  args.one.a_row = depth, args.one.a_col = 1, args.one.b_row = n, args.one.b_col = 1;
  args.one.ldc = n;
  args.axes[0] = {2, 3 * m * depth, 0, (summed ? 1 : 3) * m * n, 0};
  args.axes[1] = {3, m * depth, depth * n, summed ? 0 : m * n, 0};
  args.num_axes = 2, args.items = summed ? 2 : 6, args.terms = summed ? 3 : 1;
  GemmPlan plan = gemm_plan(args.one);
  plan.packed = plan.packed && kPacks;
  const int64_t floats = 6 * (in_spans(args.one) ? span_count(args.one) * m * n : plan.scratch());
  auto* scratch =
      static_cast<float*>(std::aligned_alloc(64, static_cast<size_t>(floats * 4 + 64) / 64 * 64));
  args.one.scratch = scratch;
  run_batch(k, args, plan);
  std::free(scratch);
  Bytes out;
  append(out, c);
  return out;
}

template <class T>
Bytes linear_bwd(const Kernels& k, int64_t rows, int64_t cols) {
  Buffer<T> dy(rows * cols), saved(rows * cols), dz(rows * cols, true), db(cols, true);
  k.linear_bwd({dy.get(), saved.get(), dz.get(), db.get(), rows, cols, 1, 0},
               {0, ceil_div(cols, kColumnChunk), nullptr});
  Bytes out;
  append(out, dz);
  append(out, db);
  return out;
}

template <class T>
void compare_dtype(DType dtype) {
  for (const int64_t cols : {1, 10, 63, 64, 65, 200})
    compare("linear_bwd", [cols](const Kernels& k) { return linear_bwd<T>(k, 33, cols); }, dtype);
}

void compare_gemm() {
#ifdef FASTNN_TEST_CUDA  // around its tiles, since all is run a thread at a time
  const std::vector<int64_t> ms{1, 33, 97}, ns{1, 31, 32, 100}, ks{0, 1, 17, 64, 65, 400};
#else
  const std::vector<int64_t> ms{1, 2, 7, 8, 13, 32, 97}, ns{1, 5, 10, 31, 32, 33, 64, 100},
      ks{0, 1, 3, 64, 255, 256, 257, 600};
#endif
  for (const int64_t m : ms)
    for (const int64_t n : ns)
      for (const int64_t k : ks)
        for (const int form : {0, 1, 2, 3}) {
          const bool packed = form & 1, transposed = form & 2;
          compare(
              "gemm",
              [=](const Kernels& t) { return gemm<float, float>(t, m, n, k, packed, transposed); },
              DType::kFloat32);
          compare(
              "gemm_bf16",
              [=](const Kernels& t) { return gemm<bf16, uint16_t>(t, m, n, k, true, transposed); },
              DType::kBFloat16);
          if (!packed) continue;
          compare(
              "gemm_medium",
              [=](const Kernels& t) {
                return gemm<float, float>(t, m, n, k, true, transposed, Medium{});
              },
              DType::kFloat32);
        }
  for (const int64_t n : {1, 33, 34, 200})
    for (const bool summed : {false, true}) {
      const int64_t k = n == 200 ? 420 : n == 34 ? 2 * kGemmSpan + 1 : 70;
      compare(
          "gemm_batch",
          [=](const Kernels& t) { return gemm_batch<float, float>(t, n, n, k, summed); },
          DType::kFloat32);
      compare(
          "gemm_bf16 of a batch",
          [=](const Kernels& t) { return gemm_batch<bf16, uint16_t>(t, n, n, k, summed); },
          DType::kBFloat16);
    }
}

}  // namespace
}  // namespace fastnn

int main() {
  fastnn::compare_dtype<float>(fastnn::DType::kFloat32);
  fastnn::compare_dtype<uint16_t>(fastnn::DType::kBFloat16);
  fastnn::compare_gemm();
  return report_tests();
}
