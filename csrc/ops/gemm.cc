// Matrix products: a plan, the memory it needs, and its launches.
#include "gemm.h"

namespace fastnn {
namespace {

Launch launch_of(const char* op, Device device, int64_t tasks, double cost) {
  return {op, device, DType::kFloat32, tasks, cost};
}

void set_operands(GemmArgs& args, Matrix a, Matrix b) {
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
  launch(launch_of(op, device, plan.pack_tasks(), cost), &Kernels::gemm_pack, args);
}

void multiply(const char* op, Device device, const GemmPlan& plan, const GemmArgs& args) {
  const double cost = 2.0 * static_cast<double>(args.m) * static_cast<double>(args.n) *
                      static_cast<double>(args.k) * kCostPerFlop;
  launch(launch_of(op, device, plan.tasks(), cost),
         plan.packed ? &Kernels::gemm_packed : &Kernels::gemm_small, args);
}

}  // namespace

void gemm(const char* op, Device device, GemmArgs args, Matrix a, Matrix b) {
  set_operands(args, a, b);
  const GemmPlan plan = plan_on(device, gemm_packs(args.m, args.n, args.k), args);
  const Array scratch = scratch_of(plan, device);
  if (scratch.defined()) args.scratch = write_as<float>(scratch);
  if (plan.packed) pack(op, device, plan, args);
  multiply(op, device, plan, args);
}

Factor::Factor(const char* op, Device device, Matrix b, int64_t k, int64_t n)
    : op_(op), device_(device), b_(b), k_(k), n_(n) {
  GemmArgs args{.n = n, .k = k};
  set_operands(args, {nullptr, k, 1}, b);
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
