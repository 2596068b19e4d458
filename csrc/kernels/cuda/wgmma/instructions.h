// The instructions of sm_90a that wgmma kernels are made of, a function each: barriers in shared
// memory, tiles by TMA, products of warpgroups, matrices to shared memory, registers. Invariant:
// each does what the PTX ISA says of one instruction and no more; emulator_wgmma.h has the same
// functions for a CPU, written after the same text, so that kernels and their tests have no other
// words.
#pragma once
#include <type_traits>

#include "descriptor.h"

#ifdef FASTNN_EMULATOR
#include "../emulator_wgmma.h"
#else
#include <cuda.h>

// wgmma is of sm_90a alone: for anything else these kernels have no body.
#if defined(__CUDA_ARCH_FEAT_SM90_ALL)
#define FASTNN_HAS_WGMMA 1
#endif

namespace fastnn::wgmma {

using TensorMap = CUtensorMap;

struct Barrier {
  uint64_t bits;
};

#ifdef FASTNN_HAS_WGMMA

__device__ __forceinline__ uint32_t shared_address(const void* p) {
  return static_cast<uint32_t>(__cvta_generic_to_shared(p));
}

// ---- barriers ----------------------------------------------------------------------------------
// A phase ends when `arrivals` threads have arrived and the bytes they expect have been written.
__device__ __forceinline__ void initialise(Barrier* barrier, uint32_t arrivals) {
  asm volatile("mbarrier.init.shared::cta.b64 [%0], %1;" ::"r"(shared_address(barrier)),
               "r"(arrivals)
               : "memory");
}
// By the thread that has initialised them, before the block meets.
__device__ __forceinline__ void publish_barriers() {
  asm volatile("fence.mbarrier_init.release.cluster;" ::: "memory");
  asm volatile("fence.proxy.async.shared::cta;" ::: "memory");
}
__device__ __forceinline__ void arrive(Barrier* barrier) {
  asm volatile("mbarrier.arrive.shared::cta.b64 _, [%0];" ::"r"(shared_address(barrier))
               : "memory");
}
__device__ __forceinline__ void arrive_expecting(Barrier* barrier, uint32_t bytes) {
  asm volatile(
      "mbarrier.arrive.expect_tx.shared::cta.b64 _, [%0], %1;" ::"r"(shared_address(barrier)),
      "r"(bytes)
      : "memory");
}
// Until the phase of this parity has ended; that before the first one has parity 1.
__device__ __forceinline__ void wait(Barrier* barrier, uint32_t parity) {
  uint32_t done = 0;
  while (done == 0)
    asm volatile(
        "{\n.reg .pred p;\n"
        "mbarrier.try_wait.parity.shared::cta.b64 p, [%1], %2;\n"
        "selp.u32 %0, 1, 0, p;\n}"
        : "=r"(done)
        : "r"(shared_address(barrier)), "r"(parity)
        : "memory");
}

// ---- tiles -------------------------------------------------------------------------------------
// The box at (x, y, z) of a matrix of three axes; zeros outside of it. Arrives as bytes.
__device__ __forceinline__ void load_tile(void* to, const TensorMap* map, Barrier* barrier,
                                          int32_t x, int32_t y, int32_t z) {
  asm volatile(
      "cp.async.bulk.tensor.3d.shared::cluster.global.tile.mbarrier::complete_tx::bytes "
      "[%0], [%1, {%3, %4, %5}], [%2];" ::"r"(shared_address(to)),
      "l"(map), "r"(shared_address(barrier)), "r"(x), "r"(y), "r"(z)
      : "memory");
}

// ---- products ----------------------------------------------------------------------------------
// Registers and shared memory as they are now are what products see that come after this.
__device__ __forceinline__ void fence() { asm volatile("wgmma.fence.sync.aligned;" ::: "memory"); }
__device__ __forceinline__ void commit() {
  asm volatile("wgmma.commit_group.sync.aligned;" ::: "memory");
}
// Until `kGroups` committed groups at most are under way.
template <int kGroups>
__device__ __forceinline__ void wait_products() {
  asm volatile("wgmma.wait_group.sync.aligned %0;" ::"n"(kGroups) : "memory");
}
// After the last wait: sums are read from here on, not before.
template <int kCount>
__device__ __forceinline__ void settle(float (&d)[kCount]) {
  FASTNN_UNROLL
  for (int i = 0; i < kCount; ++i) asm volatile("" : "+f"(d[i])::"memory");
}

#define FASTNN_REGISTERS_8(i)                                                                 \
  "+f"(d[i]), "+f"(d[i + 1]), "+f"(d[i + 2]), "+f"(d[i + 3]), "+f"(d[i + 4]), "+f"(d[i + 5]), \
      "+f"(d[i + 6]), "+f"(d[i + 7])
#define FASTNN_REGISTERS_64(i)                                                            \
  FASTNN_REGISTERS_8(i), FASTNN_REGISTERS_8(i + 8), FASTNN_REGISTERS_8(i + 16),           \
      FASTNN_REGISTERS_8(i + 24), FASTNN_REGISTERS_8(i + 32), FASTNN_REGISTERS_8(i + 40), \
      FASTNN_REGISTERS_8(i + 48), FASTNN_REGISTERS_8(i + 56)
#define FASTNN_NAMES_64                                                              \
  "%0, %1, %2, %3, %4, %5, %6, %7, %8, %9, %10, %11, %12, %13, %14, %15, "           \
  "%16, %17, %18, %19, %20, %21, %22, %23, %24, %25, %26, %27, %28, %29, %30, %31, " \
  "%32, %33, %34, %35, %36, %37, %38, %39, %40, %41, %42, %43, %44, %45, %46, %47, " \
  "%48, %49, %50, %51, %52, %53, %54, %55, %56, %57, %58, %59, %60, %61, %62, %63"
#define FASTNN_NAMES_128                                                                         \
  "%0, %1, %2, %3, %4, %5, %6, %7, %8, %9, %10, %11, %12, %13, %14, %15, "                       \
  "%16, %17, %18, %19, %20, %21, %22, %23, %24, %25, %26, %27, %28, %29, %30, %31, "             \
  "%32, %33, %34, %35, %36, %37, %38, %39, %40, %41, %42, %43, %44, %45, %46, %47, "             \
  "%48, %49, %50, %51, %52, %53, %54, %55, %56, %57, %58, %59, %60, %61, %62, %63, "             \
  "%64, %65, %66, %67, %68, %69, %70, %71, %72, %73, %74, %75, %76, %77, %78, %79, "             \
  "%80, %81, %82, %83, %84, %85, %86, %87, %88, %89, %90, %91, %92, %93, %94, %95, "             \
  "%96, %97, %98, %99, %100, %101, %102, %103, %104, %105, %106, %107, %108, %109, %110, %111, " \
  "%112, %113, %114, %115, %116, %117, %118, %119, %120, %121, %122, %123, %124, %125, %126, %127"
// d += A B; %0 and on are d, then come A, B, what keeps d, and flags.
#define FASTNN_WGMMA(shape, names, a, b, keeps, flags) \
  "{\n.reg .pred p;\nsetp.ne.b32 p, " keeps            \
  ", 0;\n"                                             \
  "wgmma.mma_async.sync.aligned." shape " {" names "}, " a ", " b ", p, 1, 1" flags ";\n}"

// d[i] of a thread is at row 16 warp + lane / 4 + 8 (i / 2 % 2), column 8 (i / 4) + 2 (lane % 4) +
// i % 2 of 64 x kCols. A factor that is not along k is "transposed".
template <class T, int kCols, bool kAAlongK, bool kBAlongK>
__device__ __forceinline__ void multiply(float (&d)[kCols / 2], uint64_t a, uint64_t b) {
  constexpr int kA = kAAlongK ? 0 : 1, kB = kBAlongK ? 0 : 1;
  static_assert(kCols == 128 || kCols == 256);
  static_assert(sizeof(T) == 2 || (kAAlongK && kBAlongK), "TF32 has no transposed factors");
  if constexpr (std::is_same_v<T, bf16> && kCols == 128)
    asm volatile(
        FASTNN_WGMMA("m64n128k16.f32.bf16.bf16", FASTNN_NAMES_64, "%64", "%65", "%66", ", %67, %68")
        : FASTNN_REGISTERS_64(0)
        : "l"(a), "l"(b), "r"(1), "n"(kA), "n"(kB));
  if constexpr (std::is_same_v<T, f16> && kCols == 128)
    asm volatile(
        FASTNN_WGMMA("m64n128k16.f32.f16.f16", FASTNN_NAMES_64, "%64", "%65", "%66", ", %67, %68")
        : FASTNN_REGISTERS_64(0)
        : "l"(a), "l"(b), "r"(1), "n"(kA), "n"(kB));
  if constexpr (std::is_same_v<T, float> && kCols == 128)
    asm volatile(FASTNN_WGMMA("m64n128k8.f32.tf32.tf32", FASTNN_NAMES_64, "%64", "%65", "%66", "")
                 : FASTNN_REGISTERS_64(0)
                 : "l"(a), "l"(b), "r"(1));
  if constexpr (std::is_same_v<T, bf16> && kCols == 256)
    asm volatile(FASTNN_WGMMA("m64n256k16.f32.bf16.bf16", FASTNN_NAMES_128, "%128", "%129", "%130",
                              ", %131, %132")
                 : FASTNN_REGISTERS_64(0), FASTNN_REGISTERS_64(64)
                 : "l"(a), "l"(b), "r"(1), "n"(kA), "n"(kB));
  if constexpr (std::is_same_v<T, f16> && kCols == 256)
    asm volatile(FASTNN_WGMMA("m64n256k16.f32.f16.f16", FASTNN_NAMES_128, "%128", "%129", "%130",
                              ", %131, %132")
                 : FASTNN_REGISTERS_64(0), FASTNN_REGISTERS_64(64)
                 : "l"(a), "l"(b), "r"(1), "n"(kA), "n"(kB));
  if constexpr (std::is_same_v<T, float> && kCols == 256)
    asm volatile(
        FASTNN_WGMMA("m64n256k8.f32.tf32.tf32", FASTNN_NAMES_128, "%128", "%129", "%130", "")
        : FASTNN_REGISTERS_64(0), FASTNN_REGISTERS_64(64)
        : "l"(a), "l"(b), "r"(1));
}

#undef FASTNN_REGISTERS_8
#undef FASTNN_REGISTERS_64
#undef FASTNN_NAMES_64
#undef FASTNN_NAMES_128
#undef FASTNN_WGMMA

// ---- matrices to shared memory -----------------------------------------------------------------
// Four matrices of 8 x 8 16-bit numbers. Of matrix j a thread has in x[j] row lane / 4, columns
// 2 (lane % 4) and the next; `row` of lane 8 j + i is where row i of it goes.
__device__ __forceinline__ void store_matrices(void* row, const uint32_t (&x)[4]) {
  asm volatile(
      "stmatrix.sync.aligned.m8n8.x4.shared.b16 [%0], {%1, %2, %3, %4};" ::"r"(shared_address(row)),
      "r"(x[0]), "r"(x[1]), "r"(x[2]), "r"(x[3])
      : "memory");
}

// Words to aligned global memory, in one: the compiler does not see that it can.
__device__ __forceinline__ void store_words(void* to, const uint32_t (&x)[2]) {
  asm volatile("st.global.v2.u32 [%0], {%1, %2};" ::"l"(__cvta_generic_to_global(to)), "r"(x[0]),
               "r"(x[1])
               : "memory");
}
__device__ __forceinline__ void store_words(void* to, const uint32_t (&x)[4]) {
  asm volatile("st.global.v4.u32 [%0], {%1, %2, %3, %4};" ::"l"(__cvta_generic_to_global(to)),
               "r"(x[0]), "r"(x[1]), "r"(x[2]), "r"(x[3])
               : "memory");
}

// ---- registers ---------------------------------------------------------------------------------
// Of each thread of the warpgroup that says so.
template <int kCount>
__device__ __forceinline__ void give_registers() {
  asm volatile("setmaxnreg.dec.sync.aligned.u32 %0;" ::"n"(kCount));
}
template <int kCount>
__device__ __forceinline__ void take_registers() {
  asm volatile("setmaxnreg.inc.sync.aligned.u32 %0;" ::"n"(kCount));
}

#endif  // FASTNN_HAS_WGMMA
}  // namespace fastnn::wgmma
#endif  // FASTNN_EMULATOR
