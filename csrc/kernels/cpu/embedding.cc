// Rows by index. A gradient row is summed by the task that owns it, in the order of the indices, so
// the result is the same on any number of threads and every row is written once.
#include "../families/embedding.h"

#include "loops.h"
#include "table.h"

namespace fastnn {
namespace {

// Short runs are not worth a call: whole vectors, the last of which overlaps the one before.
template <class T>
FASTNN_FN void copy_run(const T* x, T* y, int64_t n) {
  constexpr int64_t kUnit = kBlockLanes;
  if (n == 1) {
    *y = *x;
  } else if (n < kUnit || n >= 16 * kUnit) {
    __builtin_memcpy(y, x, static_cast<uint64_t>(n) * sizeof(T));
  } else {
    for (int64_t i = 0; i + kUnit < n; i += kUnit)
      __builtin_memcpy(y + i, x + i, kUnit * sizeof(T));
    __builtin_memcpy(y + n - kUnit, x + n - kUnit, kUnit * sizeof(T));
  }
}

// Places [i, end) of `outer` items from item o on, one run of the index after the other: a run,
// neighbours that come from neighbours or from nowhere, is found once for all of these items.
template <class T>
FASTNN_FN void take_runs(const TakeArgs& args, int64_t o, int64_t outer, int64_t i, int64_t end) {
  const int64_t cols = args.cols, x_pitch = args.rows * cols, y_pitch = args.n * cols;
  const T* x = static_cast<const T*>(args.x) + o * x_pitch;
  T* y = static_cast<T*>(args.y) + o * y_pitch;
  const T fill = from_float<T>(args.fill);
  for (int64_t run = 0; i < end; i += run) {
    const int64_t* index = args.index + i;
    const int64_t at = index[0];
    if (in_range(at, args.rows)) {
      run = first_where(1, least(end - i, args.rows - at),
                        [&](int64_t j) { return index[j] != at + j; });
      for (int64_t k = 0; k < outer; ++k)
        copy_run(x + k * x_pitch + at * cols, y + k * y_pitch + i * cols, run * cols);
      continue;
    }
    run = 1;
    while (i + run < end && !in_range(index[run], args.rows)) ++run;
    for (int64_t k = 0; k < outer; ++k)
      for (int64_t c = i * cols; c < (i + run) * cols; ++c) y[k * y_pitch + c] = fill;
    if (args.status != nullptr)
      for (int64_t j = 0; j < run; ++j)
        report(args.status, args.site, o * args.n + i + j, DataError::kIndexOutOfRange);
  }
}

template <class T>
void take(const TakeArgs& args, Slice s) {
  const int64_t n = args.n;
  const int64_t rows = rows_per_task(args.cols);  // which the caches hold
  const Range r = elements(s, rows, args.outer * n);
  for (int64_t at = r.begin; at < r.end;) {
    const int64_t o = at / n, i = at - o * n;
    const int64_t whole = i == 0 ? least(r.end - at, most(rows, n)) / n : 0;
    const int64_t end = whole > 0 ? n : least(n, i + r.end - at);
    take_runs<T>(args, o, most(whole, 1), i, end);
    at += most(whole, 1) * (end - i);
  }
}

// A counting sort: stable, so that each row's places ascend.
void take_order(const TakeOrderArgs& args, Slice) {
  const auto counts = [&args](int64_t r) { return in_range(r, args.rows) && r != args.ignored; };
  int64_t* first = args.first;
  for (int64_t r = 0; r <= args.rows; ++r) first[r] = 0;
  for (int64_t i = 0; i < args.n; ++i)
    if (counts(args.index[i])) ++first[args.index[i]];
  int64_t total = 0;
  for (int64_t r = 0; r <= args.rows; ++r) total += first[r], first[r] = total;
  for (int64_t i = args.n - 1; i >= 0; --i)  // from the end of each row's part to its beginning
    if (counts(args.index[i])) args.order[--first[args.index[i]]] = i;
}

// A row of dx: the sum of the rows `order` of dy.
template <class T>
FASTNN_FN void sum_rows(const T* dy, const int64_t* order, int64_t count, int64_t cols, T* dx) {
  if (count == 1) {
    __builtin_memcpy(dx, dy + order[0] * cols, static_cast<uint64_t>(cols) * sizeof(T));
    return;
  }
  for_blocks(cols, [&](int64_t c, int lanes) __attribute__((always_inline)) {
    double total[kBlockLanes] = {};
    for (int64_t k = 0; k < count; ++k) {
      float v[kBlockLanes];
      load_block(dy + order[k] * cols + c, lanes, 0.f, v);
      FASTNN_FOR_LANES(l) total[l] += static_cast<double>(v[l]);
    }
    float y[kBlockLanes];
    FASTNN_FOR_LANES(l) y[l] = static_cast<float>(total[l]);
    store_block(dx + c, lanes, y);
  });
}

template <class T>
void take_bwd(const TakeBwdArgs& args, Slice s) {
  const int64_t cols = args.cols;
  const Range r = elements(s, rows_per_task(cols), args.outer * args.rows);
  int64_t o = args.rows > 0 ? r.begin / args.rows : 0;
  for (int64_t i = r.begin; i < r.end; ++o) {
    const T* dy = static_cast<const T*>(args.dy) + o * args.n * cols;
    for (int64_t row = i - o * args.rows; row < args.rows && i < r.end; ++row, ++i)
      sum_rows(dy, args.order + args.first[row], args.first[row + 1] - args.first[row], cols,
               static_cast<T*>(args.dx) + i * cols);
  }
}

void one_hot(const OneHotArgs& args, Slice s) {
  const Range r = elements(s, rows_per_task(args.classes), args.n);
  for (int64_t i = r.begin; i < r.end; ++i) {
    int64_t* y = args.y + i * args.classes;
    const int64_t at = args.index[i];
    for (int64_t c = 0; c < args.classes; ++c) y[c] = 0;
    if (in_range(at, args.classes))
      y[at] = 1;
    else
      report(args.status, args.site, i, DataError::kIndexOutOfRange);
  }
}

template <class T>
void argmax(const ArgmaxArgs& args, Slice s) {
  const Range r = elements(s, rows_per_task(args.cols), args.rows);
  for (int64_t i = r.begin; i < r.end; ++i) {
    const T* x = static_cast<const T*>(args.x) + i * args.cols;
    const float best = max(x, args.cols);
    args.y[i] = first_where(0, args.cols, [&](int64_t c) {
      const float v = to_float(x[c]);
      return (v == best) | (v != v);
    });
  }
}

// NaN stands before all numbers, as in argmax.
FASTNN_FN bool precedes(float v, float mine) { return (v > mine) | ((v != v) & (mine == mine)); }

template <class T>
void topk_correct(const TopKCorrectArgs& args, Slice s) {
  const Range r = elements(s, rows_per_task(args.cols), args.rows);
  for (int64_t i = r.begin; i < r.end; ++i) {
    const T* x = static_cast<const T*>(args.x) + i * args.cols;
    const int64_t label = args.labels[i];
    if (!in_range(label, args.cols)) {
      report(args.status, args.site, i, DataError::kLabelOutOfRange);
      args.y[i] = 0.f;
      continue;
    }
    const float mine = to_float(x[label]);
    int64_t before = 0;
    for (int64_t c = 0; c < args.cols; ++c) {
      const float v = to_float(x[c]);
      const bool equal = (v == mine) | ((v != v) & (mine != mine));
      before += precedes(v, mine) | (equal & (c < label));
    }
    args.y[i] = before < args.k ? 1.f : 0.f;
  }
}

template <class T>
constexpr EmbeddingKernels kernels() {
  return {
      .take = take<T>,
      .take_order = take_order,
      .take_bwd = take_bwd<T>,
      .one_hot = one_hot,
      .argmax = argmax<T>,
      .topk_correct = topk_correct<T>,
  };
}

}  // namespace

template <>
constinit const EmbeddingKernels FASTNN_LEVEL::Table<EmbeddingKernels>::of_dtype[kNumTableDTypes] =
    {kernels<float>(), kernels<bf16>(), {}, {}};

}  // namespace fastnn
