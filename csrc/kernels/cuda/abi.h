// The plain C ABI between the core and a CUDA library (libfastnn_cuda.so, or the same kernels under
// the emulator, libfastnn_cuda_emulated.so). The core dlopens the library, calls
// fastnn_cuda_library() and refuses it unless `mismatch` is null. Included by both sides, so no
// CUDA header is: a stream or a graph is a void*. Not a stable interface: one version serves one
// version.
#pragma once
#include <cstddef>
#include <type_traits>
#include <utility>

#include "../kernels.h"

namespace fastnn {

// Counts the changes that the layout hash cannot see (the meaning of a field, say).
inline constexpr uint32_t kCudaAbiVersion = 4;

// What every function below returns. After anything but kCudaOk, take_error() has the text.
enum CudaCode : int32_t { kCudaOk, kCudaOutOfMemory, kCudaError };

struct CudaDevice {
  char name[256];
  int32_t major, minor;  // compute capability
  int32_t multiprocessors;
  int32_t driver;  // 13000 is CUDA 13.0
  int64_t memory_bytes;
};

// Who makes products, and which products cuBLASLt and wgmma kernels do not. The texts live until
// the next call on the thread.
struct CudaBlas {
  const char* path;                            // of cuBLASLt; null: none is used
  const char* reason;                          // why
  int64_t version;                             // 120304 is 12.3.4
  const char* no_wgmma;                        // why wgmma kernels cannot be used; empty: they can
  int64_t by_library, by_wgmma, by_own_tiles;  // products launched or recorded so far
  const char* refused;                         // a line for each class of products, and why
};

// The texts live until the next call on the thread.
struct CudaSequences {
  const char* reason;  // why this device has no clusters; empty: it has
  int64_t made;        // sequences that makes_sequence has said yes to so far
  const char* refused;
};

// All work is asynchronous and in order on the stream it is given; null is the default stream.
// Streams, memory, events and graphs belong to the device that was the calling thread's current one
// (enter_device), and are used while it is. What is remembered between calls is so by device.
struct CudaLibrary {
  // These four come first in every version, so that any two versions can compare them.
  uint32_t abi_version;
  uint32_t library_size;  // sizeof(CudaLibrary)
  uint64_t kernels_size;  // sizeof(Kernels)
  uint64_t layout_hash;   // kLayoutHash

  const char* build;    // "nvcc 13.0" or "emulator"
  const char* version;  // of fastnn
  bool emulated;
  const KernelTable* kernels;

  // The text of the first failure on this thread since the last call, or null; forgets it. Kernels
  // return nothing, so the core asks after each launch: this looks at cudaGetLastError as well. The
  // text lives until the thread's next call.
  const char* (*take_error)();

  // Fails where there is no driver, where it is too old, or where there is no device.
  CudaCode (*device_count)(int32_t* count);
  CudaCode (*device_info)(int32_t device, CudaDevice* info);
  // Makes a device current to the thread until leave_device(), which puts back whatever was there:
  // another device, or none. Not `entered`: it was current, and there is nothing to leave. Only
  // this makes a context, on that device.
  CudaCode (*enter_device)(int32_t device, bool* entered);
  CudaCode (*leave_device)();

  // Does not synchronise with the default stream. From then on the device keeps what is freed.
  CudaCode (*stream_create)(void** stream);
  CudaCode (*stream_destroy)(void* stream);
  CudaCode (*stream_synchronize)(void* stream);
  CudaCode (*stream_wait)(void* stream, void* event);  // the event may be of another device

  // An event is done when the stream has come to where it was recorded.
  CudaCode (*event_create)(void** event);
  CudaCode (*event_record)(void* event, void* stream);
  CudaCode (*event_is_done)(void* event, bool* done);
  CudaCode (*event_synchronize)(void* event);
  CudaCode (*event_destroy)(void* event);

  // Stream-ordered: `free` may follow the last use at once. At least 256-byte aligned. The driver's
  // pool keeps what is freed, so neither call synchronises; trim() gives unused memory back.
  CudaCode (*alloc)(void** memory, int64_t bytes, void* stream);
  CudaCode (*free)(void* memory, void* stream);
  CudaCode (*trim)();
  CudaCode (*host_alloc)(void** memory, int64_t bytes);  // page-locked
  CudaCode (*host_free)(void* memory);

  CudaCode (*copy_to_device)(void* to, const void* from, int64_t bytes, void* stream);
  CudaCode (*copy_to_host)(void* to, const void* from, int64_t bytes, void* stream);
  CudaCode (*copy_on_device)(void* to, const void* from, int64_t bytes, void* stream);
  // On a stream of either device; the devices need not see each other's memory.
  CudaCode (*copy_between)(void* to, int32_t to_device, const void* from, int32_t from_device,
                           int64_t bytes, void* stream);
  CudaCode (*fill_bytes)(void* to, int32_t byte, int64_t bytes, void* stream);

  // Between capture_begin and capture_end the launches and copies on `stream` are recorded, not
  // run.
  CudaCode (*capture_begin)(void* stream);
  CudaCode (*capture_end)(void* stream, void** graph);
  // 0: nobody captures the stream; else the number of the capture. While somebody does, `let_go` is
  // called with `data` when the last graph that is made of it is gone; it must not call CUDA.
  CudaCode (*stream_capture)(void* stream, uint64_t* id);
  CudaCode (*capture_retain)(void* stream, void (*let_go)(void* data), void* data);
  CudaCode (*graph_launch)(void* graph, void* stream);
  CudaCode (*graph_destroy)(void* graph);

  // Where else to look for libcublasLt, before the first product: folders, colons between them.
  void (*blas_folders)(const char* folders);
  void (*blas_report)(CudaBlas* report);
  // Who makes products from now on: 0 the fastest known, 1 cuBLASLt, 2 wgmma kernels, 3 own tiles,
  // 4 wgmma kernels, float32 as three products of TF32.
  // Those that the one set cannot make are own tiles'.
  void (*blas_path)(int32_t path);

  // Whether all steps are to be one launch: if that was asked for, fits the device, and was right
  // in a check of its class. The first of a class is checked, for which the host waits; while a
  // stream is captured there is no first one.
  bool (*makes_sequence)(const CudaSequence* shape, void* stream);
  // From now on: 0 the fastest that was measured, 1 by steps, 2 by clusters.
  void (*sequence_path)(int32_t path);
  void (*sequence_report)(CudaSequences* report);
};

// ---- layout hash: FNV-1a over the Args of every entry of Kernels, in order -------------------
// Found by initialising: a probe converts to whatever the next member is, and notes it. So nothing
// has to be listed here, and a new kernel or a field added, moved or widened changes the hash.
namespace layout {

struct Hash {
  uint64_t value = 0xcbf29ce484222325;
  constexpr void add(uint64_t x) {
    for (int i = 0; i < 8; ++i, x >>= 8) value = (value ^ (x & 0xff)) * 0x100000001b3;
  }
};

struct AnyField {
  Hash* hash;
  template <class T>
  constexpr operator T() const {
    hash->add(sizeof(T));
    hash->add(std::is_pointer_v<T> | std::is_floating_point_v<T> << 1 | std::is_signed_v<T> << 2);
    return T{};
  }
};

template <class T, size_t... I>
constexpr bool has_fields(std::index_sequence<I...>) {
  return requires(AnyField any) { T{(static_cast<void>(I), any)...}; };
}

template <class T, size_t kCount = 1>
constexpr void add_fields(Hash* hash) {
  static_assert(kCount < 64, "Args are plain structs of fewer fields");
  if constexpr (has_fields<T>(std::make_index_sequence<kCount + 1>{})) {
    add_fields<T, kCount + 1>(hash);
  } else {
    [hash]<size_t... I>(std::index_sequence<I...>) {
      static_cast<void>(T{(static_cast<void>(I), AnyField{hash})...});
    }(std::make_index_sequence<kCount>{});
    hash->add(sizeof(T));
  }
}

struct AnyKernel {
  Hash* hash;
  template <class Args>
  constexpr operator Kernel<Args>() const {
    add_fields<Args>(hash);
    return nullptr;
  }
};

template <class Family>
constexpr void add_family(Hash* hash) {
  [hash]<size_t... I>(std::index_sequence<I...>) {
    static_cast<void>(Family{(static_cast<void>(I), AnyKernel{hash})...});
  }(std::make_index_sequence<sizeof(Family) / sizeof(Kernel<FillArgs>)>{});
}
template <class... Family>
constexpr void add_families(Hash* hash, const FamilyList<Family...>*) {
  (add_family<Family>(hash), ...);
}

constexpr uint64_t hash_kernels() {
  Hash hash;
  add_families(&hash, static_cast<const Kernels*>(nullptr));
  add_fields<Slice>(&hash);
  add_fields<TensorChunk>(&hash);
  add_fields<OptimState>(&hash);
  add_fields<OptimOptions>(&hash);
  add_fields<RngDraw>(&hash);
  add_fields<Keep>(&hash);
  add_fields<NormEpilogue>(&hash);
  add_fields<MlpLayer>(&hash);
  add_fields<Sequence>(&hash);
  add_fields<PoolGrid>(&hash);
  add_fields<PoolSpan>(&hash);
  add_fields<PoolSpans>(&hash);
  return hash.value;
}

}  // namespace layout

inline constexpr uint64_t kLayoutHash = layout::hash_kernels();

// Why `library` cannot serve this build, or null if it can.
constexpr const char* mismatch(const CudaLibrary& library) {
  if (library.abi_version != kCudaAbiVersion) return "another ABI version";
  if (library.library_size != sizeof(CudaLibrary)) return "another CudaLibrary";
  if (library.kernels_size != sizeof(Kernels)) return "another number of kernels";
  if (library.layout_hash != kLayoutHash) return "other kernel arguments";
  return nullptr;
}

}  // namespace fastnn

// The one symbol of the library.
extern "C" const fastnn::CudaLibrary* fastnn_cuda_library();
