// The harness of the emulator tests: device arrays with guards, comparison against float64, and the
// schedules under which every kernel runs. Invariant: each check counts, a failure prints its
// values.
#pragma once
#include <cmath>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <functional>
#include <memory>
#include <random>
#include <string>
#include <vector>

#include "kernels/cuda/abi.h"
#include "kernels/cuda/port.h"

namespace fastnn::test {

inline int passed = 0, failed = 0;

inline bool expect(bool ok, const std::string& what) {
  ok ? ++passed : ++failed;
  if (!ok && failed <= 40) std::printf("FAILED %s\n", what.c_str());
  return ok;
}

// One element of a larger check: prints the first that is wrong, and counts with the whole.
template <class Text>
bool check(bool ok, Text what) {
  if (!ok && failed < 40) std::printf("WRONG %s\n", what().c_str());
  return ok;
}

inline const CudaLibrary& library() { return *fastnn_cuda_library(); }
template <class T>
constexpr DType kDType = std::is_same_v<T, float>  ? DType::kFloat32
                         : std::is_same_v<T, bf16> ? DType::kBFloat16
                                                   : DType::kFloat16;
template <class T>
constexpr double kUnit = std::is_same_v<T, float>  ? 0x1p-24
                         : std::is_same_v<T, bf16> ? 0x1p-8
                                                   : 0x1p-11;
template <class T>
constexpr const char* kName = std::is_same_v<T, float>  ? "float32"
                              : std::is_same_v<T, bf16> ? "bfloat16"
                                                        : "float16";
template <class T>
const Kernels& kernels() {
  return (*library().kernels)[static_cast<int>(kDType<T>)];
}

template <class... Args>
std::string text(const char* format, Args... args) {
  char buffer[512];
  std::snprintf(buffer, sizeof buffer, format, args...);
  return buffer;
}

// Elements in device memory, `shift` elements past a 16-byte boundary, poisoned, between guards.
template <class T>
class Buffer {
 public:
  explicit Buffer(int64_t n, int64_t shift = 0) : n_(n), shift_(shift) {
    void* memory = nullptr;
    library().alloc(&memory, bytes(), nullptr);
    memory_ = static_cast<unsigned char*>(memory);
    std::memset(memory_, kGuard, static_cast<size_t>(bytes()));
    std::memset(static_cast<void*>(data()), 0xff, sizeof(T) * static_cast<size_t>(n));
  }
  Buffer(const std::vector<double>& values, int64_t shift)
      : Buffer(static_cast<int64_t>(values.size()), shift) {
    for (int64_t i = 0; i < n_; ++i) set(i, values[static_cast<size_t>(i)]);
  }
  Buffer(const Buffer&) = delete;
  Buffer& operator=(const Buffer&) = delete;
  ~Buffer() {
    expect(guarded(), text("guards of an array of %ld %s", long(n_), typeid(T).name()));
    library().free(memory_, nullptr);
  }

  T* data() { return reinterpret_cast<T*>(memory_ + kMargin) + shift_; }
  int64_t size() const { return n_; }
  double operator[](int64_t i) {
    if constexpr (std::is_class_v<T>)
      return static_cast<double>(to_float(data()[i]));
    else
      return static_cast<double>(data()[i]);
  }
  void set(int64_t i, double value) {
    if constexpr (std::is_class_v<T>)
      data()[i] = from_float<T>(static_cast<float>(value));
    else
      data()[i] = static_cast<T>(value);
  }
  std::string bits() {
    return std::string(reinterpret_cast<char*>(data()), sizeof(T) * size_t(n_));
  }

 private:
  static constexpr int64_t kMargin = 64;
  static constexpr unsigned char kGuard = 0xa5;
  int64_t bytes() const { return 2 * kMargin + (n_ + shift_) * int64_t{sizeof(T)}; }
  bool guarded() {
    const auto* begin = reinterpret_cast<unsigned char*>(data());
    const auto* end = reinterpret_cast<unsigned char*>(data() + n_);
    bool ok = true;
    for (const unsigned char* p = memory_; p < memory_ + bytes(); ++p)
      ok = ok && (p >= begin && p < end ? true : *p == kGuard);
    return ok;
  }
  int64_t n_, shift_;
  unsigned char* memory_;
};

// |got - want| <= bound; NaN and infinities must agree.
inline bool close(double got, double want, double bound) {
  if (std::isnan(want)) return std::isnan(got);
  if (std::isinf(want)) return got == want;
  return std::abs(got - want) <= bound;
}
// What a result of type T may be off by: the rounding of the output, and `units` of float32.
template <class T>
double tolerance(double want, double size, double units) {
  const double output = std::is_same_v<T, float> ? 0 : kUnit<T> * std::abs(want) * 1.001;
  const double least = std::is_same_v<T, f16> ? 0x1p-25 : 0x1p-133;
  return output + units * 0x1p-24 * size + least;
}

template <class T>
double rounded(double x) {
  return static_cast<double>(to_float(from_float<T>(static_cast<float>(x))));
}
inline std::mt19937_64 random_bits(1);
template <class T>
std::vector<double> normal(int64_t n, double offset = 0, double scale = 1) {
  std::normal_distribution<double> draw(offset, scale);
  std::vector<double> values(static_cast<size_t>(n));
  for (double& v : values) v = rounded<T>(draw(random_bits));
  return values;
}

// Runs `body`, which returns the bits of its results, under every schedule: they must not differ.
inline bool same_on_all_schedules(const std::function<std::string()>& body) {
  setenv("FASTNN_EMULATOR_SCHEDULE", "forward", 1);
  const std::string forward = body();
  bool same = true;
  for (const char* schedule : {"reverse", "random:1", "random:2"}) {
    setenv("FASTNN_EMULATOR_SCHEDULE", schedule, 1);
    same = body() == forward && same;
  }
  setenv("FASTNN_EMULATOR_SCHEDULE", "forward", 1);
  return same;
}

// That a planted bug was found, with this part in what was said; an empty one: that nothing was.
inline void expect_found(int bug, const std::string& found, const char* part) {
  expect(part[0] == '\0' ? found.empty() : found.find(part) != std::string::npos,
         text("bug %d: '%s' in '%s'", bug, part, found.c_str()));
}

void test_machinery();  // the emulator itself: what it must catch, graphs, errors
void test_streams();    // cuda_emulator_stream_test.cc
void test_kernels();    // cuda_emulator_test.cc
void test_small_kernels();
void test_large();  // indices beyond 2^31
void test_optimizers();
void test_wgmma();
void test_mlp();
void test_ending();
void test_clusters();

}  // namespace fastnn::test
