// Which table serves a call, and how its tasks reach the pool or the stream.
#include "dispatch.h"

#if defined(__x86_64__)
#include <sys/syscall.h>
#include <unistd.h>
#endif

#include <cstdlib>
#include <string_view>

#include "cuda.h"

namespace fastnn {

InterpreterLock interpreter_lock;

namespace {

struct Choice {
  const CpuLevel* level;
  std::string reason;
};

#if defined(__x86_64__)
// Whether the processor has AMX's bfloat16, and Linux allows it.
bool may_use_amx() {
  // Linux gives a process the registers' state on request only (ARCH_REQ_XCOMP_PERM, XTILEDATA).
  constexpr int kRequestPermission = 0x1023, kTileData = 18;
  static const bool granted = __builtin_cpu_supports("x86-64-v4") &&
                              __builtin_cpu_supports("avx512bf16") &&
                              __builtin_cpu_supports("amx-bf16") &&
                              syscall(SYS_arch_prctl, kRequestPermission, kTileData) == 0;
  return granted;
}
#endif

}  // namespace

std::span<const CpuLevel> cpu_levels() {
#if defined(__x86_64__)
  __builtin_cpu_init();
#if defined(FASTNN_AVX512_EMULATOR)
  constexpr bool kEmulated = true;
#else
  constexpr bool kEmulated = false;
#endif
  const bool v3 = __builtin_cpu_supports("x86-64-v3") != 0;
  const bool v4 = kEmulated ? v3 : __builtin_cpu_supports("x86-64-v4") != 0;
  const bool bf16 = kEmulated ? v3 : v4 && __builtin_cpu_supports("avx512bf16") != 0;
  const bool amx = kEmulated ? v3 : may_use_amx();
  // Intel's processors need two cycles for a vdpbf16ps and half of one for an fma: two products of
  // bfloat16 take them twice the time of two fma on widened values. AMD's take half of it.
  const bool fast_bf16 = __builtin_cpu_is("amd") != 0;
  static const CpuLevel all[] = {{"v4amx", v4amx::kernels, amx, !kEmulated},
                                 {"v4bf16", v4bf16::kernels, bf16, !kEmulated && fast_bf16},
                                 {"v4", v4::kernels, v4, !kEmulated},
                                 {"v3", v3::kernels, v3, true},
                                 {"v2", v2::kernels, true, true}};
#else
  static const CpuLevel all[] = {{"arm", arm::kernels, true, true}};
#endif
  return all;
}

namespace {

Choice choose_level() {
  const char* forced = std::getenv("FASTNN_CPU");
  std::string names;
  for (const CpuLevel& level : cpu_levels()) {
    if (!level.supported) continue;
    const bool choose = forced == nullptr || *forced == '\0';
    if (choose && level.preferred) return {&level, "best that this processor supports"};
    if (!choose && std::string_view(forced) == level.name) return {&level, "FASTNN_CPU"};
    names += concat(names.empty() ? "" : ", ", level.name);
  }
  check(forced == nullptr, "FASTNN_CPU: expected one of ", names, " on this processor, got ",
        forced);
  throw ValueError("dispatch: this processor supports none of the compiled instruction sets");
}

const Choice& choice() {
  static const auto* chosen = new Choice(choose_level());
  return *chosen;
}

struct Job {
  const Node* node;
  const void* args;
};

void run_range(const void* context, int64_t begin, int64_t end) {
  const Job& job = *static_cast<const Job*>(context);
  job.node->invoke(job.node->kernel, job.args, {begin, end, nullptr});
}

}  // namespace

const Kernels& kernel_table(Device device, DType dtype, const char* op) {
  check<TypeError>(dtype != DType::kInt64, op,
                   ": expected a floating-point or uint8 Tensor, got int64");
  if (device.is_cuda()) return cuda_kernels()[static_cast<int>(dtype)];
  static const KernelTable& table = choice().level->kernels();
  return table[static_cast<int>(dtype)];
}

std::string cpu_level() { return choice().level->name; }
std::string cpu_level_reason() { return choice().reason; }

void throw_missing_kernel(const Launch& what) {
  throw TypeError(concat(what.op, ": expected a dtype with a kernel on ", device_name(what.device),
                         ", got ", dtype_name(what.dtype)));
}

void run_node(const Node& node, const void* args) {
  if (node.device.is_cuda()) {
    const OnDevice on(node.device);
    return node.invoke(node.kernel, args, {0, node.tasks, cuda_stream(node.device)});
  }
  if (!node.parallel) return node.invoke(node.kernel, args, {0, node.tasks, nullptr});
  const Job job{&node, args};
  parallel_for(node.tasks, run_range, &job);
}

}  // namespace fastnn
