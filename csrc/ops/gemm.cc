// Matrix products: a plan, the memory it needs, and its launches.
#include "gemm.h"

namespace fastnn {
namespace {

// The kernels of a batch of products of Ts.
template <class T>
struct Products {
  static constexpr DType kDType = DType::kFloat32;
  static constexpr auto kPack = &Kernels::gemm_batch_pack, kMultiply = &Kernels::gemm_batch;
};
template <>
struct Products<bf16> {
  static constexpr DType kDType = DType::kBFloat16;
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

}  // namespace

void gemm(const char* op, Device device, GemmArgs args, Matrix a, Matrix b) {
  set_operands(args, a, b);
  const GemmPlan plan = plan_on(device, gemm_packs(args), args);
  const Array scratch = scratch_of(plan, device);
  if (scratch.defined()) args.scratch = write_as<float>(scratch);
  if (plan.packed) pack(op, device, plan, args);
  multiply(op, device, plan, args);
}

void gemm(const char* op, Device device, GemmBf16Args args, MatrixOf<bf16> a, MatrixOf<bf16> b) {
  gemm(op, device, GemmBf16BatchArgs{.one = args, .items = 1, .terms = 1}, a, b);
}

template <class T>
void gemm(const char* op, Device device, GemmBatchArgsOf<T> batch, MatrixOf<T> a, MatrixOf<T> b) {
  GemmArgsOf<T>& one = batch.one;
  set_operands(one, a, b);
  const GemmPlan plan = device == Device::kCpu ? gemm_plan(one) : gemm_plan_as(false, one);
  const int64_t products = batch.items * batch.terms, floats = products * plan.scratch();
  Array scratch;
  if (floats > 0) {
    scratch = empty({floats}, DType::kFloat32, device);
    one.scratch = write_as<float>(scratch);
    launch({op, device, Products<T>::kDType, products * plan.pack_tasks(),
            static_cast<double>(floats) * kCostPerElement},
           Products<T>::kPack, batch);
  }
  launch({op, device, Products<T>::kDType, batch.items * plan.tasks(),
          static_cast<double>(products) * cost_of(one)},
         Products<T>::kMultiply, batch);
}
template void gemm(const char*, Device, GemmBatchArgs, Matrix, Matrix);
template void gemm(const char*, Device, GemmBf16BatchArgs, MatrixOf<bf16>, MatrixOf<bf16>);

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
