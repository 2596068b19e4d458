// Products in two launches (blas_ending.h): the kernel that ends them. Invariant: it is the text of
// all other epilogues (ending.cuh), on the same float32 sums.
#include "blas_ending.h"
#include "column.cuh"
#include "ending.cuh"

namespace fastnn::blas {
namespace {

constexpr int kCount = 4;  // neighbouring elements of a thread

// Rows of sums, and where their results are: from `at` on in C.
template <class T>
struct Sums {
  Ending<T> ending;
  const float* sums;
  const T* bias;
  T* d;
  int64_t rows, cols, pitch, ldc, at;
};

template <class T>
__global__ void __launch_bounds__(kElementwiseThreads) ending_kernel(Sums<T> job) {
  const int64_t across = ceil_div(job.cols, kCount);
  each_element(job.rows * across, [&](int64_t e) {
    const int64_t row = e / across, col = e % across * kCount, left = job.cols - col;
    const float* from = job.sums + row * job.pitch + col;
    const auto sums = load<kCount>(from, left, is_aligned(from));
    float v[kCount];
    FASTNN_UNROLL
    for (int j = 0; j < kCount; ++j) {
      v[j] = sums.v[j];
      if (job.bias != nullptr && j < left) v[j] += to_float(job.bias[col + j]);
    }
    const auto put = [](T* to, const float (&x)[kCount], int64_t count) {
      Vec<T, kCount> y;
      FASTNN_UNROLL
      for (int j = 0; j < kCount; ++j) y.v[j] = from_float<T>(x[j]);
      store(to, y, count, aligned_for<Vec<T, kCount>>(to));
    };
    const int64_t at = job.at + row * job.ldc + col;
    end(job.ending, at, left, v, put);
    put(job.d + at, v, left);
  });
}

template <class T>
void launch(const Sums<T>& job, void* stream) {
  const int64_t vectors = job.rows * ceil_div(job.cols, kCount);
  FASTNN_LAUNCH(ending_kernel<T>, element_grid(vectors), kElementwiseThreads, stream, job);
}

template <class T>
std::string make_of(const Product& p, const Maker& make, float* sums, size_t bytes, void* stream) {
  Product q = without_ending(p);
  Sums<T> job{ending_of<T>(p), sums, nullptr, static_cast<T*>(p.d), p.items * p.m, p.n, p.n,
              p.ldc,           0};
  int64_t most = job.rows;
  if constexpr (sizeof(T) == sizeof(float)) {
    const bool as_z = p.z != nullptr && !p.z_is_activated && p.residual == nullptr;
    if (as_z) q.d = p.z, job.ending.z = nullptr;
    job.sums = static_cast<const float*>(q.d), job.pitch = p.ldc;
  } else {
    q.d_is_float = true, q.d = sums, q.ldc = p.n, q.bias = nullptr;
    job.bias = static_cast<const T*>(p.bias);
    constexpr int64_t kTile = 128;  // rows that a library takes together
    most = static_cast<int64_t>(bytes) / (p.n * int64_t{sizeof(float)});
    if (most > kTile) most -= most % kTile;
    if (most == 0) return "its rows are too long for the workspace";
  }
  const int64_t rows = job.rows;
  for (int64_t row = 0; row < rows; row += most) {
    job.rows = least(most, rows - row), job.at = row * p.ldc;
    if (most < rows) q.m = job.rows;
    q.a = static_cast<const T*>(p.a) + row * p.a_row;
    if (const std::string why = make(q); !why.empty()) return why;
    launch(job, stream);
  }
  if (p.column_sums != nullptr)
    sum_columns(job.d, p.ldc, static_cast<T*>(p.column_sums), p.m, p.n, {0, 1, stream});
  return "";
}

}  // namespace

bool can_be_in_two(const Product& p) {
  if (p.activation == 0 && !has_ending(p)) return false;
  if (p.type != kFloat32) return p.items == 1 && p.c == nullptr;
  return p.items == 1 || p.c_step == p.m * p.ldc;
}

std::string make_in_two(const Product& p, const Maker& make, float* sums, size_t bytes,
                        void* stream) {
  if (p.type == kFloat32) return make_of<float>(p, make, sums, bytes, stream);
  return p.type == kBFloat16 ? make_of<bf16>(p, make, sums, bytes, stream)
                             : make_of<f16>(p, make, sums, bytes, stream);
}

}  // namespace fastnn::blas
