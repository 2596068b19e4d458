// What all norms are made of: the one statistic, the two sums of backward, and the activation and
// dropout after the norm, applied to a chunk while it is hot.
#pragma once
#include "../families/norm.h"
#include "../formulas/activation.h"
#include "../formulas/norm.h"
#include "loops.h"
#include "philox_batch.h"

namespace fastnn {
namespace {

// ---- statistics -----------------------------------------------------------------------------
// The lanes of a row, to be combined, or sixteen columns.
struct Moments {
  Lanes shift, sum, squares;

  Moments() = default;
  // One of the numbers is the shift; an infinity would turn the mean into NaN.
  FASTNN_FN explicit Moments(const float (&x)[kBlockLanes]) {
    float finite[kBlockLanes];
    FASTNN_FOR_LANES(l) finite[l] = x[l] - x[l] == 0.f ? x[l] : 0.f;
    shift = Lanes(finite);
  }
  FASTNN_FN static Moments of_row(float x) {
    Moments m;
    m.shift = Lanes(x - x == 0.f ? static_cast<double>(x) : 0.0);
    return m;
  }
  FASTNN_FN void add(const Lanes& x) {
    const Lanes d = x - shift;
    sum += d;
    squares += d * d;
  }
  FASTNN_FN Statistics lane(int l, double n) const {
    return statistics(shift[l], sum[l], squares[l], n);
  }
  FASTNN_FN Statistics combined(double n) const {
    return statistics(shift[0], combine(sum), combine(squares), n);
  }
};

template <class T>
FASTNN_FN void add_row(Moments& moments, const T* x, int64_t n) {
  Moments m = moments;                                // in registers
  const float fill = static_cast<float>(m.shift[0]);  // adds nothing
  for_blocks(n, [&](int64_t i, int lanes)
                    __attribute__((always_inline)) { m.add(load_lanes(x + i, lanes, fill)); });
  moments = m;
}

// ---- the sums of backward -------------------------------------------------------------------
// Of the gradient before the activation, dy, and of dy (x - mean), which is dy xhat / rstd. As
// float64, so that neither depends on the offset of x.
struct GradientSums {
  Lanes dy, dy_x;
  FASTNN_FN void add(const Lanes& d, const Lanes& centred) {
    dy += d;
    dy_x += d * centred;
  }
};

// ---- the activation and dropout -------------------------------------------------------------
constexpr int kNormChunk = 512;  // elements that stay in the first cache between two loops

struct FusedActivation {
  void (*fwd)(float* z, int64_t n, float a);                  // z = f(z)
  void (*bwd)(float* d, const float* z, int64_t n, float a);  // d = d f'(z)
};
template <class A>
constexpr FusedActivation kFusedActivation = {
    [](float* z, int64_t n, float a) {
      map(z, z, {0, n}, [a](float v) __attribute__((always_inline)) { return A::fwd(v, a); });
    },
    [](float* d, const float* z, int64_t n, float a) {
      zip(d, z, d, {0, n}, [a](float g, float v) __attribute__((always_inline)) {
        return A::bwd(g, A::kSaved == Saved::kInput ? v : A::fwd(v, a), a);
      });
    }};
template <class... A>
FusedActivation fused_activation_of(int activation, ActivationList<A...>) {
  static constexpr FusedActivation kAll[] = {kFusedActivation<A>...};
  return kAll[activation];
}

// What follows the norm in one launch: nothing is called for the identity. Chunks are of n elements
// from element `at` of the array on, which says what dropout draws.
struct Epilogue {
  bool activates, active;
  FusedActivation f;
  NormEpilogue after;
  explicit Epilogue(const NormEpilogue& args)
      : activates(args.activation != 0),
        active(activates || args.draw != nullptr),
        f(fused_activation_of(args.activation, Activations{})),
        after(args) {}

  void drop(float* z, int64_t n, int64_t at) const {
    if (after.draw == nullptr) return;
    for_lanes_at(at, n, *after.draw,
                 [z, keep = after.keep](int64_t i, uint32_t lane)
                     __attribute__((always_inline)) { z[i] = keep_or_drop(z[i], lane, keep); });
  }
  // z = dropout(f(z))
  void fwd(float* z, int64_t n, int64_t at) const {
    if (activates) f.fwd(z, n, after.activation_param);
    drop(z, n, at);
  }
  // d = dropout'(d) f'(z()); z is not asked for where there is no f.
  template <class Z>
  FASTNN_FN void bwd(float* d, int64_t n, int64_t at, Z z) const {
    drop(d, n, at);
    if (activates) f.bwd(d, z(), n, after.activation_param);
  }
};

// Calls chunk(i, n) for 0 <= i < size in steps of kNormChunk.
template <class F>
FASTNN_FN void for_chunks(int64_t size, F chunk) {
  for (int64_t i = 0; i < size; i += kNormChunk)
    chunk(i, size - i < kNormChunk ? size - i : int64_t{kNormChunk});
}

// y = epilogue(f(i, x[i])) for a row that starts at element `at`, f being the norm. Where y holds
// floats, the epilogue works in place.
template <class T, class F>
FASTNN_FN void normalize_row(const T* x, T* y, int64_t size, int64_t at, const F& f,
                             const Epilogue& epilogue) {
  for_chunks(size, [&](int64_t first, int64_t n) __attribute__((always_inline)) {
    float buffer[kNormChunk];
    const T* in = x + first;
    float* z = buffer;
    if constexpr (sizeof(T) == sizeof(float)) z = y + first;
#pragma GCC ivdep
    for (int64_t i = 0; i < n; ++i) z[i] = f(first + i, to_float(in[i]));
    if (epilogue.active) epilogue.fwd(z, n, at + first);
    if constexpr (sizeof(T) != sizeof(float))
      for (int64_t i = 0; i < n; ++i) y[first + i] = from_float<T>(z[i]);
  });
}

// The gradient before the epilogue, for the chunk at `first` of a row that starts at element `at`:
// dy itself where nothing follows; else z is computed again, since it costs less than to store it.
template <class T, class F>
FASTNN_FN const float* gradient_chunk(const T* dy, const T* x, int64_t first, int64_t n, int64_t at,
                                      const F& f, const Epilogue& epilogue,
                                      float (&buffer)[kNormChunk]) {
  if constexpr (sizeof(T) == sizeof(float))
    if (!epilogue.active) return dy + first;
  for (int64_t i = 0; i < n; ++i) buffer[i] = to_float(dy[first + i]);
  float z[kNormChunk];
  if (epilogue.active)
    epilogue.bwd(buffer, n, at + first, [&]() __attribute__((always_inline)) {
      for (int64_t i = 0; i < n; ++i) z[i] = f(first + i, to_float(x[first + i]));
      return z;
    });
  return buffer;
}

// Calls use(first, n, x, d) for the chunks of a row.
template <class T, class F, class Use>
FASTNN_FN void for_gradient_chunks(const T* dy, const T* x, int64_t size, int64_t at, const F& f,
                                   const Epilogue& epilogue, Use use) {
  for_chunks(size, [&](int64_t first, int64_t n) __attribute__((always_inline)) {
    float buffer[kNormChunk];
    use(first, n, x + first, gradient_chunk(dy, x, first, n, at, f, epilogue, buffer));
  });
}

// A parameter that may be missing.
template <class T>
FASTNN_FN float value_or(const T* p, int64_t i, float otherwise) {
  return p != nullptr ? to_float(p[i]) : otherwise;
}

}  // namespace
}  // namespace fastnn
