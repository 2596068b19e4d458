// Products by cuBLASLt: how a row-major product is told to it, what it chose for each shape, and
// the check of each class of products on its first use. Its C^T = B^T A^T is our C = A B, so its A
// is our B. Invariant: everything here runs on the caller's stream, and allocates or waits on first
// uses only, which are never captured.
#include <array>
#include <atomic>
#include <map>
#include <mutex>
#include <set>
#include <string>
#include <vector>

#include "blas_sample.h"
#include "port.h"

namespace fastnn::blas {
namespace {

constexpr size_t kWorkspaceBytes = size_t{32} << 20;
constexpr float kOne = 1, kZero = 0;

using Key = std::array<int64_t, 22>;

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

struct State {
  std::mutex mutex;
  std::map<Key, Plan> plans;          // by shape
  std::map<Key, bool> right;          // by class, of those checked
  std::map<void*, void*> workspaces;  // by stream
  std::set<std::string> refused;
  std::atomic<int64_t> by_library{0}, by_own_tiles{0};
};
State& state() {
  static auto* all = new State;
  return *all;
}

uint32_t epilogue_of(const Product& p) {
  const uint32_t parts = (p.relu ? kRelu : 0u) | (p.bias != nullptr ? kBias : 0u);
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
std::string name_of(const Product& p) {
  const char* compute = p.compute == kExact    ? ""
                        : p.compute == kAsTf32 ? " as TF32"
                                               : " as bfloat16";
  std::string name = std::string(type_name(p.type)) + compute + " " + (p.a_col == 1 ? "N" : "T") +
                     (p.b_col == 1 ? "N" : "T");
  if (p.c != nullptr) name += " + C";
  if (p.bias != nullptr) name += " + bias";
  if (p.relu) name += ", relu";
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
          p.relu,
          p.c != nullptr,
          p.bias != nullptr,
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

Layout layout_of(const Api& api, Failure& failure, const Product& p, uint64_t rows, uint64_t cols,
                 int64_t ld, int64_t step) {
  Layout layout = nullptr;
  failure("cublasLtMatrixLayoutCreate", api.layout_create(&layout, p.type, rows, cols, ld));
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
            lt.api.heuristic(lt.handle, plan.description, plan.a, plan.b, plan.c, plan.c,
                             preference, 1, &found, &count));
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
  plan.a = layout_of(lt.api, failure, p, a.rows, a.cols, a.ld, p.b_step);
  plan.b = layout_of(lt.api, failure, p, b.rows, b.cols, b.ld, p.a_step);
  plan.c = layout_of(lt.api, failure, p, static_cast<uint64_t>(p.n), static_cast<uint64_t>(p.m),
                     p.ldc, p.c_step);
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
            lt.api.matmul(lt.handle, plan.description, &kOne, p.b, plan.a, p.a, plan.b,
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
void* workspace_of(State& all, void* stream) {
  void*& workspace = all.workspaces[stream];
  if (workspace == nullptr && !is_captured(stream) &&
      cudaMallocAsync(&workspace, kWorkspaceBytes, static_cast<cudaStream_t>(stream)) !=
          cudaSuccess) {
    cudaGetLastError();
    workspace = nullptr;
  }
  return workspace;
}

// ---- the check of a class ----------------------------------------------------------------------

// Makes the small product both ways on the device, whose memory begins at `memory`.
std::string compare(const Library& lt, Sample& sample, unsigned char* memory, void* workspace,
                    void* stream, OwnTiles own) {
  const auto on = static_cast<cudaStream_t>(stream);
  const size_t bytes = sample.host.size();
  cudaMemcpyAsync(memory, sample.host.data(), bytes, cudaMemcpyHostToDevice, on);
  Product q = sample.product;
  q.a = memory, q.b = memory + sample.begins[1];
  if (q.c != nullptr) q.c = memory + sample.begins[2];
  if (q.bias != nullptr) q.bias = memory + sample.begins[3];
  q.d = memory + sample.begins[4];
  own(q, stream);
  q.d = memory + sample.begins[5];
  Plan plan = make_plan(lt, q);
  if (!run(lt, plan, q, workspace, stream)) return plan.why;
  cudaMemcpyAsync(sample.host.data(), memory, bytes, cudaMemcpyDeviceToHost, on);
  if (const cudaError_t error = cudaStreamSynchronize(on); error != cudaSuccess)
    return cudaGetErrorString(error);
  const unsigned char* results = sample.host.data();
  return same(q.type, results + sample.begins[4], results + sample.begins[5], q.items * q.c_step)
             ? ""
             : "a wrong result in its check";
}

// Why the class cannot be used; empty if it can.
std::string check(const Library& lt, const Product& p, void* workspace, void* stream,
                  OwnTiles own) {
  Sample sample = sample_of(p);
  void* memory = nullptr;
  const auto on = static_cast<cudaStream_t>(stream);
  if (const cudaError_t error = cudaMallocAsync(&memory, sample.host.size(), on);
      error != cudaSuccess) {
    cudaGetLastError();
    return cudaGetErrorString(error);
  }
  const std::string why =
      compare(lt, sample, static_cast<unsigned char*>(memory), workspace, stream, own);
  cudaFreeAsync(memory, on);
  return why;
}

Key class_of(const Product& p) {
  const Product q = small(p);
  return {q.m,    q.n,       q.k,    q.items,        p.a_col == 1,     p.b_col == 1,
          p.type, p.compute, p.relu, p.c != nullptr, p.bias != nullptr};
}

// Whether the class was right when it was checked, which is now if it was not before.
bool is_right(State& all, const Library& lt, const Product& p, void* workspace, void* stream,
              OwnTiles own) {
  const Key key = class_of(p);
  if (const auto known = all.right.find(key); known != all.right.end()) return known->second;
  if (is_captured(stream)) return false;
  const std::string why = check(lt, p, workspace, stream, own);
  if (!why.empty()) all.refused.insert(name_of(p) + ": " + why);
  return all.right[key] = why.empty();
}

}  // namespace

bool multiply(const Product& p, void* stream, OwnTiles own) {
  const Library& lt = library();
  if (lt.path == nullptr) return false;
  if (!operand_of(p.b_row, p.b_col, p.k, p.n).valid ||
      !operand_of(p.a_row, p.a_col, p.m, p.k).valid || p.ldc < p.n)
    return false;
  State& all = state();
  const std::lock_guard<std::mutex> lock(all.mutex);
  void* workspace = workspace_of(all, stream);
  if (workspace == nullptr) return false;
  const Key key = key_of(p);
  auto found = all.plans.find(key);
  if (found == all.plans.end()) {
    if (!is_right(all, lt, p, workspace, stream, own)) return false;
    found = all.plans.emplace(key, make_plan(lt, p)).first;
  }
  if (!run(lt, found->second, p, workspace, stream)) {
    all.refused.insert(name_of(p) + ": " + found->second.why);
    return false;
  }
  ++all.by_library;
  return true;
}

void count_own() { ++state().by_own_tiles; }

void report(CudaBlas* report) {
  static thread_local std::string lines;
  const Library& lt = library();
  State& all = state();
  const std::lock_guard<std::mutex> lock(all.mutex);
  lines.clear();
  for (const std::string& line : all.refused) lines += line + "\n";
  *report = {lt.path, lt.reason, lt.version, all.by_library, all.by_own_tiles, lines.c_str()};
}

}  // namespace fastnn::blas
