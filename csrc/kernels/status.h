// The status word: how a kernel reports bad data. One 64-bit value, the smallest report wins, so
// the first (site, index) is found on any number of threads. A step's update kernels read it and
// change nothing once it is set; the host reads it with the loss and raises.
#pragma once
#include <cstddef>
#include <cstdint>

namespace fastnn {

enum class DataError : uint8_t {
  kNone,
  kLabelOutOfRange,
  kNanLoss,
  kBadGradient,
  kOverflow,
  kIndexOutOfRange,
  kEmptyRow,
};

struct Status {
  uint64_t word;  // site (16 bits) | index (40 bits) | code (8 bits)
};
inline constexpr size_t kMaxStatusSites = 0xffff;
inline constexpr uint64_t kStatusOk = ~uint64_t{0};

constexpr uint64_t status_word(int32_t site, int64_t index, DataError code) {
  return uint64_t(site) << 48 | (uint64_t(index) & 0xffffffffff) << 8 | uint64_t(code);
}
constexpr int32_t status_site(uint64_t word) { return static_cast<int32_t>(word >> 48); }
constexpr int64_t status_index(uint64_t word) { return (word >> 8) & 0xffffffffff; }
constexpr DataError status_code(uint64_t word) { return static_cast<DataError>(word & 0xff); }

}  // namespace fastnn
