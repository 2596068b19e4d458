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
      const GemmArgs product{.a = g.a + begin * g.a_col,
                             .b = g.b + begin * g.b_row,
                             .c = g.scratch + i * g.m * g.n,
                             .m = g.m,
                             .n = g.n,
                             .k = spans.begin(span + 1) - begin,
                             .a_row = g.a_row,
                             .a_col = g.a_col,
                             .b_row = g.b_row,
                             .b_col = g.b_col,
                             .ldc = g.n,
                             .accumulate = term > 0};
      GemmPlan of_span = plan;  // all spans have the same tasks
      of_span.k_blocks = ceil_div(product.k, kGemmKC);
      multiply_small(product, of_span, part);
    }
  });
}

// One strip of C, rows of it that fit: the sums of its spans, which lie at `sums` for the first.
void sum_spans(const GemmArgs& g, const float* sums, int64_t spans, const TileAt& at) {
  alignas(64) float strip[kMaxRows * kNR] = {};
  for (int64_t r = 0; r < at.rows; ++r)
    for (int64_t x = 0; x < at.cols; ++x) {
      const int64_t place = (at.i + r) * g.n + at.j + x;
      float sum = sums[place];
      for (int64_t span = 1; span < spans; ++span) sum += sums[span * g.m * g.n + place];
      const float* c = g.c + (at.i + r) * g.ldc + at.j + x;
      strip[r * kNR + x] = g.accumulate ? *c + sum : sum;
    }
  finish_strip(g, strip, at);
}

// Tasks: those of the rows of C for each item.
void gemm_span_sums(const GemmBatchArgs& batch, Slice s) {
  const GemmPlan plan = gemm_plan_as(false, batch.one);
  const int64_t spans = gemm_span_cut(batch.one.k).parts;
  for_items(s, plan.rows.parts, [&](int64_t item, Slice part) {
    const GemmArgs g = gemm_item(batch, plan, item * batch.terms);
    const float* sums = g.scratch + item * spans * g.m * g.n;
    const int64_t end = plan.rows.begin(part.end);
    for (int64_t i = plan.rows.begin(part.begin); i < end; i += kMaxRows)
      for (int64_t j = 0; j < g.n; j += kNR)
        sum_spans(g, sums, spans,
                  {i, j, least(kMaxRows, end - i), least(kNR, g.n - j), false, true});
  });
}

}  // namespace
}  // namespace fastnn
