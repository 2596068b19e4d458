// The product of a warp by tensor cores, as every device since sm_80 has it: the instruction, and
// where its elements are. Invariant: it is what the PTX ISA says; the emulator has it from the same
// text, with sums in the order of k.
#pragma once
#include "port.h"

namespace fastnn::mma {

// D [16, 8] += A [16, 16] B [16, 8] of bfloat16, in float32. Of the lane 4 g + t
//   d[i] is at (g + 8 (i / 2), 2 t + i % 2),
//   half h of a[i] at (g + 8 (i % 2), 2 t + h + 8 (i / 2)), and of b[i] at (2 t + h + 8 i, g).
inline constexpr int kRows = 16, kCols = 8, kDepth = 16;

#ifdef FASTNN_EMULATOR
inline float half_of(uint32_t pair, int h) {
  return from_bits(static_cast<int32_t>(pair >> 16 * h << 16));
}
inline void multiply(float (&d)[4], const uint32_t (&a)[4], const uint32_t (&b)[2],
                     std::source_location where = std::source_location::current()) {
  const uint32_t g = emulator::lane() / 4, t = emulator::lane() % 4;
  float rows[2][kDepth], cols[2][kDepth];
  for (uint32_t from = 0; from < 4; ++from)
    for (uint32_t i = 0; i < 4; ++i) {
      const uint32_t x = emulator::exchange(~0u, a[i], 4 * g + from, where);
      for (uint32_t h = 0; h < 2; ++h) rows[i % 2][2 * from + h + 8 * (i / 2)] = half_of(x, int(h));
    }
  for (uint32_t col = 0; col < 2; ++col)
    for (uint32_t from = 0; from < 4; ++from)
      for (uint32_t i = 0; i < 2; ++i) {
        const uint32_t x = emulator::exchange(~0u, b[i], 4 * (2 * t + col) + from, where);
        for (uint32_t h = 0; h < 2; ++h) cols[col][2 * from + h + 8 * i] = half_of(x, int(h));
      }
  for (int i = 0; i < 4; ++i)
    for (int k = 0; k < kDepth; ++k) d[i] += rows[i / 2][k] * cols[i % 2][k];
}
#else
__device__ __forceinline__ void multiply(float (&d)[4], const uint32_t (&a)[4],
                                         const uint32_t (&b)[2]) {
  asm volatile(
      "mma.sync.aligned.m16n8k16.row.col.f32.bf16.bf16.f32 {%0, %1, %2, %3}, {%4, %5, %6, %7}, "
      "{%8, %9}, {%0, %1, %2, %3};"
      : "+f"(d[0]), "+f"(d[1]), "+f"(d[2]), "+f"(d[3])
      : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b[0]), "r"(b[1]));
}
#endif

}  // namespace fastnn::mma
