// Rows by index (embedding), and indices of rows (one_hot, argmax, top-k).
#include "common.h"

namespace fastnn {
namespace {

void check_index(const char* op, const char* name, const Array& index) {
  check<TypeError>(index.dtype == DType::kInt64, op, ": expected ", name, " of int64, got ",
                   dtype_name(index.dtype));
}

// Says which index is wrong.
Describe out_of_range(const char* op, const char* name, const Array& index, int64_t size) {
  return [=](DataError, int64_t i) {
    const Array host = on_host(index);
    return concat(op, ": expected 0 <= ", name, " < ", size, ", got ",
                  static_cast<const int64_t*>(host.storage->data)[i], " at ", name, "[", i, "]");
  };
}

Array embedding(const Array& index, const Array& w) {
  constexpr const char* op = "embedding";
  check_index(op, "input", index);
  check(w.shape.ndim == 2, op, ": expected weight of shape (embeddings, dim), got ", w.shape);
  check_device(op, "input", index, w.device());
  Shape shape = index.shape;
  check(shape.ndim < kMaxDims, op, ": expected input with fewer than ", kMaxDims, " axes, got ",
        shape);
  shape.dims[shape.ndim++] = w.shape[1];
  Array y = empty(shape, w.dtype, w.device());
  const int64_t n = index.numel();
  const StatusSite site(w.device(), out_of_range(op, "input", index, w.shape[0]));
  launch({op, w.device(), w.dtype, ceil_div(n, rows_per_task(w.shape[1])),
          static_cast<double>(n * w.shape[1]) * kCostPerElement},
         &Kernels::take,
         TakeArgs{read(w), read_as<int64_t>(index), write(y), 1, n, w.shape[0], w.shape[1], 0.f,
                  site.status(), site.site()});
  site.raise();
  return y;
}

// Each row's sum over where it was taken to; rows at `ignored` get none.
Array embedding_bwd(const Array& dy, const Array& index, int64_t rows, int64_t ignored) {
  constexpr const char* op = "embedding";
  const int64_t n = index.numel(), cols = dy.shape.last();
  check(dy.numel() == n * cols, op, ": expected a gradient with a row for each of ", n,
        " indices, got ", dy.shape);
  Array dw = empty({rows, cols}, dy.dtype, dy.device());
  Array first = empty({rows + 1}, DType::kInt64, dy.device()),
        order = empty({n}, DType::kInt64, dy.device());
  launch({op, dy.device(), dy.dtype, 1, static_cast<double>(n + rows)}, &Kernels::take_order,
         TakeOrderArgs{read_as<int64_t>(index), write_as<int64_t>(first), write_as<int64_t>(order),
                       n, rows, ignored});
  launch(row_wise(op, dy, rows, cols, kCostPerExp), &Kernels::take_bwd,
         TakeBwdArgs{read(dy), read_as<int64_t>(first), read_as<int64_t>(order), write(dw), 1, n,
                     rows, cols});
  return dw;
}

Array one_hot(const Array& index, int64_t classes) {
  constexpr const char* op = "one_hot";
  check_index(op, "input", index);
  check(classes > 0, op, ": expected num_classes > 0, got ", classes);
  Shape shape = index.shape;
  check(shape.ndim < kMaxDims, op, ": expected input with fewer than ", kMaxDims, " axes, got ",
        shape);
  shape.dims[shape.ndim++] = classes;
  Array y = empty(shape, DType::kInt64, index.device());
  const int64_t n = index.numel();
  const StatusSite site(index.device(), out_of_range(op, "input", index, classes));
  launch({op, index.device(), DType::kFloat32, ceil_div(n, rows_per_task(classes)),
          static_cast<double>(n * classes) * kCostPerElement},
         &Kernels::one_hot,
         OneHotArgs{read_as<int64_t>(index), write_as<int64_t>(y), n, classes, site.status(),
                    site.site()});
  site.raise();
  return y;
}

Array argmax(const Array& x) {
  check(x.shape.ndim >= 1 && x.shape.last() > 0,
        "argmax: expected at least one element on the last axis, got input ", x.shape);
  Array y = empty(x.shape.without_last(), DType::kInt64, x.device());
  launch(row_wise("argmax", x, x.shape.rows(), x.shape.last(), kCostPerElement), &Kernels::argmax,
         ArgmaxArgs{read(x), write_as<int64_t>(y), x.shape.rows(), x.shape.last()});
  return y;
}

// 1 where the label is among the k largest of its row, else 0.
Array topk_correct(const Array& x, const Array& labels, int64_t k) {
  constexpr const char* op = "accuracy";
  check(x.shape.ndim >= 1, op, ": expected logits with at least one axis, got ()");
  check_index(op, "labels", labels);
  check(labels.shape == x.shape.without_last(), op, ": expected labels of shape ",
        x.shape.without_last(), ", one for each row of logits ", x.shape, ", got ", labels.shape);
  check(k >= 1, op, ": expected k >= 1, got ", k);
  check_device(op, "labels", labels, x.device());
  Array y = empty(labels.shape, DType::kFloat32, x.device());
  const StatusSite site(x.device(), out_of_range(op, "labels", labels, x.shape.last()));
  launch(row_wise(op, x, x.shape.rows(), x.shape.last(), kCostPerElement), &Kernels::topk_correct,
         TopKCorrectArgs{read(x), read_as<int64_t>(labels), write_as<float>(y), x.shape.rows(),
                         x.shape.last(), k, site.status(), site.site()});
  site.raise();
  return y;
}

}  // namespace

void bind_embedding(py::module_& m) {
  m.def("embedding", &embedding, py::arg("index"), py::arg("w"));
  m.def("embedding_bwd", &embedding_bwd, py::arg("dy"), py::arg("index"), py::arg("rows"),
        py::arg("ignored"));
  m.def("one_hot", &one_hot, py::arg("index"), py::arg("classes"));
  m.def("argmax", &argmax, py::arg("x"));
  m.def("topk_correct", &topk_correct, py::arg("x"), py::arg("labels"), py::arg("k"));
}

}  // namespace fastnn
