// A libcublasLt.so for the emulator: the entry points that fastnn calls, with the products made on
// the CPU, in turn on the stream. FASTNN_FAKE_CUBLASLT names what it does badly; one built with
// FASTNN_FAKE_LACKS_HEURISTIC has no cublasLtMatmulAlgoGetHeuristic.
#include <bit>
#include <cmath>
#include <cstdint>
#include <cstdlib>
#include <cstring>
#include <string_view>

#define API extern "C" __attribute__((visibility("default")))

// cudaLaunchHostFunc of the emulator, which writes it here.
API int (*fastnn_emulated_launch)(void* stream, void (*function)(void*), void* data);
int (*fastnn_emulated_launch)(void* stream, void (*function)(void*), void* data) = nullptr;

namespace {

bool does(std::string_view what) {
  const char* asked = std::getenv("FASTNN_FAKE_CUBLASLT");
  return asked != nullptr && what == asked;
}

struct Description {
  int32_t compute, transpose_a = 0, transpose_b = 0;
  uint32_t epilogue = 1;
  const void* bias = nullptr;
};
struct Layout {
  int32_t type;
  uint64_t rows, cols;
  int64_t ld;
  int32_t items = 1;
  int64_t step = 0;
};
struct Preference {
  uint64_t workspace_bytes = 0;
  uint32_t reductions = 0, alignments[4] = {256, 256, 256, 256};
};
struct Algorithm {
  uint64_t data[8];
};
struct Heuristic {
  Algorithm algorithm;
  size_t workspace_bytes;
  int32_t state;
  float waves;
  int32_t reserved[4];
};

constexpr size_t kWorkspaceBytes = 4096;
constexpr int32_t kInvalidValue = 7, kNotSupported = 15;

// The bits of a float rounded to nearest even after `kept` bits of its mantissa.
float rounded(float x, int kept) {
  const auto bits = std::bit_cast<uint32_t>(x);
  if (std::isnan(x) || kept == 23) return x;
  const uint32_t unit = 1u << (23 - kept);
  return std::bit_cast<float>((bits + unit / 2 - 1 + (bits / unit & 1)) & ~(unit - 1));
}

float load(const void* memory, int32_t type, int64_t at) {
  if (type == 0) return static_cast<const float*>(memory)[at];
  const uint16_t bits = static_cast<const uint16_t*>(memory)[at];
  if (type == 14) return std::bit_cast<float>(uint32_t{bits} << 16);
  return static_cast<float>(std::bit_cast<_Float16>(bits));
}
void store(void* memory, int32_t type, int64_t at, float x) {
  if (type == 0) {
    static_cast<float*>(memory)[at] = x;
  } else if (type == 14) {
    const uint32_t bits = std::bit_cast<uint32_t>(rounded(x, 7));
    static_cast<uint16_t*>(memory)[at] = static_cast<uint16_t>(bits >> 16);
  } else {
    static_cast<uint16_t*>(memory)[at] = std::bit_cast<uint16_t>(static_cast<_Float16>(x));
  }
}

struct Job {
  Description description;
  Layout a, b, c;
  float alpha, beta;
  const void *a_data, *b_data, *c_data;
  void *d_data, *workspace;
};

// Column-major: D = act(alpha op(A) op(B) + beta C + bias of a row).
void run(void* data) {
  const Job& job = *static_cast<const Job*>(data);
  const Description& how = job.description;
  const int kept = how.compute == 75 ? 7 : how.compute == 77 || does("TF32 always") ? 10 : 23;
  std::memset(job.workspace, 0xff, kWorkspaceBytes);
  const int64_t depth = static_cast<int64_t>(how.transpose_a ? job.a.rows : job.a.cols);
  for (int64_t item = 0; item < job.c.items; ++item)
    for (int64_t j = 0; j < static_cast<int64_t>(job.c.cols); ++j)
      for (int64_t i = 0; i < static_cast<int64_t>(job.c.rows); ++i) {
        double sum = 0;
        for (int64_t p = 0; p < depth; ++p) {
          const int64_t at_a =
              item * job.a.step + (how.transpose_a ? p + i * job.a.ld : i + p * job.a.ld);
          const int64_t at_b =
              item * job.b.step + (how.transpose_b ? j + p * job.b.ld : p + j * job.b.ld);
          sum += double(rounded(load(job.a_data, job.a.type, at_a), kept)) *
                 double(rounded(load(job.b_data, job.b.type, at_b), kept));
        }
        const int64_t at = item * job.c.step + i + j * job.c.ld;
        float d = static_cast<float>(double(job.alpha) * sum);
        if (job.beta != 0) d += job.beta * load(job.c_data, job.c.type, at);
        if (how.epilogue & 4) d += load(how.bias, job.c.type, i);
        if (how.epilogue & 2) d = d > 0 || (std::isnan(d) && !does("relu hides NaN")) ? d : 0;
        if (does("wrong") && i == 1 && j == 2) d += 1;
        store(job.d_data, job.c.type, at, d);
      }
}

}  // namespace

API size_t cublasLtGetVersion() { return does("old") ? 111103 : 130100; }
API int32_t cublasLtCreate(void** handle) {
  *handle = handle;
  return does("no handle") ? 1 : 0;
}
API int32_t cublasLtMatmulDescCreate(void** made, int32_t compute, int32_t scale) {
  *made = new Description{compute};
  return scale == 0 ? 0 : kInvalidValue;
}
API int32_t cublasLtMatmulDescSetAttribute(void* of, int32_t attribute, const void* value,
                                           size_t bytes) {
  auto& how = *static_cast<Description*>(of);
  void* const to = attribute == 3   ? static_cast<void*>(&how.transpose_a)
                   : attribute == 4 ? static_cast<void*>(&how.transpose_b)
                   : attribute == 7 ? static_cast<void*>(&how.epilogue)
                   : attribute == 8 ? static_cast<void*>(&how.bias)
                                    : nullptr;
  if (to == nullptr || bytes != (attribute == 8 ? 8 : 4)) return kInvalidValue;
  std::memcpy(to, value, bytes);
  return 0;
}
API int32_t cublasLtMatrixLayoutCreate(void** made, int32_t type, uint64_t rows, uint64_t cols,
                                       int64_t ld) {
  *made = new Layout{type, rows, cols, ld};
  return ld >= static_cast<int64_t>(rows) ? 0 : kInvalidValue;
}
API int32_t cublasLtMatrixLayoutSetAttribute(void* of, int32_t attribute, const void* value,
                                             size_t bytes) {
  auto& layout = *static_cast<Layout*>(of);
  if (attribute == 5 && bytes == 4) return std::memcpy(&layout.items, value, 4), 0;
  if (attribute == 6 && bytes == 8) return std::memcpy(&layout.step, value, 8), 0;
  return kInvalidValue;
}
API int32_t cublasLtMatmulPreferenceCreate(void** made) {
  *made = new Preference;
  return 0;
}
API int32_t cublasLtMatmulPreferenceSetAttribute(void* of, int32_t attribute, const void* value,
                                                 size_t bytes) {
  auto& preference = *static_cast<Preference*>(of);
  if (attribute == 1 && bytes == 8) return std::memcpy(&preference.workspace_bytes, value, 8), 0;
  if (attribute == 3 && bytes == 4) return std::memcpy(&preference.reductions, value, 4), 0;
  if (attribute < 5 || attribute > 8 || bytes != 4) return kInvalidValue;
  return std::memcpy(&preference.alignments[attribute - 5], value, 4), 0;
}
API int32_t cublasLtMatmulPreferenceDestroy(void* preference) {
  delete static_cast<Preference*>(preference);
  return 0;
}
#ifndef FASTNN_FAKE_LACKS_HEURISTIC
// The algorithm notes which alignments it was chosen for.
API int32_t cublasLtMatmulAlgoGetHeuristic(void*, void*, void*, void*, void*, void*,
                                           void* preference, int32_t wanted, Heuristic* found,
                                           int32_t* count) {
  const auto& asked = *static_cast<const Preference*>(preference);
  if (wanted != 1 || asked.reductions != 2 || asked.workspace_bytes < kWorkspaceBytes)
    return kInvalidValue;
  *count = does("no algorithm") ? 0 : 1;
  *found = {};
  found->workspace_bytes = kWorkspaceBytes;
  for (int i = 0; i < 4; ++i) found->algorithm.data[i] = asked.alignments[i];
  return 0;
}
#endif
API int32_t cublasLtMatmul(void*, void* description, const void* alpha, const void* a,
                           void* a_layout, const void* b, void* b_layout, const void* beta,
                           const void* c, void* c_layout, void* d, void* d_layout,
                           const Algorithm* algorithm, void* workspace, size_t workspace_bytes,
                           void* stream) {
  static int calls = 0;
  if (does("fails") || (does("fails later") && ++calls > 3)) return kNotSupported;
  const void* const pointers[] = {a, b, c, d};
  for (int i = 0; i < 4; ++i)
    if (reinterpret_cast<uintptr_t>(pointers[i]) % algorithm->data[i] != 0) return kInvalidValue;
  if (workspace_bytes != kWorkspaceBytes || c_layout != d_layout) return kInvalidValue;
  auto* job = new Job{*static_cast<Description*>(description),
                      *static_cast<Layout*>(a_layout),
                      *static_cast<Layout*>(b_layout),
                      *static_cast<Layout*>(c_layout),
                      *static_cast<const float*>(alpha),
                      *static_cast<const float*>(beta),
                      a,
                      b,
                      c,
                      d,
                      workspace};
  if (fastnn_emulated_launch != nullptr) return fastnn_emulated_launch(stream, run, job);
  run(job);
  return 0;
}
