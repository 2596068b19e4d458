// How a layer's sequence is cut over clusters: each has some rows of the batch for all steps, and
// each of its blocks some units, whose weights stay in its shared memory. Invariant: a result does
// not depend on the cut.
#pragma once
#include "../../families/recurrent.h"
#include "../../gemm_plan.h"
#include "../cluster.h"

namespace fastnn::sequence {

inline constexpr int kMostThreads = 512;
inline constexpr int kRowsEach = 4;  // of a thread in a product by FMA
inline constexpr size_t kMostSharedBytes = 227 << 10;

struct Cut {
  int32_t cluster, units, rows, threads;  // blocks; units of a block; rows of a cluster
};

// What a kernel multiplies in each step: the state by the weights of its gates, or backward the
// gradients of the gates' sums by the same weights.
struct Form {
  int32_t gates;
  int32_t each, rows_each;  // outputs and rows of a thread, or a warp, in a product
  bool backward;
  bool two_sums;  // the last gate's terms are summed apart, after the others
  int32_t weight_size;
};

// The product of a block, y[o, row] = sum over k of w[k, o] v[k, row], and its shared memory: w,
// two of v (a step writes one, while another block may still read the other), and the sums of
// chains of k, which are added in the order of the products that gemm_plan.h describes.
struct Geometry {
  int32_t outputs, terms, first_terms, rows, weight_size;

  __host__ __device__ Geometry(const Form& form, int64_t width, const Cut& cut)
      : outputs(up_to(form.backward ? cut.units : form.gates * cut.units, form.each)),
        terms(static_cast<int32_t>(form.backward ? form.gates * width : width)),
        first_terms(form.two_sums ? terms / form.gates * (form.gates - 1) : terms),
        rows(cut.rows),
        weight_size(form.weight_size) {}

  static __host__ __device__ int32_t up_to(int32_t n, int32_t step) {
    return (n + step - 1) / step * step;
  }
  __host__ __device__ int32_t first_chains() const { return chains_of(first_terms); }
  __host__ __device__ int32_t chains() const {
    return chains_of(first_terms) + chains_of(terms - first_terms);
  }
  __host__ __device__ size_t weight_bytes() const {
    const int32_t depth = weight_size == 2 ? chains() * static_cast<int32_t>(kGemmChain) : terms;
    return (static_cast<size_t>(depth) * outputs * weight_size + 15) / 16 * 16;
  }
  __host__ __device__ size_t bytes() const {
    const size_t floats = 2 * static_cast<size_t>(terms) + static_cast<size_t>(chains()) * outputs;
    return weight_bytes() + floats * rows * sizeof(float);
  }
  int32_t product_threads(const Form& form) const {
    return outputs / form.each * (rows / form.rows_each) * chains() *
           (weight_size == 2 ? kWarp : 1);
  }

 private:
  static __host__ __device__ int32_t chains_of(int32_t terms_of_sum) {
    return up_to(terms_of_sum, kGemmChain) / static_cast<int32_t>(kGemmChain);
  }
};

// The cut with these numbers, if it can be: a thread for each unit of each row, memory for all.
inline bool complete(const Form& form, int64_t width, Cut* cut) {
  const int64_t items = int64_t{cut->units} * cut->rows;
  if (cut->rows < form.rows_each || items > kMostThreads) return false;
  const Geometry g(form, width, *cut);
  if (g.bytes() > kMostSharedBytes) return false;
  const int64_t threads = most(items, least(g.product_threads(form), kMostThreads));
  cut->threads = static_cast<int32_t>(ceil_div(threads, kWarp) * kWarp);
  return true;
}
inline cluster::Shape shape_of(const Form& form, int64_t width, int64_t rows, const Cut& cut) {
  return {static_cast<uint32_t>(ceil_div(rows, cut.rows) * cut.cluster),
          static_cast<uint32_t>(cut.threads), static_cast<uint32_t>(cut.cluster),
          Geometry(form, width, cut).bytes()};
}

// The cut that should take the least time: products, 128 terms a clock, and a meeting of a
// cluster's blocks, some 500 clocks. No cluster (0 blocks) if there is none. `most_at_once` tells
// how many clusters of a shape run at the same time.
template <class F>
Cut find_cut(const Form& form, int64_t width, int64_t rows, F most_at_once) {
  Cut best{};
  int64_t least_cost = INT64_MAX;
  for (int32_t cluster = 1; cluster <= cluster::kMostBlocks; cluster *= 2) {
    if (width > int64_t{cluster} * kMostThreads || width < cluster) continue;
    Cut cut{cluster, static_cast<int32_t>(ceil_div(width, cluster)), form.rows_each, 0};
    if (!complete(form, width, &cut)) continue;
    const int64_t together = most_at_once(shape_of(form, width, rows, cut));
    if (together <= 0) continue;
    Cut larger = cut;
    larger.rows = static_cast<int32_t>(
        least(ceil_div(ceil_div(rows, together), form.rows_each) * form.rows_each, kMostThreads));
    while (larger.rows > form.rows_each && !complete(form, width, &larger))
      larger.rows -= form.rows_each;
    if (larger.rows > form.rows_each) cut = larger;
    const int64_t rounds = ceil_div(ceil_div(rows, cut.rows), together);
    const int64_t meeting = cluster > 1 ? 500 * 128 : 0;
    const int64_t cost = rounds * (cut.units * cut.rows * form.gates * width + meeting);
    if (cost < least_cost) best = cut, least_cost = cost;
  }
  return best;
}

}  // namespace fastnn::sequence
