// The kernels of all cells, for weights of float32 and bfloat16, and their launches.
#include <map>
#include <mutex>
#include <tuple>

#include "../device.h"
#include "kernel.cuh"
#include "sequences.h"

namespace fastnn::sequence {
namespace {

// f(cell, T{}) for what a number and a flag say.
template <class F>
auto with_cell(int32_t cell, bool bf16_weights, F f) {
  const auto with_type = [&](auto of) { return bf16_weights ? f(of, bf16{}) : f(of, float{}); };
  switch (cell) {
    case kTanhSequence:
      return with_type(RnnCell<RnnTanh>{});
    case kReluSequence:
      return with_type(RnnCell<RnnRelu>{});
    case kLstmSequence:
      return with_type(LstmCell{});
    default:
      return with_type(GruCell{});
  }
}

template <class Kernel>
Cut cut_for(const Kernel& kernel, const Form& form, const CudaSequence& shape, int32_t cluster) {
  return find_cut(form, shape.width, shape.rows, [&](const cluster::Shape& it) {
    const bool allowed = cluster == 0 || it.cluster == static_cast<uint32_t>(cluster);
    return allowed ? cluster::most_at_once(kernel, it) : 0;
  });
}

Cut look_for_cut(const CudaSequence& shape, int32_t cluster) {
  return with_cell(shape.cell, shape.bf16_weights, [&](auto cell, auto of) {
    using Cell = decltype(cell);
    using T = decltype(of);
    const Form form = form_of<Cell, T>(shape.backward);
    return shape.backward ? cut_for(sequence_bwd_kernel<Cell, T>, form, shape, cluster)
                          : cut_for(sequence_fwd_kernel<Cell, T>, form, shape, cluster);
  });
}

bool is_backward(const SequenceFwdArgs&) { return false; }
bool is_backward(const SequenceBwdArgs&) { return true; }
template <class Cell, class T>
auto kernel_of(const SequenceFwdArgs&) {
  return sequence_fwd_kernel<Cell, T>;
}
template <class Cell, class T>
auto kernel_of(const SequenceBwdArgs&) {
  return sequence_bwd_kernel<Cell, T>;
}

template <class Args>
CudaSequence shape_of(const Args& args) {
  const Sequence& it = args.sequence;
  return {it.cell, is_backward(args), it.bf16_weights, it.rows, it.width};
}

}  // namespace

Cut cut_of(const CudaSequence& shape, int32_t cluster) {
  using Key = std::tuple<int, int32_t, bool, bool, int64_t, int64_t, int32_t>;
  static auto* known = new std::map<Key, Cut>;
  static std::mutex mutex;
  const std::lock_guard<std::mutex> lock(mutex);
  const auto [found, fresh] =
      known->try_emplace({device::current(), shape.cell, shape.backward, shape.bf16_weights,
                          shape.rows, shape.width, cluster});
  if (fresh) found->second = look_for_cut(shape, cluster);
  return found->second;
}

template <class Args>
cudaError_t run(const Args& args, const Cut& cut, void* stream) {
  const Sequence& it = args.sequence;
  return with_cell(it.cell, it.bf16_weights, [&](auto cell, auto of) {
    using Cell = decltype(cell);
    using T = decltype(of);
    return cluster::launch(kernel_of<Cell, T>(args),
                           shape_of(form_of<Cell, T>(is_backward(args)), it.width, it.rows, cut),
                           stream, args, cut);
  });
}
template cudaError_t run(const SequenceFwdArgs& args, const Cut& cut, void* stream);
template cudaError_t run(const SequenceBwdArgs& args, const Cut& cut, void* stream);

// An error is the runtime's last one, which the core asks for after each launch.
void forward(const SequenceFwdArgs& args, Slice s) { run(args, cut_of(shape_of(args)), s.stream); }
void backward(const SequenceBwdArgs& args, Slice s) { run(args, cut_of(shape_of(args)), s.stream); }

}  // namespace fastnn::sequence
