// One number per vector from its lanes, for as many vectors at a time as there are lanes. The tree
// is fixed, that of combine() in loops.h: l + 8, l + 4, l + 2, l + 1, whatever the vectors' width.
#pragma once
#include "gemm_micro.h"
#include "loops.h"

namespace fastnn {
namespace {

constexpr int kPieces = kBlockLanes / kLanes;  // of sixteen lanes

// f of the two halves of each block of kBlock lanes: of all blocks of a, then b, or, where a block
// is at most a quad, of those of each quad of a, then b: shuffles within quads are cheapest.
template <int kBlock, class F, int... L>
FASTNN_INLINE Vec combine_halves(Vec a, Vec b, F f, Indices<L...>) {
  constexpr int kHalf = kBlock / 2, kGroup = kBlock > 4 ? kLanes : 4;
  constexpr auto lower = [](int lane) {
    const int group = lane / kGroup * kGroup, of = lane % kGroup / kHalf * kBlock + lane % kHalf;
    return of < kGroup ? group + of : kLanes + group + of - kGroup;
  };
  return f(__builtin_shufflevector(a, b, lower(L)...),
           __builtin_shufflevector(a, b, (lower(L) + kHalf)...));
}
template <int kBlock, class F>
FASTNN_INLINE void combine_blocks(Vec (&v)[kLanes], F f) {
  if constexpr (kBlock > 1) {
    FASTNN_UNROLL for (int i = 0; i < kBlock / 2; ++i) v[i] =
        combine_halves<kBlock>(v[2 * i], v[2 * i + 1], f, MakeIndices<kLanes>::Type{});
    combine_blocks<kBlock / 2>(v, f);
  }
}
// v[0][l] = f over the lanes of v[l].
template <class F>
FASTNN_INLINE void combine_lanes(Vec (&v)[kLanes], F f) {
  constexpr int kQuads = kLanes / 4;
  Vec by_quad[kLanes];
  FASTNN_UNROLL for (int l = 0; l < kLanes; ++l) by_quad[l % 4 * kQuads + l / 4] = v[l];
  combine_blocks<kLanes>(by_quad, f);
  v[0] = by_quad[0];
}
// The same of the pieces that sixteen lanes are made of.
template <class F>
FASTNN_INLINE Vec combine_pieces(const Vec (&v)[kPieces], F f) {
  if constexpr (kPieces == 1) return v[0];
  if constexpr (kPieces == 2) return f(v[0], v[1]);
  if constexpr (kPieces == 4) return f(f(v[0], v[2]), f(v[1], v[3]));
}
// out[r] = f over v[r].
template <class F>
FASTNN_INLINE void combine_rows(const float (&v)[kBlockLanes][kBlockLanes],
                                float (&out)[kBlockLanes], F f) {
  FASTNN_UNROLL for (int first = 0; first < kBlockLanes; first += kLanes) {
    Vec rows[kLanes];
    FASTNN_UNROLL for (int r = 0; r < kLanes; ++r) {
      Vec pieces[kPieces];
      FASTNN_UNROLL for (int p = 0; p < kPieces; ++p) pieces[p] = load(v[first + r] + p * kLanes);
      rows[r] = combine_pieces(pieces, f);
    }
    combine_lanes(rows, f);
    store(out + first, rows[0]);
  }
}

struct Plus {
  template <class V>
  FASTNN_INLINE V operator()(V a, V b) const {
    return a + b;
  }
};

// sums[r C + c] = the sum of the lanes of acc[r][c]; whole vectors are written.
template <int R, int C>
FASTNN_INLINE void sum_lanes(const Vec (&acc)[R][C][kPieces], float* sums) {
  FASTNN_UNROLL for (int first = 0; first < R * C; first += kLanes) {
    Vec v[kLanes];
    FASTNN_UNROLL for (int l = 0; l < kLanes; ++l) v[l] =
        first + l < R * C ? combine_pieces(acc[(first + l) / C % R][(first + l) % C], Plus{})
                          : Vec{};
    combine_lanes(v, Plus{});
    store(sums + first, v[0]);
  }
}

}  // namespace
}  // namespace fastnn
