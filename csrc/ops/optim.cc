// Optimizer steps: for each group of parameters one launch that updates all of them, after all
// groups were found to be good.
#include <map>

#include "../core/pinned.h"
#include "multi_tensor.h"

namespace fastnn {
namespace {

struct RuleInfo {
  const char* name;
  int slots;
  Squares squares;
};
template <class... R>
constexpr std::array<RuleInfo, sizeof...(R)> describe(OptimRuleList<R...>) {
  return {{{R::kName, R::kSlots, R::kSquares}...}};
}
constexpr auto kRules = describe(OptimRules{});

OptimOptions options_from(const std::map<std::string, double>& values) {
  static const std::map<std::string, double OptimOptions::*> fields = {
      {"beta2", &OptimOptions::beta2},
      {"eps", &OptimOptions::eps},
      {"eps_inside", &OptimOptions::eps_inside},
      {"weight_decay", &OptimOptions::weight_decay},
      {"decoupled", &OptimOptions::decoupled},
      {"maximize", &OptimOptions::maximize},
      {"dampening", &OptimOptions::dampening},
      {"nesterov", &OptimOptions::nesterov},
      {"form", &OptimOptions::form},
      {"bias_correction", &OptimOptions::bias_correction},
      {"lr_decay", &OptimOptions::lr_decay},
      {"decay_base", &OptimOptions::decay_base},
  };
  OptimOptions options{};
  for (const auto& [name, value] : values) {
    const auto field = fields.find(name);
    check(field != fields.end(), "optimizer: expected an option of the update rules, got '", name,
          "'");
    options.*(field->second) = value;
  }
  return options;
}

// The parameters of one group that have a gradient, and the places of their records.
struct OptimGroup {
  int rule;
  Arrays params, grads;
  std::vector<Arrays> slots;
  std::vector<int64_t> places;
  Array rates, records;
  OptimOptions options;
};

OptimGroup make_group(int rule, Arrays params, Arrays grads, std::vector<Arrays> slots,
                      std::vector<int64_t> places, Array rates, Array records,
                      const OptimOptions& options) {
  return {rule,
          std::move(params),
          std::move(grads),
          std::move(slots),
          std::move(places),
          std::move(rates),
          std::move(records),
          options};
}

void check_group(const char* op, const OptimGroup& group) {
  check_parameters(op, group.params, group.grads);
  const auto slots = static_cast<size_t>(kRules[group.rule].slots);
  check(group.slots.size() == slots, op, ": expected ", slots, " slots, got ", group.slots.size());
  for (const Arrays& slot : group.slots)
    check(slot.size() == group.params.size(), op, ": expected a slot of each parameter");
}

Array group_table(const OptimGroup& group, int64_t first) {
  auto* records = write_as<OptimState>(group.records);
  std::vector<OptimState*> states;
  for (const int64_t place : group.places) states.push_back(records + place);
  return chunk_table({group.params, group.grads, group.slots, states, true}, first);
}

// A group ready for its launches.
struct Job {
  Launch what;
  OptimArgs args;
  int rule;
  Array table;
};

std::vector<Job> make_jobs(const char* op, const std::vector<OptimGroup>& groups,
                           const StatusSite& site) {
  std::vector<Job> jobs;
  int64_t first = 0;
  for (const OptimGroup& group : groups) {
    Job job{{}, {}, group.rule, group_table(group, first)};
    job.what = over_chunks(op, group.params, job.table, kCostPerExp);
    job.args = {read_as<TensorChunk>(job.table),
                read_as<OptimRates>(group.rates),
                nullptr,
                site.status(),
                site.site(),
                num_chunks(job.table),
                group.options,
                kRules[group.rule].squares};
    first += total_size(group.params);
    jobs.push_back(std::move(job));
  }
  return jobs;
}

// The norm of the gradients of all jobs, for their updates to scale them. Returns what they read.
Array clip_jobs(std::vector<Job>& jobs, float max_norm, const float* loss_scale) {
  int64_t chunks = 0;
  for (const Job& job : jobs) chunks += job.args.num_chunks;
  const Device device = jobs[0].what.device;
  const Array sums = empty({chunks}, DType::kInt64, device),
              norm = empty({2}, DType::kFloat32, device);
  GradNormArgs args{};
  args.norm = write_as<float>(norm);
  args.norm_type = 2;
  args.max_norm = max_norm;
  args.loss_scale = loss_scale;
  double* first = write_as<double>(sums);
  for (Job& job : jobs) {
    args.chunks = job.args.chunks;
    args.num_chunks = job.args.num_chunks;
    args.sums = first;
    launch(job.what, &Kernels::grad_norm_sum, args);
    first += job.args.num_chunks;
    job.args.clip = args.norm;
    job.args.clip_is_norm = true;
  }
  args.sums = write_as<double>(sums);
  args.num_chunks = static_cast<int32_t>(chunks);
  launch(single(jobs[0].what.op, device), &Kernels::grad_norm_combine, args);
  return norm;
}

// What a GradScaler has in memory: [scale, 1 / scale], and [good steps, found, found before].
using Scaler = std::optional<std::pair<Array, Array>>;

GradScalerArgs scaler_args(const std::pair<Array, Array>& scaler) {
  auto* words = write_as<int64_t>(scaler.second);
  return {.scale = write_as<float>(scaler.first),
          .good_steps = words,
          .found = reinterpret_cast<Status*>(words + 1),
          .status = current_status(scaler.first.device()),
          .growth = 1,
          .backoff = 1,
          .interval = 1};
}

// What the scaler's steps found goes to its own word, and gradients are divided by its scale.
void scale_jobs(const char* op, std::vector<Job>& jobs, const GradScalerArgs& scaler) {
  launch(single(op, jobs[0].what.device), &Kernels::scaler_begin, scaler);
  for (Job& job : jobs) {
    job.args.status = scaler.found;
    job.args.clip = scaler.scale;
  }
}

// Looks at the gradients of all groups, counts the step, updates: nothing if a gradient is bad.
void optim_step(const std::string& name, const std::vector<OptimGroup>& groups,
                std::optional<float> max_norm, const Scaler& scaler) {
  const char* op = name.c_str();
  std::vector<int64_t> sizes;
  for (const OptimGroup& group : groups) {
    check_group(op, group);
    check_device(op, "all parameters", group.params[0], groups[0].params[0].device());
    for (const Array& p : group.params) sizes.push_back(p.numel());
  }
  if (groups.empty()) return;
  const StatusSite site(groups[0].params[0].device(), describe_gradient(name, sizes, "updated"));
  std::vector<Job> jobs = make_jobs(op, groups, site);
  Array norm;
  if (scaler) scale_jobs(op, jobs, scaler_args(*scaler));
  if (max_norm) norm = clip_jobs(jobs, *max_norm, scaler ? read_as<float>(scaler->first) : nullptr);
  for (const Job& job : jobs) launch(job.what, &Kernels::optim_check, job.args);
  for (const Job& job : jobs) {
    launch(single(op, job.what.device), &Kernels::optim_begin, job.args);
    launch(job.what, &Kernels::optim_update, job.rule, job.args);
  }
  site.raise();
}

// After the steps of all optimizers: the scale of the next ones.
void scaler_update(const Array& scale, const Array& words, double growth, double backoff,
                   int64_t interval) {
  constexpr const char* op = "GradScaler";
  GradScalerArgs args = scaler_args({scale, words});
  args.growth = growth, args.backoff = backoff, args.interval = interval;
  launch(single(op, scale.device()), &Kernels::scaler_update, args);
}

// ---- what lives in memory ----------------------------------------------------------------------

Array make_optim_rates(double lr, double beta1) {
  Array x = empty({2}, DType::kInt64);
  *static_cast<OptimRates*>(x.storage->data) = {lr, beta1};
  return x;
}
void set_optim_rates(const Array& x, double lr, double beta1) {
  if (x.device() == Device::kCpu)
    *static_cast<OptimRates*>(x.storage->data) = {lr, beta1};
  else
    copy_staged(make_optim_rates(lr, beta1), x);
}

// (step, mu_product) of each parameter of a group.
using Records = std::vector<std::pair<int64_t, double>>;

Array make_optim_records(const Records& values) {
  Array x = empty({static_cast<int64_t>(values.size() * sizeof(OptimState))}, DType::kUInt8);
  auto* records = static_cast<OptimState*>(x.storage->data);
  for (size_t i = 0; i < values.size(); ++i) records[i] = {values[i].first, 1, 1, values[i].second};
  return x;
}
Records read_optim_records(const Array& x) {
  const Array host = on_host(x);
  const auto* records = static_cast<const OptimState*>(host.storage->data);
  Records values;
  for (size_t i = 0; i < x.bytes() / sizeof(OptimState); ++i)
    values.emplace_back(records[i].step, records[i].mu_product);
  return values;
}

}  // namespace

void bind_optim(py::module_& m) {
  py::class_<OptimOptions>(m, "OptimOptions").def(py::init(&options_from), py::arg("values"));
  py::class_<OptimGroup>(m, "OptimGroup")
      .def(py::init(&make_group), py::arg("rule"), py::arg("params"), py::arg("grads"),
           py::arg("slots"), py::arg("places"), py::arg("rates"), py::arg("records"),
           py::arg("options"));
  py::dict rules;
  for (int i = 0; i < kNumOptimRules; ++i) rules[kRules[i].name] = i;
  m.attr("OPTIM_RULES") = rules;
  m.def("optim_step", &optim_step, py::arg("op"), py::arg("groups"), py::arg("max_norm"),
        py::arg("scaler") = std::nullopt);
  m.def("scaler_update", &scaler_update, py::arg("scale"), py::arg("words"), py::arg("growth"),
        py::arg("backoff"), py::arg("interval"));
  m.def("make_optim_rates", &make_optim_rates, py::arg("lr"), py::arg("beta1"));
  m.def("set_optim_rates", &set_optim_rates, py::arg("x"), py::arg("lr"), py::arg("beta1"));
  m.def("make_optim_records", &make_optim_records, py::arg("values"));
  m.def("read_optim_records", &read_optim_records, py::arg("x"));
}

}  // namespace fastnn
