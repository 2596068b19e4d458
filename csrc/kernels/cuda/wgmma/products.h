// Products of matrices by fastnn's own wgmma kernels, for blas.cu. Invariant: what they cannot make
// is refused before anything is launched.
#pragma once
#include <string>

#include "../blas.h"

namespace fastnn::wgmma {

// Why the current device makes no products this way; empty if it does.
std::string why_unavailable();
// Whether a product is one of theirs: of 16-bit numbers, or of float32 as TF32 where both factors
// are contiguous along k, with rows that TMA can copy; not of two transposed factors.
bool can_make(const blas::Product& product);
// The columns of a tile, 128 or 256, and how many blocks share the tiles.
struct Cut {
  int width;
  int64_t blocks;
};
Cut cut_of(const blas::Product& product);
// Launches it; else why not.
std::string make(const blas::Product& product, Cut cut, void* stream);

// Products of float32 at about its accuracy (split.cu), of any strides, one at a time; its
// workspace is 256-byte aligned.
struct Workspace {
  void* memory;
  size_t bytes;
};
bool can_split(const blas::Product& product);
std::string make_split(const blas::Product& product, Cut cut, Workspace workspace, void* stream);

// What make() does, of one type, each in a file of its own: they take the compiler long.
std::string make_bf16(const blas::Product& product, Cut cut, void* stream);
std::string make_f16(const blas::Product& product, Cut cut, void* stream);
std::string make_tf32(const blas::Product& product, Cut cut, void* stream);

}  // namespace fastnn::wgmma
