// Two devices under the emulator: what a call says that is made on another device than its own, as
// it is where a guard is missing, and what a guard leaves behind.
#include <sys/wait.h>
#include <unistd.h>

#include <csignal>
#include <cstdint>

#include "cuda_emulator_test.h"

namespace fastnn::test {
namespace {

constexpr int64_t kBytes = 4096;

// Makes a device current, as every call of the core does.
class On {
 public:
  explicit On(int32_t device) {
    expect(library().enter_device(device, &entered_) == kCudaOk, "enter_device");
  }
  ~On() {
    if (entered_) expect(library().leave_device() == kCudaOk, "leave_device");
  }

 private:
  bool entered_ = false;
};

int32_t current() {
  int device = -1;
  cudaGetDevice(&device);
  return device;
}
std::string taken() {
  const char* error = library().take_error();
  return error != nullptr ? error : "";
}
void expect_refused(CudaCode code, const char* what) {
  const std::string error = taken();
  expect(code == kCudaError && error.starts_with("invalid resource handle: "),
         text("%s on another device: %d, '%s'", what, code, error.c_str()));
}

__global__ void set_kernel(float* y, float x) { y[threadIdx.x] = x; }

struct Things {
  void *stream = nullptr, *memory = nullptr, *event = nullptr, *graph = nullptr;
  explicit Things(int32_t device) {
    const On on(device);
    const CudaLibrary& l = library();
    expect(l.stream_create(&stream) == kCudaOk && l.event_create(&event) == kCudaOk &&
               l.alloc(&memory, kBytes, stream) == kCudaOk,
           "a stream, an event, memory");
    expect(l.capture_begin(stream) == kCudaOk, "capture_begin");
    set(3);
    expect(l.capture_end(stream, &graph) == kCudaOk, "capture_end");
  }
  void set(float x) const {
    FASTNN_LAUNCH(set_kernel, 1, 32, stream, static_cast<float*>(memory), x);
  }
  void give_back(int32_t device) const {
    const On on(device);
    const CudaLibrary& l = library();
    expect(l.free(memory, stream) == kCudaOk && l.graph_destroy(graph) == kCudaOk &&
               l.event_destroy(event) == kCudaOk && l.stream_destroy(stream) == kCudaOk,
           "all is given back");
  }
};

void test_guard() {
  const CudaLibrary& l = library();
  bool entered = false;
  CUcontext context = nullptr;
  {
    const On one(1);
    expect(current() == 1, "device 1 is current");
    const On zero(0), again(0);
    expect(current() == 0, "device 0 is current");
  }
  expect(cuCtxGetCurrent(&context) == cudaSuccess && context == nullptr,
         "no context is left where there was none");
  expect(
      l.enter_device(2, &entered) == kCudaError && !entered && taken() == "invalid device ordinal",
      "there are two devices");
  expect(l.leave_device() == kCudaError && taken() == "invalid device context",
         "nothing was entered");
  cudaSetDevice(1);  // as another library does
  {
    const On on(0);
  }
  expect(current() == 1, "the device of another library stays");
  cuCtxPopCurrent(&context);
}

// Every call that a guard could be missing around.
void test_missing_guards(const Things& one) {
  const CudaLibrary& l = library();
  void* memory = nullptr;
  bool done = false;
  char host[64] = {};
  const On elsewhere(0);
  one.set(7);
  expect_refused(kCudaError, "a launch");
  expect_refused(l.alloc(&memory, 64, one.stream), "alloc");
  expect_refused(l.free(one.memory, one.stream), "free");
  expect_refused(l.copy_to_host(host, one.memory, 64, one.stream), "copy_to_host");
  expect_refused(l.copy_to_device(one.memory, host, 64, one.stream), "copy_to_device");
  expect_refused(l.copy_on_device(one.memory, one.memory, 64, one.stream), "copy_on_device");
  expect_refused(l.copy_between(one.memory, 1, one.memory, 1, 64, one.stream), "copy_between");
  expect_refused(l.fill_bytes(one.memory, 0, 64, one.stream), "fill_bytes");
  expect_refused(l.stream_synchronize(one.stream), "stream_synchronize");
  expect_refused(l.stream_wait(one.stream, one.event), "stream_wait");
  expect_refused(l.stream_destroy(one.stream), "stream_destroy");
  expect_refused(l.event_record(one.event, one.stream), "event_record");
  expect_refused(l.event_record(one.event, nullptr), "event_record on a stream of here");
  expect_refused(l.event_is_done(one.event, &done), "event_is_done");
  expect_refused(l.event_synchronize(one.event), "event_synchronize");
  expect_refused(l.event_destroy(one.event), "event_destroy");
  expect_refused(l.capture_begin(one.stream), "capture_begin");
  expect_refused(l.graph_launch(one.graph, one.stream), "graph_launch");
  expect_refused(l.graph_launch(one.graph, nullptr), "graph_launch on a stream of here");
  expect(memory == nullptr, "nothing was allocated");
}

void test_copies(const Things& zero, const Things& one) {
  const CudaLibrary& l = library();
  float host[32] = {};
  {
    const On on(1);
    expect(l.graph_launch(one.graph, one.stream) == kCudaOk, "a graph of device 1");
    expect(l.event_record(one.event, one.stream) == kCudaOk, "an event of device 1");
  }
  const On on(0);
  expect(l.stream_wait(zero.stream, one.event) == kCudaOk &&
             l.copy_between(zero.memory, 0, one.memory, 1, sizeof host, zero.stream) == kCudaOk &&
             l.copy_to_host(host, zero.memory, sizeof host, zero.stream) == kCudaOk &&
             l.stream_synchronize(zero.stream) == kCudaOk,
         "a copy from device 1 to 0");
  expect(host[0] == 3 && host[31] == 3, "it has what the graph wrote");
  expect(l.copy_between(zero.memory, 1, one.memory, 1, 64, zero.stream) == kCudaError &&
             taken().starts_with("invalid argument"),
         "memory of another device than was said");
}

// What work says that ends its process by a signal.
std::string fatal(const std::function<void()>& work) {
  int ends[2];
  if (pipe(ends) != 0) return "";
  const pid_t child = fork();
  if (child == 0) {
    dup2(ends[1], STDERR_FILENO);
    work();
    _exit(0);
  }
  ::close(ends[1]);
  char said[256];
  const ssize_t n = read(ends[0], said, sizeof said);
  ::close(ends[0]);
  int status = 0;
  waitpid(child, &status, 0);
  return WIFSIGNALED(status) && n > 0 ? std::string(said, static_cast<size_t>(n)) : "";
}

void test_memory(const Things& zero, const Things& one) {
#ifndef __SANITIZE_ADDRESS__
  const std::string said = fatal([&] {
    const On on(0);
    FASTNN_LAUNCH(set_kernel, 1, 32, zero.stream, static_cast<float*>(one.memory), 1.f);
  });
  expect(said == "emulator: memory of device 1 was touched by work that is not its own\n",
         "a kernel that follows a pointer of another device: '" + said + "'");
#endif
  const On on(0);
  zero.set(1);
  expect(taken().empty(), "its own memory");
}

}  // namespace
}  // namespace fastnn::test

int main() {
  using namespace fastnn::test;
  setenv("FASTNN_EMULATOR_DEVICES", "2", 1);  // before the first call
  test_guard();
  const Things zero(0), one(1);
  test_missing_guards(one);
  test_copies(zero, one);
  test_memory(zero, one);
  zero.give_back(0), one.give_back(1);
  expect(taken().empty(), "no error is left");
  std::printf("%d passed, %d failed\n", passed, failed);
  return failed == 0 ? 0 : 1;
}
