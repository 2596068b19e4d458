// Max, average and fractional pooling, plane by plane. As in torch, the first of the largest wins,
// and NaN is larger than all: the last one of a window.
#include "../families/pool.h"

#include "../formulas/pool_regions.h"
#include "pool_last.h"
#include "pool_tiles.h"
#include "pool_windows.h"
#include "table.h"

namespace fastnn {
namespace {

// ---- windows on a grid ----------------------------------------------------------------------

template <bool kOffsets, class T>
void max_pool_planes(const MaxPoolFwdArgs& args, Range planes) {
  const PoolGrid& g = args.grid;
  const auto out_at = [&](int64_t i) {
    return MaxRow<kOffsets, T>{static_cast<T*>(args.y) + i, kOffsets ? args.offsets + i : nullptr};
  };
  if (is_tiled(g)) {
    const T* x = static_cast<const T*>(args.x) + planes.begin * g.h * g.w;
    const MaxRow<kOffsets, T> out = out_at(planes.begin * g.out_h * g.out_w);
    return max_pool_tiles<kOffsets>(x, out.y, out.offsets, g, planes);
  }
  for (int64_t p = planes.begin; p < planes.end; ++p) {
    const T* x = static_cast<const T*>(args.x) + p * g.h * g.w * g.channels;
    const auto place = [&](int64_t oh, int64_t ow) {
      return ((p * g.out_h + oh) * g.out_w + ow) * g.channels;
    };
    if (g.channels != 1)
      pool_image<MaxWindows>(x, g, [&](int64_t oh, int64_t ow) { return out_at(place(oh, ow)); });
    else
      pool_plane<MaxWindows>(x, g, [&](int64_t oh) { return out_at(place(oh, 0)); });
  }
}
template <class T>
void max_pool_fwd(const MaxPoolFwdArgs& args, Slice s) {
  const PoolGrid& g = args.grid;
  const Range planes = planes_of(s, g.h * g.w * g.channels, g.planes);
  (args.offsets != nullptr ? max_pool_planes<true, T> : max_pool_planes<false, T>)(args, planes);
}

// Where gradients of a plane are summed up: its own memory, or wider one beside it.
template <class T>
FASTNN_FN float* sums_of(T* dx, float* sums, int64_t at) {
  if constexpr (sizeof(T) == sizeof(float))
    return dx + at;
  else
    return sums + at;
}
template <class T>
FASTNN_FN void write_sums(const float* sums, T* dx, int64_t n) {
  if constexpr (sizeof(T) != sizeof(float))
    for (int64_t i = 0; i < n; ++i) dx[i] = from_float<T>(sums[i]);
}

template <class T>
void max_pool_bwd_any(const T* dy, const uint8_t* offsets, float* sums, const PoolGrid& g) {
  int64_t place[kMaxPoolOffsets];
  for (int64_t k = 0; k < int64_t{g.kernel_h} * g.kernel_w; ++k)
    place[k] = k / g.kernel_w * g.dilation_h * g.w + k % g.kernel_w * g.dilation_w;
  for (int64_t i = 0; i < g.h * g.w; ++i) sums[i] = 0.f;
  for (int64_t oh = 0; oh < g.out_h; ++oh) {
    const int64_t corner = (oh * g.stride_h - g.pad_h) * g.w - g.pad_w, row = oh * g.out_w;
    for (int64_t ow = 0; ow < g.out_w; ++ow)
      sums[corner + ow * g.stride_w + place[offsets[row + ow]]] += to_float(dy[row + ow]);
  }
}

template <class T>
void max_pool_bwd(const MaxPoolBwdArgs& args, Slice s) {
  const PoolGrid& g = args.grid;
  const int64_t size = g.h * g.w * g.channels, out_size = g.out_h * g.out_w * g.channels;
  const Range planes = planes_of(s, size, g.planes);
  if (is_tiled(g)) {
    const int64_t first = planes.begin * out_size;
    return max_pool_bwd_tiles(static_cast<const T*>(args.dy) + first, args.offsets + first,
                              static_cast<T*>(args.dx) + planes.begin * size, g, planes);
  }
  for (int64_t p = planes.begin; p < planes.end; ++p) {
    const T* dy = static_cast<const T*>(args.dy) + p * out_size;
    const uint8_t* offsets = args.offsets + p * out_size;
    T* dx = static_cast<T*>(args.dx) + p * size;
    float* sums = sums_of(static_cast<T*>(args.dx), args.sums, p * size);
    (g.channels != 1 ? max_pool_bwd_image<T> : max_pool_bwd_any<T>)(dy, offsets, sums, g);
    write_sums(sums, dx, size);
  }
}

template <class T>
void avg_pool_fwd(const AvgPoolFwdArgs& args, Slice s) {
  const PoolGrid& g = args.grid;
  const Range planes = planes_of(s, g.h * g.w * g.channels, g.planes);
  for (int64_t p = planes.begin; p < planes.end; ++p) {
    const T* x = static_cast<const T*>(args.x) + p * g.h * g.w * g.channels;
    T* y = static_cast<T*>(args.y) + p * g.out_h * g.out_w * g.channels;
    if (g.channels != 1)
      pool_image<SumWindows>(x, g, [&](int64_t oh, int64_t ow) {
        return MeanPlace<T>{y + (oh * g.out_w + ow) * g.channels,
                            static_cast<double>(args.row_divisors[oh] * args.col_divisors[ow])};
      });
    else
      pool_plane<SumWindows>(x, g, [&](int64_t oh) {
        return MeanRow<T>{y + oh * g.out_w, args.row_divisors[oh], args.col_divisors};
      });
  }
}

// ---- windows given by spans -----------------------------------------------------------------

// Calls window(out index, rows, cols) for each window of a plane.
template <class F>
FASTNN_FN void for_windows(const PoolSpans& spans, int64_t p, F window) {
  const PoolSpan* rows = spans.rows + (spans.per_plane ? p * spans.out_h : 0);
  const PoolSpan* cols = spans.cols + (spans.per_plane ? p * spans.out_w : 0);
  for (int64_t oh = 0; oh < spans.out_h; ++oh)
    for (int64_t ow = 0; ow < spans.out_w; ++ow) window(oh, ow, rows[oh], cols[ow]);
}

// A window of whole rows is one run of a plane, as long as all of them.
struct Run {
  int64_t row_end, width;  // runs begin at rows.begin, rows.begin + step, ... below row_end
};
FASTNN_FN Run run_of(const PoolSpans& spans, PoolSpan rows, PoolSpan cols) {
  const int64_t width = cols.end - cols.begin;
  if (width < spans.w || spans.step_h != 1 || spans.step_w != 1) return {rows.end, width};
  return {least(rows.end, rows.begin + 1), width * (rows.end - rows.begin)};
}

struct Largest {
  float value;
  int64_t at;
};

// The first of the largest of x[0], x[step], ... below n; the last NaN, if there is one.
template <class T>
FASTNN_FN void find_largest(const T* x, int64_t n, int64_t step, int64_t at, Largest& best) {
  int64_t i = 0;
  if (step == 1 && n >= kBlockLanes) {  // the maximum in blocks, then its place
    const float value = max(x, n);
    if (!replaces(value, best.value)) return;
    if (value == value)
      i = first_where(0, n, [&](int64_t j) { return to_float(x[j]) == value; });
    else
      for (i = n - 1; to_float(x[i]) == to_float(x[i]);) --i;
    best = {value, at + i};
    return;
  }
  for (; i < n; i += step) {
    const float v = to_float(x[i]);
    if (replaces(v, best.value)) best = {v, at + i};
  }
}

template <class T>
void max_pool_spans_fwd(const MaxPoolSpansFwdArgs& args, Slice s) {
  const PoolSpans& spans = args.spans;
  const Range planes = planes_of(s, spans.h * spans.w, spans.planes);
  for (int64_t p = planes.begin; p < planes.end; ++p) {
    const T* x = static_cast<const T*>(args.x) + p * spans.h * spans.w;
    int64_t out = p * spans.out_h * spans.out_w;
    for_windows(spans, p, [&](int64_t, int64_t, PoolSpan rows, PoolSpan cols) {
      const Run run = run_of(spans, rows, cols);
      Largest best{-kInf, rows.begin * spans.w + cols.begin};
      for (int64_t r = rows.begin; r < run.row_end; r += spans.step_h) {
        const int64_t at = r * spans.w + cols.begin;
        find_largest(x + at, run.width, spans.step_w, at, best);
      }
      static_cast<T*>(args.y)[out] = from_float<T>(best.value);
      args.indices[out++] = best.at;
    });
  }
}

template <class T>
void max_pool_spans_bwd(const MaxPoolSpansBwdArgs& args, Slice s) {
  const Range planes = planes_of(s, args.size, args.planes);
  for (int64_t p = planes.begin; p < planes.end; ++p) {
    float* sums = sums_of(static_cast<T*>(args.dx), args.sums, p * args.size);
    for (int64_t i = 0; i < args.size; ++i) sums[i] = 0.f;
    for (int64_t o = p * args.out_size; o < (p + 1) * args.out_size; ++o)
      sums[args.indices[o]] += to_float(static_cast<const T*>(args.dy)[o]);
    write_sums(sums, static_cast<T*>(args.dx) + p * args.size, args.size);
  }
}

template <class T>
FASTNN_FN double run_sum(const T* x, int64_t n) {
  if (n >= kBlockLanes) return sum(x, n, 0.f, [](float v) { return v; });
  double total = 0;
  for (int64_t i = 0; i < n; ++i) total += static_cast<double>(to_float(x[i]));
  return total;
}

template <class T>
void avg_pool_spans_fwd(const AvgPoolSpansFwdArgs& args, Slice s) {
  const PoolSpans& spans = args.spans;
  const Range planes = planes_of(s, spans.h * spans.w, spans.planes);
  for (int64_t p = planes.begin; p < planes.end; ++p) {
    const T* x = static_cast<const T*>(args.x) + p * spans.h * spans.w;
    auto* y = static_cast<T*>(args.y) + p * spans.out_h * spans.out_w;
    for_windows(spans, p, [&](int64_t oh, int64_t ow, PoolSpan rows, PoolSpan cols) {
      const Run run = run_of(spans, rows, cols);
      double total = 0;
      for (int64_t r = rows.begin; r < run.row_end; ++r)
        total += run_sum(x + r * spans.w + cols.begin, run.width);
      const double divisor = static_cast<double>(args.row_divisors[oh] * args.col_divisors[ow]);
      *y++ = from_float<T>(static_cast<float>(total / divisor));
    });
  }
}

FASTNN_FN bool same(PoolSpan a, PoolSpan b) { return a.begin == b.begin && a.end == b.end; }

// How many spans from the first on are the same.
FASTNN_FN int64_t count_same(const PoolSpan* spans, int64_t n) {
  return first_where(1, n, [&](int64_t i) { return !same(spans[i], spans[0]); });
}

// The planes of `spans` are those of dx: each of its elements gathers from the windows it was in.
// Elements in the same windows are copies of their first, and a row as the one above of that.
template <class T>
void avg_pool_bwd(const AvgPoolBwdArgs& args, Slice s) {
  const PoolSpans& spans = args.spans;
  const int64_t channels = spans.channels, w = spans.out_w * channels;
  const Range planes = planes_of(s, spans.out_h * w, spans.planes);
  for (int64_t p = planes.begin; p < planes.end; ++p) {
    const T* dy = static_cast<const T*>(args.dy) + p * spans.h * spans.w * channels;
    T* dx = static_cast<T*>(args.dx) + p * spans.out_h * w;
    for (int64_t ih = 0; ih < spans.out_h; ++ih, dx += w) {
      const PoolSpan rows = spans.rows[ih];
      if (ih > 0 && same(rows, spans.rows[ih - 1])) {
        __builtin_memcpy(dx, dx - w, static_cast<uint64_t>(w) * sizeof(T));
        continue;
      }
      int64_t next = 0;
      for (int64_t iw = 0; iw < spans.out_w; iw = next) {
        const PoolSpan cols = spans.cols[iw];
        next = iw + count_same(spans.cols + iw, spans.out_w - iw);
        if (channels != 1) {
          avg_pool_bwd_place(dy, dx + iw * channels, args, rows, cols);
          for (int64_t c = (iw + 1) * channels; c < next * channels; ++c) dx[c] = dx[c - channels];
          continue;
        }
        double total = 0;
        for (int64_t r = rows.begin; r < rows.end; ++r)
          for (int64_t c = cols.begin; c < cols.end; ++c)
            total += static_cast<double>(to_float(dy[r * spans.w + c])) /
                     static_cast<double>(args.row_divisors[r] * args.col_divisors[c]);
        const T value = from_float<T>(static_cast<float>(total));
        for (int64_t c = iw; c < next; ++c) dx[c] = value;
      }
    }
  }
}

void fractional_spans(const FractionalSpansArgs& args, Slice s) {
  const Range planes = elements(s, rows_per_task(args.h * args.w), args.planes);
  for (int64_t p = planes.begin; p < planes.end; ++p) fractional_spans_of(args, p);
}

template <class T>
constexpr PoolKernels kernels() {
  return {
      .max_pool_fwd = max_pool_fwd<T>,
      .max_pool_bwd = max_pool_bwd<T>,
      .max_pool_spans_fwd = max_pool_spans_fwd<T>,
      .max_pool_spans_bwd = max_pool_spans_bwd<T>,
      .avg_pool_fwd = avg_pool_fwd<T>,
      .avg_pool_spans_fwd = avg_pool_spans_fwd<T>,
      .avg_pool_bwd = avg_pool_bwd<T>,
      .fractional_spans = fractional_spans,
  };
}

}  // namespace

template <>
constinit const PoolKernels FASTNN_LEVEL::Table<PoolKernels>::of_dtype[kNumTableDTypes] = {
    kernels<float>(), kernels<bf16>(), {}, {}};

}  // namespace fastnn
