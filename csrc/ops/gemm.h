// Matrix products for the ops that are made of them.
#pragma once
#include "common.h"

namespace fastnn {

template <class T>
struct MatrixOf {  // row-major rows of `row` elements' distance, or the transpose of that
  const T* data;
  int64_t row, col;
};
using Matrix = MatrixOf<float>;
template <class T>
MatrixOf<T> rows_of(const T* data, int64_t cols) {
  return {data, cols, 1};
}
template <class T>
MatrixOf<T> transposed(const T* data, int64_t cols) {
  return {data, 1, cols};
}

// Launches C = A B with what `args` says about C: its shape, bias, activation. Where ldc is 0 the
// rows of C follow one another.
void gemm(const char* op, Device device, GemmArgs args, Matrix a, Matrix b);
void gemm(const char* op, Device device, GemmBf16Args args, MatrixOf<bf16> a, MatrixOf<bf16> b);

// The same for a batch of products (gemm_batch.h): `batch` says what `args` does there, and the
// axes.
template <class T>
void gemm(const char* op, Device device, GemmBatchArgsOf<T> batch, MatrixOf<T> a, MatrixOf<T> b);

// What may be multiplied: float32 or bfloat16, in which all arrays of a call have to be.
inline void check_element(const char* op, const Array& x) {
  check<TypeError>(x.dtype == DType::kFloat32 || x.dtype == DType::kBFloat16, op,
                   ": expected input of dtype float32 or bfloat16, got ", dtype_name(x.dtype));
}
// f(T{}) for the type T of the elements of x.
template <class F>
auto with_element(const Array& x, F f) {
  return x.dtype == DType::kBFloat16 ? f(bf16{}) : f(float{});
}

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
