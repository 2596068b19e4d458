// layer_norm and rms_norm over the trailing axes; batch_norm, group_norm and instance_norm over
// channels. Each with the activation and the dropout after it.
#include "common.h"

namespace fastnn {
namespace {

void check_eps(const char* op, float eps) {
  check(eps >= 0.f, op, ": expected eps >= 0, got ", eps);
}

// What follows the norm: an activation and its parameter, and dropout: the generator of a forward
// pass or what it drew, if p is not 0.
struct After {
  int activation;
  float a;
  OptionalArray random;
  double p;
  using Tuple = std::tuple<int, float, OptionalArray, double>;
  explicit After(const Tuple& t)
      : activation(std::get<0>(t)), a(std::get<1>(t)), random(std::get<2>(t)), p(std::get<3>(t)) {}
};
void check_after(const char* op, const After& after, Device device) {
  check(device == Device::kCpu || (after.activation == 0 && after.p == 0), op,
        ": expected no activation or dropout fused on cuda; apply them to the result");
  check(after.p >= 0 && after.p <= 1, op, ": expected 0 <= dropout_p <= 1, got ", after.p);
}
// In a forward pass, after all checks.
OptionalArray draw_of(const After& after) {
  return after.random ? OptionalArray(rng_draw(*after.random)) : OptionalArray();
}
NormEpilogue epilogue_of(const After& after, const OptionalArray& draw) {
  return {after.activation, after.a, read_optional_as<RngDraw>(draw), keep_of(after.p, true)};
}

// y, two statistics for backward, and what dropout drew.
using Normalized = std::tuple<Array, Array, Array, OptionalArray>;

// ---- rows -----------------------------------------------------------------------------------
// The last `axes` axes are normalised together.
Shape trailing(const Array& x, int axes) {
  Shape shape;
  for (int i = x.shape.ndim - axes; i < x.shape.ndim; ++i)
    shape.dims[shape.ndim++] = x.shape.dims[i];
  return shape;
}
std::pair<int64_t, int64_t> rows_and_cols(const Array& x, int axes) {
  int64_t rows = 1;
  for (int i = 0; i < x.shape.ndim - axes; ++i) rows *= x.shape.dims[i];
  return {rows, trailing(x, axes).numel()};
}
const char* row_op(bool centred) { return centred ? "layer_norm" : "rms_norm"; }

void check_parameter(const char* op, const char* name, const OptionalArray& p, const Shape& shape,
                     const Array& x) {
  if (!p) return;
  check(p->shape == shape, op, ": expected ", name, " of shape ", shape, " to fit input ", x.shape,
        ", got ", p->shape);
  check_dtype(op, name, *p, x.dtype);
  check_device(op, name, *p, x.device());
}

// Returns (y, mean, rstd, draw); mean holds float64 values in an int64 array. rms_norm: not
// centred.
Normalized row_norm_fwd(const Array& x, const std::vector<int64_t>& normalized_shape,
                        const OptionalArray& w, const OptionalArray& b, float eps, bool centred,
                        const After::Tuple& what_follows) {
  const char* op = row_op(centred);
  const After after(what_follows);
  const int axes = static_cast<int>(normalized_shape.size());
  bool fits = axes >= 1 && axes <= x.shape.ndim;
  for (int i = 0; fits && i < axes; ++i)
    fits = x.shape.dims[x.shape.ndim - axes + i] == normalized_shape[i];
  Shape expected;
  for (int64_t size : normalized_shape) {
    check(expected.ndim < kMaxDims, op, ": expected at most ", kMaxDims,
          " axes in normalized_shape");
    expected.dims[expected.ndim++] = size;
  }
  check(fits, op, ": expected input to end with normalized_shape ", expected, ", got input ",
        x.shape);
  check_eps(op, eps);
  check_parameter(op, "weight", w, trailing(x, axes), x);
  check_parameter(op, "bias", b, trailing(x, axes), x);
  const auto [rows, cols] = rows_and_cols(x, axes);
  check(cols > 0 || rows == 0, op, ": expected at least one element to normalise, got input ",
        x.shape);
  check_after(op, after, x.device());
  const OptionalArray draw = draw_of(after);
  Array y = empty_like(x);
  Array mean = empty({rows}, DType::kInt64, x.device()),
        rstd = empty({rows}, DType::kFloat32, x.device());
  const LayerNormFwdArgs args{read(x),
                              read_optional(w),
                              read_optional(b),
                              write(y),
                              write_as<double>(mean),
                              write_as<float>(rstd),
                              rows,
                              cols,
                              eps,
                              epilogue_of(after, draw)};
  launch(row_wise(op, x, rows, cols, kCostPerExp),
         centred ? &Kernels::layer_norm_fwd : &Kernels::rms_norm_fwd, args);
  return {y, mean, rstd, draw};
}

using Gradients = std::tuple<OptionalArray, OptionalArray, OptionalArray>;

Gradients row_norm_bwd(const Array& dy, const Array& x, const OptionalArray& w,
                       const OptionalArray& b, const Array& mean, const Array& rstd, int axes,
                       bool centred, const After::Tuple& what_followed, bool need_dx, bool need_dw,
                       bool need_db) {
  const char* op = row_op(centred);
  const After after(what_followed);
  check_same(op, "the output", x, "its gradient", dy);
  const auto [rows, cols] = rows_and_cols(x, axes);
  OptionalArray dx, dw, db;
  Array partials;
  const Launch main = row_wise(op, x, rows, cols, 2 * kCostPerExp);
  if (need_dx) dx = empty_like(x);
  if (need_dw) dw = empty(trailing(x, axes), x.dtype, x.device());
  if (need_db) db = empty(trailing(x, axes), x.dtype, x.device());
  if (need_dw || need_db) partials = empty({main.tasks, 2, cols}, DType::kInt64, x.device());
  const LayerNormBwdArgs args{read(dy),
                              read(x),
                              read_optional(w),
                              read_as<double>(mean),
                              read_as<float>(rstd),
                              dx ? write(*dx) : nullptr,
                              partials.defined() ? write_as<double>(partials) : nullptr,
                              dw ? write(*dw) : nullptr,
                              db ? write(*db) : nullptr,
                              rows,
                              cols,
                              read_optional(b),
                              epilogue_of(after, after.random)};
  launch(main, centred ? &Kernels::layer_norm_bwd : &Kernels::rms_norm_bwd, args);
  if (partials.defined())
    launch({op, x.device(), x.dtype, ceil_div(cols, kColumnChunk),
            static_cast<double>(cols * main.tasks)},
           &Kernels::layer_norm_bwd_params, args);
  return {dx, dw, db};
}

// ---- channels -------------------------------------------------------------------------------
// A norm over channels as the kernels see it; groups as in Planes. Channels-last, channels are
// columns, of which every place is a row. CUDA's kernels have columns for batch norm only.
struct ChannelNorm {
  const char* op;
  const Array& x;
  const OptionalArray &w, &b;
  int64_t groups;
  float eps;
  After after;

  bool last() const { return x.layout == Layout::kNhwc; }
  int64_t places() const {
    int64_t n = 1;
    for (int i = 2; i < x.shape.ndim; ++i) n *= x.shape.dims[i];
    return n;
  }
  bool rows_of_batch() const { return groups == 0 && last(); }
  int64_t batch() const { return rows_of_batch() ? x.shape[0] * places() : x.shape[0]; }
  int64_t channels() const { return x.shape[1]; }
  int64_t size() const { return rows_of_batch() ? 1 : places(); }
  Planes planes() const { return {batch(), channels(), size(), groups}; }
  bool by_columns() const { return last() || (groups == 0 && size() == 1); }
  Launch launch_of(double cost) const {
    const int64_t tasks =
        by_columns() ? ColumnTasks(batch(), channels(), size(), groups).tasks() : planes().tasks();
    return {op, x.device(), x.dtype, tasks, static_cast<double>(x.numel()) * cost};
  }
};

void check_channels(const ChannelNorm& n, int axes) {
  const char* shape = axes == 2 ? "(n, channels, ...)" : "(n, channels, size, ...)";
  check(n.x.shape.ndim >= axes, n.op, ": expected input of shape ", shape, ", got ", n.x.shape);
  check_eps(n.op, n.eps);
  check_after(n.op, n.after, n.x.device());
  check_parameter(n.op, "weight", n.w, {n.channels()}, n.x);
  check_parameter(n.op, "bias", n.b, {n.channels()}, n.x);
}

// What the caller has to convert.
void check_has_columns(const ChannelNorm& n) {
  if (!n.last() || n.groups == 0) return;
  check(n.x.device() == Device::kCpu && n.channels() / n.groups <= kNormColumns, n.op,
        ": expected channels-last input on the cpu, of groups of at most ", kNormColumns,
        " channels");
}

struct RunningStats {
  const OptionalArray &mean, &var, &count;
  std::optional<double> momentum;  // none: the average of all batches
};

void check_running(const ChannelNorm& n, const RunningStats& running, bool updated) {
  check(running.mean.has_value() == running.var.has_value(), n.op,
        ": expected running_mean and running_var together, got one of them");
  const auto check_one = [&](const char* name, const OptionalArray& p, const Shape& shape,
                             DType dtype) {
    if (!p) return;
    check(p->shape == shape, n.op, ": expected ", name, " of shape ", shape, " to fit input ",
          n.x.shape, ", got ", p->shape);
    check_dtype(n.op, name, *p, dtype);
    check_device(n.op, name, *p, n.x.device());
    if (updated) check_writable(n.op, name, *p);
  };
  check_one("running_mean", running.mean, {n.channels()}, DType::kFloat32);
  check_one("running_var", running.var, {n.channels()}, DType::kFloat32);
  check_one("num_batches_tracked", running.count, {}, DType::kInt64);
  if (!updated || !running.mean) return;
  if (running.momentum)
    check(*running.momentum >= 0 && *running.momentum <= 1, n.op,
          ": expected 0 <= momentum <= 1, got ", *running.momentum);
  else
    check(running.count.has_value(), n.op,
          ": expected num_batches_tracked for momentum None, got None");
}

// `given` says to use the running statistics; else they are updated, where there are any.
Normalized channel_norm_fwd(const ChannelNorm& n, const RunningStats& running, bool given) {
  const Planes planes = n.planes();
  const OptionalArray draw = draw_of(n.after);
  Array y = empty_like(n.x);
  Array mean = empty({planes.statistics}, DType::kInt64, n.x.device()), var = empty_like(mean);
  const ChannelNormFwdArgs args{read(n.x),
                                read_optional(n.w),
                                read_optional(n.b),
                                write(y),
                                write_as<double>(mean),
                                write_as<double>(var),
                                given ? read_as<float>(*running.mean) : nullptr,
                                given ? read_as<float>(*running.var) : nullptr,
                                n.batch(),
                                n.channels(),
                                n.size(),
                                n.groups,
                                n.eps,
                                epilogue_of(n.after, draw)};
  launch(n.launch_of(kCostPerExp),
         n.by_columns() ? &Kernels::column_norm_fwd : &Kernels::plane_norm_fwd, args);
  if (!given && running.mean && n.x.numel() > 0) {
    const RunningStatsArgs update{read_as<double>(mean),
                                  read_as<double>(var),
                                  write_as<float>(*running.mean),
                                  write_as<float>(*running.var),
                                  running.count ? write_as<int64_t>(*running.count) : nullptr,
                                  n.groups > 0 ? n.batch() : 1,
                                  n.channels(),
                                  planes.count * planes.size,
                                  running.momentum.value_or(-1)};
    launch(single(n.op, n.x.device()), &Kernels::running_stats, update);
  }
  return {y, mean, var, draw};
}

Normalized batch_norm_fwd(const AnyLayout& x, const OptionalArray& running_mean,
                          const OptionalArray& running_var, const OptionalArray& count,
                          const OptionalArray& w, const OptionalArray& b, bool training,
                          std::optional<double> momentum, float eps, const After::Tuple& after) {
  const ChannelNorm n{"batch_norm", x, w, b, 0, eps, After(after)};
  const RunningStats running{running_mean, running_var, count, momentum};
  check_channels(n, 2);
  check_running(n, running, training);
  check(training || running_mean.has_value(), n.op,
        ": expected running_mean and running_var when training is False, got None");
  check(!training || n.batch() * n.size() != 1, n.op,
        ": expected more than 1 value per channel when training, got input ", x.shape);
  return channel_norm_fwd(n, running, !training);
}

Normalized group_norm_fwd(const AnyLayout& x, int64_t groups, const OptionalArray& w,
                          const OptionalArray& b, float eps, const After::Tuple& after) {
  const ChannelNorm n{"group_norm", x, w, b, groups, eps, After(after)};
  check(groups >= 1, n.op, ": expected num_groups >= 1, got ", groups);
  check_channels(n, 2);
  check(n.channels() % groups == 0, n.op, ": expected num_groups that divides the ", n.channels(),
        " channels of input ", x.shape, ", got ", groups);
  check_has_columns(n);
  return channel_norm_fwd(n, {{}, {}, {}, 0}, false);
}

Normalized instance_norm_fwd(const AnyLayout& x, const OptionalArray& running_mean,
                             const OptionalArray& running_var, const OptionalArray& count,
                             const OptionalArray& w, const OptionalArray& b, bool use_input_stats,
                             std::optional<double> momentum, float eps, const After::Tuple& after) {
  ChannelNorm n{"instance_norm", x, w, b, 0, eps, After(after)};
  const RunningStats running{running_mean, running_var, count, momentum};
  check_channels(n, 3);
  check_running(n, running, use_input_stats);
  check(use_input_stats || running_mean.has_value(), n.op,
        ": expected running_mean and running_var when use_input_stats is False, got None");
  check(!use_input_stats || n.places() != 1, n.op,
        ": expected more than 1 element per channel, got input ", x.shape);
  n.groups = use_input_stats ? n.channels() : 0;
  check_has_columns(n);
  return channel_norm_fwd(n, running, !use_input_stats);
}

// `constant`: the statistics were given, not computed from x.
Gradients channel_norm_bwd(const std::string& op, const AnyLayout& dy, const AnyLayout& x,
                           const OptionalArray& w, const OptionalArray& b, const Array& mean,
                           const Array& var, int64_t groups, float eps, bool constant,
                           const After::Tuple& after, bool need_dx, bool need_dw, bool need_db) {
  check_same(op.c_str(), "the output", x, "its gradient", dy);
  check_layout(op.c_str(), "the output", x, "its gradient", dy);
  const ChannelNorm n{op.c_str(), x, w, b, groups, eps, After(after)};
  OptionalArray dx, dw, db;
  Array partials;
  const int64_t rows = groups > 0 ? n.batch() : 1;
  if (need_dx) dx = empty_like(x);
  if (need_dw) dw = empty({n.channels()}, x.dtype, x.device());
  if (need_db) db = empty({n.channels()}, x.dtype, x.device());
  if (need_dw || need_db) partials = empty({rows, 2, n.channels()}, DType::kInt64, x.device());
  const ChannelNormBwdArgs args{read(dy),
                                read(x),
                                read_optional(w),
                                read_optional(b),
                                read_as<double>(mean),
                                read_as<double>(var),
                                dx ? write(*dx) : nullptr,
                                partials.defined() ? write_as<double>(partials) : nullptr,
                                dw ? write(*dw) : nullptr,
                                db ? write(*db) : nullptr,
                                n.batch(),
                                n.channels(),
                                n.size(),
                                groups,
                                eps,
                                constant,
                                epilogue_of(n.after, n.after.random)};
  launch(n.launch_of(2 * kCostPerExp),
         n.by_columns() ? &Kernels::column_norm_bwd : &Kernels::plane_norm_bwd, args);
  if (partials.defined())
    launch({n.op, x.device(), x.dtype, ceil_div(n.channels(), kColumnChunk),
            static_cast<double>(n.channels() * rows)},
           &Kernels::channel_norm_bwd_params, args);
  return {dx, dw, db};
}

}  // namespace

void bind_norm(py::module_& m) {
  m.attr("NORM_COLUMNS") = kNormColumns;
  m.def("row_norm_fwd", &row_norm_fwd, py::arg("x"), py::arg("normalized_shape"), py::arg("w"),
        py::arg("b"), py::arg("eps"), py::arg("centred"), py::arg("after"));
  m.def("row_norm_bwd", &row_norm_bwd, py::arg("dy"), py::arg("x"), py::arg("w"), py::arg("b"),
        py::arg("mean"), py::arg("rstd"), py::arg("axes"), py::arg("centred"), py::arg("after"),
        py::arg("need_dx"), py::arg("need_dw"), py::arg("need_db"));
  m.def("batch_norm_fwd", &batch_norm_fwd, py::arg("x"), py::arg("running_mean"),
        py::arg("running_var"), py::arg("num_batches_tracked"), py::arg("w"), py::arg("b"),
        py::arg("training"), py::arg("momentum"), py::arg("eps"), py::arg("after"));
  m.def("group_norm_fwd", &group_norm_fwd, py::arg("x"), py::arg("groups"), py::arg("w"),
        py::arg("b"), py::arg("eps"), py::arg("after"));
  m.def("instance_norm_fwd", &instance_norm_fwd, py::arg("x"), py::arg("running_mean"),
        py::arg("running_var"), py::arg("num_batches_tracked"), py::arg("w"), py::arg("b"),
        py::arg("use_input_stats"), py::arg("momentum"), py::arg("eps"), py::arg("after"));
  m.def("channel_norm_bwd", &channel_norm_bwd, py::arg("op"), py::arg("dy"), py::arg("x"),
        py::arg("w"), py::arg("b"), py::arg("mean"), py::arg("var"), py::arg("groups"),
        py::arg("eps"), py::arg("constant"), py::arg("after"), py::arg("need_dx"),
        py::arg("need_dw"), py::arg("need_db"));
}

}  // namespace fastnn
