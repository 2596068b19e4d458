// Batches of products on the CPU: tasks are (product, task of that product), so that a batch of
// small products fills the threads as one large product does.
#pragma once
#include "../gemm_batch.h"
#include "gemm_pack.h"

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
template <class T>
void gemm_batch_pack(const GemmBatchArgsOf<T>& batch, Slice s) {
  const GemmPlan plan = gemm_plan(batch.one);
  for_items(s, plan.pack_tasks(),
            [&](int64_t i, Slice part) { gemm_pack<T>(gemm_item(batch, plan, i), part); });
}

}  // namespace
}  // namespace fastnn
