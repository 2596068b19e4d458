// All steps of a recurrent layer as one launch, for recurrent.cu and library.cu. Invariant: a
// sequence is made this way only where that was asked for (no GPU has measured it yet) and a small
// one of its class was the same as by steps.
#pragma once
#include <string>

#include "../abi.h"
#include "cut.h"

namespace fastnn::sequence {

// Entries of the kernel table, for sequences that makes() has said yes to.
void forward(const SequenceFwdArgs& args, Slice s);
void backward(const SequenceBwdArgs& args, Slice s);

// Why this device has none; empty if it has.
std::string why_unavailable();
// In clusters of that many blocks, or of those that seem best (0); how this is cut, or no blocks.
Cut cut_of(const CudaSequence& shape, int32_t cluster = 0);
// The launch itself, cut as told.
template <class Args>  // SequenceFwdArgs or SequenceBwdArgs
cudaError_t run(const Args& args, const Cut& cut, void* stream);

// Why a small sequence of the shape's class, in clusters of as many blocks, is not the same as by
// steps; empty if it is. The host waits for it.
std::string check(const CudaSequence& shape, int32_t cluster, void* stream);

// What abi.h says.
bool makes(const CudaSequence& shape, void* stream);
void set_path(int32_t path);
void report(CudaSequences* report);

}  // namespace fastnn::sequence
