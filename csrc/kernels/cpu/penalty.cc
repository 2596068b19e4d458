// Penalties on all parameters as one scalar, their gradients, and constraints applied after a step.
#include "../families/penalty.h"

#include "../formulas/penalty.h"
#include "loops.h"
#include "table.h"

namespace fastnn {
namespace {

template <class T>
void penalty_fwd(const PenaltyArgs& args, Slice s) {
  const Penalty penalty{args.l1, args.l2};
  for (int64_t task = s.begin; task < s.end; ++task) {
    const TensorChunk& chunk = args.chunks[task];
    args.partials[task] = sum(static_cast<const T*>(chunk.p), chunk.n, 0.f,
                              [penalty](float w) { return penalty.fwd(w); });
  }
}

void penalty_combine(const PenaltyArgs& args, Slice) {
  *args.y = static_cast<float>(sum_in_order(args.partials, args.num_chunks));
}

template <class T>
void penalty_bwd(const PenaltyArgs& args, Slice s) {
  const Penalty penalty{args.l1, args.l2};
  const float dy = *args.dy;
  for (int64_t task = s.begin; task < s.end; ++task) {
    const TensorChunk& chunk = args.chunks[task];
    map(static_cast<const T*>(chunk.p), static_cast<T*>(const_cast<void*>(chunk.g)), {0, chunk.n},
        [penalty, dy](float w) { return penalty.bwd(dy, w); });
  }
}

template <class T>
void soft_threshold_chunks(const SoftThresholdArgs& args, Slice s) {
  if (!is_ok(args.status)) return;
  const auto t = static_cast<float>((args.lr == nullptr ? 1.0 : *args.lr) * args.threshold);
  for (int64_t task = s.begin; task < s.end; ++task) {
    const TensorChunk& chunk = args.chunks[task];
    auto* p = static_cast<T*>(chunk.p);
    map(p, p, {0, chunk.n}, [t](float w) { return soft_threshold(w, t); });
  }
}

template <class T>
void max_norm(const MaxNormArgs& args, Slice s) {
  if (!is_ok(args.status)) return;
  for (int64_t task = s.begin; task < s.end; ++task) {
    const RowBlock& block = args.blocks[task];
    for (int64_t row = 0; row < block.rows; ++row) {
      T* w = static_cast<T*>(block.p) + row * block.cols;
      const double squares = sum(w, block.cols, 0.f, [](float v) { return double{v} * double{v}; });
      const float factor = shrink_factor(__builtin_sqrt(squares), args.limit);
      if (factor != 1.f) map(w, w, {0, block.cols}, [factor](float v) { return v * factor; });
    }
  }
}

template <class T>
constexpr PenaltyKernels kernels() {
  return {
      .penalty_fwd = penalty_fwd<T>,
      .penalty_combine = penalty_combine,
      .penalty_bwd = penalty_bwd<T>,
      .soft_threshold = soft_threshold_chunks<T>,
      .max_norm = max_norm<T>,
  };
}

}  // namespace

template <>
constinit const PenaltyKernels FASTNN_LEVEL::Table<PenaltyKernels>::of_dtype[kNumTableDTypes] = {
    kernels<float>(), kernels<bf16>(), {}, {}};

}  // namespace fastnn
