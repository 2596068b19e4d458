// What every op uses: arrays in, checks with the op's name, launch, arrays out. An op checks its
// arguments before it changes anything.
#pragma once
#include <optional>

#include "../core/dispatch.h"
#include "tensor_object.h"

namespace fastnn {

using OptionalArray = std::optional<Array>;

inline void check_device(const char* op, const char* name, const Array& x, Device device,
                         const char* like = "") {
  if (x.device() == device) [[likely]]
    return;
  const char* wanted = device_name(device);
  throw ValueError(concat(op, ": expected ", name, " on ", wanted, like[0] != '\0' ? " like " : "",
                          like, ", got ", device_name(x.device()), "; move it with .to('", wanted,
                          "')"));
}
inline void check_same(const char* op, const char* name, const Array& x, const char* other_name,
                       const Array& other) {
  check(x.shape == other.shape, op, ": expected ", other_name, " of shape ", x.shape, " like ",
        name, ", got ", other.shape);
  check<TypeError>(x.dtype == other.dtype, op, ": expected ", other_name, " of dtype ",
                   dtype_name(x.dtype), " like ", name, ", got ", dtype_name(other.dtype));
  check_device(op, other_name, other, x.device(), name);
}
// Elements are paired in memory: what an op takes as it is, it takes in one layout.
inline void check_layout(const char* op, const char* name, const Array& x, const char* other_name,
                         const Array& other) {
  check(x.layout == other.layout, op, ": expected ", other_name, " in the layout of ", name);
}
inline void check_dtype(const char* op, const char* name, const Array& x, DType dtype) {
  check<TypeError>(x.dtype == dtype, op, ": expected ", name, " of dtype ", dtype_name(dtype),
                   ", got ", dtype_name(x.dtype));
}
inline void check_writable(const char* op, const char* name, const Array& x) {
  check(x.storage->writable, op, ": expected ", name,
        " in memory that may be written, got a read-only array");
}

// Itself where the host can read it, else a copy; waits for the device.
inline Array on_host(const Array& x) {
  if (x.device() == Device::kCpu) return x;
  Array host = empty(x.shape, x.dtype);
  copy_bytes(x, host);
  return host;
}

inline const void* read_optional(const OptionalArray& x) { return x ? read(*x) : nullptr; }
template <class T = float>
const T* read_optional_as(const OptionalArray& x) {
  return static_cast<const T*>(read_optional(x));
}

inline Launch elementwise(const char* op, const Array& x, double cost = kCostPerElement) {
  const int64_t n = x.numel();
  return {op, x.device(), x.dtype, ceil_div(n, kElementwiseChunk), static_cast<double>(n) * cost};
}
inline Launch row_wise(const char* op, const Array& x, int64_t rows, int64_t cols, double cost) {
  return {op, x.device(), x.dtype, ceil_div(rows, rows_per_task(cols)),
          static_cast<double>(rows * cols) * cost};
}
inline Launch single(const char* op, Device device) { return {op, device, DType::kFloat32, 1, 0}; }

// What a generator draws next, by a launch that counts it up: what kernels read, and what backward
// reads again.
Array rng_draw(const Array& generator);
// A draw where the kernel that reads it runs.
Array draw_on(const Array& draw, Device device);
// Zeros with probability p and x / (1 - p) else, or x itself without `inverted`, for p rounded to
// the lanes.
Keep keep_of(double p, bool inverted);

Array clone(const AnyLayout& x);

// One binder per family.
void bind_activation(py::module_& m);
void bind_arrays(py::module_& m);
void bind_augment(py::module_& m);
void bind_capture(py::module_& m);
void bind_clip(py::module_& m);
void bind_conv(py::module_& m);
void bind_dropout(py::module_& m);
void bind_embedding(py::module_& m);
void bind_linear(py::module_& m);
void bind_loss(py::module_& m);
void bind_margin(py::module_& m);
void bind_matmul(py::module_& m);
void bind_mlp(py::module_& m);
void bind_norm(py::module_& m);
void bind_optim(py::module_& m);
void bind_penalty(py::module_& m);
void bind_pool(py::module_& m);
void bind_prefetch(py::module_& m);
void bind_random(py::module_& m);
void bind_parametric(py::module_& m);
void bind_recurrent(py::module_& m);
void bind_recurrent_norm(py::module_& m);
void bind_reduce(py::module_& m);
void bind_shape(py::module_& m);
void bind_softmax(py::module_& m);
void bind_stacked(py::module_& m);
void bind_streams(py::module_& m);
void bind_system(py::module_& m);
void bind_tape_node(py::module_& m);

}  // namespace fastnn
