// Which products wgmma kernels make, and on which devices.
#include "factors.h"
#include "products.h"

namespace fastnn::wgmma {

std::string why_unavailable() {
  int device = 0, major = 0, minor = 0;
  cudaGetDevice(&device);
  cudaDeviceGetAttribute(&major, cudaDevAttrComputeCapabilityMajor, device);
  cudaDeviceGetAttribute(&minor, cudaDevAttrComputeCapabilityMinor, device);
  if (major != 9 || minor != 0)
    return "wgmma needs compute capability 9.0, this device has " + std::to_string(major) + "." +
           std::to_string(minor);
  return why_no_maps();
}

bool can_make(const blas::Product& p) {
  const bool a = a_is_along_k(p), b = b_is_along_k(p);
  if ((!a && p.a_row != 1) || (!b && p.b_col != 1) || (!a && b)) return false;
  if (p.type == blas::kFloat32 ? p.compute != blas::kAsTf32 || !a || !b : p.compute != blas::kExact)
    return false;
  return p.ldc >= p.n && can_be_mapped(factor_a(p)) && can_be_mapped(factor_b(p, 256));
}

// Tiles of 256 columns read less of A, if there are enough of them to go round.
Cut cut_of(const blas::Product& p) {
  const auto tiles = [&](int64_t width) {
    return p.items * ((p.m + kRows - 1) / kRows) * ((p.n + width - 1) / width);
  };
  const int64_t all = multiprocessors();
  const bool wide = p.n > 128 && tiles(256) >= all;
  const int64_t count = tiles(wide ? 256 : 128);
  return {wide ? 256 : 128, count < all ? count : all};
}

std::string make(const blas::Product& p, Cut cut, void* stream) {
  if (p.type == blas::kBFloat16) return make_bf16(p, cut, stream);
  return p.type == blas::kFloat16 ? make_f16(p, cut, stream) : make_tf32(p, cut, stream);
}

}  // namespace fastnn::wgmma
