// Products of matrices by cuBLASLt where there is one, for linear.cu. Invariant: a product that the
// library cannot make, or has made wrong, is refused before anything is written, and by name: the
// caller's own tiles make it then.
#pragma once
#include "abi.h"
#include "blas_api.h"

namespace fastnn::blas {

// D = act(A B + C + bias), row-major; strides in elements, as in GemmArgs, from item to item too.
struct Product {
  const void *a, *b;
  const void* c;  // null: nothing is added
  const void* bias;
  void* d;
  int64_t m, n, k;
  int64_t a_row, a_col, b_row, b_col, ldc;
  int64_t items, a_step, b_step, c_step;
  Type type;
  Compute compute;
  bool relu;
};
// The same by the caller's own kernel.
using OwnTiles = void (*)(const Product& product, void* stream);

// Makes the product on the stream, or returns false and does nothing. On the first use of a class
// of products (types, transposes, epilogue, small sizes) a small one is made both ways and
// compared, for which the host waits once; while a stream is captured there is no first use.
bool multiply(const Product& product, void* stream, OwnTiles own);
// Another product was made by own tiles.
void count_own();

void report(CudaBlas* report);

}  // namespace fastnn::blas
