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

Array scratch_of(const GemmPlan& plan, Device device) {
  return plan.scratch() > 0 ? empty({plan.scratch()}, DType::kFloat32, device) : Array{};
}

void pack(const char* op, Device device, const GemmPlan& plan, const GemmArgs& args) {
  const double cost = static_cast<double>(plan.scratch()) * kCostPerElement;
  launch(launch_of(op, device, plan.pack_tasks(), cost), &Kernels::gemm_pack, args);
}

double cost_of(const GemmArgs& args) {
  return 2.0 * static_cast<double>(args.m) * static_cast<double>(args.n) *
         static_cast<double>(args.k) * kCostPerFlop;
}

void multiply(const char* op, Device device, const GemmPlan& plan, const GemmArgs& args) {
  launch(launch_of(op, device, plan.tasks(), cost_of(args)),
         plan.packed ? &Kernels::gemm_packed : &Kernels::gemm_small, args);
}

}  // namespace

void gemm(const char* op, Device device, GemmArgs args, Matrix a, Matrix b) {
  set_operands(args, a, b);
  const GemmPlan plan = gemm_plan(args);
  const Array scratch = scratch_of(plan, device);
  if (scratch.defined()) args.scratch = write_as<float>(scratch);
  if (plan.packed) pack(op, device, plan, args);
  multiply(op, device, plan, args);
}

void gemm(const char* op, Device device, GemmBatchArgs batch, Matrix a, Matrix b) {
  GemmArgs& one = batch.one;
  set_operands(one, a, b);
  const GemmPlan plan = gemm_plan(one);
  const int64_t products = batch.items * batch.terms;
  Array scratch;
  if (plan.packed && products > 0) {
    scratch = empty({products * plan.scratch()}, DType::kFloat32, device);
    one.scratch = write_as<float>(scratch);
    const double cost = static_cast<double>(products * plan.scratch()) * kCostPerElement;
    launch(launch_of(op, device, products * plan.pack_tasks(), cost), &Kernels::gemm_batch_pack,
           batch);
  }
  launch(launch_of(op, device, batch.items * plan.tasks(),
                   static_cast<double>(products) * cost_of(one)),
         &Kernels::gemm_batch, batch);
}

Factor::Factor(const char* op, Device device, Matrix b, int64_t k, int64_t n)
    : op_(op), device_(device), b_(b), k_(k), n_(n) {
  GemmArgs args{.n = n, .k = k};
  set_operands(args, {nullptr, k, 1}, b);
  const GemmPlan plan = gemm_plan_as(true, args);
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
  fastnn::multiply(op_, device_, gemm_plan_as(true, args), args);
}

}  // namespace fastnn
