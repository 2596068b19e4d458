// Which sequences are one launch: those that were asked for, fit, and were right in a check.
#include <map>
#include <mutex>
#include <set>
#include <tuple>

#include "../device.h"
#include "sequences.h"

namespace fastnn::sequence {
namespace {

enum Path : int32_t { kMeasured, kBySteps, kByClusters };
using Class = std::tuple<int32_t, bool, bool, int32_t>;  // of a shape in clusters of some blocks

// What is known of a device.
struct OnDevice {
  std::map<Class, bool> right;
  std::set<std::string> refused;
};
struct State {
  std::mutex mutex;
  Path path = kMeasured;
  int64_t made = 0;
  device::Each<OnDevice> devices;
};
State& state() {
  static auto* all = new State;
  return *all;
}

std::string name_of(const CudaSequence& shape) {
  constexpr const char* kNames[] = {"tanh", "relu", "lstm", "gru"};
  return std::string("clusters: ") + kNames[shape.cell] + (shape.backward ? " backward" : "") +
         (shape.bf16_weights ? ", bfloat16" : ", float32");
}

bool is_captured(void* stream) {
  cudaStreamCaptureStatus status;
  return cudaStreamIsCapturing(static_cast<cudaStream_t>(stream), &status) != cudaSuccess ||
         status != cudaStreamCaptureStatusNone;
}

bool is_right(OnDevice& all, const CudaSequence& shape, int32_t cluster, void* stream) {
  const Class key{shape.cell, shape.backward, shape.bf16_weights, cluster};
  if (const auto known = all.right.find(key); known != all.right.end()) return known->second;
  if (is_captured(stream)) return false;
  const std::string why = check(shape, cluster, stream);
  if (!why.empty())
    all.refused.insert(name_of(shape) + ", " + std::to_string(cluster) + " blocks: " + why);
  return all.right[key] = why.empty();
}

}  // namespace

std::string why_unavailable() {
  int device = 0, major = 0, minor = 0;
  cudaGetDevice(&device);
  cudaDeviceGetAttribute(&major, cudaDevAttrComputeCapabilityMajor, device);
  cudaDeviceGetAttribute(&minor, cudaDevAttrComputeCapabilityMinor, device);
  if (major == 9 && minor == 0) return "";  // all others run PTX of 8.0
  return "clusters need compute capability 9.0, this device has " + std::to_string(major) + "." +
         std::to_string(minor);
}

// Nothing has been measured yet, so none is made unasked: a check cannot save a caller from a
// kernel that never ends.
bool makes(const CudaSequence& shape, void* stream) {
  State& all = state();
  const std::lock_guard<std::mutex> lock(all.mutex);
  if (all.path != kByClusters || !why_unavailable().empty()) return false;
  OnDevice& here = all.devices.here();
  const Cut cut = cut_of(shape);
  if (cut.cluster == 0)
    here.refused.insert(name_of(shape) + " of width " + std::to_string(shape.width) +
                        ": does not fit a cluster");
  if (cut.cluster == 0 || !is_right(here, shape, cut.cluster, stream)) return false;
  ++all.made;
  return true;
}

void set_path(int32_t path) { state().path = static_cast<Path>(path); }

void report(CudaSequences* report) {
  static thread_local std::string reason, lines;
  State& all = state();
  const std::lock_guard<std::mutex> lock(all.mutex);
  reason = why_unavailable();
  lines.clear();
  for (const std::string& line : all.devices.here().refused) lines += line + "\n";
  *report = {reason.c_str(), all.made, lines.c_str()};
}

}  // namespace fastnn::sequence
