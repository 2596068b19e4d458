// Products in two: their sums by another library, in float32, then what follows them by a kernel,
// so that results are rounded once.
#pragma once
#include "blas.h"

namespace fastnn::blas {

// Whether more than a bias follows the sums, which lie so that two launches can make it.
bool can_be_in_two(const Product& product);
// Makes it, the sums by `make`. Those of 16-bit numbers go through `sums`, which has room for
// `bytes`, as many rows at a time as it holds; those of float32 stay in D, or in z.
std::string make_in_two(const Product& product, const Maker& make, float* sums, size_t bytes,
                        void* stream);

}  // namespace fastnn::blas
