// What a thread does while it looks again and again at what another is about to change.
#pragma once

namespace fastnn {

inline void pause_thread() {
#if defined(__x86_64__)
  __builtin_ia32_pause();
#elif defined(__aarch64__)
  asm volatile("yield");
#endif
}

}  // namespace fastnn
