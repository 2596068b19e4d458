// Products of matrices by cuBLASLt where there is one, or by wgmma kernels, for linear.cu.
// Invariant: a product that a path cannot make, or has made wrong, is refused before anything is
// written, and by name: the next path makes it then, in the end the caller's own tiles.
#pragma once
#include <functional>
#include <string>
#include <vector>

#include "abi.h"
#include "blas_api.h"

namespace fastnn::blas {

// D = drop(act(A B + C + bias + residual)), or drop(A B) act'(saved), row-major; strides in
// elements, as in GemmArgs, from item to item too. What may be null is as in GemmArgs.
struct Product {
  const void *a, *b;
  const void* c;  // null: nothing is added
  const void* bias;
  void *z, *d;
  int64_t m, n, k;
  int64_t a_row, a_col, b_row, b_col, ldc;
  int64_t items, a_step, b_step, c_step;
  Type type;
  Compute compute;
  int32_t activation;  // in Activations
  float activation_param;
  // Of one product:
  const void *residual, *saved;
  const RngDraw* draw;
  Keep keep;
  void* column_sums;
  float* partial_sums;
  bool z_is_activated;
  bool
      d_is_float;  // and C and the bias, whatever the type; nothing but these follows the sums then
};
inline constexpr int32_t kReluActivation = 1;
// Whether more than C, a bias and ReLU follows the sums.
inline bool has_ending(const Product& p) {
  return p.activation > kReluActivation || p.z != nullptr || p.residual != nullptr ||
         p.saved != nullptr || p.draw != nullptr || p.column_sums != nullptr;
}
// The product alone, with its bias.
inline Product without_ending(Product p) {
  p.activation = 0, p.z = p.column_sums = nullptr;
  p.residual = p.saved = nullptr, p.draw = nullptr;
  return p;
}

// Makes a product, or says why not.
using Maker = std::function<std::string(const Product& product)>;
// The same by the caller's own kernel.
using OwnTiles = void (*)(const Product& product, void* stream);

// Who makes products; kAnyone is not a path, but the choice of one. kBySplit: wgmma kernels, and
// float32 as three products of TF32, which is chosen only if it was set or measured.
enum Path : int32_t { kAnyone, kByCublasLt, kByWgmma, kByTiles, kBySplit };
// What to try for a product, in order, before the own tiles: what was set, else what was measured
// to be the fastest (blas_measured.h), else cuBLASLt.
std::vector<Path> paths_of(const Product& product);
// For all products from now on.
void set_path(Path path);

// Makes the product on the stream, or returns false and does nothing. On the first use of a class
// of products (types, transposes, epilogue, small sizes) a small one is made both ways and
// compared, for which the host waits once; while a stream is captured there is no first use.
bool multiply(Path path, const Product& product, void* stream, OwnTiles own);
// Another product was made by own tiles.
void count_own();

void report(CudaBlas* report);

}  // namespace fastnn::blas
