// The gradient of convolution's weights with filters in the lanes: sums[k, filters] is a product of
// what each k sees of the band, position by position, and of dz transposed. They are chains of
// kGemmChain positions, added in order, and in float64 from span to span.
#pragma once
#include "conv_lanes.h"
#include "conv_weight.h"

namespace fastnn {
namespace {

// Scratch behind the bands: what the channels in them add to the sums, in panels of filters,
// [k][width]; the products of a sum, one per position of a span; and the offset in the bands of
// each k.
struct ConvWeightLanes {
  const ConvWeightTask& task;
  float* added;
  ConvProduct* products;
  int32_t* at;

  explicit ConvWeightLanes(const ConvWeightTask& t) : task(t) {
    added = t.bands + t.plan.bands;
    products = reinterpret_cast<ConvProduct*>(added + t.plan.row * t.plan.channels * t.taps());
    at = reinterpret_cast<int32_t*>(products + kConvSpan);
  }

  // dz of a span in panels of filters, [position][width].
  void turn_dz(const ConvSpan& span, int64_t positions) const {
    const ConvGrid& g = task.args.grid;
    const bool whole = span.cols == g.w.out;  // rows of y are one run
    const int64_t runs = whole ? 1 : span.rows, length = whole ? span.rows * span.cols : span.cols;
    for (int64_t o = 0; o < g.filters; o += kNR) {
      const int64_t filters = least(kNR, g.filters - o), width = round_up(filters, kLanes);
      float* to = task.dz + o * positions;
      for (int64_t n = 0; n < span.images; ++n) {
        const float* from = task.dz_of(span, n, o);
        for (int64_t r = 0; r < runs; ++r, from += g.w.out, to += length * width)
          pack_panel(to, from, g.out_size(), 1, length, filters, width);
      }
    }
  }
  void find_products(const ConvSpan& span) const {
    const ConvGrid& g = task.args.grid;
    int32_t position = 0;
    for (int64_t n = 0; n < span.images; ++n)
      for (int64_t r = 0; r < span.rows; ++r)
        for (int64_t c = 0; c < span.cols; ++c, ++position)
          products[position] = {static_cast<int32_t>(n * task.plan.channels * task.plan.band +
                                                     r * g.w.length(g.w.out) + span.col + c),
                                position};
  }
  // The k in [begin, end), whose channels from `channel` on are in the bands.
  void add_channels(int64_t channel, int64_t begin, int64_t end, int64_t positions,
                    double* sums) const {
    const ConvGrid& g = task.args.grid;
    for (int64_t k = begin; k < end; ++k) {
      const int64_t tap = k % task.taps();
      at[k - begin] = static_cast<int32_t>(
          (k / task.taps() - channel) * task.plan.band +
          band_offset(g, g.w.length(g.w.out), task.plan.plane, tap / g.w.taps, tap % g.w.taps));
    }
    const int64_t rows = end - begin;
    for (int64_t p = 0; p < positions; p += kGemmChain)
      for (int64_t o = 0; o < g.filters; o += kNR) {
        const int64_t vectors = ceil_div(least(kNR, g.filters - o), kLanes);
        lanes_chain({.x = task.bands,
                     .row = at,
                     .products = products + p,
                     .count = least(kGemmChain, positions - p),
                     .w = task.dz + o * positions,
                     .c = added + o * rows,
                     .bias = nullptr,
                     .add = p > 0},
                    rows, vectors);
      }
    for (int64_t o = 0; o < g.filters; o += kNR) {
      const int64_t filters = least(kNR, g.filters - o), width = round_up(filters, kLanes);
      const float* from = added + o * rows;
      for (int64_t k = begin; k < end; ++k, from += width)
        for (int64_t i = 0; i < filters; ++i)
          sums[k * task.plan.row + o + i] += static_cast<double>(from[i]);
    }
  }
  void add(const ConvSpan& span, double* sums) const {
    const int64_t positions = span.images * span.rows * span.cols;
    turn_dz(span, positions);
    find_products(span);
    task.for_channels(span, [&](int64_t channel, int64_t begin, int64_t end) {
      add_channels(channel, begin, end, positions, sums);
    });
  }
};

}  // namespace
}  // namespace fastnn
