// The end of the interpreter: who asks for its lock then never gets it.
#pragma once

namespace fastnn {

bool interpreter_ends();

}  // namespace fastnn
