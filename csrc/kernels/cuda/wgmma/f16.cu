// wgmma kernels of float16.
#include "launch.cuh"

namespace fastnn::wgmma {

std::string make_f16(const blas::Product& product, Cut cut, void* stream) {
  return make_of<f16>(product, cut, stream);
}

}  // namespace fastnn::wgmma
