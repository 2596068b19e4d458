// The emulator's streams: what two of them did not agree on by an event must be seen, and captures
// must refuse what CUDA refuses, with its words.
#include "cuda_emulator_test.h"

namespace fastnn::test {
namespace {

__global__ void set_kernel(float* y, float value) { *y = value; }
__global__ void copy_kernel(float* y, const float* x) { *y = *x; }

struct Two {
  cudaStream_t a, b;
  cudaEvent_t event;
  Two() {
    cudaStreamCreateWithFlags(&a, cudaStreamNonBlocking);
    cudaStreamCreateWithFlags(&b, cudaStreamNonBlocking);
    cudaEventCreateWithFlags(&event, cudaEventDisableTiming);
  }
  ~Two() { cudaEventDestroy(event), cudaStreamDestroy(a), cudaStreamDestroy(b); }
  void order(cudaStream_t first, cudaStream_t second) {
    cudaEventRecord(event, first);
    cudaStreamWaitEvent(second, event, 0);
  }
};

std::string last_error() {
  const cudaError_t error = cudaGetLastError();
  return error == cudaSuccess ? "" : cudaGetErrorString(error);
}

// What b reads of x, which a writes before it, or after it.
float read_on_b(const char* lazy, bool a_comes_first, bool ordered) {
  Two two;
  Buffer<float> x(1), y(1);
  x.data()[0] = 0;
  setenv("FASTNN_EMULATOR_LAZY", lazy, 1);
  if (a_comes_first) FASTNN_LAUNCH(set_kernel, 1, 1, two.a, x.data(), 7.f);
  if (a_comes_first && ordered) two.order(two.a, two.b);
  FASTNN_LAUNCH(copy_kernel, 1, 1, two.b, y.data(), x.data());
  if (!a_comes_first && ordered) two.order(two.b, two.a);
  if (!a_comes_first) FASTNN_LAUNCH(set_kernel, 1, 1, two.a, x.data(), 7.f);
  const bool waits = std::isnan(y[0]);
  cudaStreamSynchronize(two.b);
  const auto seen = static_cast<float>(y[0]);
  cudaDeviceSynchronize();  // before the memory goes
  unsetenv("FASTNN_EMULATOR_LAZY");
  expect(waits, "lazy: nothing runs before the host waits");
  return seen;
}

void test_order_of_streams() {
  for (const char* lazy : {"1", "others"})
    for (const bool a_comes_first : {true, false}) {
      const float right = a_comes_first ? 7 : 0;
      expect(read_on_b(lazy, a_comes_first, true) == right, "streams with an event between them");
      const bool late = std::string(lazy) == "1";
      expect(read_on_b(lazy, a_comes_first, false) == (late ? 0 : 7),
             text("a missing event is seen: %s, %d", lazy, a_comes_first));
    }
}

// What was waited for runs, and what the other stream was given after the event does not.
void test_events() {
  Two two;
  Buffer<float> x(1), y(1);
  setenv("FASTNN_EMULATOR_LAZY", "1", 1);
  FASTNN_LAUNCH(set_kernel, 1, 1, two.a, x.data(), 1.f);
  two.order(two.a, two.b);
  FASTNN_LAUNCH(set_kernel, 1, 1, two.a, x.data(), 2.f);
  FASTNN_LAUNCH(copy_kernel, 1, 1, two.b, y.data(), x.data());
  expect(cudaEventQuery(two.event) == cudaErrorNotReady, "not yet");
  cudaStreamSynchronize(two.b);
  expect(cudaEventQuery(two.event) == cudaSuccess && y[0] == 1 && x[0] == 1, "as far as needed");
  cudaDeviceSynchronize();
  unsetenv("FASTNN_EMULATOR_LAZY");
  expect(x[0] == 2, "the device is done");
}

void test_forks() {
  Two two;
  Buffer<float> x(1), y(1);
  cudaGraph_t graph;
  const auto capture = [&](bool join) {
    cudaStreamBeginCapture(two.a, cudaStreamCaptureModeGlobal);
    FASTNN_LAUNCH(set_kernel, 1, 1, two.a, x.data(), 5.f);
    two.order(two.a, two.b);
    FASTNN_LAUNCH(copy_kernel, 1, 1, two.b, y.data(), x.data());
    if (join) two.order(two.b, two.a);
    return cudaStreamEndCapture(two.a, &graph);
  };
  expect(capture(false) == cudaErrorStreamCaptureUnjoined &&
             last_error() == "capturing stream has unjoined work",
         "a fork that was not joined");
  expect(capture(true) == cudaSuccess && std::isnan(y[0]), "a fork that was");
  cudaGraphLaunch(graph, two.b);
  cudaStreamSynchronize(two.b);
  expect(y[0] == 5, "both streams' work is in the graph");
  cudaGraphDestroy(graph);
}

// What makes a capture invalid, and its words.
void test_refusals() {
  const auto refuses = [](const char* what, const std::function<void(Two&)>& call) {
    Two two;
    cudaGraph_t graph;
    cudaEventRecord(two.event, two.b);
    cudaStreamBeginCapture(two.a, cudaStreamCaptureModeGlobal);
    call(two);
    const std::string got = last_error();
    expect(got == what, text("'%s', got '%s'", what, got.c_str()));
    const bool valid = cudaStreamEndCapture(two.a, &graph) == cudaSuccess;
    expect(valid == got.empty(), "a refusal ends the capture");
    if (valid) cudaGraphDestroy(graph);
    cudaGetLastError();
  };
  const char* busy = "operation not permitted when stream is capturing";
  refuses("dependency created on uncaptured work in another stream",
          [](Two& two) { cudaStreamWaitEvent(two.a, two.event, 0); });
  refuses("operation not permitted on an event last recorded in a capturing stream",
          [](Two& two) { cudaEventRecord(two.event, two.a), cudaEventQuery(two.event); });
  refuses(busy, [](Two& two) { cudaStreamSynchronize(two.a); });
  refuses(busy, [](Two& two) { cudaStreamSynchronize(two.b); });
  refuses(busy, [](Two& two) { cudaEventQuery(two.event); });
  refuses(busy, [](Two&) { cudaDeviceSynchronize(); });
  refuses(busy, [](Two&) {
    void* memory;
    cudaMallocHost(&memory, 4);
  });
  refuses("operation would result in a merge of separate capture sequences", [](Two& two) {
    cudaGraph_t other;
    cudaStreamBeginCapture(two.b, cudaStreamCaptureModeGlobal);
    two.order(two.a, two.b);
    const std::string said = last_error();
    cudaStreamEndCapture(two.b, &other), cudaGetLastError();
    cudaStreamWaitEvent(two.a, two.event, 0);  // of its own capture: allowed
    expect(said.find("merge") != std::string::npos, said);
    cudaStreamBeginCapture(two.b, cudaStreamCaptureModeGlobal);
    two.order(two.b, two.a);
    cudaStreamEndCapture(two.b, &other);
  });
  refuses("", [](Two& two) {
    cudaStreamCaptureMode mode = cudaStreamCaptureModeRelaxed;
    cudaThreadExchangeStreamCaptureMode(&mode);
    cudaEventQuery(two.event), cudaStreamSynchronize(two.b);
    cudaThreadExchangeStreamCaptureMode(&mode);
  });
}

// What a graph retains lives until its last executable is gone.
void test_retained() {
  Two two;
  bool gone = false;
  cudaGraph_t captured, graph;
  cudaGraphExec_t executable;
  cudaUserObject_t object;
  cudaStreamCaptureStatus status;
  cudaStreamBeginCapture(two.a, cudaStreamCaptureModeGlobal);
  cudaStreamGetCaptureInfo(two.a, &status, nullptr, &graph);
  cudaUserObjectCreate(
      &object, &gone, [](void* to) { *static_cast<bool*>(to) = true; }, 1,
      cudaUserObjectNoDestructorSync);
  cudaGraphRetainUserObject(graph, object, 1, cudaGraphUserObjectMove);
  cudaStreamEndCapture(two.a, &captured);
  cudaGraphInstantiate(&executable, captured, 0);
  cudaGraphDestroy(captured);
  const bool kept = !gone;
  cudaGraphExecDestroy(executable);
  expect(status == cudaStreamCaptureStatusActive && kept && gone, "retained by the graph");
}

}  // namespace

void test_streams() {
  test_order_of_streams();
  test_events();
  test_forks();
  test_refusals();
  test_retained();
  expect(last_error().empty(), "no error is left");
}

}  // namespace fastnn::test
