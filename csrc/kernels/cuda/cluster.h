// Clusters of thread blocks (sm_90): the instructions, a function each, and the launch. Invariant:
// each does what the PTX ISA says and no more; emulator_cluster.h has the same functions for a CPU.
#pragma once
#include "port.h"

namespace fastnn::cluster {

inline constexpr int32_t kMostBlocks = 16, kMostPortableBlocks = 8;

// `grid` is a multiple of `cluster`: blocks that follow one another are in one cluster.
struct Shape {
  uint32_t grid, threads, cluster;
  size_t shared_bytes;
};

}  // namespace fastnn::cluster

#ifdef FASTNN_EMULATOR
#include "emulator_cluster.h"
#else

// For anything older, kernels of clusters have no body.
#if defined(__CUDA_ARCH__) && __CUDA_ARCH__ >= 900
#define FASTNN_HAS_CLUSTERS 1
#endif

namespace fastnn::cluster {

#ifdef FASTNN_HAS_CLUSTERS

__device__ __forceinline__ uint32_t rank() {
  uint32_t x;
  asm("mov.u32 %0, %%cluster_ctarank;" : "=r"(x));
  return x;
}
__device__ __forceinline__ uint32_t size() {
  uint32_t x;
  asm("mov.u32 %0, %%cluster_nctarank;" : "=r"(x));
  return x;
}

// All threads of all blocks meet. What a thread has written before it arrives is there for those
// that have waited. Warps come as a whole, which the instructions (.aligned) take for granted.
__device__ __forceinline__ void arrive() {
  __syncwarp();
  asm volatile("barrier.cluster.arrive.release.aligned;" ::: "memory");
}
__device__ __forceinline__ void wait() {
  __syncwarp();
  asm volatile("barrier.cluster.wait.acquire.aligned;" ::: "memory");
}

// To where `own` is in this block's shared memory, in that of another rank.
__device__ __forceinline__ void store(float* own, uint32_t to, float x) {
  uint32_t at = static_cast<uint32_t>(__cvta_generic_to_shared(own));
  asm("mapa.shared::cluster.u32 %0, %1, %2;" : "=r"(at) : "r"(at), "r"(to));
  asm volatile("st.shared::cluster.f32 [%0], %1;" ::"r"(at), "f"(x) : "memory");
}

#endif  // FASTNN_HAS_CLUSTERS

// What is left of a launch's description: the attribute lies with the caller.
inline cudaLaunchConfig_t config_of(const Shape& shape, void* stream,
                                    cudaLaunchAttribute* attribute) {
  attribute->id = cudaLaunchAttributeClusterDimension;
  attribute->val.clusterDim = {shape.cluster, 1, 1};
  cudaLaunchConfig_t config{};
  config.gridDim = shape.grid, config.blockDim = shape.threads;
  config.dynamicSmemBytes = shape.shared_bytes;
  config.stream = static_cast<cudaStream_t>(stream);
  config.attrs = attribute, config.numAttrs = 1;
  return config;
}
template <class Kernel>
cudaError_t allow(Kernel* kernel, const Shape& shape) {
  const cudaError_t error = cudaFuncSetAttribute(
      kernel, cudaFuncAttributeMaxDynamicSharedMemorySize, static_cast<int>(shape.shared_bytes));
  if (error != cudaSuccess || shape.cluster <= static_cast<uint32_t>(kMostPortableBlocks))
    return error;
  return cudaFuncSetAttribute(kernel, cudaFuncAttributeNonPortableClusterSizeAllowed, 1);
}

// The counterpart of FASTNN_LAUNCH_SHARED.
template <class... Params>
cudaError_t launch(void (*kernel)(Params...), const Shape& shape, void* stream, Params... params) {
  if (const cudaError_t error = allow(kernel, shape); error != cudaSuccess) return error;
  cudaLaunchAttribute attribute{};
  const cudaLaunchConfig_t config = config_of(shape, stream, &attribute);
  return cudaLaunchKernelEx(&config, kernel, params...);
}
// How many clusters the device runs at the same time; 0 where it has no room for one.
template <class Kernel>
int32_t most_at_once(Kernel* kernel, const Shape& shape) {
  cudaLaunchAttribute attribute{};
  const cudaLaunchConfig_t config = config_of(shape, nullptr, &attribute);
  int count = 0;
  const bool ok = allow(kernel, shape) == cudaSuccess &&
                  cudaOccupancyMaxActiveClusters(&count, kernel, &config) == cudaSuccess;
  if (!ok) cudaGetLastError();
  return ok ? count : 0;
}

}  // namespace fastnn::cluster
#endif
