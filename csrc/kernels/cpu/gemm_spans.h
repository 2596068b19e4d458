// Products of few columns and a long k (gemm_splits): its spans are products of their own, so that
// threads have tasks, and what they come to is added in order. The sums of a span lie in scratch:
// [items][spans][m][n].
#pragma once
#include "gemm.h"

namespace fastnn {
namespace {

// Tasks: those of one span for each span of each item.
void gemm_spans(const GemmBatchArgs& batch, Slice s) {
  const GemmPlan plan = gemm_plan_as(false, batch.one);
  const GemmCut spans = gemm_span_cut(batch.one.k);
  for_items(s, plan.tasks(), [&](int64_t i, Slice part) {
    const int64_t item = i / spans.parts, span = i % spans.parts, begin = spans.begin(span);
    for (int64_t term = 0; term < batch.terms; ++term) {
      const GemmArgs g = gemm_item(batch, plan, item * batch.terms + term);
      GemmArgs product{.a = g.a + begin * g.a_col, .b = g.b + begin * g.b_row};
      product.c = g.scratch + i * g.m * g.n;
      product.m = g.m, product.n = g.n, product.k = spans.begin(span + 1) - begin;
      product.a_row = g.a_row, product.a_col = g.a_col;
      product.b_row = g.b_row, product.b_col = g.b_col, product.ldc = g.n;
      product.accumulate = term > 0;
      GemmPlan of_span = plan;  // all spans have the same tasks
      of_span.k_blocks = ceil_div(product.k, kGemmKC);
      multiply_small(product, of_span, part);
    }
  });
}

// Tasks: those of the rows of C for each item.
void gemm_span_sums(const GemmBatchArgs& batch, Slice s) {
  const GemmPlan plan = gemm_plan_as(false, batch.one);
  const int64_t spans = gemm_span_cut(batch.one.k).parts, size = batch.one.m * batch.one.n;
  for_items(s, plan.rows.parts, [&](int64_t item, Slice part) {
    const GemmArgs g = gemm_item(batch, plan, item * batch.terms);
    const int64_t end = plan.rows.begin(part.end);
    alignas(64) float strip[kMaxRows * kNR] = {};
    for (int64_t i = plan.rows.begin(part.begin); i < end; i += kMaxRows)
      for (int64_t j = 0; j < g.n; j += kNR) {
        const TileAt at{i, j, least(kMaxRows, end - i), least(kNR, g.n - j), false, true};
        const float* sums = g.scratch + item * spans * size + i * g.n + j;
        for (int64_t r = 0; r < at.rows; ++r)
          for (int64_t x = 0; x < at.cols; ++x) {
            float sum = sums[r * g.n + x];
            for (int64_t span = 1; span < spans; ++span) sum += sums[span * size + r * g.n + x];
            strip[r * kNR + x] = g.accumulate ? g.c[(i + r) * g.ldc + j + x] + sum : sum;
          }
        finish_strip(g, strip, at);
      }
  });
}

}  // namespace
}  // namespace fastnn
