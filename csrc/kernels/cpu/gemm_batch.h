// Batches of products on the CPU: tasks are (product, task of that product), so that a batch of
// small products fills the threads as one large product does.
#pragma once
#include "../gemm_batch.h"
#include "gemm.h"

namespace fastnn {
namespace {

// Calls run(i, part) for the parts of [s.begin, s.end) that lie in one item of `tasks` tasks.
template <class Run>
void for_items(Slice s, int64_t tasks, Run run) {
  for (int64_t task = s.begin; task < s.end;) {
    const int64_t item = task / tasks, first = task - item * tasks;
    const int64_t last = least(tasks, first + s.end - task);
    run(item, Slice{first, last, s.stream});
    task += last - first;
  }
}

// Tasks: those of gemm_pack for each product.
void gemm_batch_pack(const GemmBatchArgs& batch, Slice s) {
  const GemmPlan plan = gemm_plan(batch.one);
  for_items(s, plan.pack_tasks(),
            [&](int64_t i, Slice part) { gemm_pack(gemm_item(batch, plan, i), part); });
}

// Tasks: those of one product for each item.
void gemm_batch(const GemmBatchArgs& batch, Slice s) {
  const GemmPlan plan = gemm_plan(batch.one);
  for_items(s, plan.tasks(), [&](int64_t i, Slice part) {
    for (int64_t term = 0; term < batch.terms; ++term) {
      GemmArgs g = gemm_item(batch, plan, i * batch.terms + term);
      g.accumulate = term > 0;
      plan.packed ? gemm_packed(g, part) : gemm_small(g, part);
    }
  });
}

}  // namespace
}  // namespace fastnn
