// Activations with a trained parameter: one walk over the elements serves forward and backward. And
// maxout and hardtanh.
#include "../families/parametric.h"

#include "loops.h"
#include "table.h"

namespace fastnn {
namespace {

// Blocks of up to 16 elements, and the parameter of each lane. visit(i, lanes, a) for the blocks at
// x[i] that share lanes of a sum, then done(first, count): the sums of the lanes belong to the
// partials [first, first + count), all to the one when count is 0.
template <class T, class Visit, class Done>
FASTNN_FN void for_parameters(const void* parameters, const ParametricShape& shape, Slice s,
                              Visit visit, Done done) {
  const auto* parameter = static_cast<const T*>(parameters);
  float a[kBlockLanes];
  const auto run = [&](int64_t begin, int64_t n) __attribute__((always_inline)) {
    for_blocks(n, [&](int64_t at, int lanes)
                      __attribute__((always_inline)) { visit(begin + at, lanes, a); });
  };
  for (int64_t task = s.begin; task < s.end; ++task) {
    if (shape.channels > 1 && shape.inner == 1) {
      const Range columns = elements({task, task + 1, nullptr}, kColumnChunk, shape.channels);
      for (int64_t c = columns.begin; c < columns.end; c += kBlockLanes) {
        const int lanes = static_cast<int>(least(columns.end - c, kBlockLanes));
        load_block(parameter + c, lanes, 0.f, a);
        for (int64_t o = 0; o < shape.outer; ++o) visit(o * shape.channels + c, lanes, a);
        done(c, lanes);
      }
      continue;
    }
    const float one = to_float(parameter[shape.channels == 1 ? 0 : task]);
    FASTNN_FOR_LANES(l) a[l] = one;
    if (shape.channels == 1) {
      const Range chunk = elements({task, task + 1, nullptr}, kReduceChunk, shape.inner);
      run(chunk.begin, chunk.end - chunk.begin);
    } else {
      for (int64_t o = 0; o < shape.outer; ++o)
        run((o * shape.channels + task) * shape.inner, shape.inner);
    }
    done(task, 0);
  }
}

template <class T, class A>
void parametric_fwd(const ParametricFwdArgs& args, Slice s) {
  const auto* x = static_cast<const T*>(args.x);
  auto* y = static_cast<T*>(args.y);
  for_parameters<T>(
      args.a, args.shape, s,
      [&](int64_t i, int lanes, const float (&a)[kBlockLanes]) __attribute__((always_inline)) {
        float v[kBlockLanes];
        load_block(x + i, lanes, 0.f, v);
        FASTNN_FOR_LANES(l) v[l] = A::fwd(v[l], a[l]);
        store_block(y + i, lanes, v);
      },
      [](int64_t, int) {});
}

template <class T, class A>
void parametric_bwd(const ParametricBwdArgs& args, Slice s) {
  const auto* x = static_cast<const T*>(args.x);
  const auto* dy = static_cast<const T*>(args.dy);
  auto* dx = static_cast<T*>(args.dx);
  Lanes acc;
  for_parameters<T>(
      args.a, args.shape, s,
      [&](int64_t i, int lanes, const float (&a)[kBlockLanes]) __attribute__((always_inline)) {
        float v[kBlockLanes], g[kBlockLanes];
        load_block(x + i, lanes, 0.f, v);
        load_block(dy + i, lanes, 0.f, g);
        // The products are exact in float64.
        acc += each_lane([&](int l) __attribute__((always_inline)) {
          return static_cast<double>(g[l]) * static_cast<double>(A::slope_of_a(v[l], a[l]));
        });
        FASTNN_FOR_LANES(l) v[l] = A::bwd(g[l], v[l], a[l]);
        store_block(dx + i, lanes, v);
      },
      [&](int64_t first, int count) {
        for (int l = 0; l < count; ++l) args.partials[first + l] = acc[l];
        if (count == 0) args.partials[first] = combine(acc);
        acc = {};
      });
}

template <class T>
void parametric_bwd_params(const ParametricBwdParamsArgs& args, Slice) {
  auto* da = static_cast<T*>(args.da);
  if (args.shape.channels == 1) {
    *da = from_float<T>(static_cast<float>(sum_in_order(args.partials, args.shape.partials())));
  } else {
    for (int64_t c = 0; c < args.shape.channels; ++c)
      da[c] = from_float<T>(static_cast<float>(args.partials[c]));
  }
}

// Calls use(first element of the row's output, lanes, first element of its pieces) for each block.
template <class Args, class F>
FASTNN_FN void for_pieces(const Args& args, Slice s, F use) {
  const Range rows = elements(s, rows_per_task(args.cols * args.pieces), args.rows);
  for (int64_t r = rows.begin; r < rows.end; ++r)
    for_blocks(args.cols, [&](int64_t at, int lanes) __attribute__((always_inline)) {
      use(r * args.cols + at, lanes, r * args.cols * args.pieces + at);
    });
}

template <class T>
void maxout_fwd(const MaxoutFwdArgs& args, Slice s) {
  const auto* x = static_cast<const T*>(args.x);
  auto* y = static_cast<T*>(args.y);
  for_pieces(args, s, [&](int64_t out, int lanes, int64_t in) __attribute__((always_inline)) {
    float m[kBlockLanes], v[kBlockLanes];
    load_block(x + in, lanes, 0.f, m);
    for (int64_t j = 1; j < args.pieces; ++j) {
      load_block(x + in + j * args.cols, lanes, 0.f, v);
      FASTNN_FOR_LANES(l) m[l] = max(v[l], m[l]);
    }
    store_block(y + out, lanes, m);
  });
}

template <class T>
void maxout_bwd(const MaxoutBwdArgs& args, Slice s) {
  const auto* x = static_cast<const T*>(args.x);
  auto* dx = static_cast<T*>(args.dx);
  for_pieces(args, s, [&](int64_t out, int lanes, int64_t in) __attribute__((always_inline)) {
    float dy[kBlockLanes], y[kBlockLanes], v[kBlockLanes];
    load_block(static_cast<const T*>(args.dy) + out, lanes, 0.f, dy);
    load_block(static_cast<const T*>(args.y) + out, lanes, 0.f, y);
    for (int64_t j = 0; j < args.pieces; ++j) {
      load_block(x + in + j * args.cols, lanes, 0.f, v);
      FASTNN_FOR_LANES(l) {
        const bool is_first = (v[l] == y[l]) | (v[l] != v[l]);
        v[l] = is_first ? dy[l] : 0.f;
        dy[l] = is_first ? 0.f : dy[l];  // given away
      }
      store_block(dx + in + j * args.cols, lanes, v);
    }
  });
}

template <class T>
void hardtanh_fwd(const HardtanhFwdArgs& args, Slice s) {
  const float low = args.low, high = args.high;
  map(static_cast<const T*>(args.x), static_cast<T*>(args.y),
      elements(s, kElementwiseChunk, args.n),
      [low, high](float x) __attribute__((always_inline)) { return Clip::fwd(x, low, high); });
}

template <class T>
void hardtanh_bwd(const HardtanhBwdArgs& args, Slice s) {
  const float low = args.low, high = args.high;
  zip(static_cast<const T*>(args.dy), static_cast<const T*>(args.x), static_cast<T*>(args.dx),
      elements(s, kElementwiseChunk, args.n),
      [low, high](float dy, float x)
          __attribute__((always_inline)) { return Clip::bwd(dy, x, low, high); });
}

template <class T, class... A>
constexpr ParametricKernels kernels(ActivationList<A...>) {
  return {
      .parametric_fwd = {parametric_fwd<T, A>...},
      .parametric_bwd = {parametric_bwd<T, A>...},
      .parametric_bwd_params = parametric_bwd_params<T>,
      .maxout_fwd = maxout_fwd<T>,
      .maxout_bwd = maxout_bwd<T>,
      .hardtanh_fwd = hardtanh_fwd<T>,
      .hardtanh_bwd = hardtanh_bwd<T>,
  };
}

}  // namespace

template <>
constinit const ParametricKernels
    FASTNN_LEVEL::Table<ParametricKernels>::of_dtype[kNumTableDTypes] = {
        kernels<float>(ParametricActivations{}), kernels<bf16>(ParametricActivations{}), {}, {}};

}  // namespace fastnn
