// Matrix products, plain: tiles of both factors in shared memory, as float32, and a rectangle of C
// in the registers of each thread. It serves every shape, stride and batch. Invariant: an element
// is the sum of chains that gemm_plan.h describes, whatever the tile, so the bits are those of the
// CPU where that has FMA and does not go along k. The epilogue (bias, and ending.cuh) comes last,
// and then C is rounded.
#pragma once
#include "../families/linear.h"
#include "../families/linear_bf16.h"
#include "column.cuh"
#include "ending.cuh"

namespace fastnn {
namespace {

inline constexpr int kGemmSide = 16;  // threads along each side of a tile
inline constexpr int kGemmThreads = kGemmSide * kGemmSide;
inline constexpr int kGemmDepth = 16;  // of k in shared memory at a time
static_assert(kGemmThreads / kGemmDepth == kGemmSide && kGemmChain % kGemmDepth == 0 &&
              kGemmKC % kGemmChain == 0);

// A strip of a factor: element (p, i) of kDepth x kWidth at strip[p * kPitch + i].
template <int kWidth>
struct GemmStrip {
  static constexpr int kPitch = kWidth + 4;  // rows stay aligned, and start in other banks
  static constexpr int kSize = kGemmDepth * kPitch;

  // From elements `step` apart along k, `stride` along the other side; zeros outside. Neighbouring
  // threads read neighbouring elements, whichever side those are on.
  template <class T>
  static __device__ __forceinline__ void load(float* strip, const T* x, int64_t step,
                                              int64_t stride, int64_t depth, int64_t width) {
    const bool k_first = step == 1;
    const int t = static_cast<int>(threadIdx.x);
    int p = k_first ? t % kGemmDepth : t / kWidth, i = k_first ? t / kGemmDepth : t % kWidth;
    const int to_p = k_first ? 0 : kGemmThreads / kWidth, to_i = k_first ? kGemmSide : 0;
    const T* at = x + p * step + i * stride;
    const int64_t to_at = to_p * step + to_i * stride;
    FASTNN_UNROLL
    for (int n = 0; n < kGemmDepth * kWidth / kGemmThreads; ++n) {
      strip[p * kPitch + i] = p < depth && i < width ? to_float(*at) : 0.f;
      p += to_p, i += to_i, at += to_at;
    }
  }
};

// The part of a tile that a thread has: its row i is row i kGemmSide + own of the tile, likewise
// its columns, so that a warp reads a strip without conflicts and writes C in runs.
template <int kRows, int kCols>
struct GemmPart {
  float chain[kRows][kCols], sum[kRows][kCols], total[kRows][kCols];

  __device__ __forceinline__ static int row() { return static_cast<int>(threadIdx.x) / kGemmSide; }
  __device__ __forceinline__ static int col() { return static_cast<int>(threadIdx.x) % kGemmSide; }

  template <class F>
  __device__ __forceinline__ void each(F f) {
    FASTNN_UNROLL
    for (int i = 0; i < kRows; ++i) {
      FASTNN_UNROLL
      for (int j = 0; j < kCols; ++j) f(i, j);
    }
  }
  __device__ __forceinline__ void multiply(const float* a, const float* b) {
    using A = GemmStrip<kRows * kGemmSide>;
    using B = GemmStrip<kCols * kGemmSide>;
    FASTNN_NO_UNROLL
    for (int p = 0; p < kGemmDepth; p += 4) {  // all at once take more registers than there are
      FASTNN_UNROLL
      for (int q = p; q < p + 4; ++q) {
        float u[kRows], v[kCols];
        FASTNN_UNROLL
        for (int i = 0; i < kRows; ++i) u[i] = a[q * A::kPitch + i * kGemmSide + row()];
        FASTNN_UNROLL
        for (int j = 0; j < kCols; ++j) v[j] = b[q * B::kPitch + j * kGemmSide + col()];
        each([&](int i, int j) { chain[i][j] = mad(u[i], v[j], chain[i][j]); });
      }
    }
  }
};

// One block of k, of `depth`, of the tile at (row, col): chains of kGemmChain, added in order.
template <class T, int kRows, int kCols>
__device__ __forceinline__ void gemm_block(const GemmArgsOf<T>& g, int64_t row, int64_t col,
                                           int64_t k, int64_t depth, float* a, float* b,
                                           GemmPart<kRows, kCols>& part) {
  for (int64_t p = 0; p < depth || p == 0; p += kGemmDepth) {
    __syncthreads();  // the last strips have been read
    GemmStrip<kRows * kGemmSide>::load(a, g.a + row * g.a_row + (k + p) * g.a_col, g.a_col, g.a_row,
                                       depth - p, g.m - row);
    GemmStrip<kCols * kGemmSide>::load(b, g.b + col * g.b_col + (k + p) * g.b_row, g.b_row, g.b_col,
                                       depth - p, g.n - col);
    __syncthreads();
    if (p % kGemmChain == 0) part.each([&](int i, int j) { part.chain[i][j] = 0.f; });
    part.multiply(a, b);
    if ((p + kGemmDepth) % kGemmChain != 0 && p + kGemmDepth < depth) continue;
    const bool first = p < kGemmChain;
    part.each([&](int i, int j) {
      part.sum[i][j] = first ? part.chain[i][j] : part.sum[i][j] + part.chain[i][j];
    });
  }
}

// f(i, j, at, column) for the elements of C that this thread has.
template <class T, int kRows, int kCols, class F>
__device__ __forceinline__ void each_of_c(const GemmArgsOf<T>& g, int64_t row, int64_t col,
                                          GemmPart<kRows, kCols>& part, F f) {
  part.each([&](int i, int j) {
    const int64_t r = row + i * kGemmSide + part.row(), c = col + j * kGemmSide + part.col();
    if (r < g.m && c < g.n) f(i, j, r * g.ldc + c, c);
  });
}

// Everything after the sums. `staged` has room for the tile: where more than C and a bias follows,
// values are read again from it, one by one, so that the choice of an activation is one text, not
// one per element.
template <class T, int kRows, int kCols>
__device__ __forceinline__ void finish_gemm(const GemmArgsOf<T>& g, int64_t row, int64_t col,
                                            bool adds, float* staged,
                                            GemmPart<kRows, kCols>& part) {
  using Part = GemmPart<kRows, kCols>;
  const Ending<T> ending = ending_of<T>(g);
  const bool is_all = ending.is_empty();
  each_of_c(g, row, col, part, [&](int i, int j, int64_t at, int64_t c) {
    float v = part.total[i][j];
    if (adds) v = to_float(g.c[at]) + v;
    if (g.bias != nullptr) v += to_float(g.bias[c]);
    if (is_all)
      g.c[at] = from_float<T>(v);
    else
      staged[(i * kCols + j) * kGemmThreads + threadIdx.x] = v;
  });
  if (is_all) return;
  FASTNN_NO_UNROLL
  for (int e = 0; e < kRows * kCols; ++e) {
    const int64_t r = row + e / kCols * kGemmSide + Part::row();
    const int64_t c = col + e % kCols * kGemmSide + Part::col();
    if (r >= g.m || c >= g.n) continue;
    float v[1] = {staged[e * kGemmThreads + threadIdx.x]};
    const auto put = [](T* to, const float (&x)[1], int64_t) { *to = from_float<T>(x[0]); };
    end(ending, r * g.ldc + c, 1, v, put);
    put(g.c + r * g.ldc + c, v, 1);
  }
}

template <class T, int kRows, int kCols>
__global__ void __launch_bounds__(kGemmThreads, 2) gemm_kernel(GemmBatchArgsOf<T> batch) {
  constexpr int64_t kHeight = kRows * kGemmSide, kWidth = kCols * kGemmSide;
  FASTNN_SHARED(float, a, (GemmStrip<kHeight>::kSize));
  FASTNN_SHARED(float, b, (GemmStrip<kWidth>::kSize));
  FASTNN_SHARED(float, staged, kRows * kCols * kGemmThreads);
  const GemmArgsOf<T>& one = batch.one;
  const int64_t across = ceil_div(one.n, kWidth), tiles = ceil_div(one.m, kHeight) * across;
  // Where C is float32 it is the first of the sum's terms, as on the CPU; else it is added at last.
  constexpr bool kStartsAtC = sizeof(T) == sizeof(float);
  for (int64_t tile = blockIdx.x; tile < batch.items * tiles; tile += gridDim.x) {
    const int64_t item = tile / tiles, at = tile % tiles;
    const int64_t row = at / across * kHeight, col = at % across * kWidth;
    GemmPart<kRows, kCols> part;
    bool adds = kStartsAtC && one.accumulate;
    if (adds) {
      const GemmArgsOf<T> g = gemm_item(batch, GemmPlan{}, item * batch.terms);
      each_of_c(g, row, col, part,
                [&](int i, int j, int64_t c, int64_t) { part.total[i][j] = to_float(g.c[c]); });
    }
    for (int64_t term = 0; term < batch.terms; ++term) {
      const GemmArgsOf<T> g = gemm_item(batch, GemmPlan{}, item * batch.terms + term);
      for (int64_t k = 0; k < g.k || k == 0; k += kGemmKC) {
        gemm_block(g, row, col, k, least(kGemmKC, g.k - k), a, b, part);
        part.each([&](int i, int j) {
          part.total[i][j] = adds ? part.total[i][j] + part.sum[i][j] : part.sum[i][j];
        });
        adds = true;
      }
    }
    finish_gemm(gemm_item(batch, GemmPlan{}, item * batch.terms), row, col,
                !kStartsAtC && one.accumulate, staged, part);
  }
}

template <class T, int kRows, int kCols>
void launch_gemm(const GemmBatchArgsOf<T>& batch, Slice s) {
  const int64_t tiles = batch.items * ceil_div(batch.one.m, kRows * kGemmSide) *
                        ceil_div(batch.one.n, kCols * kGemmSide);
  FASTNN_LAUNCH((gemm_kernel<T, kRows, kCols>), grid_for(tiles), kGemmThreads, s.stream, batch);
}

// Large tiles where there are enough of them to go round.
template <class T>
void gemm_batch(const GemmBatchArgsOf<T>& batch, Slice s) {
  const int64_t m = batch.one.m, n = batch.one.n;
  if (m <= 0 || n <= 0 || batch.items * batch.terms <= 0) return;
  constexpr int64_t kEnough = 128;
  if (batch.items * ceil_div(m, 64) * ceil_div(n, 64) >= kEnough)
    launch_gemm<T, 4, 4>(batch, s);
  else
    launch_gemm<T, 2, 2>(batch, s);
  const GemmArgsOf<T>& g = batch.one;
  if (g.column_sums != nullptr) sum_columns(g.c, g.ldc, g.column_sums, m, n, s);
}

// ---- the elementwise half of linear's backward -------------------------------------------------
// dz = dy act'(saved), then the sums of its columns, layer by layer.
template <class T>
void linear_bwd(const LinearBwdArgs& args, Slice s) {
  const int64_t size = args.rows * args.cols;
  const auto *dy = static_cast<const T*>(args.dy), *saved = static_cast<const T*>(args.saved);
  auto *out = static_cast<T*>(args.dz), *db = static_cast<T*>(args.db);
  const T* dz = dy;
  if (saved != nullptr) {
    activation_bwd_of<T>(args.activation, Activations{})(
        {dy, saved, out, args.items * size, args.activation_param}, s);
    dz = out;
  }
  if (db == nullptr) return;
  for (int64_t i = 0; i < args.items; ++i)
    sum_columns(dz + i * size, args.cols, db + i * args.cols, args.rows, args.cols, s);
}

}  // namespace
}  // namespace fastnn
