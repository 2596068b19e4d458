// Pictures changed at random: what a program of transforms needs besides its arrays.
#include "augment.h"

namespace fastnn {
namespace {

constexpr const char* kNames[] = {
    "identity",     "choose",      "maybe",      "order",     "next",      "flip",
    "crop",         "resize",      "convert",    "affine",    "shear_x",   "shear_y",
    "translate_x",  "translate_y", "rotate",     "lens",      "noise",     "jitter",
    "brightness",   "contrast",    "saturation", "sharpness", "posterize", "solarize",
    "autocontrast", "equalize",    "invert",     "grayscale", "lighting",  "erase",
    "cutout"};
static_assert(std::size(kNames) == static_cast<size_t>(AugmentCode::kCount));

struct Picture {
  int64_t channels, height, width;
};

// Shape (n, channels, height, width), or (n, height, width, channels).
Picture picture_of(const char* op, const Array& x, bool channels_last) {
  check(x.shape.ndim == 4, op, ": expected images of shape ",
        channels_last ? "(n, height, width, channels)" : "(n, channels, height, width)", ", got ",
        x.shape);
  const auto* d = x.shape.dims.data();
  return channels_last ? Picture{d[3], d[1], d[2]} : Picture{d[1], d[2], d[3]};
}

ImageStrides strides_of(const Picture& p, bool channels_last) {
  const int64_t sample = p.channels * p.height * p.width;
  return channels_last ? ImageStrides{sample, 1, p.width * p.channels, p.channels}
                       : ImageStrides{sample, p.height * p.width, p.width, 1};
}

// What a launch reads besides the images.
void check_together(const char* op, const Array& x, const Array& index, const Array& cursor,
                    const Array& draw) {
  check_dtype(op, "index", index, DType::kInt64);
  check_device(op, "index", index, x.device());
  check_device(op, "cursor", cursor, x.device());
  check_device(op, "draw", draw, x.device());
}

int32_t small(int64_t n) { return static_cast<int32_t>(n); }

}  // namespace

double augment_cost(const AugmentStage& stage, const Array& x, int64_t rows) {
  const auto operations = static_cast<int64_t>(stage.program.bytes() / sizeof(AugmentOp));
  const int64_t channels = x.shape[stage.channels_last ? 3 : 1];
  return static_cast<double>(rows * channels * stage.size[2] * stage.size[3] * (1 + operations)) *
         0.1;
}

Array augment(const AugmentStage& stage, const Array& x, const Array& index, const Array& cursor,
              int64_t rows, bool in_place, Allocate allocate) {
  constexpr const char* op = "augment";
  const auto& [draw, program, size, to_float, floats, channels_last] = stage;
  const Picture from = picture_of(op, x, channels_last), to{from.channels, size[0], size[1]};
  check(from.channels >= 1 && from.channels <= kAugmentChannels, op, ": expected images of 1 to ",
        kAugmentChannels, " channels, got ", x.shape);
  const Device device = x.device();
  check_together(op, x, index, cursor, draw);
  check_device(op, "program", program, device);
  Array y = allocate(channels_last ? Shape{rows, to.height, to.width, to.channels}
                                   : Shape{rows, to.channels, to.height, to.width},
                     to_float ? DType::kFloat32 : x.dtype, device);
  const int64_t tasks = least(rows, device == Device::kCpu ? kAugmentTasks : kAugmentBlocks);
  // Two pictures, and what resizing and warping need for each row and column.
  const int64_t picture = from.channels * size[2] * size[3] * (floats ? 4 : 1);
  const int64_t scratch = 2 * ceil_div(picture, 64) * 64 + 64 * (size[2] + size[3] + 1);
  const Array memory = empty({tasks * scratch}, DType::kUInt8, device);
  const auto count = static_cast<int64_t>(program.bytes() / sizeof(AugmentOp));
  launch(
      {op, device, x.dtype, tasks, augment_cost(stage, x, rows)}, &Kernels::augment,
      AugmentArgs{read(x), read_as<int64_t>(index), read_as<int64_t>(cursor), write(y),
                  read_as<RngDraw>(draw), read_as<AugmentOp>(program), write_as<char>(memory), rows,
                  tasks, scratch, strides_of(from, channels_last), strides_of(to, channels_last),
                  small(count), small(from.channels), small(from.height), small(from.width),
                  small(size[2]), small(size[3]), in_place});
  return y;
}

std::pair<Array, Array> mix(const MixStage& stage, const Array& x, const Array& labels,
                            const Array& index, const Array& cursor, Allocate allocate) {
  const bool cuts = stage.kind == "cutmix";
  const char* op = cuts ? "CutMix" : "MixUp";
  const Picture picture = picture_of(op, x, stage.channels_last);
  if (!cuts) check_dtype(op, "images", x, DType::kFloat32);
  check_dtype(op, "labels", labels, DType::kInt64);
  check_device(op, "labels", labels, x.device());
  check_together(op, x, index, cursor, stage.draw);
  const int64_t rows = x.shape[0];
  check(labels.shape == Shape{rows}, op, ": expected labels of shape ", Shape{rows},
        ", one for each image, got ", labels.shape);
  const Device device = x.device();
  const int64_t classes = stage.classes;
  Array y = allocate(x.shape, x.dtype, device);
  Array shares = allocate({rows, classes}, DType::kFloat32, device);
  const StatusSite site(device, [=](DataError, int64_t i) {
    const Array host = on_host(labels);
    return concat(op, ": expected 0 <= labels < ", classes, ", got ",
                  static_cast<const int64_t*>(host.storage->data)[i], " at labels[", i, "]");
  });
  launch({op, device, x.dtype, rows, static_cast<double>(x.numel()) * 0.2}, &Kernels::mix,
         MixArgs{read(x), read_as<int64_t>(labels), read_as<int64_t>(index),
                 read_as<int64_t>(cursor), write(y), write_as<float>(shares),
                 read_as<RngDraw>(stage.draw), strides_of(picture, stage.channels_last), rows,
                 classes, small(picture.channels), small(picture.height), small(picture.width),
                 cuts ? MixCode::kCutMix : MixCode::kMixUp, stage.alpha, stage.p, site.status(),
                 site.site()});
  site.raise();
  return {y, shares};
}

void bind_augment(py::module_& m) {
  py::dict codes;
  for (size_t i = 0; i < std::size(kNames); ++i) codes[kNames[i]] = i;
  m.attr("AUGMENTS") = codes;
  py::class_<AugmentStage>(m, "AugmentStage")
      .def(py::init([](Array draw, Array program, const std::array<int64_t, 4>& size, bool to_float,
                       bool floats, bool channels_last) {
             return AugmentStage{draw, program, size, to_float, floats, channels_last};
           }),
           py::arg("draw"), py::arg("program"), py::arg("size"), py::arg("to_float"),
           py::arg("floats"), py::arg("channels_last"));
  py::class_<MixStage>(m, "MixStage")
      .def(py::init([](Array draw, std::string kind, int64_t classes, float alpha, float p,
                       bool channels_last) {
             return MixStage{draw, std::move(kind), classes, alpha, p, channels_last};
           }),
           py::arg("draw"), py::arg("kind"), py::arg("classes"), py::arg("alpha"), py::arg("p"),
           py::arg("channels_last"));
  m.def(
      "augment",
      [](const AugmentStage& stage, const Array& x, const Array& index, const Array& cursor,
         int64_t rows, bool in_place) { return augment(stage, x, index, cursor, rows, in_place); },
      py::arg("stage"), py::arg("x"), py::arg("index"), py::arg("cursor"), py::arg("rows"),
      py::arg("in_place"));
  m.def(
      "mix",
      [](const MixStage& stage, const Array& x, const Array& labels, const Array& index,
         const Array& cursor) { return mix(stage, x, labels, index, cursor); },
      py::arg("stage"), py::arg("x"), py::arg("labels"), py::arg("index"), py::arg("cursor"));
}

}  // namespace fastnn
