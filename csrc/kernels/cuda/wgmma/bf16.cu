// wgmma kernels of bfloat16.
#include "launch.cuh"

namespace fastnn::wgmma {

std::string make_bf16(const blas::Product& product, Cut cut, void* stream) {
  return make_of<bf16>(product, cut, stream);
}

}  // namespace fastnn::wgmma
