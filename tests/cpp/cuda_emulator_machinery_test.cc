// The emulator must catch what it is there for: these kernels are wrong on purpose. And the parts
// of the ABI that are not kernels: errors, graphs, work that waits until the host synchronises.
#include "cuda_emulator_test.h"

namespace fastnn::test {
namespace {

__global__ void reversed_kernel(float* y, bool with_barrier) {
  FASTNN_SHARED(float, value, 64);
  value[threadIdx.x] = static_cast<float>(threadIdx.x);
  if (with_barrier) __syncthreads();
  y[threadIdx.x] = value[63 - threadIdx.x];
}
__global__ void two_warps_kernel(double* y,
                                 bool with_barrier) {  // block sum without the last barrier
  FASTNN_SHARED(double, part, 2);
  double x = 1.0 + threadIdx.x;
  for (int lanes = 16; lanes > 0; lanes /= 2) x += __shfl_xor_sync(0xffffffff, x, lanes);
  if (threadIdx.x % 32 == 0) part[threadIdx.x / 32] = x;
  if (with_barrier) __syncthreads();
  y[threadIdx.x] = part[0] + part[1];
}
__global__ void last_block_kernel(float* y) { *y = static_cast<float>(blockIdx.x); }
__global__ void divergent_barrier_kernel() {
  if (threadIdx.x < 32) {
    __syncthreads();
  } else {
    __syncthreads();
  }
}
__global__ void returned_early_kernel(int n) {
  if (static_cast<int>(threadIdx.x) >= n) return;
  __syncthreads();
}
__global__ void divergent_shuffle_kernel(float* y) {
  if (threadIdx.x < 16) *y = __shfl_xor_sync(0xffffffff, 1.f, 1);
  __syncthreads();
}
__global__ void lanes_kernel(uint32_t* ballot, float* down, float* up, float* first) {
  const int t = static_cast<int>(threadIdx.x);
  ballot[t] = __ballot_sync(0xffffffff, t % 3 == 0);
  const float x = static_cast<float>(t);
  down[t] = __shfl_down_sync(0xffffffff, x, 4);
  up[t] = __shfl_up_sync(0xffffffff, x, 4);
  first[t] = __shfl_sync(0xffffffff, x, 0);
}
__global__ void dynamic_kernel(float* y) {
  FASTNN_DYNAMIC_SHARED(float, value);
  y[threadIdx.x] = value[threadIdx.x];
}
__global__ void smallest_kernel(unsigned long long* word) {
  atomicMin(word, 1000 - (blockIdx.x * blockDim.x + threadIdx.x));
}

std::string error_of(const std::function<void()>& launch) {
  launch();
  const char* error = library().take_error();
  return error != nullptr ? error : "";
}

void test_races() {
  Buffer<float> y(64), block(1);
  Buffer<double> sums(64);
  for (const bool right : {true, false}) {
    const bool reversed = same_on_all_schedules([&] {
      FASTNN_LAUNCH(reversed_kernel, 1, 64, nullptr, y.data(), right);
      return y.bits();
    });
    expect(reversed == right, text("a missing barrier changes a reversal: %d", right));
    const bool sum = same_on_all_schedules([&] {
      FASTNN_LAUNCH(two_warps_kernel, 1, 64, nullptr, sums.data(), right);
      return sums.bits();
    });
    expect(sum == right, text("a missing barrier changes a sum: %d", right));
  }
  expect(!same_on_all_schedules([&] {
    FASTNN_LAUNCH(last_block_kernel, 4, 1, nullptr, block.data());
    return block.bits();
  }),
         "blocks that write one element");
}

void test_divergence() {
  Buffer<float> y(1);
  const auto contains = [](const std::string& all, const char* part) {
    return expect(all.find(part) != std::string::npos, text("'%s' in '%s'", part, all.c_str()));
  };
  const std::string barrier =
      error_of([] { FASTNN_LAUNCH(divergent_barrier_kernel, 1, 64, nullptr); });
  contains(barrier, "__syncthreads: divergent: thread 0 at cuda_emulator_machinery_test.cc:");
  contains(barrier, "waits for thread 32");
  const std::string early =
      error_of([] { FASTNN_LAUNCH(returned_early_kernel, 1, 64, nullptr, 40); });
  contains(early, "waits for thread 40, which has returned");
  const std::string lanes =
      error_of([&] { FASTNN_LAUNCH(divergent_shuffle_kernel, 1, 32, nullptr, y.data()); });
  contains(lanes, "warp operation: divergent: thread 0");
  contains(lanes, "waits for thread 16");
  contains(error_of([&] { FASTNN_LAUNCH(last_block_kernel, 0, 1, nullptr, y.data()); }),
           "invalid configuration");
  contains(error_of([&] { FASTNN_LAUNCH(last_block_kernel, 1, 1025, nullptr, y.data()); }),
           "invalid configuration");
  expect(error_of([] { FASTNN_LAUNCH(returned_early_kernel, 1, 64, nullptr, 64); }).empty(),
         "after an error the next launch runs");
}

void test_intrinsics() {
  Buffer<uint32_t> ballot(32);
  Buffer<float> down(32), up(32), first(32), y(64);
  Buffer<unsigned long long> word(1);
  word.data()[0] = ~0ull;
  FASTNN_LAUNCH(lanes_kernel, 1, 32, nullptr, ballot.data(), down.data(), up.data(), first.data());
  FASTNN_LAUNCH_SHARED(dynamic_kernel, 1, 64, 64 * sizeof(float), nullptr, y.data());
  FASTNN_LAUNCH(smallest_kernel, 3, 40, nullptr, word.data());
  bool ok = true, poisoned = true;
  for (int t = 0; t < 32; ++t)
    ok = ok && ballot.data()[t] == 0x49249249u && down[t] == (t < 28 ? t + 4 : t) &&
         up[t] == (t < 4 ? t : t - 4) && first[t] == 0;
  for (int t = 0; t < 64; ++t) poisoned = poisoned && std::isnan(y[t]);
  expect(ok, "ballot and shuffles");
  expect(poisoned, "dynamic shared memory begins as NaN");
  expect(word.data()[0] == 1000 - 119, "atomicMin");
}

void test_abi() {
  const CudaLibrary& l = library();
  CudaDevice device;
  bool entered = false;
  int32_t count = 0;
  void* memory = nullptr;
  expect(mismatch(l) == nullptr && l.emulated, "the library fits");
  CudaLibrary other = l;
  other.layout_hash += 1;
  expect(mismatch(other) != nullptr, "another layout does not");
  expect(l.device_count(&count) == kCudaOk && count == 1, "device_count");
  expect(l.device_info(0, &device) == kCudaOk && device.name[0] != '\0', "device_info");
  expect(l.enter_device(7, &entered) == kCudaError && l.take_error() != nullptr &&
             l.take_error() == nullptr,
         "an error is taken once");
  expect(
      l.alloc(&memory, int64_t{1} << 50, nullptr) == kCudaOutOfMemory && l.take_error() != nullptr,
      "out of memory has its own code");
  expect(l.alloc(&memory, 64, nullptr) == kCudaOk && l.free(memory, nullptr) == kCudaOk &&
             l.free(memory, nullptr) == kCudaError && l.take_error() != nullptr,
         "freed twice");
  expect(l.trim() == kCudaOk && l.free(nullptr, nullptr) == kCudaOk, "trim, free(null)");
}

// A recorded step sees the state change, and nothing runs while it is recorded.
void test_graph() {
  const CudaLibrary& l = library();
  Buffer<OptimState> states(1);
  Buffer<OptimRates> rates(1);
  Buffer<Status> status(1);
  Buffer<TensorChunk> chunks(1);
  *states.data() = {0, 1, 1, 1};
  *chunks.data() = {nullptr, nullptr, {}, states.data(), 1, 0};
  OptimArgs args{};
  args.chunks = chunks.data(), args.rates = rates.data(), args.status = status.data(),
  args.num_chunks = 1;
  status.data()->word = kStatusOk;
  void *stream = nullptr, *graph = nullptr, *memory = nullptr;
  expect(l.stream_create(&stream) == kCudaOk && l.capture_begin(stream) == kCudaOk,
         "capture begins");
  kernels<float>().optim_begin(args, {0, 1, stream});
  expect(l.alloc(&memory, 64, stream) != kCudaOk && l.take_error() != nullptr,
         "no allocation in a capture");
  expect(l.capture_end(stream, &graph) == kCudaOk && states.data()->step == 0, "recorded, not run");
  for (int i = 0; i < 3; ++i) l.graph_launch(graph, stream);
  expect(l.stream_synchronize(stream) == kCudaOk && states.data()->step == 3,
         "replayed three times");
  expect(l.graph_destroy(graph) == kCudaOk, "graph_destroy");

  setenv("FASTNN_EMULATOR_LAZY", "1", 1);
  float host = 1, back = 0;
  l.alloc(&memory, 4, stream);
  l.copy_to_device(memory, &host, 4, stream);
  host = 2;  // staged already
  l.copy_to_host(&back, memory, 4, stream);
  l.free(memory, stream);
  const bool waits = back == 0;
  l.stream_synchronize(stream);
  expect(waits && back == 1, "lazy: work waits for the host");

  // From page-locked memory what is read is what is there when the stream comes to it.
  void *locked, *event;
  bool before = true, after = false;
  expect(l.host_alloc(&locked, 4) == kCudaOk && l.event_create(&event) == kCudaOk &&
             l.alloc(&memory, 4, stream) == kCudaOk,
         "page-locked memory and an event");
  *static_cast<float*>(locked) = 3;
  l.copy_to_device(memory, locked, 4, stream);
  l.event_record(event, stream);
  l.event_is_done(event, &before);
  *static_cast<float*>(locked) = 4;
  l.event_synchronize(event);
  l.event_is_done(event, &after);
  l.copy_to_host(&back, memory, 4, stream);
  l.free(memory, stream);
  l.stream_synchronize(stream);
  expect(!before && after && back == 4, "an event, and a copy that reads late");
  expect(l.event_destroy(event) == kCudaOk && l.host_free(locked) == kCudaOk, "both given back");
  unsetenv("FASTNN_EMULATOR_LAZY");
  expect(l.stream_destroy(stream) == kCudaOk && l.take_error() == nullptr, "no error is left");
}

}  // namespace

void test_machinery() {
  test_races();
  test_divergence();
  test_intrinsics();
  test_abi();
  test_graph();
}

}  // namespace fastnn::test
