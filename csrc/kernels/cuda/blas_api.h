// The part of cuBLASLt's C interface that fastnn calls, declared after NVIDIA's public
// documentation: the library is found at run time (blas_load.cu), and none of its headers is used.
// Matrices are column-major there.
#pragma once
#include <cstddef>
#include <cstdint>

namespace fastnn::blas {

using Status = int32_t;  // 0 is success
using Handle = void*;
using Description = void*;
using Layout = void*;
using Preference = void*;

enum Type : int32_t { kFloat32 = 0, kFloat16 = 2, kBFloat16 = 14 };
// What factors are rounded to before they are multiplied: nothing, bfloat16, TF32. Sums: float32.
enum Compute : int32_t { kExact = 68, kAsBFloat16 = 75, kAsTf32 = 77 };
enum Operation : int32_t { kPlain = 0, kTransposed = 1 };
enum DescriptionAttribute : int32_t {
  kTransposeA = 3,
  kTransposeB = 4,
  kEpilogue = 7,
  kBiasPointer = 8
};
// The last two may be or-ed.
inline constexpr uint32_t kNoEpilogue = 1, kRelu = 2, kBias = 4;
enum LayoutAttribute : int32_t { kBatchCount = 5, kBatchOffset = 6 };
enum PreferenceAttribute : int32_t {
  kMaxWorkspaceBytes = 1,
  kReductionSchemes = 3,
  kMinAlignmentA = 5  // of A, B, C, D: four attributes
};
inline constexpr uint32_t kReduceInFloat32 = 2;  // where k is split: the only scheme wanted

struct Algorithm {
  uint64_t data[8];
};
struct Heuristic {
  Algorithm algorithm;
  size_t workspace_bytes;
  Status state;
  float waves;
  int32_t reserved[4];
};

struct Api {
  size_t (*version)();  // 120304 is 12.3.4
  Status (*create)(Handle* handle);
  Status (*description_create)(Description* made, Compute compute, Type scale);
  Status (*description_set)(Description of, int32_t attribute, const void* value, size_t bytes);
  Status (*layout_create)(Layout* made, Type type, uint64_t rows, uint64_t cols, int64_t ld);
  Status (*layout_set)(Layout of, int32_t attribute, const void* value, size_t bytes);
  Status (*preference_create)(Preference* made);
  Status (*preference_set)(Preference of, int32_t attribute, const void* value, size_t bytes);
  Status (*preference_destroy)(Preference preference);
  Status (*heuristic)(Handle handle, Description description, Layout a, Layout b, Layout c,
                      Layout d, Preference preference, int32_t wanted, Heuristic* found,
                      int32_t* count);
  Status (*matmul)(Handle handle, Description description, const void* alpha, const void* a,
                   Layout a_layout, const void* b, Layout b_layout, const void* beta, const void* c,
                   Layout c_layout, void* d, Layout d_layout, const Algorithm* algorithm,
                   void* workspace, size_t workspace_bytes, void* stream);
};

struct Library {
  Api api;
  const char* path;    // null: none can be used
  const char* reason;  // why
  int64_t version;
};

// Looked for once, on first use.
const Library& library();
Handle handle();  // of the current device; null: it has none
// Folders to look in, colons between them; before the first use.
void set_folders(const char* folders);

}  // namespace fastnn::blas
