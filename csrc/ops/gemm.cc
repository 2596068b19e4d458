// Matrix products: a plan, the memory it needs, and its launches.
#include "gemm.h"

#include <atomic>

namespace fastnn {
namespace {

// The kernels of a batch of products of Ts.
template <class T>
struct Products {
  static constexpr auto kPack = &Kernels::gemm_batch_pack, kMultiply = &Kernels::gemm_batch;
};
template <>
struct Products<bf16> {
  static constexpr auto kPack = &Kernels::gemm_bf16_pack, kMultiply = &Kernels::gemm_bf16;
};

template <class T>
void set_operands(GemmArgsOf<T>& args, MatrixOf<T> a, MatrixOf<T> b) {
  args.a = a.data;
  args.a_row = a.row;
  args.a_col = a.col;
  args.b = b.data;
  args.b_row = b.row;
  args.b_col = b.col;
  if (args.ldc == 0) args.ldc = args.n;
}

// Panels are what the CPU's kernels want; CUDA's read all operands in place.
GemmPlan plan_on(Device device, bool packed, const GemmArgs& args) {
  return gemm_plan_as(packed && device == Device::kCpu, args);
}

Array scratch_of(const GemmPlan& plan, Device device) {
  return plan.scratch() > 0 ? empty({plan.scratch()}, DType::kFloat32, device) : Array{};
}

void pack(const char* op, Device device, const GemmPlan& plan, const GemmArgs& args) {
  const double cost = static_cast<double>(plan.scratch()) * kCostPerElement;
  launch({op, device, DType::kFloat32, plan.pack_tasks(), cost}, &Kernels::gemm_pack, args);
}

template <class T>
double cost_of(const GemmArgsOf<T>& args) {
  return 2.0 * static_cast<double>(args.m) * static_cast<double>(args.n) *
         static_cast<double>(args.k) * kCostPerFlop;
}

void multiply(const char* op, Device device, const GemmPlan& plan, const GemmArgs& args) {
  launch({op, device, DType::kFloat32, plan.tasks(), cost_of(args)},
         plan.packed ? &Kernels::gemm_packed : &Kernels::gemm_small, args);
}

std::atomic<MatmulPrecision> precision{MatmulPrecision::kHighest};

// Whether rounding the factors to bfloat16 on the CPU pays: packing them takes as long as a product
// with few rows or columns does.
bool pays_as_bf16(const GemmArgs& g) {
  return least(g.m, g.n) >= 64 && g.k >= 32 && g.m * g.n * g.k >= int64_t{1} << 20;
}

// The product with the precision that was asked for. False where that is float32: because it is the
// highest, or because here nothing else is faster.
bool multiply_faster(const char* op, Device device, GemmBatchArgs batch) {
  const MatmulPrecision asked = matmul_precision();
  if (asked == MatmulPrecision::kHighest) return false;
  const Kernels& kernels = kernel_table(device, DType::kFloat32, op);
  const bool medium = asked == MatmulPrecision::kMedium;
  const auto kernel = medium ? kernels.gemm_medium : kernels.gemm_high;
  if (kernel == nullptr) return false;
  GemmArgs& one = batch.one;
  const int64_t products = batch.items * batch.terms;
  const double cost = static_cast<double>(products) * cost_of(one);
  if (device.is_cuda()) {
    launch({op, device, DType::kFloat32, batch.items, cost}, kernel, batch);
    return true;
  }
  if (!pays_as_bf16(one)) return false;
  const GemmPlan plan = gemm_plan(GemmBf16Args{.m = one.m, .n = one.n, .k = one.k});
  const int64_t floats = products * plan.scratch();
  const Array scratch = empty({floats}, DType::kFloat32, device);
  one.scratch = write_as<float>(scratch);
  launch({op, device, DType::kFloat32, products * plan.pack_tasks(),
          static_cast<double>(floats) * kCostPerElement},
         kernels.gemm_medium_pack, batch);
  launch({op, device, DType::kFloat32, batch.items * plan.tasks(), cost}, kernel, batch);
  return true;
}

// Where C is small and k long, spans of k are tasks. False where the product is not of this kind.
bool multiply_in_spans(const char* op, Device device, GemmBatchArgs batch) {
  GemmArgs& one = batch.one;
  if (device.is_cuda() || !gemm_splits(one)) return false;
  const GemmPlan plan = gemm_plan_as(false, one);
  const int64_t products = batch.items * gemm_span_cut(one.k).parts,
                floats = products * one.m * one.n;
  const Array sums = empty({floats}, DType::kFloat32, device);
  one.scratch = write_as<float>(sums);
  launch({op, device, DType::kFloat32, products * plan.tasks(),
          static_cast<double>(batch.items * batch.terms) * cost_of(one)},
         &Kernels::gemm_spans, batch);
  launch({op, device, DType::kFloat32, batch.items * plan.rows.parts,
          static_cast<double>(floats) * kCostPerElement},
         &Kernels::gemm_span_sums, batch);
  return true;
}

}  // namespace

void set_matmul_precision(MatmulPrecision value) { precision = value; }
MatmulPrecision matmul_precision() { return precision; }

void gemm(const char* op, Place place, GemmArgs args, Matrix a, Matrix b) {
  const Device device = place.device;
  set_operands(args, a, b);
  const GemmBatchArgs alone{.one = args, .items = 1, .terms = 1};
  if (multiply_faster(op, device, alone) || multiply_in_spans(op, device, alone)) return;
  const GemmPlan plan = plan_on(device, gemm_packs(args), args);
  const Array scratch = scratch_of(plan, device);
  if (scratch.defined()) args.scratch = write_as<float>(scratch);
  if (plan.packed) pack(op, device, plan, args);
  multiply(op, device, plan, args);
}

void gemm(const char* op, Place place, GemmBf16Args args, MatrixOf<bf16> a, MatrixOf<bf16> b) {
  gemm(op, place, GemmBf16BatchArgs{.one = args, .items = 1, .terms = 1}, a, b);
}

template <class T>
void gemm(const char* op, Place place, GemmBatchArgsOf<T> batch, MatrixOf<T> a, MatrixOf<T> b) {
  const Device device = place.device;
  GemmArgsOf<T>& one = batch.one;
  set_operands(one, a, b);
  if constexpr (sizeof(T) == sizeof(float)) {
    if (multiply_faster(op, device, batch) || multiply_in_spans(op, device, batch)) return;
  }
  const GemmPlan plan = device == Device::kCpu ? gemm_plan(one) : gemm_plan_as(false, one);
  const int64_t products = batch.items * batch.terms, floats = products * plan.scratch();
  Array scratch;
  if (floats > 0) {
    scratch = empty({floats}, DType::kFloat32, device);
    one.scratch = write_as<float>(scratch);
    launch({op, device, place.dtype, products * plan.pack_tasks(),
            static_cast<double>(floats) * kCostPerElement},
           Products<T>::kPack, batch);
  }
  launch({op, device, place.dtype, batch.items * plan.tasks(),
          static_cast<double>(products) * cost_of(one)},
         Products<T>::kMultiply, batch);
}
template void gemm(const char*, Place, GemmBatchArgs, Matrix, Matrix);
template void gemm(const char*, Place, GemmBf16BatchArgs, MatrixOf<bf16>, MatrixOf<bf16>);

Factor::Factor(const char* op, Device device, Matrix b, int64_t k, int64_t n)
    : op_(op), device_(device), b_(b), k_(k), n_(n) {
  GemmArgs args{.n = n, .k = k};
  set_operands(args, Matrix{nullptr, k, 1}, b);
  const GemmPlan plan = plan_on(device, true, args);
  panels_ = scratch_of(plan, device);
  if (!panels_.defined()) return;
  args.scratch = write_as<float>(panels_);
  pack(op, device, plan, args);
}

void Factor::multiply(GemmArgs args, Matrix a) const {
  args.n = n_;
  args.k = k_;
  set_operands(args, a, b_);
  if (panels_.defined()) args.scratch = static_cast<float*>(panels_.storage->data);
  fastnn::multiply(op_, device_, plan_on(device_, true, args), args);
}

}  // namespace fastnn
