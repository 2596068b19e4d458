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

// Where a product is made, and which table it comes from: bfloat16 and float16 have one text here.
struct Place {
  Place(Device on) : device(on) {}
  Place(const Array& x) : device(x.device()), dtype(x.dtype) {}
  Device device;
  DType dtype = DType::kFloat32;
};

// How exact products of float32 matrices are, for the whole process: torch's words. Where a device
// has nothing faster for less, they are float32.
enum class MatmulPrecision { kHighest, kHigh, kMedium };
void set_matmul_precision(MatmulPrecision precision);
MatmulPrecision matmul_precision();

// Launches C = A B with what `args` says about C: its shape, bias, activation. Where ldc is 0 the
// rows of C follow one another.
void gemm(const char* op, Place place, GemmArgs args, Matrix a, Matrix b);
void gemm(const char* op, Place place, GemmBf16Args args, MatrixOf<bf16> a, MatrixOf<bf16> b);

// The same for a batch of products (gemm_batch.h): `batch` says what `args` does there, and the
// axes.
template <class T>
void gemm(const char* op, Place place, GemmBatchArgsOf<T> batch, MatrixOf<T> a, MatrixOf<T> b);

// What may be multiplied: float32, bfloat16 or, on CUDA, float16, in which all arrays of a call
// have to be.
inline void check_element(const char* op, const Array& x) {
  const bool half = x.dtype == DType::kFloat16 && x.device().is_cuda();
  check<TypeError>(x.dtype == DType::kFloat32 || x.dtype == DType::kBFloat16 || half, op,
                   ": expected input of dtype float32 or bfloat16, got ", dtype_name(x.dtype));
}
// f(T{}) for the type T of the elements of x; a float16 is as large as a bfloat16, and the table
// knows the difference.
template <class F>
auto with_element(const Array& x, F f) {
  return x.dtype == DType::kFloat32 ? f(float{}) : f(bf16{});
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
