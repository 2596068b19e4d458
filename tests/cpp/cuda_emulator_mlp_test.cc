// The fused step of a small network: results between guards, from any alignment, against float64;
// and a kernel of the same parts that is wrong on purpose, in each way that the schedules must
// show.
#include "cuda_emulator_test.h"
#include "kernels/cuda/mlp.cuh"

namespace fastnn::test {
namespace {

constexpr Slice kAll{0, 1, nullptr};
constexpr int32_t kIdentity = 0, kTanh = 6;
static_assert(
    std::is_same_v<ActivationList<Identity, Relu, LeakyRelu, Elu, Selu, Sigmoid, Tanh, Softplus,
                                  Silu, Gelu, GeluTanh, Relu6, Hardsigmoid, Hardswish>,
                   Activations>);

// A network of tanh layers on a squared error, and everything that a step writes.
struct Network {
  std::vector<int32_t> sizes;
  int64_t rows, shift;
  std::vector<std::unique_ptr<Buffer<float>>> w, b, dw, db;
  Buffer<float> x, t, y, loss;
  std::unique_ptr<Buffer<float>> sums;
  Buffer<double> losses, count;
  Buffer<Status> status;
  MlpStepArgs args{};

  Network(std::vector<int32_t> s, int64_t batch, int64_t past = 0)
      : sizes(std::move(s)),
        rows(batch),
        shift(past),
        x(normal<float>(rows * sizes.front()), shift),
        t(normal<float>(rows * sizes.back()), shift),
        y(rows * sizes.back(), shift),
        loss(1, shift),
        losses(kMaxMlpBlocks),
        count(kMaxMlpBlocks),
        status(1) {
    args.rows = rows, args.num_layers = static_cast<int32_t>(sizes.size()) - 1;
    for (int32_t i = 0; i < args.num_layers; ++i) {
      const int64_t in = sizes[size_t(i)], out = sizes[size_t(i) + 1];
      w.push_back(std::make_unique<Buffer<float>>(
          normal<float>(in * out, 0, 1 / std::sqrt(double(in))), shift));
      b.push_back(std::make_unique<Buffer<float>>(normal<float>(out), shift));
      dw.push_back(std::make_unique<Buffer<float>>(in * out, shift));
      db.push_back(std::make_unique<Buffer<float>>(out, shift));
      args.layers[i] = {.w = w.back()->data(),
                        .b = b.back()->data(),
                        .dw = dw.back()->data(),
                        .db = db.back()->data(),
                        .in = int32_t(in),
                        .out = int32_t(out),
                        .activation = i + 1 < args.num_layers ? kTanh : kIdentity,
                        .saves_input = i + 1 < args.num_layers && Tanh::kSaved == Saved::kInput};
    }
    args.x = x.data(), args.targets = t.data(), args.y = y.data(), args.loss = loss.data();
    args.losses = losses.data(), args.count = count.data();
    args.mean = true, args.share = 1, args.status = status.data();
    status.data()->word = kStatusOk;
    expect(plan_mlp(&args), "a network has a plan");
    sums = std::make_unique<Buffer<float>>(ceil_div(rows, 16) * args.num_sums);
    args.sums = sums->data();
  }
  std::string bits() {
    std::string all = y.bits() + loss.bits();
    for (size_t i = 0; i < w.size(); ++i) all += dw[i]->bits() + db[i]->bits();
    return all;
  }
};

// Forward and backward in float64, one row after the other; whether all that was written is near.
bool is_right(Network& n) {
  const size_t layers = n.w.size();
  std::vector<std::vector<double>> dw(layers), db(layers);
  double loss = 0;
  bool ok = true;
  const int64_t last = n.sizes.back();
  for (size_t l = 0; l < layers; ++l)
    dw[l].resize(size_t(n.dw[l]->size())), db[l].resize(size_t(n.db[l]->size()));
  for (int64_t r = 0; r < n.rows; ++r) {
    std::vector<std::vector<double>> h(layers + 1);
    for (int64_t k = 0; k < n.sizes[0]; ++k) h[0].push_back(n.x[r * n.sizes[0] + k]);
    for (size_t l = 0; l < layers; ++l)
      for (int64_t o = 0; o < n.sizes[l + 1]; ++o) {
        double z = (*n.b[l])[o];
        for (size_t k = 0; k < h[l].size(); ++k)
          z += h[l][k] * (*n.w[l])[o * n.sizes[l] + int64_t(k)];
        h[l + 1].push_back(l + 1 < layers ? std::tanh(z) : z);
      }
    std::vector<double> d;
    for (int64_t o = 0; o < last; ++o) {
      const double off = h[layers][size_t(o)] - n.t[r * last + o];
      ok = close(n.y[r * last + o], h[layers][size_t(o)], 1e-5) && ok;
      loss += off * off / double(n.rows * last);
      d.push_back(2 * off / double(n.rows * last));
    }
    for (size_t l = layers; l-- > 0;) {
      std::vector<double> before(h[l].size());
      for (size_t o = 0; o < d.size(); ++o) {
        db[l][o] += d[o];
        for (size_t k = 0; k < h[l].size(); ++k) {
          dw[l][o * h[l].size() + k] += d[o] * h[l][k];
          before[k] += d[o] * (*n.w[l])[int64_t(o * h[l].size() + k)] * (1 - h[l][k] * h[l][k]);
        }
      }
      d = before;
    }
  }
  ok = close(n.loss[0], loss, 1e-6 * loss) && ok;
  for (size_t l = 0; l < layers; ++l) {
    for (size_t e = 0; e < dw[l].size(); ++e)
      ok = close((*n.dw[l])[int64_t(e)], dw[l][e], 3e-6) && ok;
    for (size_t e = 0; e < db[l].size(); ++e)
      ok = close((*n.db[l])[int64_t(e)], db[l][e], 3e-6) && ok;
  }
  return ok;
}

void test_steps() {
  const std::pair<std::vector<int32_t>, int64_t> cases[] = {
      {{1, 1, 1}, 1}, {{4, 8, 4}, 32}, {{64, 128, 65, 32}, 33}, {{3, 5, 7, 6, 2}, 65}};
  for (const auto& [sizes, rows] : cases)
    for (const int64_t shift : {0, 1}) {
      Network n(sizes, rows, shift);
      expect(same_on_all_schedules([&] {
               kernels<float>().mlp_step(n.args, kAll);
               return n.bits();
             }),
             "mlp_step: schedules differ");
      expect(is_right(n) && n.status.data()->word == kStatusOk,
             text("mlp_step: %d-..., %ld rows, shift %ld", sizes[0], long(rows), long(shift)));
      // Any layout is right: weights that go, and tiles of 16 rows.
      const std::string bits = n.bits();
      expect(plan_mlp(&n.args, 32, false), "weights of a layer at a time");
      kernels<float>().mlp_step(n.args, kAll);
      expect(n.bits() == bits, "the same bits, whether weights stay or go");
      expect(plan_mlp(&n.args, 16, false), "tiles of 16 rows");
      kernels<float>().mlp_step(n.args, kAll);
      expect(is_right(n), text("mlp_step: %d-..., tiles of 16 rows", sizes[0]));
    }
}

void test_plans() {
  const auto fits = [](std::vector<int32_t> sizes, bool saves_input) {
    MlpStepArgs args{};
    args.rows = 1, args.num_layers = static_cast<int32_t>(sizes.size()) - 1;
    for (int32_t i = 0; i < args.num_layers && i < kMaxMlpLayers; ++i)
      args.layers[i].in = sizes[size_t(i)], args.layers[i].out = sizes[size_t(i) + 1],
      args.layers[i].saves_input = saves_input;
    return !plan_mlp(&args) ? 0 : args.keeps_weights ? -args.tile_rows : args.tile_rows;
  };
  expect(fits({64, 64, 64, 64, 64, 64, 64, 32}, true) == -32,
         "six layers of 64 keep their weights");
  expect(fits({64, 128, 128, 128, 128, 128, 128, 32}, false) == 32, "six layers of 128");
  expect(fits({64, 128, 128, 128, 128, 128, 128, 32}, true) == 16, "which save sums as well");
  expect(fits({64, 128, 32}, true) == -32, "one hidden layer");
  for (const auto& sizes : std::vector<std::vector<int32_t>>{
           {4, 4}, {65, 4, 4}, {4, 129, 4}, {4, 4, 33}, {0, 4, 4}, {4, 4, 4, 4, 4, 4, 4, 4, 4}})
    expect(fits(sizes, false) == 0, "a network that is no one's");
}

// ---- wrong on purpose --------------------------------------------------------------------------

enum Bug {
  kNoBug,
  kReadsBeforeLoaded,
  kReadsBeforeLayer,
  kGradientsBeforeLoss,
  kOverwritesInputs,
  kOverwritesWeights,
  kNextTileTooEarly,
  kRowsAfterLast,
  kForgetsToAdd,
};
// Two layers of tiles of 16 rows, as in mlp_step_kernel, whose weights are loaded when needed.
__global__ void parts_kernel(const MlpStepArgs args, Bug bug) {
  FASTNN_DYNAMIC_SHARED(float, shared);
  constexpr int kRows = 2, kTileRows = kRows * kMlpWarps;
  const MlpLayer &bottom = args.layers[0], &top = args.layers[1];
  const auto meet = [&](Bug without) {
    if (bug != without) __syncthreads();
  };
  for (int64_t first = 0; first < args.rows; first += kTileRows) {
    load_rows(args.x + first * bottom.in, args.rows - first, bottom.in, shared + bottom.x_at,
              kTileRows, whole_quads(bottom.in));
    load_weights(bottom, shared);
    meet(kReadsBeforeLoaded);
    layer_forward<kRows, 2>(bottom, shared);
    meet(kOverwritesWeights);
    load_weights(top, shared);
    meet(kReadsBeforeLayer);
    layer_forward<kRows, 2>(top, shared);
    const int out = whole_quads(top.out);
    for (int i = 0; i < kRows; ++i) {
      const int row = warp_of_thread() * kRows + i, lane = lane_of_thread();
      const int64_t r = first + row;
      const bool counts = (bug == kRowsAfterLast || r < args.rows) && lane < top.out;
      float* y = shared + top.y_at + row * out;
      const float t = counts && r < args.rows ? args.targets[r * top.out + lane] : 0.f;
      if (lane < out) y[lane] = counts ? MseLoss::bwd(y[lane], t, 0.f) : 0.f;
    }
    meet(kGradientsBeforeLoss);
    const bool add = first > 0 && bug != kForgetsToAdd;
    weight_gradients<kRows, 1>(top, shared, args.sums, add);
    meet(kOverwritesInputs);
    layer_backward<kRows, 2>(top, bottom, shared);
    __syncthreads();
    weight_gradients<kRows, 1>(bottom, shared, args.sums, add);
    meet(kNextTileTooEarly);
  }
}

// Whether a schedule shows it: other bits than without the bug.
bool is_found(Bug bug) {
  Network n({5, 40, 12}, 37);
  expect(plan_mlp(&n.args, 16, false), "the plan of the parts");
  const auto run = [&](Bug which) {
    FASTNN_LAUNCH_SHARED(parts_kernel, 1, kMlpThreads, size_t(n.args.shared_floats) * sizeof(float),
                         nullptr, n.args, which);
    const char* error = library().take_error();
    return error != nullptr ? std::string(error)
                            : n.sums->bits().substr(0, size_t(n.args.num_sums) * sizeof(float));
  };
  const std::string right = run(kNoBug);
  bool found = false;
  for (const char* schedule : {"forward", "reverse", "random:1"}) {
    setenv("FASTNN_EMULATOR_SCHEDULE", schedule, 1);
    found = run(bug) != right || found;
  }
  setenv("FASTNN_EMULATOR_SCHEDULE", "forward", 1);
  return found;
}

void test_bugs() {
  for (int bug = kNoBug; bug <= kForgetsToAdd; ++bug)
    expect(is_found(static_cast<Bug>(bug)) == (bug != kNoBug), text("mlp bug %d is found", bug));
}

}  // namespace

void test_mlp() {
  test_plans();
  test_steps();
  test_bugs();
}

}  // namespace fastnn::test
