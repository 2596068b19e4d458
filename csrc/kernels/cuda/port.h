// The only place that knows whether nvcc or the emulator compiles the kernels. Kernels write CUDA's
// own words (__global__, threadIdx, __syncthreads), except for what is not C++: a launch and shared
// memory. Invariant: every launch goes through FASTNN_LAUNCH (of clusters: cluster::launch), on the
// stream it is given.
#pragma once
#include <cstdint>

#include "../primitives.h"

#ifdef FASTNN_EMULATOR
#include "emulator.h"

#define FASTNN_ASSUME_GLOBAL(p)
#define FASTNN_UNROLL  // costs compile time, and brings nothing here
#define FASTNN_UNROLL_BY(n)
#define FASTNN_NO_UNROLL
// `name` points to `count` values of the block; __shared__ T name[count] in CUDA.
#define FASTNN_SHARED(T, name, count)                          \
  static ::fastnn::emulator::Shared<T, (count)> name##_memory; \
  T* const name = name##_memory.get()
// `name` points to the dynamic shared memory, whose size FASTNN_LAUNCH_SHARED gives.
#define FASTNN_DYNAMIC_SHARED(T, name) \
  T* const name = static_cast<T*>(::fastnn::emulator::dynamic_shared())
#define FASTNN_GRID_CONSTANT
#define FASTNN_LAUNCH_SHARED(kernel, grid, block, shared_bytes, stream, ...)               \
  ::fastnn::emulator::launch(                                                              \
      {static_cast<unsigned>(grid)}, {static_cast<unsigned>(block)}, shared_bytes, stream, \
      ::fastnn::emulator::bind([](auto... args) { kernel(args...); } __VA_OPT__(, ) __VA_ARGS__))
#else
#include <cuda_runtime.h>

// A pointer that was itself read from memory: says that it is no shared or local one, which the
// compiler sees of a kernel's parameters alone.
#define FASTNN_ASSUME_GLOBAL(p) __builtin_assume(__isGlobal(p))
#define FASTNN_UNROLL _Pragma("unroll")
#define FASTNN_PRAGMA(x) _Pragma(#x)
#define FASTNN_UNROLL_BY(n) FASTNN_PRAGMA(unroll n)
#define FASTNN_NO_UNROLL _Pragma("unroll 1")
#define FASTNN_SHARED(T, name, count) __shared__ T name[count]
// 1024: where the pattern of a swizzle of 128 bytes begins.
#define FASTNN_DYNAMIC_SHARED(T, name)                                           \
  extern __shared__ __align__(1024) unsigned char fastnn_dynamic_shared_bytes[]; \
  T* const name = reinterpret_cast<T*>(fastnn_dynamic_shared_bytes)
// A parameter that stays where the launch has put it, so that its address can be taken.
#define FASTNN_GRID_CONSTANT __grid_constant__
#define FASTNN_LAUNCH_SHARED(kernel, grid, block, shared_bytes, stream, ...)        \
  kernel<<<static_cast<unsigned>(grid), static_cast<unsigned>(block), shared_bytes, \
           static_cast<cudaStream_t>(stream)>>>(__VA_ARGS__)
#endif

// A kernel that is a template with commas goes in parentheses. Arguments are copied. There is no
// error code: the core asks take_error() after each launch.
#define FASTNN_LAUNCH(kernel, grid, block, stream, ...) \
  FASTNN_LAUNCH_SHARED(kernel, grid, block, 0, stream __VA_OPT__(, ) __VA_ARGS__)

namespace fastnn {

inline constexpr int kWarp = 32;

namespace {

// IEEE half precision, a storage type like bf16; the conversions are one instruction on the device.
struct f16 {
  uint16_t bits;
};
__host__ __device__ __forceinline__ float to_float(f16 x) {
#if defined(FASTNN_EMULATOR)
  return static_cast<float>(std::bit_cast<_Float16>(x));
#elif defined(__CUDA_ARCH__)
  float y;
  asm("cvt.f32.f16 %0, %1;" : "=f"(y) : "h"(x.bits));
  return y;
#else
  return static_cast<float>(x.bits);  // never called: nvcc compiles kernels for the host as well
#endif
}
template <>
__host__ __device__ __forceinline__ f16 from_float<f16>(float x) {
#if defined(FASTNN_EMULATOR)
  return std::bit_cast<f16>(static_cast<_Float16>(x));
#elif defined(__CUDA_ARCH__)
  f16 y;
  asm("cvt.rn.f16.f32 %0, %1;" : "=h"(y.bits) : "f"(x));
  return y;
#else
  return {static_cast<uint16_t>(x)};
#endif
}

}  // namespace

// Of the current device.
inline int64_t multiprocessors() {
  constexpr int kDevices = 64;
  static int64_t counts[kDevices];  // written more than once with the same value
  int device = 0, found = 0;
  cudaGetDevice(&device);
  if (device < kDevices && counts[device] != 0) return counts[device];
  cudaDeviceGetAttribute(&found, cudaDevAttrMultiProcessorCount, device);
  const int64_t count = found > 0 ? found : 1;
  if (device < kDevices) counts[device] = count;
  return count;
}
// Blocks that fill the device some times over: grids are cut to this many, and loop. No result may
// depend on it.
inline int64_t max_blocks() {
#ifdef FASTNN_EMULATOR
  return 6;  // few, so that small shapes take the loop as well
#else
  return 16 * multiprocessors();
#endif
}
inline int64_t grid_for(int64_t blocks) { return blocks < max_blocks() ? blocks : max_blocks(); }

}  // namespace fastnn
