// Pictures changed at random: what a program of transforms needs besides its arrays.
#include "common.h"

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

// `size`: height and width of the result, and the largest of each on the way; `floats`: whether
// pixels are ever moved as floats.
Array augment(const Array& x, const Array& index, const Array& cursor, const Array& draw,
              const Array& program, int64_t rows, const std::array<int64_t, 4>& size, bool to_float,
              bool floats, bool channels_last, bool in_place) {
  constexpr const char* op = "augment";
  const Picture from = picture_of(op, x, channels_last), to{from.channels, size[0], size[1]};
  check(from.channels >= 1 && from.channels <= kAugmentChannels, op, ": expected images of 1 to ",
        kAugmentChannels, " channels, got ", x.shape);
  const Device device = x.device();
  check_together(op, x, index, cursor, draw);
  check_device(op, "program", program, device);
  Array y = empty(channels_last ? Shape{rows, to.height, to.width, to.channels}
                                : Shape{rows, to.channels, to.height, to.width},
                  to_float ? DType::kFloat32 : x.dtype, device);
  const int64_t tasks = least(rows, device == Device::kCpu ? kAugmentTasks : kAugmentBlocks);
  const int64_t most_pixels = size[2] * size[3];
  // Two pictures, and what resizing and warping need for each row and column.
  const int64_t picture = from.channels * most_pixels * (floats ? 4 : 1);
  const int64_t scratch = 2 * ceil_div(picture, 64) * 64 + 64 * (size[2] + size[3] + 1);
  const Array memory = empty({tasks * scratch}, DType::kUInt8, device);
  const auto count = static_cast<int64_t>(program.bytes() / sizeof(AugmentOp));
  launch(
      {op, device, x.dtype, tasks,
       static_cast<double>(rows * from.channels * most_pixels * (1 + count)) * 0.1},
      &Kernels::augment,
      AugmentArgs{read(x), read_as<int64_t>(index), read_as<int64_t>(cursor), write(y),
                  read_as<RngDraw>(draw), read_as<AugmentOp>(program), write_as<char>(memory), rows,
                  tasks, scratch, strides_of(from, channels_last), strides_of(to, channels_last),
                  small(count), small(from.channels), small(from.height), small(from.width),
                  small(size[2]), small(size[3]), in_place});
  return y;
}

// Mixed pictures, and labels as shares of the classes.
std::pair<Array, Array> mix(const Array& x, const Array& labels, const Array& index,
                            const Array& cursor, const Array& draw, const std::string& kind,
                            int64_t classes, float alpha, float p, bool channels_last) {
  const bool cuts = kind == "cutmix";
  const char* op = cuts ? "CutMix" : "MixUp";
  const Picture picture = picture_of(op, x, channels_last);
  if (!cuts) check_dtype(op, "images", x, DType::kFloat32);
  check_dtype(op, "labels", labels, DType::kInt64);
  check_device(op, "labels", labels, x.device());
  check_together(op, x, index, cursor, draw);
  const int64_t rows = x.shape[0];
  check(labels.shape == Shape{rows}, op, ": expected labels of shape ", Shape{rows},
        ", one for each image, got ", labels.shape);
  const Device device = x.device();
  Array y = empty(x.shape, x.dtype, device);
  Array shares = empty({rows, classes}, DType::kFloat32, device);
  const StatusSite site(device, [=](DataError, int64_t i) {
    const Array host = on_host(labels);
    return concat(op, ": expected 0 <= labels < ", classes, ", got ",
                  static_cast<const int64_t*>(host.storage->data)[i], " at labels[", i, "]");
  });
  launch({op, device, x.dtype, rows, static_cast<double>(x.numel()) * 0.2}, &Kernels::mix,
         MixArgs{read(x), read_as<int64_t>(labels), read_as<int64_t>(index),
                 read_as<int64_t>(cursor), write(y), write_as<float>(shares),
                 read_as<RngDraw>(draw), strides_of(picture, channels_last), rows, classes,
                 small(picture.channels), small(picture.height), small(picture.width),
                 cuts ? MixCode::kCutMix : MixCode::kMixUp, alpha, p, site.status(), site.site()});
  site.raise();
  return {y, shares};
}

}  // namespace

void bind_augment(py::module_& m) {
  py::dict codes;
  for (size_t i = 0; i < std::size(kNames); ++i) codes[kNames[i]] = i;
  m.attr("AUGMENTS") = codes;
  m.def("augment", &augment, py::arg("x"), py::arg("index"), py::arg("cursor"), py::arg("draw"),
        py::arg("program"), py::arg("rows"), py::arg("size"), py::arg("to_float"),
        py::arg("floats"), py::arg("channels_last"), py::arg("in_place"));
  m.def("mix", &mix, py::arg("x"), py::arg("labels"), py::arg("index"), py::arg("cursor"),
        py::arg("draw"), py::arg("kind"), py::arg("classes"), py::arg("alpha"), py::arg("p"),
        py::arg("channels_last"));
}

}  // namespace fastnn
