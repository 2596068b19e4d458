// Products by cuBLASLt (how a row-major product is told to it, and what it chose for each shape) or
// by wgmma kernels; which of them, and the check of each class of products on its first use.
// cuBLASLt's C^T = B^T A^T is our C = A B, so its A is our B. Invariant: everything here runs on
// the caller's stream, and allocates or waits on first uses only, which are never captured.
#include <array>
#include <atomic>
#include <map>
#include <mutex>
#include <set>
#include <string>
#include <vector>

#include "blas_check.h"
#include "blas_ending.h"
#include "blas_measured.h"
#include "device.h"
#include "port.h"
#include "wgmma/products.h"

namespace fastnn::blas {
namespace {

constexpr size_t kWorkspaceBytes = size_t{32} << 20;
constexpr float kOne = 1, kZero = 0;

using Key = std::array<int64_t, 23>;

// A factor as a column-major matrix, or the transpose of one.
struct Operand {
  Operation operation;
  uint64_t rows, cols;
  int64_t ld;
  bool valid;
};
// Of a row-major matrix of `rows` x `cols`.
Operand operand_of(int64_t row, int64_t col, int64_t rows, int64_t cols) {
  const auto r = static_cast<uint64_t>(rows), c = static_cast<uint64_t>(cols);
  if (col == 1 && (row >= cols || rows == 1)) return {kPlain, c, r, row >= cols ? row : cols, true};
  if (row == 1 && (col >= rows || cols == 1))
    return {kTransposed, r, c, col >= rows ? col : rows, true};
  return {kPlain, 0, 0, 0, false};
}

struct Plan {
  Description description;
  Layout a, b, c;
  Algorithm algorithm;
  size_t workspace_bytes;
  std::string why;  // it cannot be used; empty if it can
};

// What is known of a device.
struct OnDevice {
  std::map<Key, Plan> plans;                // by shape
  std::map<Key, bool> right;                // by class, of those checked
  std::map<void*, void*> workspaces, sums;  // by stream
  std::set<std::string> refused;
};

struct State {
  std::mutex mutex;
  device::Each<OnDevice> devices;
  std::atomic<int64_t> by_library{0}, by_wgmma{0}, by_own_tiles{0};
  std::atomic<Path> path{kAnyone};
};
State& state() {
  static auto* all = new State;
  return *all;
}

uint32_t epilogue_of(const Product& p) {
  const uint32_t parts =
      (p.activation == kReluActivation ? kRelu : 0u) | (p.bias != nullptr ? kBias : 0u);
  return parts != 0 ? parts : kNoEpilogue;
}
// In bytes, of a pointer.
uint32_t alignment_of(const void* p) {
  uint32_t bytes = 256;
  while (reinterpret_cast<uintptr_t>(p) % bytes != 0) bytes /= 2;
  return bytes;
}

const char* type_name(Type type) {
  return type == kFloat32 ? "float32" : type == kBFloat16 ? "bfloat16" : "float16";
}
std::string name_of(Path path, const Product& p) {
  const char* compute = p.compute == kExact    ? ""
                        : p.compute == kAsTf32 ? " as TF32"
                                               : " as bfloat16";
  std::string name = std::string(path == kByWgmma ? "wgmma: " : "") + type_name(p.type) + compute +
                     " " + (p.a_col == 1 ? "N" : "T") + (p.b_col == 1 ? "N" : "T");
  if (p.c != nullptr) name += " + C";
  if (p.bias != nullptr) name += " + bias";
  if (p.residual != nullptr) name += " + residual";
  if (p.z != nullptr) name += " + z";
  const char* derivative = p.saved != nullptr ? ", derivative of " : ", ";
  if (p.activation == kReluActivation) name += std::string(derivative) + "relu";
  if (p.activation > kReluActivation)
    name += std::string(derivative) + "activation " + std::to_string(p.activation);
  if (p.draw != nullptr) name += ", dropout";
  if (p.column_sums != nullptr) name += ", sums";
  return p.items > 1 ? name + ", batch" : name;
}

// ---- what it is told, and what it chose --------------------------------------------------------

Key key_of(const Product& p) {
  return {p.m,
          p.n,
          p.k,
          p.a_row,
          p.a_col,
          p.b_row,
          p.b_col,
          p.ldc,
          p.items,
          p.a_step,
          p.b_step,
          p.c_step,
          p.type,
          p.compute,
          p.activation,
          p.c != nullptr,
          p.bias != nullptr,
          p.d_is_float,
          alignment_of(p.a),
          alignment_of(p.b),
          alignment_of(p.c),
          alignment_of(p.d),
          alignment_of(p.bias)};
}

// The first call that failed, and what it returned.
struct Failure {
  const char* call = nullptr;
  Status status = 0;
  void operator()(const char* name, Status result) {
    if (call == nullptr && result != 0) call = name, status = result;
  }
  std::string text() const { return std::string(call) + " returned " + std::to_string(status); }
};

Layout layout_of(const Api& api, Failure& failure, const Product& p, Type type, uint64_t rows,
                 uint64_t cols, int64_t ld, int64_t step) {
  Layout layout = nullptr;
  failure("cublasLtMatrixLayoutCreate", api.layout_create(&layout, type, rows, cols, ld));
  if (failure.call != nullptr || p.items == 1) return layout;
  const auto items = static_cast<int32_t>(p.items);
  failure("cublasLtMatrixLayoutSetAttribute",
          api.layout_set(layout, kBatchCount, &items, sizeof items));
  failure("cublasLtMatrixLayoutSetAttribute",
          api.layout_set(layout, kBatchOffset, &step, sizeof step));
  return layout;
}

void choose(const Library& lt, Failure& failure, const Product& p, Plan& plan) {
  Preference preference = nullptr;
  failure("cublasLtMatmulPreferenceCreate", lt.api.preference_create(&preference));
  if (failure.call != nullptr) return;
  const auto set = [&](int32_t attribute, const auto& value) {
    failure("cublasLtMatmulPreferenceSetAttribute",
            lt.api.preference_set(preference, attribute, &value, sizeof value));
  };
  set(kMaxWorkspaceBytes, kWorkspaceBytes);
  set(kReductionSchemes, kReduceInFloat32);
  const void* const pointers[] = {p.b, p.a, p.c != nullptr ? p.c : p.d, p.d};
  for (int32_t i = 0; i < 4; ++i) set(kMinAlignmentA + i, alignment_of(pointers[i]));
  Heuristic found{};
  int32_t count = 0;
  if (failure.call == nullptr)
    failure("cublasLtMatmulAlgoGetHeuristic",
            lt.api.heuristic(handle(), plan.description, plan.a, plan.b, plan.c, plan.c, preference,
                             1, &found, &count));
  lt.api.preference_destroy(preference);
  if (failure.call != nullptr) return;
  if (count < 1 || found.state != 0 || found.workspace_bytes > kWorkspaceBytes)
    return failure("cublasLtMatmulAlgoGetHeuristic found nothing, and", found.state | 1);
  plan.algorithm = found.algorithm, plan.workspace_bytes = found.workspace_bytes;
}

// What is made here is kept: there are as many plans as shapes.
Plan make_plan(const Library& lt, const Product& p) {
  const Operand a = operand_of(p.b_row, p.b_col, p.k, p.n),
                b = operand_of(p.a_row, p.a_col, p.m, p.k);
  Plan plan{};
  Failure failure;
  failure("cublasLtMatmulDescCreate",
          lt.api.description_create(&plan.description, p.compute, kFloat32));
  const auto set = [&](int32_t attribute, const auto& value) {
    if (failure.call == nullptr)
      failure("cublasLtMatmulDescSetAttribute",
              lt.api.description_set(plan.description, attribute, &value, sizeof value));
  };
  set(kTransposeA, a.operation);
  set(kTransposeB, b.operation);
  set(kEpilogue, epilogue_of(p));
  if (p.bias != nullptr) set(kBiasPointer, p.bias);
  plan.a = layout_of(lt.api, failure, p, p.type, a.rows, a.cols, a.ld, p.b_step);
  plan.b = layout_of(lt.api, failure, p, p.type, b.rows, b.cols, b.ld, p.a_step);
  plan.c = layout_of(lt.api, failure, p, p.d_is_float ? kFloat32 : p.type,
                     static_cast<uint64_t>(p.n), static_cast<uint64_t>(p.m), p.ldc, p.c_step);
  if (failure.call == nullptr) choose(lt, failure, p, plan);
  if (failure.call != nullptr) plan.why = failure.text();
  return plan;
}

// Runs a plan; false if it cannot be used, and why is then in it.
bool run(const Library& lt, Plan& plan, const Product& p, void* workspace, void* stream) {
  if (!plan.why.empty()) return false;
  Failure failure;
  if (p.bias != nullptr)
    failure("cublasLtMatmulDescSetAttribute",
            lt.api.description_set(plan.description, kBiasPointer, &p.bias, sizeof p.bias));
  if (failure.call == nullptr)
    failure("cublasLtMatmul",
            lt.api.matmul(handle(), plan.description, &kOne, p.b, plan.a, p.a, plan.b,
                          p.c != nullptr ? &kOne : &kZero, p.c != nullptr ? p.c : p.d, plan.c, p.d,
                          plan.c, &plan.algorithm, workspace, plan.workspace_bytes, stream));
  if (failure.call != nullptr) plan.why = failure.text();
  return failure.call == nullptr;
}

bool is_captured(void* stream) {
  cudaStreamCaptureStatus status;
  return cudaStreamIsCapturing(static_cast<cudaStream_t>(stream), &status) != cudaSuccess ||
         status != cudaStreamCaptureStatusNone;
}

// One for each stream, for good: recorded products go on using it. Null while there is none.
void* memory_of(std::map<void*, void*>& all, void* stream) {
  void*& workspace = all[stream];
  if (workspace == nullptr && !is_captured(stream) &&
      cudaMallocAsync(&workspace, kWorkspaceBytes, static_cast<cudaStream_t>(stream)) !=
          cudaSuccess) {
    cudaGetLastError();
    workspace = nullptr;
  }
  return workspace;
}

// ---- the check of a class ----------------------------------------------------------------------

// Whether the class of `p` was right when it was checked on this path, which is now if it was not
// before. `what` is what else makes a class.
bool is_right(OnDevice& all, Path path, int64_t what, const Product& p, Sizes most, void* stream,
              OwnTiles own, const Maker& make) {
  const Product q = small(p, most);
  const Key key = {path,
                   what,
                   q.m,
                   q.n,
                   q.k,
                   q.items,
                   p.a_col == 1,
                   p.b_col == 1,
                   p.type,
                   p.compute,
                   p.activation,
                   p.c != nullptr,
                   p.bias != nullptr,
                   p.z != nullptr,
                   p.z_is_activated,
                   p.residual != nullptr,
                   p.saved != nullptr,
                   p.draw != nullptr,
                   p.column_sums != nullptr};
  if (const auto known = all.right.find(key); known != all.right.end()) return known->second;
  if (is_captured(stream)) return false;
  const std::string why = check(p, most, stream, own, make);
  if (!why.empty()) all.refused.insert(name_of(path, p) + ": " + why);
  return all.right[key] = why.empty();
}

// ---- the two paths -----------------------------------------------------------------------------

// By the plan of its shape.
std::string by_plan(OnDevice& all, const Product& p, void* workspace, void* stream) {
  const Library& lt = library();
  const Key key = key_of(p);
  auto found = all.plans.find(key);
  if (found == all.plans.end()) found = all.plans.emplace(key, make_plan(lt, p)).first;
  return run(lt, found->second, p, workspace, stream) ? "" : found->second.why;
}

// In one where its epilogue has all that follows, and has it right; else in two.
bool by_cublaslt(OnDevice& all, const Product& p, void* stream, OwnTiles own) {
  if (library().path == nullptr || handle() == nullptr || p.ldc < p.n ||
      !operand_of(p.b_row, p.b_col, p.k, p.n).valid ||
      !operand_of(p.a_row, p.a_col, p.m, p.k).valid)
    return false;
  void* workspace = memory_of(all.workspaces, stream);
  if (workspace == nullptr) return false;
  const auto in_one = [&](const Product& q) { return by_plan(all, q, workspace, stream); };
  const auto made = [&](int64_t launches, const Maker& make) {
    Product q = p;
    if (launches == 2 && p.activation != 0 && p.saved == nullptr && p.z == nullptr)
      q.z = p.d, q.z_is_activated = false;  // any but null: ReLU may hide what is wrong before it
    if (!is_right(all, kByCublasLt, launches, q, {70, 66, 100}, stream, own, make)) return false;
    const std::string why = make(p);
    if (!why.empty()) all.refused.insert(name_of(kByCublasLt, p) + ": " + why);
    return why.empty();
  };
  if (!has_ending(p) && made(1, in_one)) return true;
  if (!can_be_in_two(p)) return false;
  void* sums = p.type == kFloat32 ? nullptr : memory_of(all.sums, stream);
  if (p.type != kFloat32 && sums == nullptr) return false;
  return made(2, [&](const Product& q) {
    return make_in_two(q, in_one, static_cast<float*>(sums), kWorkspaceBytes, stream);
  });
}

// The small product has several tiles for each block, and goes round the ring more than once.
constexpr Sizes kSmallForWgmma{200, 328, 456};

bool by_wgmma(OnDevice& all, Path path, const Product& p, void* stream, OwnTiles own) {
  const bool splits = path == kBySplit && wgmma::can_split(p);
  if (!wgmma::why_unavailable().empty() || !(splits || wgmma::can_make(p))) return false;
  void* workspace = splits ? memory_of(all.workspaces, stream) : nullptr;
  if (splits && workspace == nullptr) return false;
  const auto make = [&](const Product& q, wgmma::Cut cut) {
    return splits ? wgmma::make_split(q, cut, {workspace, kWorkspaceBytes}, stream)
                  : wgmma::make(q, cut, stream);
  };
  const wgmma::Cut cut = wgmma::cut_of(p);
  const auto once = [&](const Product& q) { return make(q, {cut.width, 2}); };
  if (!is_right(all, kByWgmma, cut.width, p, kSmallForWgmma, stream, own, once)) return false;
  const std::string why = make(p, cut);
  if (!why.empty()) all.refused.insert(name_of(kByWgmma, p) + ": " + why);
  return why.empty();
}

}  // namespace

// wgmma kernels only where they are set or were measured: a check cannot save a caller from a
// kernel that never ends.
std::vector<Path> paths_of(const Product& p) {
  const Path set = state().path;
  const Path first = set != kAnyone ? set : fastest_of(kMeasured, p);
  if (first == kByTiles) return {};
  if (first == kByWgmma && set == kAnyone) return {kByWgmma, kByCublasLt};
  return {first == kAnyone ? kByCublasLt : first};
}
void set_path(Path path) { state().path = path; }

bool multiply(Path path, const Product& p, void* stream, OwnTiles own) {
  State& all = state();
  const std::lock_guard<std::mutex> lock(all.mutex);
  OnDevice& here = all.devices.here();
  const bool made = path == kByCublasLt ? by_cublaslt(here, p, stream, own)
                                        : by_wgmma(here, path, p, stream, own);
  if (made) ++(path == kByCublasLt ? all.by_library : all.by_wgmma);
  return made;
}

void count_own() { ++state().by_own_tiles; }

void report(CudaBlas* report) {
  static thread_local std::string lines;
  const Library& lt = library();
  State& all = state();
  const std::lock_guard<std::mutex> lock(all.mutex);
  lines.clear();
  for (const std::string& line : all.devices.here().refused) lines += line + "\n";
  static thread_local std::string no_wgmma;
  no_wgmma = wgmma::why_unavailable();
  *report = {lt.path,        lt.reason,    lt.version,       no_wgmma.c_str(),
             all.by_library, all.by_wgmma, all.by_own_tiles, lines.c_str()};
}

}  // namespace fastnn::blas
