// matmul: products of matrices, or of batches of them whose leading axes broadcast, and the sums
// over broadcast axes that are their gradients.
#include "gemm.h"

namespace fastnn {
namespace {

constexpr const char* kOp = "matmul";

// The last two axes of an array, or their transpose.
struct Factors {
  const Array& x;
  bool transpose;
  int64_t rows() const { return x.shape[transpose ? -1 : -2]; }
  int64_t cols() const { return x.shape[transpose ? -2 : -1]; }
  template <class T>
  MatrixOf<T> matrix() const {
    return (transpose ? transposed<T> : rows_of<T>)(read_as<T>(x), x.shape[-1]);
  }
};

Shape leading(const Shape& shape) {
  Shape lead = shape;
  lead.ndim -= 2;
  return lead;
}

// The size of axis i of `ndim` aligned at the end, where missing ones are 1.
int64_t aligned(const Shape& lead, int i, int ndim) {
  const int at = i - (ndim - lead.ndim);
  return at < 0 ? 1 : lead.dims[at];
}
// What a step on that axis adds to an address, for items of `item` elements.
int64_t step_on(const Shape& lead, int i, int ndim, int64_t item) {
  const int at = i - (ndim - lead.ndim);
  if (at < 0 || lead.dims[at] == 1) return 0;
  for (int j = at + 1; j < lead.ndim; ++j) item *= lead.dims[j];
  return item;
}

Shape broadcast(const Array& a, const Array& b) {
  const Shape left = leading(a.shape), right = leading(b.shape);
  Shape full;
  full.ndim = std::max(left.ndim, right.ndim);
  for (int i = 0; i < full.ndim; ++i) {
    const int64_t l = aligned(left, i, full.ndim), r = aligned(right, i, full.ndim);
    check(l == r || l == 1 || r == 1, kOp,
          ": expected leading axes that are equal or 1, got input ", a.shape, " and other ",
          b.shape);
    full.dims[i] = l == 1 ? r : l;
  }
  return full;
}

// The axes of the results, then those of the terms of their sums.
template <class T>
GemmBatchArgsOf<T> batch_of(const Shape& full, const Array& a, const Array& b, const Shape& to,
                            int64_t result) {
  GemmBatchArgsOf<T> batch{.items = 1, .terms = 1};
  for (const bool summed : {false, true})
    for (int i = 0; i < full.ndim; ++i) {
      if (full.dims[i] == 1 || (aligned(to, i, full.ndim) != full.dims[i]) != summed) continue;
      const auto step = [&](const Shape& lead, int64_t item) {
        return step_on(lead, i, full.ndim, item);
      };
      batch.axes[batch.num_axes++] = {
          full.dims[i], step(leading(a.shape), a.shape[-1] * a.shape[-2]),
          step(leading(b.shape), b.shape[-1] * b.shape[-2]), step(to, result), 0};
      (summed ? batch.terms : batch.items) *= full.dims[i];
    }
  return batch;
}

// A batch that is one product of taller matrices: rows of A under one another where B is the same
// for all, or a sum over all of A^T B, which is one over their rows. Returns how many it joins.
int64_t joined(int64_t items, int64_t terms, const Factors& a, const Factors& b) {
  const int64_t products = items * terms;
  const auto whole = [&](const Array& x) { return leading(x.shape).numel() == products; };
  if (!a.transpose && terms == 1 && whole(a.x) && leading(b.x.shape).numel() == 1) return products;
  if (a.transpose && !b.transpose && items == 1 && whole(a.x) && whole(b.x)) return products;
  return 1;
}

void check_operands(const Array& a, const Array& b) {
  check_element(kOp, a);
  check_dtype(kOp, "other", b, a.dtype);
  check_device(kOp, "other", b, a.device());
  check(a.shape.ndim >= 2 && b.shape.ndim >= 2, kOp,
        ": expected arrays with at least one axis, got ", a.shape, " and ", b.shape);
}

// The products of two arrays of Ts, summed over the axes in which `shape` is 1 or lacks one.
template <class T>
Array product(const Factors& a, const Factors& b, const Shape& full, Shape shape) {
  GemmArgsOf<T> args{.m = a.rows(), .n = b.cols(), .k = a.cols()};
  GemmBatchArgsOf<T> batch = batch_of<T>(full, a.x, b.x, shape, args.m * args.n);
  if (batch.terms == 0) {  // a sum of nothing
    while (batch.num_axes > 0 && batch.axes[batch.num_axes - 1].c == 0) --batch.num_axes;
    batch.terms = 1, args.k = 0;
  }
  const int64_t count = joined(batch.items, batch.terms, a, b);
  shape.dims[shape.ndim++] = args.m;
  shape.dims[shape.ndim++] = args.n;
  Array c = empty(shape, a.x.dtype, a.x.device());
  args.c = write_as<T>(c);
  if (batch.num_axes == 0 || count > 1) {
    (a.transpose ? args.k : args.m) *= count;
    gemm(kOp, a.x, args, a.matrix<T>(), b.matrix<T>());
  } else {
    batch.one = args;
    gemm(kOp, a.x, batch, a.matrix<T>(), b.matrix<T>());
  }
  return c;
}

// op(a) op(b), where op transposes the last two axes or not. With `to`, the leading axes of the
// result, it is summed over all others.
Array matmul(const Array& a, const Array& b, bool transpose_a, bool transpose_b,
             const std::optional<std::vector<int64_t>>& to) {
  check_operands(a, b);
  const Factors left{a, transpose_a}, right{b, transpose_b};
  check(left.cols() == right.rows(), kOp, ": expected other.shape[", transpose_b ? -1 : -2,
        "] == ", left.cols(), " to fit input ", a.shape, ", got other ", b.shape);
  const Shape full = broadcast(a, b);
  Shape shape = full;
  if (to)
    shape.ndim = static_cast<int>(std::copy(to->begin(), to->end(), shape.dims.begin()) -
                                  shape.dims.begin());
  return with_element(a, [&]<class T>(T) { return product<T>(left, right, full, shape); });
}

constexpr const char* kPrecisions[] = {"highest", "high", "medium"};

void set_precision(const std::string& name) {
  for (int i = 0; i < 3; ++i)
    if (name == kPrecisions[i]) return set_matmul_precision(static_cast<MatmulPrecision>(i));
  throw ValueError(concat(
      "set_float32_matmul_precision: expected 'highest', 'high' or 'medium', got '", name, "'"));
}

}  // namespace

void bind_matmul(py::module_& m) {
  m.def("set_float32_matmul_precision", &set_precision, py::arg("precision"));
  m.def("get_float32_matmul_precision",
        [] { return kPrecisions[static_cast<int>(matmul_precision())]; });
  m.def("matmul", &matmul, py::arg("a"), py::arg("b"), py::arg("transpose_a") = false,
        py::arg("transpose_b") = false, py::arg("to") = std::nullopt);
}

}  // namespace fastnn
