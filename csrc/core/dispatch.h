// launch(): the only door to a kernel. It looks the table of (device, dtype) up, runs the tasks on
// the pool or the stream, and appends the launch to the plan while one records.
#pragma once
#include <span>
#include <string>

#include "array.h"
#include "capture.h"
#include "cuda.h"
#include "parallel.h"

namespace fastnn {

// What a launch is about. `cost` is a rough time on one thread in nanoseconds: below
// kParallelCost waking a second thread costs more than it brings.
struct Launch {
  const char* op;
  Device device;
  DType dtype;
  int64_t tasks;
  double cost;
};
inline constexpr double kParallelCost = 20e3;
inline constexpr double kReleaseCost = 50e3;  // longer kernels run without the interpreter lock

// Rough costs on one thread, in nanoseconds.
inline constexpr double kCostPerElement = 0.3, kCostPerExp = 1.0, kCostPerFlop = 0.015;

const Kernels& kernel_table(Device device, DType dtype, const char* op);

// A compiled instruction set; `preferred` to those after it, or else only on request.
struct CpuLevel {
  const char* name;
  const KernelTable& (*kernels)();
  bool supported, preferred;
};
std::span<const CpuLevel> cpu_levels();
std::string cpu_level();         // "v2", "v3", "v4", "v4bf16", "v4amx" or "arm"
std::string cpu_level_reason();  // who chose it

[[noreturn]] void throw_missing_kernel(const Launch& what);

// Set by the bindings: lets other Python threads run during long kernels. release() gives null on a
// thread that holds no lock.
struct InterpreterLock {
  void* (*release)() = nullptr;
  void (*acquire)(void*) = nullptr;
};
extern InterpreterLock interpreter_lock;
class InterpreterReleased {
 public:
  InterpreterReleased() : state_(interpreter_lock.release ? interpreter_lock.release() : nullptr) {}
  ~InterpreterReleased() {
    if (state_ != nullptr) interpreter_lock.acquire(state_);
  }

 private:
  void* state_;
};

void run_node(const Node& node, const void* args);

template <class Args>
void invoke(Node::AnyKernel kernel, const void* args, Slice slice) {
  reinterpret_cast<Kernel<Args>>(kernel)(*static_cast<const Args*>(args), slice);
}

template <class Args>
void launch(const Launch& what, Kernel<Args> kernel, const Args& args) {
  static_assert(std::is_trivially_copyable_v<Args>);
  if (kernel == nullptr) [[unlikely]]
    throw_missing_kernel(what);
  if (what.tasks == 0) return;
  const Node node{reinterpret_cast<Node::AnyKernel>(kernel),
                  invoke<Args>,
                  0,
                  what.tasks,
                  what.cost > kParallelCost,
                  what.device};
  if (Plan* plan = current_plan()) [[unlikely]]
    plan->append(node, &args, sizeof args);
  if (what.cost > kReleaseCost) [[unlikely]] {
    const InterpreterReleased released;
    run_node(node, &args);
  } else {
    run_node(node, &args);
  }
  if (node.device.is_cuda()) [[unlikely]]
    cuda_raise_after_launch(what.op);
}

template <class Args, class Family>
void launch(const Launch& what, Kernel<Args> Family::* kernel, const Args& args) {
  const Family& family = kernel_table(what.device, what.dtype, what.op);
  launch(what, family.*kernel, args);
}
template <class Args, class Family, size_t N>
void launch(const Launch& what, Kernel<Args> (Family::*kernels)[N], int index, const Args& args) {
  const Family& family = kernel_table(what.device, what.dtype, what.op);
  launch(what, (family.*kernels)[index], args);
}

}  // namespace fastnn
