// The register tile of bfloat16 products where the processor has AMX: eight registers of 16 x 16
// floats, or of 16 rows of 16 pairs along k.
#pragma once
#include <immintrin.h>

#include <cstdint>

#include "gemm_micro.h"

namespace fastnn {
namespace {

// Registers of rows, and of columns of a strip, in the largest tile; and products along k that a
// step adds.
inline constexpr int kAmxRows = 16, kAmxStrip = 32, kAmxDepth = 32;

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

// 16 rows: whole steps along k, and those of the last one, which lie elsewhere.
struct AmxRows {
  const void* at;
  int64_t bytes, step_bytes;  // from row to row, and from step to step
  const void* last;
  int64_t last_bytes;
};

struct AmxArgs {
  AmxRows rows[2];
  const float* strip;  // rows of kAmxStrip pairs
  int64_t steps;       // whole ones
  bool last;           // and the one after them
  float* c;            // rows of kAmxStrip
  bool add;
  const float* ahead;  // memory to fetch into L2 meanwhile: ahead_lines per step
  int64_t ahead_lines;
};

// C, of R x V registers, = or += rows times strip. Products are summed by pairs, in the order of
// AMX, one step after the other, so that C may leave the registers in between; subnormals count as
// zero. The strip is read for each tile again and stays in L1, the rows pass by it.
template <int R, int V>
__attribute__((noinline)) void amx_tile(const AmxArgs& t) {
  static_assert(R <= 2 && V <= 2);
  constexpr int64_t kBytes = 4 * kAmxStrip;
  float* const c_low = t.c + kAmxRows * kAmxStrip;
  if (t.add) {
    _tile_loadd(0, t.c, kBytes);
    if constexpr (V > 1) _tile_loadd(1, t.c + 16, kBytes);
    if constexpr (R > 1) _tile_loadd(2, c_low, kBytes);
    if constexpr (R > 1 && V > 1) _tile_loadd(3, c_low + 16, kBytes);
  } else {
    _tile_zero(0);
    if constexpr (V > 1) _tile_zero(1);
    if constexpr (R > 1) _tile_zero(2);
    if constexpr (R > 1 && V > 1) _tile_zero(3);
  }
  const float* b = t.strip;
  const auto step = [&](const void* high, int64_t high_bytes, const void* low, int64_t low_bytes)
                        __attribute__((always_inline)) {
                          _tile_stream_loadd(4, high, high_bytes);
                          _tile_loadd(6, b, kBytes);
                          _tile_dpbf16ps(0, 4, 6);
                          if constexpr (V > 1) {
                            _tile_loadd(7, b + 16, kBytes);
                            _tile_dpbf16ps(1, 4, 7);
                          }
                          if constexpr (R > 1) {
                            _tile_stream_loadd(5, low, low_bytes);
                            _tile_dpbf16ps(2, 5, 6);
                          }
                          if constexpr (R > 1 && V > 1) _tile_dpbf16ps(3, 5, 7);
                          b += kAmxRows * kAmxStrip;
                        };
  const auto *high = static_cast<const char*>(t.rows[0].at),
             *low = static_cast<const char*>(t.rows[1].at);
  const float* ahead = t.ahead;
  for (int64_t p = 0; p < t.steps; ++p, high += t.rows[0].step_bytes, low += t.rows[1].step_bytes) {
    for (int64_t i = 0; i < t.ahead_lines; ++i, ahead += kLineFloats)
      __builtin_prefetch(ahead, 0, 2);
    step(high, t.rows[0].bytes, low, t.rows[1].bytes);
  }
  if (t.last) step(t.rows[0].last, t.rows[0].last_bytes, t.rows[1].last, t.rows[1].last_bytes);
  _tile_stored(0, t.c, kBytes);
  if constexpr (V > 1) _tile_stored(1, t.c + 16, kBytes);
  if constexpr (R > 1) _tile_stored(2, c_low, kBytes);
  if constexpr (R > 1 && V > 1) _tile_stored(3, c_low + 16, kBytes);
}

using AmxTile = void (*)(const AmxArgs&);
inline constexpr AmxTile kAmxTiles[2][2] = {{amx_tile<1, 1>, amx_tile<1, 2>},
                                            {amx_tile<2, 1>, amx_tile<2, 2>}};

}  // namespace
}  // namespace fastnn
