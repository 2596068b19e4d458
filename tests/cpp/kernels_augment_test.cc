// The kernels of augmentation: every operation on pictures of awkward sizes, in memory of exactly
// the size they may touch.
#include "kernels_test.h"

namespace fastnn {
namespace {

AugmentOp op_of(AugmentCode code, std::initializer_list<float> v, int32_t flags = 0) {
  AugmentOp op{code, 0, flags, 1.f, {}};
  int i = 0;
  for (const float x : v) op.v[i++] = x;
  return op;
}

// One operation after a crop with padding that makes it work on a picture of its own.
std::vector<std::vector<AugmentOp>> programs(int h, int w) {
  using enum AugmentCode;
  const auto fh = static_cast<float>(h), fw = static_cast<float>(w);
  std::vector<std::vector<AugmentOp>> all;
  for (const float pad : {0.f, 1.f, 2.f, 3.f})
    all.push_back({op_of(kCrop, {fh, fw, 2, 1, 1, 2, pad}), op_of(kFlip, {}), op_of(kFlip, {}, 1)});
  all.push_back({op_of(kResize, {fh, fw, 0.3f, 1, 0.5f, 2}, 1)});
  all.push_back({op_of(kResize, {fh, fw, 0.3f, 1, 0.5f, 2}, 1), op_of(kFlip, {})});
  const auto side = static_cast<float>(std::max(h, w));
  all.push_back({op_of(kResize, {fh, fw, side, 2 * side}, 2)});
  for (const int32_t nearest : {0, 1})
    all.push_back(
        {op_of(kAffine, {-40, 40, 0.2f, 0.2f, 0.5f, 2, -9, 9, -5, 5, 0.8f, 1.2f, NAN}, nearest)});
  for (const AugmentCode code : {kShearX, kShearY, kTranslateX, kTranslateY, kRotate, kLens})
    all.push_back({op_of(code, {0, -0.4f, 0.9f, 0, 1})});
  all.push_back({op_of(kNoise, {0, 0.1f, 0.2f}, 1)});
  all.push_back({op_of(kJitter, {0.5f, 1.5f, 0.5f, 1.5f, 0.5f, 1.5f, -0.2f, 0.2f}, 15)});
  for (const AugmentCode code : {kBrightness, kContrast, kSaturation, kSharpness})
    all.push_back({op_of(code, {1, -0.5f, 0.9f})});
  all.push_back({op_of(kPosterize, {0, 3, 3}), op_of(kSolarize, {0, 100, 100})});
  for (const AugmentCode code : {kAutocontrast, kEqualize, kInvert, kGrayscale, kLighting})
    all.push_back({op_of(code, {1, 0.2f, 0.1f, 0.1f, 1, 0, 0, 0, 1, 0, 0, 0, 1})});
  all.push_back({op_of(kErase, {0.1f, 0.4f, 0.3f, 3}, 1), op_of(kCutout, {2, 5})});
  return all;
}

template <class T>
Bytes augment(const Kernels& k, std::vector<AugmentOp> ops, int h, int w, bool converts) {
  constexpr int64_t kRows = 5, kChannels = 3;
  const int64_t plane = int64_t{h} * w, sample = kChannels * plane;
  if (converts) {
    ops.push_back(op_of(AugmentCode::kConvert, {2, 2, 2}));
    for (int c = 0; c < 3; ++c) ops.back().v[kAugmentChannels + c] = 1;
  }
  Buffer<float> from(kRows * sample);
  std::vector<T> x(static_cast<size_t>(kRows * sample));
  for (size_t i = 0; i < x.size(); ++i) x[i] = static_cast<T>(std::abs(from.values[i]) / 3 * 255);
  const bool to_float = converts || sizeof(T) == 4;
  std::vector<char> y(static_cast<size_t>(kRows * sample) * (to_float ? 4 : 1));
  const int64_t scratch = 2 * ceil_div(4 * sample, 64) * 64 + 64 * (h + w + 1);
  std::vector<char> memory(static_cast<size_t>(kRows * scratch));
  const std::vector<int64_t> index{4, 0, 2, 1, 3};
  const int64_t cursor = 0;
  const RngDraw draw{7, uint64_t{3} << 56};
  const ImageStrides strides{sample, plane, w, 1};
  k.augment(
      {x.data(), index.data(), &cursor, y.data(), &draw, ops.data(), memory.data(), kRows, kRows,
       scratch, strides, strides, static_cast<int32_t>(ops.size()), kChannels, h, w, h, w, false},
      {0, kRows, nullptr});
  return y;
}

}  // namespace
}  // namespace fastnn

int main() {
  using namespace fastnn;
  for (const auto& [h, w] : std::vector<std::pair<int, int>>{{1, 1}, {2, 3}, {17, 33}, {40, 19}})
    for (const auto& ops : programs(h, w))
      for (const bool converts : {false, true}) {
        const std::string what = "augment " + std::to_string(static_cast<int>(ops[0].code));
        compare(
            what, [&](const Kernels& k) { return augment<uint8_t>(k, ops, h, w, converts); },
            DType::kUInt8);
        compare(
            what, [&](const Kernels& k) { return augment<float>(k, ops, h, w, converts); },
            DType::kFloat32);
      }
  return report_tests();
}
