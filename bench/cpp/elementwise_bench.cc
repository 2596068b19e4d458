// Activations, their derivatives, and dropout: in cache (64 KiB) and in memory (64 MiB).
#include "bench.h"

namespace fastnn::bench {
namespace {

template <class... A>
std::vector<std::string> names(ActivationList<A...>) {
  return {A::kName...};
}

std::string size_name(int64_t n) { return std::to_string(n >> 10) + "Ki"; }

void add_activation(const std::string& name, int index, int64_t n) {
  const int64_t tasks = ceil_div(n, kElementwiseChunk);
  const auto elements = static_cast<double>(n);
  add(name + "/fwd/" + size_name(n), {elements, 8 * elements},
      [=](const Kernels& kernels) -> std::function<void()> {
        const auto x = std::make_shared<Floats>(n, 3.f), y = std::make_shared<Floats>(n);
        return [=, &kernels] {
          kernels.activation_fwd[index]({x->get(), y->get(), n, 1.f}, all(tasks));
        };
      });
  add(name + "/bwd/" + size_name(n), {elements, 12 * elements},
      [=](const Kernels& kernels) -> std::function<void()> {
        const auto dy = std::make_shared<Floats>(n), saved = std::make_shared<Floats>(n, 3.f),
                   dx = std::make_shared<Floats>(n);
        return [=, &kernels] {
          kernels.activation_bwd[index]({dy->get(), saved->get(), dx->get(), n, 1.f}, all(tasks));
        };
      });
}

void add_dropout(int64_t n) {
  const auto elements = static_cast<double>(n);
  add("dropout/fwd/" + size_name(n), {elements, 8 * elements},
      [=](const Kernels& kernels) -> std::function<void()> {
        const auto x = std::make_shared<Floats>(n), y = std::make_shared<Floats>(n);
        const auto draw = std::make_shared<RngDraw>(RngDraw{1, 2});
        return [=, &kernels] {
          kernels.dropout({x->get(), y->get(), n, draw.get(), {1u << 15, 2.f, -0.f, 0.f}},
                          all(ceil_div(n, kElementwiseChunk)));
        };
      });
}

}  // namespace

void register_elementwise() {
  const std::vector<std::string> activations = names(Activations{});
  for (const int64_t n : {int64_t{16} << 10, int64_t{16} << 20}) {
    for (size_t i = 0; i < activations.size(); ++i)
      add_activation(activations[i], static_cast<int>(i), n);
    add_dropout(n);
  }
}

}  // namespace fastnn::bench
