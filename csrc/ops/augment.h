// Augmentation as a step runs it, and as a loader does without the interpreter.
#pragma once
#include <array>
#include <string>
#include <utility>

#include "common.h"

namespace fastnn {

// Transforms that make one program, for pictures of one shape and dtype on one device.
struct AugmentStage {
  Array draw;                   // where what is drawn starts: (seed, epoch) and the stream
  Array program;                // AugmentOps
  std::array<int64_t, 4> size;  // height and width of the result, and the largest on the way
  bool to_float;                // whether the result is
  bool floats;                  // whether pixels are ever moved as floats
  bool channels_last;
};
struct MixStage {
  Array draw;
  std::string kind;  // "mixup" or "cutmix"
  int64_t classes;
  float alpha, p;
  bool channels_last;
};

// Where the result's memory comes from: empty(), or a function like it.
using Allocate = Array (*)(const Shape& shape, DType dtype, Device device);

// The samples index[cursor], ... of x, transformed; with `in_place` x has just these.
Array augment(const AugmentStage& stage, const Array& x, const Array& index, const Array& cursor,
              int64_t rows, bool in_place, Allocate allocate = empty);
// Mixed pictures, and labels as shares of the classes.
std::pair<Array, Array> mix(const MixStage& stage, const Array& x, const Array& labels,
                            const Array& index, const Array& cursor, Allocate allocate = empty);
// What the first takes on one thread, in nanoseconds.
double augment_cost(const AugmentStage& stage, const Array& x, int64_t rows);

}  // namespace fastnn
