// Arrays of more than 2^31 elements: of each launch the last block alone, over memory that is only
// reserved. An index of 32 bits would fall before the array, or into its beginning.
#include <sys/mman.h>

#include "cuda_emulator_test.h"

namespace fastnn::test {
namespace {

constexpr int kRelu = 1;  // in Activations
constexpr int64_t kMany = (int64_t{1} << 31) + (int64_t{1} << 21) + 45;

// Addresses without memory, but for the pages that are touched; zeros.
template <class T>
class Reserved {
 public:
  explicit Reserved(int64_t n) : bytes_(static_cast<size_t>(n) * sizeof(T)) {
    void* memory = mmap(nullptr, bytes_, PROT_READ | PROT_WRITE,
                        MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    data_ = memory == MAP_FAILED ? nullptr : static_cast<T*>(memory);
  }
  Reserved(const Reserved&) = delete;
  ~Reserved() {
    if (data_ != nullptr) munmap(data_, bytes_);
  }
  T* data() { return data_; }
  double operator[](int64_t i) { return static_cast<double>(to_float(data_[i])); }

 private:
  size_t bytes_;
  T* data_;
};

class LastBlockOf {
 public:
  explicit LastBlockOf(int64_t grid) { emulator::last_block_of = static_cast<uint32_t>(grid); }
  ~LastBlockOf() { emulator::last_block_of = 0; }
};

// The last elements, and none of the first.
template <class T>
void expect_at_the_end(Reserved<T>& y, double want, int64_t n, const char* what) {
  bool ok = library().take_error() == nullptr;
  for (int64_t i = n - 9; i < n; ++i) ok = ok && y[i] == want;
  for (int64_t i = 0; i < 4096; ++i) ok = ok && y[i] == 0;
  expect(ok, text("%s of %s, %ld elements", what, kName<T>, long(n)));
}

template <class T>
void test_elementwise() {
  constexpr int64_t kTile = 256 * 2 * (16 / sizeof(T));
  Reserved<T> x(kMany), y(kMany);
  for (int64_t i = kMany - 9; i < kMany; ++i) x.data()[i] = from_float<T>(3.f);
  {
    const LastBlockOf grid(ceil_div(kMany, kTile));
    kernels<T>().activation_fwd[kRelu]({x.data(), y.data(), kMany, 0}, {0, 1, nullptr});
  }
  expect_at_the_end(y, 3, kMany, "relu");
}

template <class T>
void test_sum() {
  const int64_t chunks = ceil_div(kMany, kReduceChunk);
  Reserved<T> x(kMany);
  std::vector<double> partials(static_cast<size_t>(chunks), 7);
  for (int64_t i = kMany - 9; i < kMany; ++i) x.data()[i] = from_float<T>(3.f);
  {
    const LastBlockOf grid(chunks);
    kernels<T>().sum_chunks({x.data(), nullptr, partials.data(), kMany, 1, nullptr, 0},
                            {0, 1, nullptr});
  }
  expect(partials.back() == 27 && partials[0] == 7,
         text("the last chunk of a sum of %s", kName<T>));
}

// Rows of a warp, a block and more than registers hold.
template <class T>
void test_rows() {
  for (const int64_t cols : {int64_t{64}, int64_t{3000}, int64_t{40000}}) {
    const int64_t rows = kMany / cols + 1, n = rows * cols;
    Reserved<T> x(n), y(n);
    {
      const LastBlockOf grid(cols > 64 ? rows : ceil_div(rows, 8));
      kernels<T>().softmax_fwd({x.data(), y.data(), rows, cols}, {0, 1, nullptr});
    }
    const float want = to_float(from_float<T>(1.f / static_cast<float>(cols)));
    expect_at_the_end(y, static_cast<double>(want), n, "softmax");
  }
}

// A parameter's chunks have addresses, and the number of their first element, for what is reported.
void test_reports() {
  Buffer<float> g(8), p(8);
  Buffer<OptimState> states(1);
  Buffer<OptimRates> rates(1);
  Buffer<Status> status(1);
  Buffer<TensorChunk> chunks(1);
  for (int64_t i = 0; i < 8; ++i) g.set(i, i == 6 ? NAN : 0), p.set(i, 1);
  *states.data() = {0, 1, 1, 1};
  status.data()->word = kStatusOk;
  *chunks.data() = {p.data(), g.data(), {}, states.data(), 8, kMany};
  OptimArgs args{};
  args.chunks = chunks.data(), args.rates = rates.data(), args.status = status.data(),
  args.num_chunks = 1;
  kernels<float>().optim_check(args, {0, 1, nullptr});
  expect(status_index(status.data()->word) == kMany + 6, "the index of a bad gradient");
}

}  // namespace

void test_large() {
  test_elementwise<float>(), test_elementwise<bf16>();
  test_sum<float>(), test_sum<bf16>();
  test_rows<float>(), test_rows<bf16>();
  test_reports();
}

}  // namespace fastnn::test
