// The register tile of bfloat16 products where the processor has AMX: eight registers of 16 x 16
// floats, or of 16 rows of 16 pairs along k.
#pragma once
#include <immintrin.h>

#include <cstdint>

#include "gemm_micro.h"

namespace fastnn {
namespace {

inline constexpr int kAmxRows = 16;

// Sets the registers up, all of them whole, for as long as it lives.
class AmxRegisters {
 public:
  AmxRegisters() {
    struct alignas(64) Config {
      uint8_t palette = 1, start_row = 0, reserved[14] = {};
      uint16_t row_bytes[16] = {64, 64, 64, 64, 64, 64, 64, 64};
      uint8_t rows[16] = {16, 16, 16, 16, 16, 16, 16, 16};
    };
    static constexpr Config kConfig{};
    _tile_loadconfig(&kConfig);
  }
  ~AmxRegisters() { _tile_release(); }
  AmxRegisters(const AmxRegisters&) = delete;
  AmxRegisters& operator=(const AmxRegisters&) = delete;
};

// C, of R x V registers, = or += A B. A lies in rows of pairs, a_row floats apart, B as in panels;
// k counts pairs, a multiple of 16. Products are summed by pairs, in the order of AMX; subnormals
// count as zero.
template <int R, int V>
__attribute__((noinline)) void amx_tile(const TileArgs& t) {
  static_assert(R <= 2 && V <= 2);
  const int64_t a_bytes = 4 * t.a_row, b_bytes = 4 * t.b_row, c_bytes = 4 * t.ldc;
  float* const c_low = t.c + kAmxRows * t.ldc;
  if (t.add) {
    _tile_loadd(0, t.c, c_bytes);
    if constexpr (V > 1) _tile_loadd(1, t.c + 16, c_bytes);
    if constexpr (R > 1) _tile_loadd(2, c_low, c_bytes);
    if constexpr (R > 1 && V > 1) _tile_loadd(3, c_low + 16, c_bytes);
  } else {
    _tile_zero(0);
    if constexpr (V > 1) _tile_zero(1);
    if constexpr (R > 1) _tile_zero(2);
    if constexpr (R > 1 && V > 1) _tile_zero(3);
  }
  const float *a = t.a, *b = t.b, *ahead = t.ahead;
  for (int64_t p = 0; p < t.k; p += 16, a += 16, b += 16 * t.b_row) {
    for (int64_t i = 0; i < t.ahead_lines; ++i, ahead += kLineFloats)
      __builtin_prefetch(ahead, 0, 2);
    _tile_loadd(4, a, a_bytes);
    _tile_loadd(6, b, b_bytes);
    _tile_dpbf16ps(0, 4, 6);
    if constexpr (V > 1) {
      _tile_loadd(7, b + 16, b_bytes);
      _tile_dpbf16ps(1, 4, 7);
    }
    if constexpr (R > 1) {
      _tile_loadd(5, a + kAmxRows * t.a_row, a_bytes);
      _tile_dpbf16ps(2, 5, 6);
    }
    if constexpr (R > 1 && V > 1) _tile_dpbf16ps(3, 5, 7);
  }
  _tile_stored(0, t.c, c_bytes);
  if constexpr (V > 1) _tile_stored(1, t.c + 16, c_bytes);
  if constexpr (R > 1) _tile_stored(2, c_low, c_bytes);
  if constexpr (R > 1 && V > 1) _tile_stored(3, c_low + 16, c_bytes);
}

inline constexpr Tile kAmxTiles[2][2] = {{amx_tile<1, 1>, amx_tile<1, 2>},
                                         {amx_tile<2, 1>, amx_tile<2, 2>}};

}  // namespace
}  // namespace fastnn
