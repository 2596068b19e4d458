// The loops that the CPU kernels are made of. Bodies work on blocks of 16 lanes, and the tail is
// one more block whose missing lanes hold a neutral value: body and tail are one text, and the
// result does not depend on the instruction set's width. Sums accumulate in float64, lane by lane,
// and are combined in a fixed tree.
#pragma once
#include "../primitives.h"
#include "../slice.h"
#include "../status.h"
#include "vectors.h"

namespace fastnn {
namespace {

constexpr int kBlockLanes = 16;

struct Range {
  int64_t begin, end;
};
FASTNN_FN Range elements(Slice s, int64_t chunk, int64_t n) {
  return {s.begin * chunk, least(s.end * chunk, n)};
}

// Where a loop of AVX-512 computes much per element, few of its loads are in flight, and those
// beyond L2 are waited for: they are fetched two blocks ahead (a tenth of the time of gelu of a
// million elements). With AVX2 there is twice the time between loads, and fetching costs 2 to 10 %
// (Zen 3).
#if defined(__AVX512F__)
constexpr bool kFetchesAhead = true;
#else
constexpr bool kFetchesAhead = false;
#endif
constexpr int kFetchBlock = 256;
template <class T>
FASTNN_FN void fetch_ahead(const T* x) {
  constexpr int kLine = 64 / sizeof(T);
  for (int l = 0; l < kFetchBlock; l += kLine) __builtin_prefetch(x + 2 * kFetchBlock + l);
}

// y[i] = f(x[i]). x and y may be the same array.
template <class T, class F>
FASTNN_FN void map(const T* x, T* y, Range r, F f) {
  int64_t i = r.begin;
  for (; kFetchesAhead && i + kFetchBlock <= r.end; i += kFetchBlock) {
    fetch_ahead(x + i);
#pragma GCC ivdep
    for (int64_t j = i; j < i + kFetchBlock; ++j) y[j] = from_float<T>(f(to_float(x[j])));
  }
#pragma GCC ivdep
  for (; i < r.end; ++i) y[i] = from_float<T>(f(to_float(x[i])));
}

// y[i] = f(x[i], z[i]). Any of the arrays may be the same.
template <class T, class F>
FASTNN_FN void zip(const T* x, const T* z, T* y, Range r, F f) {
#pragma GCC ivdep
  for (int64_t i = r.begin; i < r.end; ++i) y[i] = from_float<T>(f(to_float(x[i]), to_float(z[i])));
}

// Calls block(i, lanes) for i = 0, 16, ...; the last block has lanes < 16 when n is not a multiple.
template <class F>
FASTNN_FN void for_blocks(int64_t n, F block) {
  int64_t i = 0;
  for (; i + kBlockLanes <= n; i += kBlockLanes) block(i, kBlockLanes);
  if (i < n) block(i, static_cast<int>(n - i));
}

// A loop over the lanes of a block, for the compiler to vectorise. Unrolled first, as it would be,
// it is sixteen scalars, of which part of a block (a masked load or store) is never put together
// again.
#define FASTNN_FOR_EACH(l, lanes) _Pragma("GCC unroll 1") for (int l = 0; l < (lanes); ++l)
#define FASTNN_FOR_LANES(l) FASTNN_FOR_EACH(l, kBlockLanes)

// The first of i, i + 1, ... below n for which f holds, or n. Looked for block by block.
template <class F>
FASTNN_FN int64_t first_where(int64_t i, int64_t n, F f) {
  for (; i + kBlockLanes <= n; i += kBlockLanes) {
    int32_t any = 0;
    FASTNN_FOR_LANES(l) any |= f(i + l) ? 1 : 0;
    if (any != 0) break;
  }
  while (i < n && !f(i)) ++i;
  return i;
}

// Loads a block of a row as floats; missing lanes are `fill`.
template <class T>
FASTNN_FN void load_block(const T* x, int lanes, float fill, float (&v)[kBlockLanes]) {
  if (lanes == kBlockLanes) {
    FASTNN_FOR_LANES(l) v[l] = to_float(x[l]);
  } else {
    FASTNN_FOR_LANES(l) v[l] = l < lanes ? to_float(x[l]) : fill;
  }
}
template <class T>
FASTNN_FN void store_block(T* y, int lanes, const float (&v)[kBlockLanes]) {
  if (lanes == kBlockLanes) {
    FASTNN_FOR_LANES(l) y[l] = from_float<T>(v[l]);
  } else {
    FASTNN_FOR_LANES(l)
      if (l < lanes) y[l] = from_float<T>(v[l]);
  }
}

// Sixteen numbers side by side, in registers.
struct Floats {
  static constexpr int kVectors = kBlockLanes / kLanes;
  Vec v[kVectors] = {};

  Floats() = default;
  FASTNN_FN explicit Floats(float all) { FASTNN_UNROLL for (Vec& part : v) part = Vec{} + all; }
  FASTNN_FN explicit Floats(const float* x) {
    FASTNN_UNROLL for (int i = 0; i < kVectors; ++i) v[i] = load(x + i * kLanes);
  }
  FASTNN_FN void store_to(float* x) const {
    FASTNN_UNROLL for (int i = 0; i < kVectors; ++i) store(x + i * kLanes, v[i]);
  }
};
FASTNN_FN Floats operator+(Floats a, const Floats& b) {
  FASTNN_UNROLL for (int i = 0; i < Floats::kVectors; ++i) a.v[i] += b.v[i];
  return a;
}

struct Lanes {
  static constexpr int kWidth = kVectorBytes / 8, kVectors = kBlockLanes / kWidth;
  DoubleVec v[kVectors] = {};

  Lanes() = default;
  FASTNN_FN explicit Lanes(double all) {
    FASTNN_UNROLL for (DoubleVec& part : v) part = DoubleVec{} + all;
  }
  FASTNN_FN explicit Lanes(const double* x) {
    FASTNN_UNROLL for (int i = 0; i < kVectors; ++i) v[i] = load(x + i * kWidth);
  }
  FASTNN_FN explicit Lanes(const float* x) {
    FASTNN_UNROLL for (int i = 0; i < kVectors; ++i) v[i] = load_wide(x + i * kWidth);
  }
  FASTNN_FN double operator[](int l) const { return v[l / kWidth][l % kWidth]; }
  FASTNN_FN Lanes& operator+=(const Lanes& o) {
    FASTNN_UNROLL for (int i = 0; i < kVectors; ++i) v[i] += o.v[i];
    return *this;
  }
};
FASTNN_FN Lanes operator-(Lanes a, const Lanes& b) {
  FASTNN_UNROLL for (int i = 0; i < Lanes::kVectors; ++i) a.v[i] -= b.v[i];
  return a;
}
FASTNN_FN Lanes operator*(Lanes a, const Lanes& b) {
  FASTNN_UNROLL for (int i = 0; i < Lanes::kVectors; ++i) a.v[i] *= b.v[i];
  return a;
}

// A block of a row; missing lanes are `fill`.
template <class T>
FASTNN_FN Lanes load_lanes(const T* x, int lanes, float fill) {
  if constexpr (sizeof(T) == sizeof(float))
    if (lanes == kBlockLanes) return Lanes(x);
  float v[kBlockLanes];
  load_block(x, lanes, fill, v);
  return Lanes(v);
}
// term(l) of all lanes. They pass through memory, a sum of them does not.
template <class F>
FASTNN_FN Lanes each_lane(F term) {
  double terms[kBlockLanes];
  FASTNN_FOR_LANES(l) terms[l] = static_cast<double>(term(l));
  return Lanes(terms);
}
// Adds a block of terms to the sums in memory.
FASTNN_FN void add_to(double* sums, int lanes, const Lanes& terms) {
  if (lanes == kBlockLanes) {
    FASTNN_UNROLL for (int i = 0; i < Lanes::kVectors; ++i)
        store(sums + i * Lanes::kWidth, load(sums + i * Lanes::kWidth) + terms.v[i]);
  } else {
    for (int l = 0; l < lanes; ++l) sums[l] += terms[l];
  }
}
// The sum of all lanes in a fixed tree: l + 8, l + 4, l + 2, l + 1.
template <class V>
FASTNN_FN double combine_vector(V v) {
  constexpr int kWidth = sizeof(V) / sizeof(double);
  if constexpr (kWidth == 8)
    return combine_vector(__builtin_shufflevector(v, v, 0, 1, 2, 3) +
                          __builtin_shufflevector(v, v, 4, 5, 6, 7));
  if constexpr (kWidth == 4)
    return combine_vector(__builtin_shufflevector(v, v, 0, 1) +
                          __builtin_shufflevector(v, v, 2, 3));
  if constexpr (kWidth == 2) return v[0] + v[1];
}
FASTNN_FN double combine(Lanes x) {
  FASTNN_UNROLL for (int half = Lanes::kVectors / 2; half > 0; half /= 2) {
    FASTNN_UNROLL for (int i = 0; i < half; ++i) x.v[i] += x.v[i + half];
  }
  return combine_vector(x.v[0]);
}
FASTNN_FN double combine(const double (&acc)[kBlockLanes]) { return combine(Lanes(acc)); }

// What tasks have summed, in their order.
FASTNN_FN double sum_in_order(const double* partials, int64_t tasks) {
  double total = 0;
  for (int64_t task = 0; task < tasks; ++task) total += partials[task];
  return total;
}

// sum f(x[i]) in float64; f(fill) must be 0.
template <class T, class F>
FASTNN_FN double sum(const T* x, int64_t n, float fill, F f) {
  Lanes acc;
  for_blocks(n, [&](int64_t i, int lanes) __attribute__((always_inline)) {
    float v[kBlockLanes];
    load_block(x + i, lanes, fill, v);
    acc += each_lane([&](int l) __attribute__((always_inline)) { return f(v[l]); });
  });
  return combine(acc);
}

// max f(x[i]); NaN if any is NaN; f(fill) for n = 0, which has to be the least.
template <class T, class F>
FASTNN_FN float max(const T* x, int64_t n, float fill, F f) {
  float acc[kBlockLanes];
  FASTNN_FOR_LANES(l) acc[l] = f(fill);
  for_blocks(n, [&](int64_t i, int lanes) __attribute__((always_inline)) {
    float v[kBlockLanes];
    load_block(x + i, lanes, fill, v);
    FASTNN_FOR_LANES(l) {
      const float y = f(v[l]);
      acc[l] = max(y, acc[l]);
    }
  });
  float m = acc[0];
  for (int l = 1; l < kBlockLanes; ++l) m = max(acc[l], m);
  return m;
}
template <class T>
FASTNN_FN float max(const T* x, int64_t n) {
  return max(x, n, -kInf, [](float v) { return v; });
}
template <class T>
FASTNN_FN float max_abs(const T* x, int64_t n) {
  return max(x, n, 0.f, [](float v) { return abs(v); });
}

// Reports bad data: the smallest word wins, whichever thread comes first.
inline void report(Status* status, int32_t site, int64_t index, DataError code) {
  const uint64_t word = status_word(site, index, code);
  uint64_t seen = __atomic_load_n(&status->word, __ATOMIC_RELAXED);
  while (word < seen && !__atomic_compare_exchange_n(&status->word, &seen, word, false,
                                                     __ATOMIC_RELAXED, __ATOMIC_RELAXED)) {
  }
}
inline bool is_ok(const Status* status) {
  return __atomic_load_n(&status->word, __ATOMIC_RELAXED) == kStatusOk;
}

}  // namespace
}  // namespace fastnn
