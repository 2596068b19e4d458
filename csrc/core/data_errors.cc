// Status words of launches that nobody records.
#include "data_errors.h"

#include <cstdlib>
#include <deque>
#include <map>
#include <mutex>
#include <string_view>
#include <vector>

#include "capture.h"
#include "cuda.h"
#include "pinned.h"
#include "stream.h"

namespace fastnn {

Status* StatusWord::pointer() {
  if (device_ == Device::kCpu) return &host_;
  if (cuda_.get() == nullptr) {
    cuda_ = allocate_lasting({1}, DType::kInt64, device_).storage;
    clear();
  }
  return static_cast<Status*>(cuda_->data);
}

uint64_t StatusWord::value() const {
  if (device_ == Device::kCpu) return __atomic_load_n(&host_.word, __ATOMIC_RELAXED);
  if (cuda_.get() == nullptr) return kStatusOk;
  Status seen;
  cuda_copy_bytes({&seen, Device::kCpu}, {cuda_->data, device_}, sizeof seen);
  return seen.word;
}

void StatusWord::clear() {
  host_.word = kStatusOk;
  if (cuda_.get() != nullptr) cuda_fill_bytes({cuda_->data, device_}, 0xff, sizeof host_);
}
static_assert(kStatusOk == ~uint64_t{0}, "bytes of 0xff");

// What a thread's launches on a CUDA device reported, until the host has seen it. A launch's site
// is its number since the device was last known to be past all launches, so the smallest report is
// the first.
class UnseenReports {
 public:
  explicit UnseenReports(Device device)
      : device_(device), word_(device), seen_(empty_pinned({1}, DType::kInt64)) {}

  Status* word() { return word_.pointer(); }

  int32_t add(Describe describe) {
    if (answer_ != nullptr && answer_->is_done()) see();
    if (first_ + sites_.size() == kMaxStatusSites) raise();
    sites_.push_back(std::move(describe));
    return static_cast<int32_t>(first_ + sites_.size() - 1);
  }

  void after_launch() {
    if (is_blocking()) return raise();
    if (answer_ == nullptr) ask();
  }

  void ask() {
    if (asked_ == sites_.size()) return;
    answer_ =
        cuda_copy_later({seen_.storage->data, Device::kCpu}, {word(), device_}, sizeof(Status));
    asked_ = sites_.size();
  }

  void raise() {
    if (sites_.empty()) return;
    ask();
    answer_->wait();
    see();
  }

  void forget() {
    sites_.clear();
    first_ = asked_ = 0;
    answer_.reset();
    word_.clear();
  }

 private:
  // As CUDA itself is then: an error is raised by the call that made it.
  static bool is_blocking() {
    static const char* value = std::getenv("CUDA_LAUNCH_BLOCKING");
    return value != nullptr && std::string_view(value) == "1";
  }

  // The answer has come. It is about the first `asked_` sites, or more.
  void see() {
    answer_.reset();
    const uint64_t word = static_cast<const Status*>(seen_.storage->data)->word;
    if (word == kStatusOk) {
      sites_.erase(sites_.begin(), sites_.begin() + static_cast<ptrdiff_t>(asked_));
      first_ = sites_.empty() ? 0 : first_ + asked_;
      asked_ = 0;
      return;
    }
    const Describe describe = std::move(sites_[static_cast<size_t>(status_site(word)) - first_]);
    forget();
    throw ValueError(describe(status_code(word), status_index(word)));
  }

  Device device_;
  StatusWord word_;
  Array seen_;                  // a copy of the word
  std::deque<Describe> sites_;  // of the launches that the device is not known to be past
  size_t first_ = 0;            // the number of the first of them
  size_t asked_ = 0;            // how many of them the answer is about
  std::shared_ptr<CudaEvent> answer_;
};

namespace {

// Those of threads that have ended are kept for others: what sites hold may need an interpreter,
// which is gone when the last thread ends.
class Lease {
 public:
  explicit Lease(Device device) : at_(device.index()) {
    const std::lock_guard lock(mutex());
    std::vector<UnseenReports*>& idle = of_ended_threads()[at_];
    if (idle.empty()) idle.push_back(new UnseenReports(device));
    reports_ = idle.back();
    idle.pop_back();
    reports_->forget();
  }
  Lease(const Lease&) = delete;
  ~Lease() {
    const std::lock_guard lock(mutex());
    of_ended_threads()[at_].push_back(reports_);
  }
  UnseenReports& operator*() const { return *reports_; }

 private:
  static std::mutex& mutex() {
    static auto* it = new std::mutex;
    return *it;
  }
  static std::map<int, std::vector<UnseenReports*>>& of_ended_threads() {
    static auto* all = new std::map<int, std::vector<UnseenReports*>>;
    return *all;
  }

  int at_;
  UnseenReports* reports_;
};

thread_local std::map<int, Lease> leases;

UnseenReports& unseen(Device device) {
  return *leases.try_emplace(device.index(), device).first->second;
}

// Null where the thread has launched nothing that reports.
UnseenReports* find_unseen(Device device) {
  const auto found = leases.find(device.index());
  return found != leases.end() ? &*found->second : nullptr;
}

thread_local StatusWord cpu_status{Device::kCpu};

}  // namespace

StatusSite::StatusSite(Device device, Describe describe) {
  if (Plan* plan = current_plan()) {
    status_ = plan->status(device);
    site_ = plan->add_site(std::move(describe));
  } else if (device.is_cuda()) {
    refuse_while_captured(device, "an op that reports bad data");
    cuda_ = &unseen(device);
    site_ = cuda_->add(std::move(describe));
    status_ = cuda_->word();
  } else {
    describe_ = std::move(describe);
    cpu_ = &cpu_status;
    cpu_->clear();
    status_ = cpu_->pointer();
  }
}

void StatusSite::raise() const {
  if (cuda_ != nullptr) return cuda_->after_launch();
  const uint64_t word = cpu_ == nullptr ? kStatusOk : cpu_->value();
  if (word == kStatusOk) return;
  cpu_->clear();
  throw ValueError(describe_(status_code(word), status_index(word)));
}

Status* current_status(Device device) {
  if (Plan* plan = current_plan()) return plan->status(device);
  if (!device.is_cuda()) {
    cpu_status.clear();  // of a call that failed before it looked
    return cpu_status.pointer();
  }
  refuse_while_captured(device, "an op that heeds bad data");
  return unseen(device).word();
}

void ask_for_data_errors(Device device) {
  if (UnseenReports* reports = find_unseen(device)) reports->ask();
}
void raise_data_errors(Device device) {
  if (UnseenReports* reports = find_unseen(device)) reports->raise();
}

}  // namespace fastnn
