// Tables of chunks over many parameters.
#include "multi_tensor.h"

namespace fastnn {

void check_parameters(const char* op, const Arrays& params, const Arrays& grads, bool written) {
  check(params.size() == grads.size(), op, ": expected ", params.size(), " gradients, got ",
        grads.size());
  for (size_t i = 0; i < params.size(); ++i) {
    const std::string name = concat("parameter ", i);
    check_same(op, name.c_str(), params[i], "its gradient", grads[i]);
    if (written) check_writable(op, name.c_str(), params[i]);
    check<TypeError>(params[i].dtype == params[0].dtype, op,
                     ": expected parameters of one dtype, got ", dtype_name(params[0].dtype),
                     " and ", dtype_name(params[i].dtype));
    check_device(op, name.c_str(), params[i], params[0].device());
  }
}

Array table_on_device(const void* rows, size_t bytes, Device device) {
  Array host = allocate_constant({static_cast<int64_t>(bytes)}, DType::kUInt8);
  if (bytes > 0) std::memcpy(host.storage->data, rows, bytes);
  return constant_on(host, device);
}

Array chunk_table(const TableColumns& t, int64_t first) {
  std::vector<TensorChunk> chunks;
  for (size_t i = 0; i < t.params.size(); ++i) {
    const int64_t n = t.params[i].numel();
    const auto item = static_cast<int64_t>(item_size(t.params[i].dtype));
    TensorChunk chunk{};
    chunk.p = t.writes_params ? write(t.params[i]) : const_cast<void*>(read(t.params[i]));
    if (!t.grads.empty()) chunk.g = t.writes_grads ? write(t.grads[i]) : read(t.grads[i]);
    for (size_t k = 0; k < t.slots.size(); ++k) chunk.slots[k] = write_as<float>(t.slots[k][i]);
    if (!t.states.empty()) chunk.state = t.states[i];
    for (int64_t at = 0; at < n; at += kOptimChunk) {
      chunk.n = std::min(kOptimChunk, n - at);
      chunk.first = first + at;
      chunks.push_back(chunk);
      chunk.p = static_cast<char*>(chunk.p) + kOptimChunk * item;
      if (chunk.g != nullptr) chunk.g = static_cast<const char*>(chunk.g) + kOptimChunk * item;
      for (size_t k = 0; k < t.slots.size(); ++k) chunk.slots[k] += kOptimChunk;
    }
    first += n;
  }
  const Device device = t.params.empty() ? Device::kCpu : t.params[0].device();
  return table_on_device(chunks.data(), chunks.size() * sizeof(TensorChunk), device);
}

Describe describe_gradient(const std::string& op, std::vector<int64_t> sizes,
                           const std::string& otherwise) {
  return [op, sizes = std::move(sizes), otherwise](DataError code, int64_t index) {
    size_t i = 0;
    while (i + 1 < sizes.size() && index >= sizes[i]) index -= sizes[i++];
    const bool overflows = code == DataError::kOverflow;
    return concat(op, ": expected ",
                  overflows ? "a gradient whose square is finite" : "finite gradients", ", got ",
                  overflows ? "one that overflows the second moment" : "NaN or infinity",
                  " in parameter ", i, " at flat index ", index, "; nothing was ", otherwise);
  };
}

}  // namespace fastnn
