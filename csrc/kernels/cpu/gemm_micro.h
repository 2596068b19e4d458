// The register tile of GEMM and the packing of its operands, for every CPU: GCC/Clang vectors, no
// intrinsics, the width chosen by the compiler's flags. Invariant: an element's sum over one k
// block is the same chains of fma, added in order, whatever the tile: all tiles give the same bits.
#pragma once
#include <cstdint>

#include "../gemm_plan.h"

namespace fastnn {
namespace {

// A tile of packed panels has kMR x kNV vectors of sums. kMR divides kGemmRows, kNR kGemmCols.
#if defined(__AVX512F__)
inline constexpr int kLanes = 16, kRegisters = 32, kMR = 6, kNV = 4;
#elif defined(__AVX__)
inline constexpr int kLanes = 8, kRegisters = 16, kMR = 6, kNV = 2;
#elif defined(__aarch64__)
inline constexpr int kLanes = 4, kRegisters = 32, kMR = 12, kNV = 2;
#else
inline constexpr int kLanes = 4, kRegisters = 16, kMR = 4, kNV = 2;
#endif
inline constexpr int kNR = kNV * kLanes, kMaxRows = 12, kLineFloats = 16;
static_assert(kGemmRows % kMR == 0 && kGemmCols % kNR == 0);

// Rows of the tallest tile of nv vectors: its sums, a row of B and a broadcast of A in registers.
constexpr int tile_rows(int nv) {
  const int rows = nv == kNV ? kMR : (kRegisters - nv - 2) / nv;
  return rows < kMaxRows ? rows : kMaxRows;
}

typedef float Vec __attribute__((vector_size(4 * kLanes)));
typedef float VecU __attribute__((vector_size(4 * kLanes), aligned(4), may_alias));
typedef float Quad __attribute__((vector_size(16)));
typedef float QuadU __attribute__((vector_size(16), aligned(4), may_alias));

// Registers are only used for arrays whose loops are unrolled completely.
#define FASTNN_UNROLL _Pragma("GCC unroll 16")
#define FASTNN_INLINE inline __attribute__((always_inline))

FASTNN_INLINE Vec load(const float* p) { return *reinterpret_cast<const VecU*>(p); }
FASTNN_INLINE void store(float* p, Vec v) { *reinterpret_cast<VecU*>(p) = v; }

struct TileArgs {
  const float* a;
  int64_t a_row, a_col;
  const float* b;  // rows of whole vectors
  int64_t b_row, k;
  float* c;
  int64_t ldc;
  const float* bias;   // or null
  bool add;            // C += A B instead of C = A B
  const float* ahead;  // memory to fetch into L2 meanwhile: ahead_lines per chain
  int64_t ahead_lines;
};

// kUnitRow: a_row is 1, as in packed panels and in A transposed.
template <int R, int NV, bool kUnitRow>
__attribute__((noinline)) void tile(const TileArgs& t) {
  constexpr int kPointers =
      kUnitRow ? 1 : (R + 2) / 3;  // x86 addresses three rows from one pointer
  constexpr int kLineVecs = kLineFloats / kLanes;
  const int64_t a_row = t.a_row, a_col = t.a_col, b_row = t.b_row, ldc = t.ldc;
  const float* a[kPointers];
  const float *b = t.b, *ahead = t.ahead;
  Vec acc[R][NV];
  FASTNN_UNROLL for (int i = 0; i < kPointers; ++i) a[i] = t.a + 3 * i * a_row;
  FASTNN_UNROLL for (int i = 0; i < R; ++i) {
    FASTNN_UNROLL for (int v = 0; v < NV; ++v) acc[i][v] = Vec{};
  }
  float* c = t.c;
  FASTNN_UNROLL for (int i = 0; i < R; ++i) {
    FASTNN_UNROLL for (int v = 0; v < NV; v += kLineVecs)
        __builtin_prefetch(c + i * ldc + v * kLanes, 1);
  }
  // One chain of fma per kGemmChain steps; what the chains before have summed waits in memory.
  Vec parked[R][NV];
  for (int64_t done = 0;;) {
    const int64_t chain = least(kGemmChain, t.k - done);
    for (int64_t i = 0; i < t.ahead_lines; ++i, ahead += kLineFloats)
      __builtin_prefetch(ahead, 0, 2);
    for (int64_t p = chain; p > 0; --p) {
      Vec bv[NV];
      FASTNN_UNROLL for (int v = 0; v < NV; ++v) bv[v] = load(b + v * kLanes);
      FASTNN_UNROLL for (int i = 0; i < R; ++i) {
        const float s = kUnitRow ? a[0][i] : a[i / 3][i % 3 * a_row];
        FASTNN_UNROLL for (int v = 0; v < NV; ++v) acc[i][v] += s * bv[v];
      }
      FASTNN_UNROLL for (int i = 0; i < kPointers; ++i) a[i] += a_col;
      b += b_row;
    }
    const bool first = done == 0;
    done += chain;
    if (done >= t.k) {
      if (!first) {
        FASTNN_UNROLL for (int i = 0; i < R; ++i) {
          FASTNN_UNROLL for (int v = 0; v < NV; ++v) acc[i][v] = parked[i][v] + acc[i][v];
        }
      }
      break;
    }
    FASTNN_UNROLL for (int i = 0; i < R; ++i) {
      FASTNN_UNROLL for (int v = 0; v < NV; ++v) {
        parked[i][v] = first ? acc[i][v] : parked[i][v] + acc[i][v];
        acc[i][v] = Vec{};
      }
    }
  }
  if (t.add) {
    FASTNN_UNROLL for (int i = 0; i < R; ++i) {
      FASTNN_UNROLL for (int v = 0; v < NV; ++v) acc[i][v] =
          load(c + i * ldc + v * kLanes) + acc[i][v];
    }
  }
  if (t.bias) {
    FASTNN_UNROLL for (int v = 0; v < NV; ++v) {
      const Vec bias = load(t.bias + v * kLanes);
      FASTNN_UNROLL for (int i = 0; i < R; ++i) acc[i][v] += bias;
    }
  }
  FASTNN_UNROLL for (int i = 0; i < R; ++i) {
    FASTNN_UNROLL for (int v = 0; v < NV; ++v) store(c + i * ldc + v * kLanes, acc[i][v]);
  }
}

using Tile = void (*)(const TileArgs&);

template <int... I>
struct Indices {};
template <int N, int... I>
struct MakeIndices : MakeIndices<N - 1, N - 1, I...> {};
template <int... I>
struct MakeIndices<0, I...> {
  using Type = Indices<I...>;
};

// Every height up to tile_rows, so that the last rows need no padding: [unit row][NV - 1][R - 1].
struct TilesOfWidth {
  Tile of_rows[kMaxRows];
};
template <int NV, bool kUnitRow, int... I>
constexpr TilesOfWidth tiles_of_width(Indices<I...>) {
  return {{tile<(I < tile_rows(NV) ? I + 1 : 1), NV, kUnitRow>...}};
}
struct Tiles {
  TilesOfWidth of[2][kNV];
};
template <int... V>
constexpr Tiles all_tiles(Indices<V...>) {
  using Rows = MakeIndices<kMaxRows>::Type;
  return {{{tiles_of_width<V + 1, false>(Rows{})...}, {tiles_of_width<V + 1, true>(Rows{})...}}};
}
inline constexpr Tiles kTiles = all_tiles(MakeIndices<kNV>::Type{});

// Copies n < kNR floats without a call.
FASTNN_INLINE void copy_few(float* dst, const float* src, int64_t n) {
  if (kNR > 32 && n & 32) __builtin_memcpy(dst, src, 128), dst += 32, src += 32;
  if (kNR > 16 && n & 16) __builtin_memcpy(dst, src, 64), dst += 16, src += 16;
  if (kNR > 8 && n & 8) __builtin_memcpy(dst, src, 32), dst += 8, src += 8;
  if (n & 4) __builtin_memcpy(dst, src, 16), dst += 4, src += 4;
  if (n & 2) __builtin_memcpy(dst, src, 8), dst += 2, src += 2;
  if (n & 1) *dst = *src;
}

// ---- packing -----------------------------------------------------------------------------------
// A panel is [depth][R]: R consecutive rows of A (or columns of B) for each k.

// Lane l of an operation that treats a vector as independent quads: from quad lane `lane` of
// operand `from`, counted as __builtin_shufflevector does.
constexpr int quad_lane(int l, int from, int lane) { return from * kLanes + (l & ~3) + lane; }

// The 4 x 4 transpose of each quad of x[0..3].
template <int... L>
FASTNN_INLINE void transpose_quads(Vec x[4], Indices<L...>) {
  const auto low = [](Vec a, Vec b) {
    return __builtin_shufflevector(a, b, quad_lane(L, L & 1, (L & 3) >> 1)...);
  };
  const auto high = [](Vec a, Vec b) {
    return __builtin_shufflevector(a, b, quad_lane(L, L & 1, 2 + ((L & 3) >> 1))...);
  };
  const auto low_pairs = [](Vec a, Vec b) {
    return __builtin_shufflevector(a, b, quad_lane(L, (L & 2) >> 1, L & 1)...);
  };
  const auto high_pairs = [](Vec a, Vec b) {
    return __builtin_shufflevector(a, b, quad_lane(L, (L & 2) >> 1, 2 + (L & 1))...);
  };
  const Vec l01 = low(x[0], x[1]), h01 = high(x[0], x[1]);
  const Vec l23 = low(x[2], x[3]), h23 = high(x[2], x[3]);
  x[0] = low_pairs(l01, l23);
  x[1] = high_pairs(l01, l23);
  x[2] = low_pairs(h01, h23);
  x[3] = high_pairs(h01, h23);
}

// Quad q of the result is four consecutive floats of row[4 q].
FASTNN_INLINE Vec load_quads(const float* const* row, int64_t p) {
  const auto quad = [&](int q) { return *reinterpret_cast<const QuadU*>(row[4 * q] + p); };
#if defined(__AVX512F__)
  const auto lo = __builtin_shufflevector(quad(0), quad(1), 0, 1, 2, 3, 4, 5, 6, 7);
  const auto hi = __builtin_shufflevector(quad(2), quad(3), 0, 1, 2, 3, 4, 5, 6, 7);
  return __builtin_shufflevector(lo, hi, 0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15);
#elif defined(__AVX__)
  return __builtin_shufflevector(quad(0), quad(1), 0, 1, 2, 3, 4, 5, 6, 7);
#else
  return quad(0);
#endif
}

// Rows are contiguous in k. Rows beyond `rows` repeat the last one: nobody looks at their sums.
void pack_transposed(float* dst, const float* src, int64_t row_stride, int64_t depth, int64_t rows,
                     int64_t width) {
  for (int64_t first = 0; first < width; first += kLanes) {
    const float* row[kLanes];
    for (int64_t i = 0; i < kLanes; ++i)
      row[i] = src + (first + i < rows ? first + i : rows - 1) * row_stride;
    float* out = dst + first;
    int64_t p = 0;
    // When width < kLanes a store runs into the next k, which is written later, but never beyond
    // the panel: what follows it may be another thread's.
    for (; (p + 3) * width + first + kLanes <= depth * width; p += 4) {
      Vec x[4];
      FASTNN_UNROLL for (int i = 0; i < 4; ++i) x[i] = load_quads(row + i, p);
      transpose_quads(x, MakeIndices<kLanes>::Type{});
      FASTNN_UNROLL for (int i = 0; i < 4; ++i) store(out + (p + i) * width, x[i]);
    }
    for (; p < depth; ++p)
      for (int64_t i = 0; i < least(kLanes, width - first); ++i) out[p * width + i] = row[i][p];
  }
}

// width is a multiple of kLanes, or kMR.
void pack_panel(float* dst, const float* src, int64_t row_stride, int64_t k_stride, int64_t depth,
                int64_t rows, int64_t width) {
  if (k_stride == 1) return pack_transposed(dst, src, row_stride, depth, rows, width);
  for (int64_t p = 0; p < depth; ++p, dst += width, src += k_stride) {
    if (row_stride != 1) {
      for (int64_t i = 0; i < width; ++i) dst[i] = src[(i < rows ? i : rows - 1) * row_stride];
    } else if (rows < width) {
      for (int64_t i = 0; i < width; ++i) dst[i] = 0;
      copy_few(dst, src, rows);
    } else if (width == kMR) {
      __builtin_memcpy(dst, src, 4 * kMR);
    } else {
      for (int64_t i = 0; i < width; i += kLanes) store(dst + i, load(src + i));
    }
  }
}

}  // namespace
}  // namespace fastnn
