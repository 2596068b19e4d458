// The generator, and what is drawn for initial values and shuffling. The generator is two numbers
// in memory, (seed, offset), of the device that draws; a forward pass draws by copying them and
// counting up, in a launch, so that a replayed step draws anew.
#include "../core/pinned.h"
#include "../kernels/philox.h"
#include "common.h"

namespace fastnn {
namespace {

constexpr uint64_t kStreamShift = 56;

// An RngDraw as an int64 array of two.
Array make_generator(uint64_t seed, int stream, uint64_t offset) {
  check(offset < uint64_t{1} << kStreamShift, "generator: expected an offset below 2^56, got ",
        offset);
  Array state = empty({2}, DType::kInt64);
  auto* words = static_cast<uint64_t*>(state.storage->data);
  words[0] = seed;
  words[1] = static_cast<uint64_t>(stream) << kStreamShift | offset;
  return state;
}

void set_generator(const Array& state, uint64_t seed, int stream, uint64_t offset) {
  copy_staged(make_generator(seed, stream, offset), state);
}

// The generator in the memory of a device. A plan that recorded draws from where it was before is
// stale then, since nobody else holds that memory.
Array move_generator(const Array& state, const std::string& device) {
  const Device target = parse_device(device);
  if (state.device() == target) return state;
  Array moved = allocate_lasting(state.shape, state.dtype, target);
  copy_staged(state, moved);
  return moved;
}

void uniform_(const Array& y, const Array& draw, float lo, float hi) {
  check_writable("uniform_", "tensor", y);
  const Array local = draw_on(draw, y.device());
  const UniformArgs args{write(y), y.numel(), read_as<RngDraw>(local), lo, hi};
  launch(elementwise("uniform_", y, kCostPerExp), &Kernels::uniform, args);
}

Array shuffle_keys(int64_t n, uint64_t seed, uint64_t epoch) {
  Array keys = empty({n}, DType::kInt64);
  const ShuffleKeysArgs args{write_as<uint64_t>(keys), n, seed, epoch};
  launch({"shuffle", Device::kCpu, DType::kFloat32, ceil_div(n, kElementwiseChunk),
          static_cast<double>(n) * 3},
         &Kernels::shuffle_keys, args);
  return keys;
}

}  // namespace

Array rng_draw(const Array& generator) {
  Array draw = empty({2}, DType::kInt64, generator.device());
  launch(single("dropout", generator.device()), &Kernels::rng_draw,
         RngDrawArgs{write_as<RngDraw>(generator), write_as<RngDraw>(draw)});
  return draw;
}

Array draw_on(const Array& draw, Device device) {
  if (draw.device() == device) return draw;
  refuse_while_recording("a random draw on another device");
  Array moved = empty(draw.shape, draw.dtype, device);
  copy_staged(draw, moved);
  return moved;
}

void bind_random(py::module_& m) {
  m.def("make_generator", &make_generator, py::arg("seed"), py::arg("stream"), py::arg("offset"));
  m.def("set_generator", &set_generator, py::arg("state"), py::arg("seed"), py::arg("stream"),
        py::arg("offset"));
  m.def("move_generator", &move_generator, py::arg("state"), py::arg("device"));
  m.def("rng_draw", &rng_draw, py::arg("generator"));
  m.def("uniform_", &uniform_, py::arg("y"), py::arg("draw"), py::arg("lo"), py::arg("hi"));
  m.def("shuffle_keys", &shuffle_keys, py::arg("n"), py::arg("seed"), py::arg("epoch"));
}

}  // namespace fastnn
