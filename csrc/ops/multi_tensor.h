// Ops on many parameters in one launch: their checks, and the table of chunks that the kernels
// take.
#pragma once
#include <string>
#include <vector>

#include "common.h"

namespace fastnn {

using Arrays = std::vector<Array>;

// Parameters (or gradients) of one dtype on one device, which are written or only read; `grads` fit
// them.
void check_parameters(const char* op, const Arrays& params, const Arrays& grads,
                      bool written = true);

// What the rows of a table point to, beside the parameters. Empty lists give null pointers.
struct TableColumns {
  Arrays params;
  Arrays grads;
  std::vector<Arrays> slots;
  std::vector<OptimState*> states;
  bool writes_params = false, writes_grads = false;
};
// One row per kOptimChunk elements of each parameter; `first` is the flat index of the first.
Array chunk_table(const TableColumns& columns, int64_t first = 0);
inline int32_t num_chunks(const Array& table) {
  return static_cast<int32_t>(table.numel() / static_cast<int64_t>(sizeof(TensorChunk)));
}

// A table that the host has filled, on the device.
Array table_on_device(const void* rows, size_t bytes, Device device);

inline int64_t total_size(const Arrays& arrays) {
  int64_t n = 0;
  for (const Array& x : arrays) n += x.numel();
  return n;
}
// One task per chunk.
inline Launch over_chunks(const char* op, const Arrays& params, const Array& table, double cost) {
  return {op, params[0].device(), params[0].dtype, num_chunks(table),
          static_cast<double>(total_size(params)) * cost};
}

// Says which parameter and element a flat index is.
Describe describe_gradient(const std::string& op, std::vector<int64_t> sizes,
                           const std::string& otherwise);

}  // namespace fastnn
