// The packing of GEMM's operands into panels that its register tile reads from front to back.
// A panel is [depth][R]: R consecutive rows of A (or columns of B) for each k.
#pragma once
#include "../slice.h"
#include "gemm_micro.h"

namespace fastnn {
namespace {

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
  // Loads by masks: of Intel's two ports one alone can shuffle, and the transpose needs it.
  const auto all = [&](int q) { return __m128(quad(q)); };
  __m512 v = _mm512_maskz_broadcast_f32x4(0x000f, all(0));
  v = _mm512_mask_broadcast_f32x4(v, 0x00f0, all(1));
  v = _mm512_mask_broadcast_f32x4(v, 0x0f00, all(2));
  return Vec(_mm512_mask_broadcast_f32x4(v, 0xf000, all(3)));
#elif defined(__AVX__)
  return __builtin_shufflevector(quad(0), quad(1), 0, 1, 2, 3, 4, 5, 6, 7);
#else
  return quad(0);
#endif
}

#if defined(__AVX512F__)
// x[i] is float p + i of sixteen rows. Half a vector of two rows is loaded at a time, since of
// Intel's two ports one alone can shuffle; a compiler puts quarters together by shuffles.
template <int... L>
FASTNN_INLINE void load_eight(const float* const* row, int64_t p, Vec (&x)[8],
                              Indices<L...> lanes) {
  const auto halves = [&](int low, int high) {
    const __m512 v = _mm512_castps256_ps512(_mm256_loadu_ps(row[low] + p));
    return Vec(_mm512_insertf32x8(v, _mm256_loadu_ps(row[high] + p), 1));
  };
  Vec low[4], high[4];
  FASTNN_UNROLL for (int i = 0; i < 4; ++i) {
    low[i] = halves(i, i + 4);
    high[i] = halves(i + 8, i + 12);
  }
  transpose_quads(low, lanes);
  transpose_quads(high, lanes);
  FASTNN_UNROLL for (int i = 0; i < 4; ++i) {  // quads of k, then of k + 4, take turns
    x[i] = __builtin_shufflevector(low[i], high[i], (L / 4 * 8 + L % 4)...);
    x[i + 4] = __builtin_shufflevector(low[i], high[i], (L / 4 * 8 + L % 4 + 4)...);
  }
}
#endif

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
#if defined(__AVX512F__)
    for (const float* const* rows_at = row; (p + 7) * width + first + kLanes <= depth * width;
         p += 8) {
      asm("" : "+r"(rows_at));  // addresses come from memory: there are no registers for all
      Vec x[8];
      load_eight(rows_at, p, x, MakeIndices<kLanes>::Type{});
      FASTNN_UNROLL for (int i = 0; i < 8; ++i) store(out + (p + i) * width, x[i]);
    }
#endif
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

// How T goes into panels, whose elements are floats: kPerElement values along k in each of them.
template <class T>
struct Packing {
  static constexpr int64_t kPerElement = 1;
};
#if defined(__AVX512BF16__)
template <>
struct Packing<bf16> {
  static constexpr int64_t kPerElement = 2;
};
#endif
template <class T>
constexpr int64_t elements_of(int64_t depth) {
  return ceil_div(depth, Packing<T>::kPerElement);
}

// Whole panels of an operand that is contiguous along them, some at a time: one alone would use a
// part of each cache line and leave the rest to the next, when rows that are far apart, and so
// share the sets of a cache, have long driven it out. Rows to come are fetched: no prefetcher of
// the hardware follows steps of a page.
template <int kWidth>
void pack_rows(float* dst, const float* src, int64_t k_stride, int64_t depth, int64_t panels) {
  constexpr int64_t kTogether = ceil_div(6 * kLineFloats, kWidth), kAhead = 4;
  for (int64_t first = 0; first < panels; first += kTogether) {
    const int64_t together = least(kTogether, panels - first);
    const float* row = src + first * kWidth;
    float* out = dst + first * kWidth * depth;
    for (int64_t p = 0; p < depth; ++p, row += k_stride, out += kWidth) {
      for (int64_t i = 0; i < together * kWidth && p + kAhead < depth; i += kLineFloats)
        __builtin_prefetch(row + kAhead * k_stride + i);
      for (int64_t q = 0; q < together; ++q)
        __builtin_memcpy(out + q * kWidth * depth, row + q * kWidth, 4 * kWidth);
    }
  }
}

// width is a multiple of kLanes, or kMR and then row_stride is not 1 or rows < width.
inline void pack_panel(float* dst, const float* src, int64_t row_stride, int64_t k_stride,
                       int64_t depth, int64_t rows, int64_t width) {
  if (k_stride == 1) return pack_transposed(dst, src, row_stride, depth, rows, width);
  for (int64_t p = 0; p < depth; ++p, dst += width, src += k_stride) {
    if (row_stride != 1) {
      for (int64_t i = 0; i < width; ++i) dst[i] = src[(i < rows ? i : rows - 1) * row_stride];
    } else if (rows < width) {
      for (int64_t i = 0; i < width; ++i) dst[i] = 0;
      copy_few(dst, src, rows);
    } else {
      for (int64_t i = 0; i < width; i += kLanes) store(dst + i, load(src + i));
    }
  }
}

// bfloat16 widened, or in pairs along k.
FASTNN_INLINE float bf16_element(const bf16* src, int64_t k_stride) {
  if constexpr (Packing<bf16>::kPerElement == 1)
    return to_float(src[0]);
  else
    return from_bits(static_cast<int32_t>(src[0].bits | uint32_t{src[k_stride].bits} << 16));
}

#if defined(__AVX512BF16__)
// Pairs of x[i] and y[i] for 32 i.
template <int... L>
FASTNN_INLINE void pair_up(float* to, const bf16* x, const bf16* y, Indices<L...>) {
  typedef uint16_t Values __attribute__((vector_size(64), aligned(2), may_alias));
  const Values a = *reinterpret_cast<const Values*>(x), b = *reinterpret_cast<const Values*>(y);
  auto* pairs = reinterpret_cast<Values*>(to);
  pairs[0] = __builtin_shufflevector(a, b, (L / 2 + L % 2 * 32)...);
  pairs[1] = __builtin_shufflevector(a, b, (L / 2 + L % 2 * 32 + 16)...);
}
#endif

// The elements of `rows` rows: dst[p][i], i < width, or dst[i][p] if kRows. Zero where there is
// none.
template <bool kRows>
void pack_bf16(float* dst, const bf16* src, int64_t row_stride, int64_t k_stride, int64_t depth,
               int64_t rows, int64_t width) {
  constexpr int64_t kPer = Packing<bf16>::kPerElement;
  const int64_t elements = elements_of<bf16>(depth), whole = depth / kPer;
  const auto at = [&](int64_t p, int64_t i) -> float& {
    return dst[kRows ? i * elements + p : p * width + i];
  };
  if (kRows && k_stride == 1) {
    for (int64_t i = 0; i < rows; ++i) {
      const bf16* row = src + i * row_stride;
      if constexpr (kPer == 2) {  // a pair as it lies in memory, which may be none
        if (whole > 0) __builtin_memcpy(&at(0, i), row, 4 * whole);
      } else {
        for (int64_t p = 0; p < whole; ++p) at(p, i) = bf16_element(row + p, 1);
      }
    }
  } else if (row_stride == 1) {
    constexpr int64_t kAhead = 8, kLine = 64 / sizeof(bf16);  // no prefetcher steps so far
    for (int64_t p = 0; p < whole; ++p) {
      for (int64_t q = 0; q < kPer && p + kAhead < whole; ++q)
        for (int64_t i = 0; i < rows; i += kLine)
          __builtin_prefetch(src + (kPer * (p + kAhead) + q) * k_stride + i);
      const bf16* row = src + kPer * p * k_stride;
      int64_t i = 0;
#if defined(__AVX512BF16__)
      for (; i + 32 <= rows; i += 32)
        pair_up(&at(p, i), row + i, row + k_stride + i, MakeIndices<32>::Type{});
#endif
      for (; i < rows; ++i) at(p, i) = bf16_element(row + i, k_stride);
    }
  } else {
    for (int64_t p = 0; p < whole; ++p)
      for (int64_t i = 0; i < rows; ++i)
        at(p, i) = bf16_element(src + kPer * p * k_stride + i * row_stride, k_stride);
  }
  for (int64_t i = 0; i < rows; ++i) {
    for (int64_t p = whole; p < elements; ++p) at(p, i) = 0;
    if (whole * kPer < depth) {  // half a pair
      const bf16 last[2] = {src[(depth - 1) * k_stride + i * row_stride], {}};
      at(whole, i) = bf16_element(last, 1);
    }
  }
  for (int64_t p = 0; !kRows && p < elements; ++p)
    for (int64_t i = rows; i < width; ++i) at(p, i) = 0;
}

inline void pack_panel(float* dst, const bf16* src, int64_t row_stride, int64_t k_stride,
                       int64_t depth, int64_t rows, int64_t width) {
  if (k_stride != 1) return pack_bf16<false>(dst, src, row_stride, k_stride, depth, rows, width);
  // Rows of elements first: their transpose is that of floats.
  alignas(64) float row[kNR * kGemmKC];
  const int64_t elements = elements_of<bf16>(depth);
  pack_bf16<true>(row, src, row_stride, 1, depth, rows, width);
  pack_transposed(dst, row, elements, elements, rows, width);
}

// A panel of P's elements from Ts; where a T is the wider one, of values rounded to Ps before.
template <class P, class T>
inline void pack_panel_as(float* dst, const T* src, int64_t row_stride, int64_t k_stride,
                          int64_t depth, int64_t rows, int64_t width) {
  if constexpr (sizeof(P) == sizeof(T)) {
    pack_panel(dst, src, row_stride, k_stride, depth, rows, width);
  } else {
    alignas(64) P rounded[kNR * kGemmKC];
    const bool along = k_stride == 1;  // the order of the source
    const int64_t outer = along ? rows : depth, inner = along ? depth : rows;
    for (int64_t o = 0; o < outer; ++o) {
      const T* from = src + o * (along ? row_stride : k_stride);
      if (along || row_stride == 1)
        for (int64_t i = 0; i < inner; ++i) rounded[o * inner + i] = from_float<P>(from[i]);
      else
        for (int64_t i = 0; i < inner; ++i)
          rounded[o * inner + i] = from_float<P>(from[i * row_stride]);
    }
    pack_panel(dst, rounded, along ? depth : 1, along ? 1 : rows, depth, rows, width);
  }
}

// Panels of kWidth for the rows of A, or columns of B, [begin, end).
template <int kWidth, class P, class T>
void pack_panels(float* dst, const T* src, int64_t row_stride, int64_t k_stride, int64_t depth,
                 int64_t begin, int64_t end) {
  const int64_t elements = elements_of<P>(depth);
  int64_t i = begin;
  if constexpr (sizeof(P) == sizeof(float)) {
    if (row_stride == 1) {
      const int64_t whole = (end - begin) / kWidth;
      pack_rows<kWidth>(dst + begin * depth, src + begin, k_stride, depth, whole);
      i += whole * kWidth;
    }
  }
  for (; i < end; i += kWidth)
    pack_panel_as<P>(dst + i * elements, src + i * row_stride, row_stride, k_stride, depth,
                     least(kWidth, end - i), kWidth);
}

// The plan of packed products of Ts as those of Ps, which depends on their shape alone where they
// differ.
template <class P, class T>
GemmPlan packed_plan(const GemmArgsOf<T>& g) {
  if constexpr (sizeof(P) == sizeof(T))
    return gemm_plan_as(true, g);
  else
    return gemm_plan_as(true, GemmArgsOf<P>{.m = g.m, .n = g.n, .k = g.k});
}

// Scratch, for each k block: the panels of A, [m / kMR][depth][kMR] of elements; then, after all of
// A, likewise the panels of B. Ts are packed as Ps.
template <class P, class T>
void gemm_pack(const GemmArgsOf<T>& g, const GemmPlan& plan, Slice slice) {
  for (int64_t task = slice.begin; task < slice.end; ++task) {
    const int64_t part = task / plan.k_blocks, block = task % plan.k_blocks;
    const int64_t p = block * kGemmKC, depth = least(kGemmKC, g.k - p);
    float* a = g.scratch + block * plan.a_block;
    float* b = g.scratch + plan.k_blocks * plan.a_block + block * plan.b_block;
    pack_panels<kMR, P>(a, g.a + p * g.a_col, g.a_row, g.a_col, depth, plan.pack_a.begin(part),
                        plan.pack_a.begin(part + 1));
    pack_panels<kNR, P>(b, g.b + p * g.b_row, g.b_col, g.b_row, depth, plan.pack_b.begin(part),
                        plan.pack_b.begin(part + 1));
  }
}

// Tasks: parts of both factors for each k block.
template <class T>
void gemm_pack(const GemmArgsOf<T>& g, Slice slice) {
  gemm_pack<T>(g, gemm_plan_as(true, g), slice);
}

}  // namespace
}  // namespace fastnn
