// The regions of fractional max pooling (Graham 2014): for each plane, spans of its rows and
// columns whose beginnings grow by the floor or the ceiling of alpha = (n - kernel) / (out - 1).
#pragma once
#include "../families/pool.h"
#include "../philox.h"

namespace fastnn {
namespace {

// Regions start at the rounded multiples of alpha = (n - kernel) / (out - 1), from u on.
FASTNN_FN void pseudo_random_spans(PoolSpan* spans, int64_t n, int64_t out, int32_t kernel,
                                   double u) {
  const double alpha = out > 1 ? static_cast<double>(n - kernel) / static_cast<double>(out - 1) : 0;
  const auto start = static_cast<int32_t>(u * alpha);
  for (int64_t i = 0; i < out; ++i) {
    const int32_t begin = i + 1 < out
                              ? static_cast<int32_t>((static_cast<double>(i) + u) * alpha) - start
                              : static_cast<int32_t>(n - kernel);
    spans[i] = {begin, begin + kernel};
  }
}

// The same steps, floor(alpha) and one more, in random order: each order is as likely as another.
FASTNN_FN void random_spans(PoolSpan* spans, int64_t n, int64_t out, int32_t kernel,
                            const RngDraw& draw, uint64_t first_block) {
  const int64_t steps = out > 1 ? out - 1 : 1, small = (n - kernel) / steps;
  int64_t large_left = (n - kernel) % steps;
  auto begin = static_cast<int32_t>(out > 1 ? 0 : n - kernel);
  for (int64_t i = 0; i < out; ++i) {
    spans[i] = {begin, begin + kernel};
    const auto left = static_cast<uint64_t>(out - 1 - i);
    const PhiloxBlock block =
        philox(first_block + static_cast<uint64_t>(i / 4), draw.offset, draw.seed);
    const bool large =
        uint64_t{word_of(block, i % 4)} * left >> 32 < static_cast<uint64_t>(large_left);
    large_left -= large;
    begin += static_cast<int32_t>(small + large);
  }
}

// The regions of plane p.
FASTNN_FN void fractional_spans_of(const FractionalSpansArgs& args, int64_t p) {
  const auto blocks = static_cast<uint64_t>(ceil_div(args.out_h + args.out_w, 4) + 1);
  PoolSpan *rows = args.rows + p * args.out_h, *cols = args.cols + p * args.out_w;
  const uint64_t first = static_cast<uint64_t>(p) * blocks;
  if (args.samples == nullptr && !args.pseudo_random) {
    const auto below = static_cast<uint64_t>(ceil_div(args.out_w, 4));
    random_spans(cols, args.w, args.out_w, args.kernel_w, *args.draw, first);
    random_spans(rows, args.h, args.out_h, args.kernel_h, *args.draw, first + below);
    return;
  }
  double u = 0, v = 0;
  if (args.samples != nullptr) {
    u = static_cast<double>(args.samples[2 * p]);
    v = static_cast<double>(args.samples[2 * p + 1]);
  } else {
    const PhiloxBlock block = philox(first, args.draw->offset, args.draw->seed);
    u = static_cast<double>(uniform01(block.word[0]));
    v = static_cast<double>(uniform01(block.word[1]));
  }
  pseudo_random_spans(cols, args.w, args.out_w, args.kernel_w, u);
  pseudo_random_spans(rows, args.h, args.out_h, args.kernel_h, v);
}

}  // namespace
}  // namespace fastnn
