// The harness of tests of every CPU kernel, from every compiled table, at sizes around its blocks,
// in memory of exactly the size it may touch: a read or write outside is AddressSanitizer's to
// report. Values are compared across tables (v3 == v4 bitwise); the oracles are in the Python
// tests. With FASTNN_TEST_CUDA the table is that of the CUDA kernels under the emulator, whose
// device memory is the host's: every schedule has to give the same bits.
#pragma once
#include <cmath>
#include <cstdlib>
#include <cstring>
#include <functional>
#include <string>
#include <vector>

#ifndef FASTNN_TEST_CUDA
#include "core/dispatch.h"
#endif
#include "kernels/cuda/abi.h"
#include "test.h"

namespace fastnn {
namespace {

struct Table {
  const char* name;
  const KernelTable* kernels;
};

std::vector<Table> supported_tables() {
#if defined(FASTNN_TEST_CUDA)
  return {{"cuda", fastnn_cuda_library()->kernels}};
#else
  std::vector<Table> tables;  // v3 before v4
  for (const CpuLevel& level : cpu_levels())
    if (level.supported) tables.insert(tables.begin(), {level.name, &level.kernels()});
  return tables;
#endif
}

// Exactly n values on the heap, from a fixed sequence in [-3, 3).
template <class T>
struct Buffer {
  std::vector<T> values;
  explicit Buffer(int64_t n, bool poison = false) : values(static_cast<size_t>(n)) {
    uint32_t state = 12345;
    for (T& v : values) {
      state = state * 1664525 + 1013904223;
      const float x = poison ? NAN : static_cast<float>(state >> 8) * 0x1p-24f * 6 - 3;
      if constexpr (sizeof(T) == 2) {
        uint32_t bits;
        std::memcpy(&bits, &x, 4);
        v = static_cast<T>(bits >> 16);
      } else {
        v = static_cast<T>(x);
      }
    }
    values.shrink_to_fit();
  }
  T* get() { return values.data(); }
};

// Makes the values of a buffer probabilities: |v| / 4.
inline void to_unit(Buffer<float>& buffer) {
  for (float& v : buffer.values) v = std::abs(v) / 4;
}
inline void to_unit(Buffer<uint16_t>& buffer) {
  for (uint16_t& v : buffer.values) v = static_cast<uint16_t>(std::max(v & 0x7fff, 0x100) - 0x100);
}

using Bytes = std::vector<char>;
template <class T>
void append(Bytes& bytes, const Buffer<T>& buffer) {
  const char* begin = reinterpret_cast<const char*>(buffer.values.data());
  bytes.insert(bytes.end(), begin, begin + buffer.values.size() * sizeof(T));
}

// Runs on every table; v3 and v4 must agree to the bit, and so must all schedules.
void compare(const std::string& what, const std::function<Bytes(const Kernels&)>& run,
             DType dtype) {
#ifdef FASTNN_TEST_CUDA
  const Kernels& kernels = (*fastnn_cuda_library()->kernels)[static_cast<int>(dtype)];
  Bytes first;
  for (const char* schedule : {"forward", "reverse", "random:1"}) {
    setenv("FASTNN_EMULATOR_SCHEDULE", schedule, 1);
    const Bytes bytes = run(kernels);
    if (first.empty()) first = bytes;
    EXPECT(bytes == first, "%s != forward: %s", schedule, what.c_str());
    const char* error = fastnn_cuda_library()->take_error();
    EXPECT(error == nullptr, "%s: %s", what.c_str(), error);
  }
  return;
#endif
  Bytes v3;
  for (const Table& table : supported_tables()) {
    const Bytes bytes = run((*table.kernels)[static_cast<int>(dtype)]);
    if (std::string(table.name) == "v3") v3 = bytes;
    if (std::string(table.name) == "v4") EXPECT(bytes == v3, "v3 != v4: %s", what.c_str());
  }
}

// The sizes around a block and a chunk.
inline std::vector<int64_t> sizes() {
  std::vector<int64_t> result;
#ifdef FASTNN_TEST_CUDA  // around a vector and a block, since all is run a thread at a time
  return {0, 1, 2, 3, 4, 5, 7, 8, 9, 16, 31, 33, 65, 130, 16385};
#endif
  for (int64_t n = 0; n <= 66; ++n) result.push_back(n);
  for (const int64_t n : {127, 128, 129, 16383, 16384, 16385, 40000}) result.push_back(n);
  return result;
}

}  // namespace
}  // namespace fastnn
