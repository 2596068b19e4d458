// What AMX multiplies: rows of pairs along k, packed as registers, [rows / 16][k / 32][16][16], and
// strips of columns, [k / 2][kAmxStrip] pairs. Rows that are contiguous bfloat16 are read where
// they lie, but for what fills no register.
#pragma once
#include "../gemm_plan.h"
#include "../slice.h"
#include "amx_tile.h"

namespace fastnn {
namespace {

// An operand: `count` vectors of k values.
template <class T>
struct AmxOperand {
  const T* data;
  int64_t step, k_step, count;
};

// One product as rows times strips. Across, the rows are the columns of B, which are then what is
// contiguous and large, and C^T comes out.
template <class T>
struct AmxProduct {
  bool across;
  AmxOperand<T> rows, strips;
  int64_t k, whole, steps;  // steps along k: those without a remainder, all
  float *packed_strips, *packed_rows;

  explicit AmxProduct(const GemmArgsOf<T>& g)
      : across(goes_across(g)),
        rows{g.a, g.a_row, g.a_col, g.m},
        strips{g.b, g.b_col, g.b_row, g.n},
        k(g.k),
        whole(g.k / kAmxDepth),
        steps(ceil_div(g.k, kAmxDepth)) {
    if (across) {
      const AmxOperand<T> a = rows;
      rows = strips, strips = a;
    }
    // Both fit where gemm_plan() has room for floats, since these are pairs.
    packed_strips = g.scratch;
    packed_rows = g.scratch + round_up(strips.count, kAmxStrip) * pairs();
  }

  static constexpr int64_t kPairs = kAmxDepth / 2;
  int64_t pairs() const { return steps * kPairs; }
  // Rows that are not whole lines cost two loads each, for every strip.
  bool in_place() const {
    return sizeof(T) == sizeof(bf16) && rows.k_step == 1 &&
           (rows.step % kAmxDepth == 0 || strips.count <= 4 * kAmxStrip);
  }
  // Where rows are in place: those that fill registers. After the remainders of k of them lie the
  // other rows.
  int64_t whole_rows() const { return in_place() ? rows.count / kAmxRows * kAmxRows : 0; }
  float* remainder(int64_t i) const { return packed_rows + i * kPairs; }
  // 16 pairs of row i, from those of step `step` on.
  float* packed(int64_t i, int64_t step) const {
    const int64_t other = i - whole_rows();
    return packed_rows + (steps > whole ? whole_rows() * kPairs : 0) +
           (other / kAmxRows * steps + step) * kAmxRows * kPairs + other % kAmxRows * kPairs;
  }

  // Rows [i, i + kAmxRows), from step `first` on.
  AmxRows rows_at(int64_t i, int64_t first) const {
    if (i < whole_rows())
      return {rows.data + i * rows.step + first * kAmxDepth, 2 * rows.step, 2 * kAmxDepth,
              remainder(i), 4 * kPairs};
    return {packed(i, first), 4 * kPairs, 4 * kPairs * kAmxRows, packed(i, whole), 4 * kPairs};
  }

 private:
  // It saves packing what B has more columns than A rows, and costs a transpose of C.
  static bool goes_across(const GemmArgsOf<T>& g) {
    return sizeof(T) == sizeof(bf16) && g.b_row == 1 && g.b_col != 1 &&
           (g.n - g.m) * g.k > 8 * g.m * g.n;
  }
};

// 32 values as bfloat16, zero from `count` on. Rounding flushes subnormals, as AMX does.
FASTNN_INLINE __m512i load_32(const bf16* x, int64_t count) {
  if (count >= 32) return _mm512_loadu_si512(x);
  return _mm512_maskz_loadu_epi16(count > 0 ? (1u << count) - 1 : 0, x);
}
FASTNN_INLINE __m512i load_32(const float* x, int64_t count) {
  const auto load_16 = [&](int64_t first) {
    const int64_t n = count - first;
    if (n >= 16) return _mm512_loadu_ps(x + first);
    return _mm512_maskz_loadu_ps(static_cast<__mmask16>(n > 0 ? (1u << n) - 1 : 0), x + first);
  };
  return __m512i(_mm512_cvtne2ps_pbh(load_16(16), load_16(0)));
}
template <class T>
FASTNN_INLINE __m512i load_32(const T* x, int64_t step, int64_t count) {
  if (step == 1) return load_32(x, count);
  T apart[32] = {};
  for (int64_t i = 0; i < least(32, count); ++i) apart[i] = x[i * step];
  return load_32(apart, 32);
}

// Pairs of x[i] and y[i], for the low and for the high i.
struct Pairs {
  __m512i low, high;
  FASTNN_INLINE Pairs(__m512i x, __m512i y) {
    const __m512i lanes = _mm512_add_epi32(
        _mm512_set1_epi32(32 << 16),
        _mm512_mullo_epi32(_mm512_set1_epi32(0x10001),
                           _mm512_set_epi32(15, 14, 13, 12, 11, 10, 9, 8, 7, 6, 5, 4, 3, 2, 1, 0)));
    low = _mm512_permutex2var_epi16(x, lanes, y);
    high = _mm512_permutex2var_epi16(x, _mm512_add_epi16(lanes, _mm512_set1_epi16(16)), y);
  }
};

// Rows of 16 values of 32 bits become columns.
FASTNN_INLINE void transpose_16(__m512i (&x)[16]) {
  __m512i y[16];
  FASTNN_UNROLL for (int i = 0; i < 16; i += 2) {
    y[i] = _mm512_unpacklo_epi32(x[i], x[i + 1]);
    y[i + 1] = _mm512_unpackhi_epi32(x[i], x[i + 1]);
  }
  FASTNN_UNROLL for (int i = 0; i < 16; i += 4) {
    x[i] = _mm512_unpacklo_epi64(y[i], y[i + 2]);
    x[i + 1] = _mm512_unpackhi_epi64(y[i], y[i + 2]);
    x[i + 2] = _mm512_unpacklo_epi64(y[i + 1], y[i + 3]);
    x[i + 3] = _mm512_unpackhi_epi64(y[i + 1], y[i + 3]);
  }
  FASTNN_UNROLL for (int i = 0; i < 4; ++i) {
    y[i] = _mm512_shuffle_i32x4(x[i], x[i + 4], 0x88);
    y[i + 4] = _mm512_shuffle_i32x4(x[i], x[i + 4], 0xdd);
    y[i + 8] = _mm512_shuffle_i32x4(x[i + 8], x[i + 12], 0x88);
    y[i + 12] = _mm512_shuffle_i32x4(x[i + 8], x[i + 12], 0xdd);
  }
  FASTNN_UNROLL for (int i = 0; i < 4; ++i) {
    x[i] = _mm512_shuffle_i32x4(y[i], y[i + 8], 0x88);
    x[i + 8] = _mm512_shuffle_i32x4(y[i], y[i + 8], 0xdd);
    x[i + 4] = _mm512_shuffle_i32x4(y[i + 4], y[i + 12], 0x88);
    x[i + 12] = _mm512_shuffle_i32x4(y[i + 4], y[i + 12], 0xdd);
  }
}

// The 16 x 16 values at src, in rows of src_row, transposed.
FASTNN_INLINE void transpose_16(float* dst, int64_t dst_row, const float* src, int64_t src_row) {
  __m512i x[16];
  FASTNN_UNROLL for (int i = 0; i < 16; ++i) x[i] = _mm512_loadu_si512(src + i * src_row);
  transpose_16(x);
  FASTNN_UNROLL for (int i = 0; i < 16; ++i) _mm512_storeu_si512(dst + i * dst_row, x[i]);
}

// k values from p on of some columns, those of several strips at a time, since a strip's part of a
// line is the half of what is fetched.
template <class T>
void pack_strips(const AmxProduct<T>& x, int64_t begin, int64_t end, int64_t p, int64_t depth) {
  const AmxOperand<T>& from = x.strips;
  const auto at = [&](int64_t j) {  // j is a multiple of kAmxStrip
    return x.packed_strips + j * x.pairs() + p / 2 * kAmxStrip;
  };
  if (from.k_step == 1) {
    for (int64_t j = begin; j < end; j += 16)
      for (int64_t q = 0; q < depth; q += kAmxDepth) {
        __m512i pairs[16];
        const T* column = from.data + j * from.step + p + q;
        for (int64_t i = 0; i < 16; ++i)
          pairs[i] = j + i < end ? load_32(column + i * from.step, depth - q) : __m512i{};
        transpose_16(pairs);
        float* dst = at(j / kAmxStrip * kAmxStrip) + j % kAmxStrip + q / 2 * kAmxStrip;
        FASTNN_UNROLL for (int i = 0; i < 16; ++i)
            _mm512_store_si512(dst + i * kAmxStrip, pairs[i]);
      }
    return;
  }
  for (int64_t q = 0; q < round_up(depth, kAmxDepth); q += 2)
    for (int64_t j = begin; j < end; j += kAmxStrip) {
      const T* row = from.data + j * from.step + (p + q) * from.k_step;
      const auto values = [&](int64_t i) {
        return q + i < depth ? load_32(row + i * from.k_step, from.step, end - j) : __m512i{};
      };
      const Pairs pairs(values(0), values(1));
      float* dst = at(j) + q / 2 * kAmxStrip;
      _mm512_store_si512(dst, pairs.low);
      _mm512_store_si512(dst + 16, pairs.high);
    }
}

// k values from p on of some rows.
template <class T>
void pack_rows(const AmxProduct<T>& x, int64_t begin, int64_t end, int64_t p, int64_t depth) {
  const AmxOperand<T>& from = x.rows;
  if (from.k_step == 1) {
    const int64_t others = least(most(begin, x.whole_rows()), end), left = x.k % kAmxDepth;
    for (int64_t i = begin; i < others && left > 0 && p + depth == x.k; ++i)
      _mm512_store_si512(x.remainder(i), load_32(from.data + i * from.step + x.k - left, left));
    for (int64_t i = others; i < end; i += kAmxRows)
      for (int64_t q = 0; q < depth; q += kAmxDepth) {
        float* dst = x.packed(i, (p + q) / kAmxDepth);
        const T* src = from.data + i * from.step + p + q;
        // Unrolled, each row is a load of its own to the hardware's prefetcher.
        FASTNN_UNROLL for (int64_t r = 0; r < kAmxRows; ++r) if (i + r < end)
            _mm512_store_si512(dst + r * 16, load_32(src + r * from.step, depth - q));
      }
    return;
  }
  for (int64_t q = 0; q < depth; q += kAmxDepth)
    for (int64_t i = begin; i < end; i += 32) {
      __m512i pairs[2][16];
      const T* column = from.data + i * from.step + (p + q) * from.k_step;
      for (int64_t r = 0; r < 16; ++r) {
        const auto values = [&](int64_t l) {
          return q + l < depth ? load_32(column + l * from.k_step, from.step, end - i) : __m512i{};
        };
        const Pairs both(values(2 * r), values(2 * r + 1));
        pairs[0][r] = both.low, pairs[1][r] = both.high;
      }
      for (int64_t half = 0; half < least(2, ceil_div(end - i, 16)); ++half) {
        transpose_16(pairs[half]);  // rows too many of the last register, too
        float* dst = x.packed(i + 16 * half, (p + q) / kAmxDepth);
        FASTNN_UNROLL for (int r = 0; r < 16; ++r) _mm512_store_si512(dst + r * 16, pairs[half][r]);
      }
    }
}

// Tasks: parts of both factors for each k block.
template <class T>
void amx_pack(const GemmArgsOf<T>& g, const GemmPlan& plan, Slice slice) {
  const AmxProduct<T> x(g);
  const GemmCut &rows = x.across ? plan.pack_b : plan.pack_a,
                &strips = x.across ? plan.pack_a : plan.pack_b;
  for (int64_t task = slice.begin; task < slice.end; ++task) {
    const int64_t part = task / plan.k_blocks, p = task % plan.k_blocks * kGemmKC;
    const int64_t depth = least(kGemmKC, g.k - p);
    pack_rows(x, rows.begin(part), rows.begin(part + 1), p, depth);
    pack_strips(x, strips.begin(part), strips.begin(part + 1), p, depth);
  }
}

}  // namespace
}  // namespace fastnn
