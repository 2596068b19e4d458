// Arrays put together, taken apart and padded, along one axis.
#include <array>

#include "common.h"

namespace fastnn {
namespace {

struct Axis {
  int64_t outer, size, inner;  // products of the sizes before and after the axis
};
Axis axis_of(const Shape& shape, int dim) {
  Axis axis{1, shape.dims[dim], 1};
  for (int i = 0; i < shape.ndim; ++i)
    (i < dim ? axis.outer : axis.inner) *= i == dim ? 1 : shape.dims[i];
  return axis;
}
Shape with_axis(const Shape& shape, int dim, int64_t size) {
  Shape result = shape;
  result.dims[dim] = size;
  return result;
}
int resolve(const char* op, int dim, int ndim) {
  check(dim >= -ndim && dim < ndim, op, ": expected ", -ndim, " <= dim < ", ndim, ", got ", dim);
  return dim < 0 ? dim + ndim : dim;
}

// Copies `rows` runs of `run` elements between two arrays, from an element of each on.
void copy_runs(const char* op, const Array& x, int64_t x_from, int64_t x_pitch, const Array& y,
               int64_t y_from, int64_t y_pitch, int64_t rows, int64_t run) {
  if (run == 0) return;
  const auto item = static_cast<int64_t>(item_size(x.dtype));
  launch({op, x.device(), DType::kFloat32, ceil_div(rows, rows_per_task(run * item)),
          static_cast<double>(rows * run * item) * 0.1},
         &Kernels::copy_rows,
         CopyRowsArgs{static_cast<const char*>(read(x)) + x_from * item,
                      static_cast<char*>(write(y)) + y_from * item, rows, run * item,
                      x_pitch * item, y_pitch * item});
}

Array cat(const std::vector<Array>& arrays, int dim) {
  constexpr const char* op = "cat";
  check(!arrays.empty(), op, ": expected at least one array, got none");
  const Array& first = arrays[0];
  dim = resolve(op, dim, first.shape.ndim);
  int64_t size = 0;
  for (size_t i = 0; i < arrays.size(); ++i) {
    const Array& x = arrays[i];
    check(x.shape.ndim == first.shape.ndim &&
              with_axis(x.shape, dim, 0) == with_axis(first.shape, dim, 0),
          op, ": expected shapes that differ on axis ", dim, " only, got ", first.shape, " and ",
          x.shape);
    check_dtype(op, "every array", x, first.dtype);
    check_device(op, "every array", x, first.device());
    size += x.shape.dims[dim];
  }
  Array y = empty(with_axis(first.shape, dim, size), first.dtype, first.device());
  const Axis out = axis_of(y.shape, dim);
  int64_t from = 0;
  for (const Array& x : arrays) {
    const int64_t run = x.shape.dims[dim] * out.inner;
    copy_runs(op, x, 0, run, y, from, size * out.inner, out.outer, run);
    from += run;
  }
  return y;
}

std::vector<Array> split(const Array& x, const std::vector<int64_t>& sizes, int dim) {
  constexpr const char* op = "split";
  dim = resolve(op, dim, x.shape.ndim);
  const Axis in = axis_of(x.shape, dim);
  int64_t total = 0;
  for (const int64_t size : sizes) {
    check(size >= 0, op, ": expected sizes >= 0, got ", size);
    total += size;
  }
  check(total == in.size, op, ": expected sizes that add up to ", in.size, " on axis ", dim,
        " of input ", x.shape, ", got ", total);
  std::vector<Array> parts;
  int64_t from = 0;
  for (const int64_t size : sizes) {
    Array y = empty(with_axis(x.shape, dim, size), x.dtype, x.device());
    copy_runs(op, x, from, in.size * in.inner, y, 0, size * in.inner, in.outer, size * in.inner);
    from += size * in.inner;
    parts.push_back(y);
  }
  return parts;
}

// The first two axes change places: rows are gathered by an index.
Array swap_axes(const Array& x) {
  constexpr const char* op = "swap_axes";
  check(x.shape.ndim >= 2, op, ": expected input with at least two axes, got ", x.shape);
  const int64_t rows = x.shape[0], cols = x.shape[1], count = rows * cols;
  Shape shape = x.shape;
  std::swap(shape.dims[0], shape.dims[1]);
  Array y = empty(shape, x.dtype, x.device());
  if (y.numel() == 0) return y;
  Array index = allocate_constant({count + 1}, DType::kInt64);  // and the cursor, 0
  auto* values = static_cast<int64_t*>(index.storage->data);
  for (int64_t i = 0; i < count; ++i) values[i] = i % rows * cols + i / rows;
  values[count] = 0;
  index = constant_on(index, x.device());
  const int64_t* from = read_as<int64_t>(index);
  const auto bytes = static_cast<int64_t>(x.bytes()) / count;
  launch({op, x.device(), DType::kFloat32, ceil_div(count, rows_per_task(bytes)),
          static_cast<double>(x.bytes()) * 0.1},
         &Kernels::gather, GatherArgs{read(x), from, from + count, write(y), count, bytes});
  return y;
}

enum class Pad { kConstant, kReflect, kReplicate, kCircular };
constexpr const char* kPadNames[] = {"constant", "reflect", "replicate", "circular"};

// The element of an axis of n, `kept` of which are not cut off, that stands at `at`, which may be
// outside; -1 for the constant.
int64_t source(Pad mode, int64_t at, int64_t n, int64_t kept) {
  if (at >= 0 && at < n) return at;
  switch (mode) {
    case Pad::kReflect:
      return at < 0 ? -at : 2 * (n - 1) - at;
    case Pad::kReplicate:
      return at < 0 ? 0 : n - 1;
    case Pad::kCircular:
      return at < 0 ? at + kept : at - kept;
    case Pad::kConstant:
      break;
  }
  return -1;
}

int64_t kept_of(int64_t n, int64_t before, int64_t after) {
  return n + least(before, 0) + least(after, 0);
}

// What an axis of n becomes; negative widths cut off.
int64_t padded_size(Pad mode, int64_t n, int64_t before, int64_t after) {
  constexpr const char* op = "pad";
  int64_t padded = n;
  const bool wraps = __builtin_add_overflow(padded, before, &padded) ||
                     __builtin_add_overflow(padded, after, &padded);
  check(!wraps && padded >= 0, op, ": expected widths that leave an axis of ", n,
        " elements something, got ", before, " and ", after);
  const int64_t limit = mode == Pad::kReflect ? n - 1 : kept_of(n, before, after);
  const bool fits = mode == Pad::kConstant || (mode == Pad::kReplicate && n > 0) ||
                    (mode != Pad::kReplicate && before <= limit && after <= limit);
  check(fits, op, ": expected widths that mode '", kPadNames[static_cast<int>(mode)],
        "' can fill from an axis of ", n, " elements, got ", before, " and ", after);
  return padded;
}

// (before, after) of neighbouring axes from `dim` on, which are padded as if they were one.
using Widths = std::vector<std::array<int64_t, 2>>;

struct PadPlan {
  Shape shape;                         // the padded one
  int64_t outer, size, padded, inner;  // the axes as one, between those before and after
  Array index;                         // which element each padded one is, -1 for the constant
};
PadPlan pad_plan(const Shape& in, int dim, const Widths& widths, Pad mode, Device device) {
  PadPlan plan{in, 1, 1, 1, 1, {}};
  const int end = dim + static_cast<int>(widths.size());
  for (int i = in.ndim - 1; i >= 0; --i) {
    if (i < dim || i >= end) {
      (i < dim ? plan.outer : plan.inner) *= in.dims[i];
      continue;
    }
    const auto [before, after] = widths[static_cast<size_t>(i - dim)];
    plan.shape.dims[i] = padded_size(mode, in.dims[i], before, after);
    plan.size *= in.dims[i];
    plan.padded *= plan.shape.dims[i];
  }
  plan.index = allocate_constant({plan.padded}, DType::kInt64);
  auto* index = static_cast<int64_t*>(plan.index.storage->data);
  int64_t known = 1;  // entries for the axes so far, counted from those of no axis
  if (plan.padded > 0) index[0] = 0;
  // Each axis spreads what the ones before it have, from the end on: nothing is overwritten unread.
  for (int i = dim; i < end && plan.padded > 0; ++i) {
    const auto [before, after] = widths[static_cast<size_t>(i - dim)];
    const int64_t n = in.dims[i], padded = plan.shape.dims[i], kept = kept_of(n, before, after);
    for (int64_t k = known - 1; k >= 0; --k)
      for (int64_t j = padded - 1, row = index[k]; j >= 0; --j) {
        const int64_t at = source(mode, j - before, n, kept);
        index[k * padded + j] = row < 0 || at < 0 ? -1 : row * n + at;
      }
    known *= padded;
  }
  plan.index = constant_on(plan.index, device);
  return plan;
}

Array pad(const Array& x, int dim, const Widths& widths, int mode, float value) {
  const PadPlan plan = pad_plan(x.shape, dim, widths, static_cast<Pad>(mode), x.device());
  Array y = empty(plan.shape, x.dtype, x.device());
  launch(row_wise("pad", x, plan.outer * plan.padded, plan.inner, kCostPerExp), &Kernels::take,
         TakeArgs{read(x), read_as<int64_t>(plan.index), write(y), plan.outer, plan.padded,
                  plan.size, plan.inner, value, nullptr, 0});
  return y;
}

// Each element's sum over where padding has put it. Constants came from none, and what padding has
// cut off has a gradient of 0: the padding the other way round.
Array pad_bwd(const Array& dy, int dim, Widths widths, int mode) {
  Shape in = dy.shape;
  const bool is_constant = static_cast<Pad>(mode) == Pad::kConstant;
  for (size_t i = 0; i < widths.size(); ++i) {
    auto& [before, after] = widths[i];
    in.dims[dim + static_cast<int>(i)] -= before + after;
    if (is_constant) before = -before, after = -after;
  }
  if (is_constant) return pad(dy, dim, widths, mode, 0.f);
  const PadPlan plan = pad_plan(in, dim, widths, static_cast<Pad>(mode), dy.device());
  Array first = empty({plan.size + 1}, DType::kInt64, dy.device()),
        order = empty({plan.padded}, DType::kInt64, dy.device());
  Array dx = empty(in, dy.dtype, dy.device());
  launch({"pad", dy.device(), dy.dtype, 1, static_cast<double>(plan.padded)}, &Kernels::take_order,
         TakeOrderArgs{read_as<int64_t>(plan.index), write_as<int64_t>(first),
                       write_as<int64_t>(order), plan.padded, plan.size, -1});
  launch(row_wise("pad", dy, plan.outer * plan.size, plan.inner, kCostPerExp), &Kernels::take_bwd,
         TakeBwdArgs{read(dy), read_as<int64_t>(first), read_as<int64_t>(order), write(dx),
                     plan.outer, plan.padded, plan.size, plan.inner});
  return dx;
}

}  // namespace

void bind_shape(py::module_& m) {
  m.def("cat", &cat, py::arg("arrays"), py::arg("dim"));
  m.def("swap_axes", &swap_axes, py::arg("x"));
  m.def("split", &split, py::arg("x"), py::arg("sizes"), py::arg("dim"));
  py::dict modes;
  for (int i = 0; i < 4; ++i) modes[kPadNames[i]] = i;
  m.attr("PAD_MODES") = modes;
  m.def("pad", &pad, py::arg("x"), py::arg("dim"), py::arg("widths"), py::arg("mode"),
        py::arg("value"));
  m.def("pad_bwd", &pad_bwd, py::arg("dy"), py::arg("dim"), py::arg("widths"), py::arg("mode"));
}

}  // namespace fastnn
