// Row-wise kernels: softmax, cross-entropy and layer norm, with few and with many columns.
#include "bench.h"

namespace fastnn::bench {
namespace {

struct Rows {
  int64_t rows, cols;
  std::string name() const { return std::to_string(rows) + "x" + std::to_string(cols); }
  int64_t size() const { return rows * cols; }
  int64_t tasks() const { return ceil_div(rows, rows_per_task(cols)); }
  Work work(double flops, double streams) const {
    const auto elements = static_cast<double>(size());
    return {flops * elements, 4 * streams * elements};
  }
};

void add_softmax(Rows s) {
  add("softmax/fwd/" + s.name(), s.work(20, 2),
      [=](const Kernels& kernels) -> std::function<void()> {
        const auto x = std::make_shared<Floats>(s.size(), 3.f),
                   y = std::make_shared<Floats>(s.size());
        return [=, &kernels] {
          kernels.softmax_fwd({x->get(), y->get(), s.rows, s.cols}, all(s.tasks()));
        };
      });
  add("softmax/bwd/" + s.name(), s.work(4, 3),
      [=](const Kernels& kernels) -> std::function<void()> {
        const auto dy = std::make_shared<Floats>(s.size()), y = std::make_shared<Floats>(s.size()),
                   dx = std::make_shared<Floats>(s.size());
        return [=, &kernels] {
          kernels.softmax_bwd({dy->get(), y->get(), dx->get(), s.rows, s.cols}, all(s.tasks()));
        };
      });
}

struct Loss {
  explicit Loss(Rows s)
      : shape(s),
        x(s.size(), 3.f),
        dx(s.size()),
        dy(1),
        loss(s.rows),
        max(s.rows),
        log_sum(s.rows),
        labels(static_cast<size_t>(s.rows)) {
    for (size_t r = 0; r < labels.size(); ++r) labels[r] = static_cast<int64_t>(r) % s.cols;
  }
  ClassTarget target() const { return {labels.data(), nullptr, nullptr, -100, 0}; }
  CrossEntropyFwdArgs forward() {
    return {x.get(),    target(),   {loss.get(), nullptr},
            nullptr,    max.get(),  log_sum.get(),
            shape.rows, shape.cols, false,
            &status,    0};
  }
  CrossEntropyBwdArgs backward() const {
    const LossGradient gradient{dy.get(), nullptr, 1.f / static_cast<float>(shape.rows), true};
    return {x.get(),       target(), gradient,   max.get(),
            log_sum.get(), dx.get(), shape.rows, shape.cols};
  }
  Rows shape;
  Floats x, dx, dy, loss, max, log_sum;
  std::vector<int64_t> labels;
  Status status{kStatusOk};
};

void add_cross_entropy(Rows s) {
  add("cross_entropy/fwd/" + s.name(), s.work(20, 1),
      [=](const Kernels& kernels) -> std::function<void()> {
        const auto l = std::make_shared<Loss>(s);
        return [=, &kernels] { kernels.cross_entropy_fwd(l->forward(), all(s.tasks())); };
      });
  add("cross_entropy/bwd/" + s.name(), s.work(20, 2),
      [=](const Kernels& kernels) -> std::function<void()> {
        const auto l = std::make_shared<Loss>(s);
        kernels.cross_entropy_fwd(l->forward(), all(s.tasks()));
        return [=, &kernels] { kernels.cross_entropy_bwd(l->backward(), all(s.tasks())); };
      });
}

struct Norm {
  explicit Norm(Rows s)
      : x(s.size()),
        y(s.size()),
        dy(s.size()),
        w(s.cols),
        b(s.cols),
        dw(s.cols),
        db(s.cols),
        rstd(s.rows),
        mean(static_cast<size_t>(s.rows)),
        partials(static_cast<size_t>(s.tasks() * 2 * s.cols)) {}
  Floats x, y, dy, w, b, dw, db, rstd;
  std::vector<double> mean, partials;
};

void add_layer_norm(Rows s) {
  const auto forward = [s](const Kernels& kernels, const Norm& n) {
    kernels.layer_norm_fwd(
        {n.x.get(), n.w.get(), n.b.get(), n.y.get(), const_cast<double*>(n.mean.data()),
         n.rstd.get(), s.rows, s.cols, 1e-5f},
        all(s.tasks()));
  };
  add("layer_norm/fwd/" + s.name(), s.work(8, 2),
      [=](const Kernels& kernels) -> std::function<void()> {
        const auto n = std::make_shared<Norm>(s);
        return [=, &kernels] { forward(kernels, *n); };
      });
  add("layer_norm/bwd/" + s.name(), s.work(16, 3),
      [=](const Kernels& kernels) -> std::function<void()> {
        const auto n = std::make_shared<Norm>(s);
        forward(kernels, *n);
        const LayerNormBwdArgs args{
            n->dy.get(),        n->x.get(),  n->w.get(),  n->mean.data(), n->rstd.get(), n->y.get(),
            n->partials.data(), n->dw.get(), n->db.get(), s.rows,         s.cols};
        return [=, &kernels] {
          (void)n;
          kernels.layer_norm_bwd(args, all(s.tasks()));
          kernels.layer_norm_bwd_params(args, all(ceil_div(s.cols, kColumnChunk)));
        };
      });
}

}  // namespace

void register_rows() {
  for (const Rows s : {Rows{32, 10}, Rows{4096, 10}, Rows{4096, 1000}, Rows{64, 32000}}) {
    add_softmax(s);
    add_cross_entropy(s);
  }
  for (const Rows s : {Rows{64, 128}, Rows{256, 768}, Rows{4096, 1024}}) add_layer_norm(s);
}

}  // namespace fastnn::bench
