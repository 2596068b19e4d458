// Rows by index: embeddings and padding, and what turns rows into indices. Tasks: chunks of rows.
#pragma once
#include "../kernel.h"

namespace fastnn {

// y[o, i] = x[o, index[i]] for rows of `cols` elements, o < outer. Where the index is out of
// [0, rows): zeros and a report if there is a status, else `fill`.
struct TakeArgs {
  const void* x;
  const int64_t* index;
  void* y;
  int64_t outer, n, rows, cols;
  float fill;
  Status* status;
  int32_t site;
};
// Where each row was taken to: order[first[r]] ... order[first[r + 1] - 1], ascending, are the i
// with index[i] == r. Rows that are `ignored` (or out of range) have none. One task.
struct TakeOrderArgs {
  const int64_t* index;
  int64_t *first, *order;  // [rows + 1], [n]
  int64_t n, rows, ignored;
};
// dx[o, r] = sum of dy[o, i] over those i. Tasks: chunks of the outer x rows.
struct TakeBwdArgs {
  const void* dy;
  const int64_t *first, *order;
  void* dx;
  int64_t outer, n, rows, cols;
};
// y[i, index[i]] = 1, else 0.
struct OneHotArgs {
  const int64_t* index;
  int64_t* y;
  int64_t n, classes;
  Status* status;
  int32_t site;
};
// The first of the largest of each row; NaN is larger than all.
struct ArgmaxArgs {
  const void* x;
  int64_t* y;
  int64_t rows, cols;
};
// y[r] = 1 if fewer than k elements stand before the label's: the larger ones, and of the equal
// ones those that come first; else 0.
struct TopKCorrectArgs {
  const void* x;
  const int64_t* labels;
  float* y;
  int64_t rows, cols, k;
  Status* status;
  int32_t site;
};

struct EmbeddingKernels {
  Kernel<TakeArgs> take;
  Kernel<TakeOrderArgs> take_order;
  Kernel<TakeBwdArgs> take_bwd;
  Kernel<OneHotArgs> one_hot;
  Kernel<ArgmaxArgs> argmax;
  Kernel<TopKCorrectArgs> topk_correct;
};

}  // namespace fastnn
