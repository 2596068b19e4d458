// Sums over a whole array, and the counters of a training step.
#include "common.h"

namespace fastnn {
namespace {

// scale * sum(x), in float64 inside. With `check_finite`, a result that is not finite is an error
// of the step: nothing is updated.
Array sum(const Array& x, float scale, bool check_finite) {
  Array y = empty({}, x.dtype, x.device());
  const int64_t tasks = ceil_div(x.numel(), kReduceChunk);
  Array partials = empty({tasks}, DType::kInt64, x.device());
  SumArgs args{read(x), write(y), write_as<double>(partials), x.numel(), scale, nullptr, 0};
  std::optional<StatusSite> site;
  if (check_finite) {
    site.emplace(x.device(), [](DataError, int64_t) {
      return std::string(
          "loss: expected a finite value, got NaN or infinity; lower the learning rate, or look "
          "for bad "
          "values in the data; nothing was updated");
    });
    args.status = site->status();
    args.site = site->site();
  }
  launch({"sum", x.device(), x.dtype, tasks, static_cast<double>(x.numel()) * kCostPerElement},
         &Kernels::sum_chunks, args);
  launch({"sum", x.device(), x.dtype, 1, 0}, &Kernels::sum_combine, args);
  if (site) site->raise();
  return y;
}

// Adds the number of rows whose first largest element is at the label to `correct`.
void count_correct(const Array& x, const Array& labels, const Array& correct) {
  check_dtype("count_correct", "labels", labels, DType::kInt64);
  check(labels.shape == x.shape.without_last(), "count_correct: expected labels of shape ",
        x.shape.without_last(), ", got ", labels.shape);
  const CountCorrectArgs args{read_as<float>(x), read_as<int64_t>(labels),
                              write_as<int64_t>(correct), x.shape.rows(), x.shape.last()};
  launch({"count_correct", x.device(), x.dtype, 1, 0}, &Kernels::count_correct, args);
}

// sum += x scale, for a scalar x and a float64 sum (an int64 array of one).
void accumulate(const Array& x, const Array& sum, double scale) {
  launch({"accumulate", x.device(), x.dtype, 1, 0}, &Kernels::accumulate,
         AccumulateArgs{read_as<float>(x), write_as<double>(sum), scale});
}

double read_float64(const Array& x) { return *static_cast<const double*>(x.storage->data); }

// y = x[index[cursor : cursor + rows]].
Array gather(const Array& x, const Array& index, const Array& cursor, int64_t rows) {
  check(x.shape.ndim >= 1, "gather: expected an array with rows, got shape ", x.shape);
  Shape shape = x.shape;
  shape.dims[0] = rows;
  Array y = empty(shape, x.dtype, x.device());
  const auto row_bytes =
      static_cast<int64_t>(item_size(x.dtype)) * (x.shape[0] > 0 ? x.numel() / x.shape[0] : 0);
  const GatherArgs args{read(x),  read_as<int64_t>(index), read_as<int64_t>(cursor), write(y), rows,
                        row_bytes};
  launch({"gather", x.device(), DType::kFloat32, ceil_div(rows, rows_per_task(row_bytes)),
          static_cast<double>(rows * row_bytes) * 0.1},
         &Kernels::gather, args);
  return y;
}

void advance(const Array& value, int64_t by) {
  launch(single("advance", value.device()), &Kernels::advance,
         AdvanceArgs{write_as<int64_t>(value), by});
}

}  // namespace

void bind_reduce(py::module_& m) {
  m.def("sum", &sum, py::arg("x"), py::arg("scale"), py::arg("check_finite"));
  m.def("count_correct", &count_correct, py::arg("x"), py::arg("labels"), py::arg("correct"));
  m.def("accumulate", &accumulate, py::arg("x"), py::arg("sum"), py::arg("scale"));
  m.def("read_float64", &read_float64, py::arg("x"));
  m.def("gather", &gather, py::arg("x"), py::arg("index"), py::arg("cursor"), py::arg("rows"));
  m.def("advance", &advance, py::arg("value"), py::arg("by"));
}

}  // namespace fastnn
