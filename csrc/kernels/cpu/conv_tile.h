// The register tile of convolution: filters x positions, where a row of B is not packed but read
// from the padded image, at one offset per k and one place per vector. An element's sum over k is
// chains of kGemmChain fma, added in order, whatever the tile.
#pragma once
#include "activate_tile.h"
#include "gemm_micro.h"

namespace fastnn {
namespace {

// Vectors of the widest tile of so many filters: few of them need more, or they would wait for
// their fma, and what a tile costs before its first would be all of it where sums are short (a
// channel per group, of 25 products).
inline constexpr int kConvNV = 8;
constexpr int64_t conv_vectors(int64_t filters) { return most(kNV, ceil_div(kConvNV, filters)); }
// Rows of the tallest tile of nv vectors.
constexpr int conv_rows(int nv) {
  int rows = nv <= kNV ? tile_rows(nv) : 1;
  while (nv > kNV && conv_vectors(rows + 1) >= nv) ++rows;
  return rows;
}

struct ConvTile {
  const float* w;  // rows of k contiguous floats
  int64_t k;
  const float* planes;
  const int32_t* at;       // [k], added to each place
  int64_t place[kConvNV];  // of each vector
  float* c;
  int64_t ldc, to[kConvNV];  // to: where each vector is stored, in each row of c
  const float* bias;         // of each row, or null
  bool relu;
};

template <int R, int NV>
__attribute__((noinline)) void conv_tile(const ConvTile& t) {
  Column<R, false> w(t.w, t.k);
  const int32_t* at = t.at;
  const float* b[NV];
  FASTNN_UNROLL for (int v = 0; v < NV; ++v) b[v] = t.planes + t.place[v];
  Vec acc[R][NV];
  sum_chains(
      acc, t.k, [] {},
      [&]() __attribute__((always_inline)) {
        const int64_t offset = *at++;
        Vec bv[NV];
        FASTNN_UNROLL for (int v = 0; v < NV; ++v) bv[v] = load(b[v] + offset);
        w.multiply(bv, acc);
        w.advance(1);
      });
  if (t.bias) {
    FASTNN_UNROLL for (int i = 0; i < R; ++i) {
      FASTNN_UNROLL for (int v = 0; v < NV; ++v) acc[i][v] += t.bias[i];
    }
  }
  if (t.relu) {
    FASTNN_UNROLL for (int i = 0; i < R; ++i) {
      FASTNN_UNROLL for (int v = 0; v < NV; ++v) acc[i][v] = Relu::fwd(acc[i][v], 0.f);
    }
  }
  FASTNN_UNROLL for (int i = 0; i < R; ++i) {
    FASTNN_UNROLL for (int v = 0; v < NV; ++v) store(t.c + i * t.ldc + t.to[v], acc[i][v]);
  }
}

using RunConvTile = void (*)(const ConvTile&);

// Every height up to conv_rows: [NV - 1][R - 1].
struct ConvTilesOfWidth {
  RunConvTile of_rows[kMaxRows];
};
template <int NV, int... I>
constexpr ConvTilesOfWidth conv_tiles_of_width(Indices<I...>) {
  return {{conv_tile<(I < conv_rows(NV) ? I + 1 : 1), NV>...}};
}
struct ConvTiles {
  ConvTilesOfWidth of[kConvNV];
};
template <int... V>
constexpr ConvTiles all_conv_tiles(Indices<V...>) {
  return {{conv_tiles_of_width<V + 1>(MakeIndices<kMaxRows>::Type{})...}};
}
inline constexpr ConvTiles kConvTiles = all_conv_tiles(MakeIndices<kConvNV>::Type{});

}  // namespace
}  // namespace fastnn
