// wgmma kernels of float32 as TF32.
#include "launch.cuh"

namespace fastnn::wgmma {

std::string make_tf32(const blas::Product& product, Cut cut, void* stream) {
  return make_of<float>(product, cut, stream);
}

}  // namespace fastnn::wgmma
