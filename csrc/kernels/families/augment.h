// Pictures changed at random: a program of transforms is run for one picture after the other, so a
// composed pipeline is one pass. Tasks: groups of pictures, each with scratch memory of its own.
// Whatever is drawn is a function of (seed, epoch, sample, place in the program).
#pragma once
#include "../kernel.h"
#include "random.h"

namespace fastnn {

inline constexpr int kAugmentChannels = 12;  // at most
inline constexpr int kAugmentTasks = 32;     // at most; CUDA has more blocks, with a picture each
inline constexpr int kAugmentBlocks = 512;

enum class AugmentCode : int32_t {
  kIdentity,  // skips `span` operations
  kChoose,  // one of `flags` alternatives of `span` operations each, which follow; each ends in an
            // identity that skips those after it
  kMaybe,   // the `span` operations that follow, with probability p
  kOrder,   // all of `flags` sequences of `span` operations each, which follow, in random order
  kNext,    // the end of sequence `flags` of those; `span` places back is their kOrder
  kFlip,
  kCrop,
  kResize,
  kConvert,
  kAffine,
  kShearX,
  kShearY,
  kTranslateX,
  kTranslateY,
  kRotate,
  kLens,
  kNoise,
  kJitter,
  kBrightness,
  kContrast,
  kSaturation,
  kSharpness,
  kPosterize,
  kSolarize,
  kAutocontrast,
  kEqualize,
  kInvert,
  kGrayscale,
  kLighting,
  kErase,
  kCutout,
  kCount
};

// One transform. What its numbers are stands where they are read (augment_*.h).
struct AugmentOp {
  AugmentCode code;
  int32_t span, flags;
  float p;
  float v[28];
};

// Strides in elements. Planes of pixels or pixels of channels: the kernel does not care.
struct ImageStrides {
  int64_t sample, channel, row, col;
};

// y[i] = program(x[index[*cursor + i]]), or of x[i] where the samples are in place already: then
// the index says which samples they are. y is float32 if the program converts, else like x.
struct AugmentArgs {
  const void* x;
  const int64_t *index, *cursor;
  void* y;
  const RngDraw* draw;
  const AugmentOp* ops;
  char* scratch;
  int64_t rows, tasks, scratch_bytes;  // of one task
  ImageStrides x_strides, y_strides;
  int32_t count, channels, height, width, max_height, max_width;
  bool in_place;
};

enum class MixCode : int32_t { kMixUp, kCutMix };

// Each sample with the one before it in the batch (the first with the last): pixels of the type of
// x, labels as shares of classes.
struct MixArgs {
  const void* x;
  const int64_t *labels, *index, *cursor;
  void* y;
  float* shares;
  const RngDraw* draw;
  ImageStrides strides;
  int64_t rows, classes;
  int32_t channels, height, width;
  MixCode code;
  float alpha, p;
  Status* status;
  int32_t site;
};

struct AugmentKernels {
  Kernel<AugmentArgs> augment;
  Kernel<MixArgs> mix;
};

}  // namespace fastnn
