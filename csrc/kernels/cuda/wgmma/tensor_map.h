// Tensor maps: how TMA is told of a matrix in global memory. On the device the driver encodes them.
#pragma once
#include <string>

#include "../driver.h"
#include "instructions.h"

namespace fastnn::wgmma {

// Three axes, of which the first is contiguous; `step` in bytes, of the others. A box is what one
// instruction copies, its first axis of 128 bytes, so that lines of it swizzle.
struct Matrix {
  const void* base;
  uint64_t extent[3];
  uint64_t step[2];
  uint32_t box[3];
  uint32_t size;  // of an element, in bytes: 2, or 4 for float32
};

// The rules of cuTensorMapEncodeTiled that depend on the caller's matrix.
inline bool can_be_mapped(const Matrix& m) {
  bool ok = reinterpret_cast<uintptr_t>(m.base) % 16 == 0;
  for (const uint64_t extent : m.extent) ok = ok && extent > 0 && extent <= 0x7fffffff;
  for (const uint64_t step : m.step) ok = ok && step % 16 == 0 && step < uint64_t{1} << 40;
  ok = ok && m.step[0] >= m.extent[0] * m.size;
  return ok && m.step[1] >= m.step[0] && m.step[1] % m.step[0] == 0;
}

#ifdef FASTNN_EMULATOR
inline std::string why_no_maps() { return ""; }
inline std::string encode(const Matrix& m, TensorMap* map) {
  if (!can_be_mapped(m) || m.box[0] * m.size != kLineBytes || m.box[1] > 256 || m.box[2] > 256)
    return "cuTensorMapEncodeTiled returned 1";
  *map = {static_cast<const unsigned char*>(m.base),
          {m.extent[0], m.extent[1], m.extent[2]},
          {m.step[0], m.step[1]},
          {m.box[0], m.box[1], m.box[2]},
          m.size,
          m.size == 4};
  return "";
}
#else
inline PFN_cuTensorMapEncodeTiled_v12000 encoder() {
  static const auto found = FASTNN_DRIVER_FUNCTION(cuTensorMapEncodeTiled, 12000);
  return found;
}
inline std::string why_no_maps() {
  return encoder() != nullptr ? "" : "the driver has no cuTensorMapEncodeTiled";
}
inline std::string encode(const Matrix& m, TensorMap* map) {
  // 16-bit numbers are copied as they are; of float32 TMA makes TF32 on the way.
  const CUtensorMapDataType type =
      m.size == 2 ? CU_TENSOR_MAP_DATA_TYPE_UINT16 : CU_TENSOR_MAP_DATA_TYPE_TFLOAT32;
  const cuuint64_t extents[] = {m.extent[0], m.extent[1], m.extent[2]};
  const cuuint64_t steps[] = {m.step[0], m.step[1]};
  const cuuint32_t ones[] = {1, 1, 1};
  const CUresult result =
      encoder()(map, type, 3, const_cast<void*>(m.base), extents, steps, m.box, ones,
                CU_TENSOR_MAP_INTERLEAVE_NONE, CU_TENSOR_MAP_SWIZZLE_128B,
                CU_TENSOR_MAP_L2_PROMOTION_L2_256B, CU_TENSOR_MAP_FLOAT_OOB_FILL_NONE);
  return result == CUDA_SUCCESS ? "" : "cuTensorMapEncodeTiled returned " + std::to_string(result);
}
#endif

}  // namespace fastnn::wgmma
