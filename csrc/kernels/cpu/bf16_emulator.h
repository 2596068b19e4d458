// What avx512_emulator.h has of products of bfloat16, in vectors and in AMX's registers. Subnormals
// count as zero, in and out, whatever the processor's modes are; sums are rounded to nearest even.
#pragma once

namespace fastnn {
namespace {

FASTNN_EMULATED float flushed(float x) {
  return __builtin_fabsf(x) < __FLT_MIN__ ? __builtin_copysignf(0, x) : x;
}
FASTNN_EMULATED float bf16_lane(int16_t bits) {
  return flushed(__builtin_bit_cast(float, static_cast<uint32_t>(bits) << 16));
}
// Products of two bfloat16 are exact.
FASTNN_EMULATED float plus_product(float sum, int16_t a, int16_t b) {
  return flushed(flushed(sum) + bf16_lane(a) * bf16_lane(b));
}

FASTNN_EMULATED int16_t bf16_bits(float x) {
  const auto bits = __builtin_bit_cast(uint32_t, flushed(x));
  const uint32_t rounded = x == x ? bits + 0x7fff + (bits >> 16 & 1) : bits | 0x400000;
  return static_cast<int16_t>(rounded >> 16);
}
FASTNN_EMULATED __m512bh _mm512_cvtne2ps_pbh(__m512 high, __m512 low) {
  return __m512bh(
      lanes_of<ShortLanes>([&](unsigned l) { return bf16_bits(l < 16 ? low[l] : high[l - 16]); }));
}
FASTNN_EMULATED __m512 _mm512_dpbf16_ps(__m512 sums, __m512bh a, __m512bh b) {
  const ShortLanes x = ShortLanes(a), y = ShortLanes(b);
  return lanes_of<__m512>([&](unsigned l) {
    const float sum = plus_product(sums[l], x[2 * l + 1], y[2 * l + 1]);
    return plus_product(sum, x[2 * l], y[2 * l]);
  });
}

// ---- AMX: eight registers of 16 rows of 64 bytes, all of them whole ----------------------------

struct TileRegisters {
  bool configured;
  alignas(64) char rows[8][16][64];
};
inline thread_local TileRegisters tile_registers;

inline auto& tile_rows_of(int which) {
  if (!tile_registers.configured) __builtin_trap();
  return tile_registers.rows[which];
}

inline void _tile_loadconfig(const void*) {
  tile_registers = {};
  tile_registers.configured = true;
}
inline void _tile_release() { tile_registers.configured = false; }
inline void _tile_zero(int which) {
  __builtin_memset(tile_rows_of(which), 0, sizeof tile_rows_of(which));
}
inline void _tile_loadd(int which, const void* from, int64_t bytes) {
  const auto* row = static_cast<const char*>(from);
  for (auto& to : tile_rows_of(which)) {
    __builtin_memcpy(to, row, sizeof to);
    row += bytes;
  }
}
inline void _tile_stream_loadd(int which, const void* from, int64_t bytes) {
  _tile_loadd(which, from, bytes);
}
inline void _tile_stored(int which, void* to, int64_t bytes) {
  auto* row = static_cast<char*>(to);
  for (const auto& from : tile_rows_of(which)) {
    __builtin_memcpy(row, from, sizeof from);
    row += bytes;
  }
}
// Even and odd products of a row are summed apart, each from zero, and then added to the sums.
inline void _tile_dpbf16ps(int sums, int a, int b) {
  for (int m = 0; m < 16; ++m) {
    const auto x = load_lanes<ShortLanes>(tile_rows_of(a)[m]);
    FloatLanes even{}, odd{};
    for (int k = 0; k < 16; ++k) {
      const auto y = load_lanes<ShortLanes>(tile_rows_of(b)[k]);
      for (int n = 0; n < 16; ++n) {
        even[n] = plus_product(even[n], x[2 * k], y[2 * n]);
        odd[n] = plus_product(odd[n], x[2 * k + 1], y[2 * n + 1]);
      }
    }
    auto& row = tile_rows_of(sums)[m];
    const auto before = load_lanes<FloatLanes>(row);
    store_lanes(row, lanes_of<FloatLanes>([&](unsigned n) {
                  return flushed(flushed(before[n]) + flushed(even[n] + odd[n]));
                }));
  }
}

}  // namespace
}  // namespace fastnn
