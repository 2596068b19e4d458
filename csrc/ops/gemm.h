// Matrix products for the ops that are made of them.
#pragma once
#include "common.h"

namespace fastnn {

struct Matrix {  // row-major rows of `row` elements' distance, or the transpose of that
  const float* data;
  int64_t row, col;
};
inline Matrix rows_of(const float* data, int64_t cols) { return {data, cols, 1}; }
inline Matrix transposed(const float* data, int64_t cols) { return {data, 1, cols}; }

// Launches C = A B with what `args` says about C: its shape, bias, activation. Where ldc is 0 the
// rows of C follow one another.
void gemm(const char* op, Device device, GemmArgs args, Matrix a, Matrix b);

// The same for a batch of products (gemm_batch.h): `batch` says what `args` does there, and the
// axes.
void gemm(const char* op, Device device, GemmBatchArgs batch, Matrix a, Matrix b);

// Products of several matrices with one B [k, n], which is packed once.
class Factor {
 public:
  Factor(const char* op, Device device, Matrix b, int64_t k, int64_t n);
  void multiply(GemmArgs args, Matrix a) const;

 private:
  const char* op_;
  Device device_;
  Matrix b_;
  int64_t k_, n_;
  Array panels_;
};

}  // namespace fastnn
