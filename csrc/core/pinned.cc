// The pool, and copies from it.
#include "pinned.h"

#include <array>
#include <atomic>

#include "cuda.h"
#include "dispatch.h"
#include "held.h"
#include "stream.h"

namespace fastnn {
namespace {

constexpr int kMostUnderWay = 8;  // so that the host does not run ahead of its memory

Memory memory(const Array& x) { return {x.storage->data, x.device()}; }

std::atomic<int>& under_way(Device device) {
  static auto* copies = new std::array<std::atomic<int>, kMaxCudaDevices>{};
  return (*copies)[static_cast<size_t>(device.index())];
}

}  // namespace

const std::shared_ptr<Pool>& pinned_pool() {
  static const auto* pool = new std::shared_ptr<Pool>(std::make_shared<Pool>(
      MemorySource{[](size_t bytes, int) { return cuda_allocate_host(bytes); },
                   [](void* block, int) { cuda_free_host(block); }}));
  return *pool;
}

Array empty_pinned(const Shape& shape, DType dtype, Device) {
  release_held();
  return from_pool(shape, dtype, Device::kCpu, pinned_pool());
}

void copy_later(const Array& from, const Array& to) {
  if (from.bytes() == 0) return;
  refuse_while_captured(to.device(), "a copy between host and device");
  auto event = cuda_copy_later(memory(to), memory(from), from.bytes());
  std::atomic<int>& copies = under_way(to.device());
  ++copies;
  hold(to.device(), std::move(event), [kept = from.storage, &copies] { --copies; });
  while (copies > kMostUnderWay) wait_for_held(to.device());
}

void copy_staged(const Array& from, const Array& to) {
  if (from.bytes() == 0) return;
  if (from.device().is_cuda() || !to.device().is_cuda()) return copy_bytes(from, to);
  refuse_while_captured(to.device(), "a copy between host and device");
  const Array staged = empty_pinned(from.shape, from.dtype);
  copy_bytes(from, staged);
  auto event = cuda_copy_later(memory(to), memory(staged), from.bytes());
  hold(to.device(), std::move(event), [kept = staged.storage] {});
}

}  // namespace fastnn
