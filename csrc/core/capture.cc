// Recording and replay.
#include "capture.h"

#include <cstring>

#include "array.h"
#include "cuda.h"
#include "dispatch.h"
#include "stream.h"

namespace fastnn {
namespace {

thread_local Plan* recording = nullptr;

}  // namespace

Plan::Plan() : pool_(std::make_shared<Pool>()) {}
Plan::~Plan() {
  if (recording == this) recording = nullptr;
}

void Plan::begin() {
  check<CaptureError>(recording == nullptr,
                      "capture: expected no recording in progress, got a capture inside a capture");
  refuse_while_captured("the first call of a captured function");
  recording = this;
}

void Plan::end() { recording = nullptr; }

Plan::OnCuda& Plan::on_cuda(Device device) {
  if (!cuda_) {
    const MemorySource memory{
        [](size_t bytes, int index) { return cuda_allocate(bytes, Device::cuda(index)); },
        [](void* block, int index) { cuda_free(block, Device::cuda(index)); }, device.index()};
    cuda_.emplace(device, std::make_shared<Pool>(memory), StatusWord(device));
  }
  check<CaptureError>(cuda_->device == device, "capture: expected one CUDA device in a step, got ",
                      device_name(cuda_->device), " and ", device_name(device),
                      "; record a function for each");
  return *cuda_;
}

const std::shared_ptr<Pool>& Plan::pool(Device device) {
  return device.is_cuda() ? on_cuda(device).pool : pool_;
}
Status* Plan::status(Device device) {
  return (device.is_cuda() ? on_cuda(device).status : status_).pointer();
}

void Plan::append(Node node, const void* args, size_t bytes) {
  if (node.device.is_cuda()) on_cuda(node.device);
  node.args = args_.size();
  args_.resize(args_.size() + (bytes + sizeof(std::max_align_t) - 1) / sizeof(std::max_align_t));
  std::memcpy(args_.data() + node.args, args, bytes);
  nodes_.push_back(node);
  cpu_nodes_ += !node.device.is_cuda();
  graph_.reset();
}

// Storages of the private pool live as long as the pool; the plan must not hold them, or nothing
// freed while recording could be reused.
void Plan::retain(const StoragePtr& storage) {
  const bool is_own =
      storage->pool && (storage->pool == pool_ || (cuda_ && storage->pool == cuda_->pool));
  if (is_own || !seen_.insert(storage.get()).second) return;
  storages_.push_back(storage);
}

void Plan::own(const StoragePtr& storage) {
  seen_.insert(storage.get());
  owned_.push_back(storage);
}

void Plan::keep(std::shared_ptr<const void> other) { kept_.push_back(std::move(other)); }

int32_t Plan::add_site(Describe describe) {
  check<CaptureError>(sites_.size() < kMaxStatusSites, "capture: expected at most ",
                      kMaxStatusSites, " launches that check data in one step, got more");
  sites_.push_back(std::move(describe));
  return static_cast<int32_t>(sites_.size() - 1);
}

void Plan::run_once() const {
  for (const Node& node : nodes_) run_node(node, args_.data() + node.args);
}

// As a part of the graph of another library, which keeps this plan.
int64_t Plan::run_into(Plan& captured, int64_t times) {
  if (!sites_.empty())
    refuse_while_captured(nodes_[0].device, "a captured function that reports bad data");
  captured.keep(shared_from_this());
  for (int64_t run = 0; run < times; ++run) run_once();
  return times;
}

int64_t Plan::replay(int64_t times) {
  if (cpu_nodes_ == 0 && !nodes_.empty()) {
    const Device device = nodes_[0].device;
    if (Plan* captured = captured_plan(device)) return run_into(*captured, times);
    // With the interpreter's lock: nothing else may come to fastnn's stream meanwhile.
    if (graph_ == nullptr) graph_ = cuda_graph(device, [this] { run_once(); });
    const InterpreterReleased released;
    for (int64_t run = 0; run < times; ++run) cuda_launch_graph(device, graph_.get());
    return times;
  }
  const InterpreterReleased released;
  for (int64_t run = 0; run < times; ++run) {
    run_once();
    if (status_.value() != kStatusOk) return run;
  }
  return times;
}

void Plan::raise_data_error() {
  for (StatusWord* status : {&status_, cuda_ ? &cuda_->status : nullptr}) {
    const uint64_t word = status == nullptr ? kStatusOk : status->value();
    if (word == kStatusOk) continue;
    status->clear();
    throw ValueError(
        sites_[static_cast<size_t>(status_site(word))](status_code(word), status_index(word)));
  }
}

bool Plan::is_current() const {
  for (const StoragePtr& storage : storages_)
    if (storage->references.load(std::memory_order_relaxed) == 1) return false;
  return true;
}

Plan* current_plan() { return recording; }

void retain_while_recording(const StoragePtr& storage) {
  if (recording != nullptr) [[unlikely]]
    return recording->retain(whole_of(storage));
  if (Plan* captured = captured_plan(storage->device)) captured->retain(whole_of(storage));
}

void refuse_while_recording(const char* call) {
  check<CaptureError>(recording == nullptr,
                      "capture: expected only operations on Tensors and arguments, got ", call,
                      "; move it out of the captured function");
}

}  // namespace fastnn
