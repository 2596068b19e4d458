// A fiber: a stack of its own and a way to switch to it and back, announced to AddressSanitizer.
// Invariant: whoever resumes a fiber gets control back from it; fibers never resume each other.
// Included by emulator.cc only.
#pragma once
#include <sys/mman.h>

#include <cstddef>
#include <cstdint>
#include <new>
#ifndef __x86_64__
#include <ucontext.h>
#endif
#ifdef __SANITIZE_ADDRESS__
#include <sanitizer/asan_interface.h>
#include <sanitizer/common_interface_defs.h>
#endif

#ifdef __x86_64__
// swapcontext saves the signal mask with a system call, a hundred times the cost of the rest.
extern "C" void fastnn_emulator_switch(void** from, void* to);
__asm__(R"(
  .text
  .local fastnn_emulator_switch
  .type fastnn_emulator_switch, @function
fastnn_emulator_switch:
  pushq %rbp
  pushq %rbx
  pushq %r12
  pushq %r13
  pushq %r14
  pushq %r15
  movq %rsp, (%rdi)
  movq %rsi, %rsp
  popq %r15
  popq %r14
  popq %r13
  popq %r12
  popq %rbx
  popq %rbp
  ret
  .size fastnn_emulator_switch, .-fastnn_emulator_switch
)");
#endif

namespace fastnn::emulator {

#ifdef __x86_64__
struct Context {
  void* stack_pointer = nullptr;
  void make(char* stack, size_t bytes, void (*entry)()) {
    // Six registers below the return address, which lies where a call would have put it.
    auto* top =
        reinterpret_cast<void**>((reinterpret_cast<uintptr_t>(stack) + bytes - 64) & ~15ull);
    top[0] = reinterpret_cast<void*>(entry);
    top[1] = nullptr;
    stack_pointer = top - 6;
  }
  static void swap(Context* from, const Context* to) {
    fastnn_emulator_switch(&from->stack_pointer, to->stack_pointer);
  }
};
#else
struct Context {
  ucontext_t context;
  void make(char* stack, size_t bytes, void (*entry)()) {
    getcontext(&context);
    context.uc_stack.ss_sp = stack;
    context.uc_stack.ss_size = bytes;
    context.uc_link = nullptr;
    makecontext(&context, entry, 0);
  }
  static void swap(Context* from, const Context* to) { swapcontext(&from->context, &to->context); }
};
#endif

class Fiber {
 public:
  Fiber() {
    // Pages are only taken when touched; the lowest one stays closed, so that an overflow faults.
    void* memory = mmap(nullptr, kPage + kStackBytes, PROT_READ | PROT_WRITE,
                        MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    if (memory == MAP_FAILED) throw std::bad_alloc();
    mprotect(memory, kPage, PROT_NONE);
    stack_ = static_cast<char*>(memory) + kPage;
  }
  Fiber(const Fiber&) = delete;
  Fiber& operator=(const Fiber&) = delete;
  ~Fiber() { munmap(stack_ - kPage, kPage + kStackBytes); }

  // Forgets whatever the fiber was doing; the next resume() runs `entry`, which must never return.
  void start(void (*entry)()) {
#ifdef __SANITIZE_ADDRESS__
    __asan_unpoison_memory_region(stack_, kStackBytes);
#endif
    fake_stack_ = nullptr;
    own_.make(stack_, kStackBytes, entry);
  }

  // From outside: runs the fiber until it calls yield().
  void resume() {
#ifdef __SANITIZE_ADDRESS__
    void* fake_stack = nullptr;
    __sanitizer_start_switch_fiber(&fake_stack, stack_, kStackBytes);
#endif
    Context::swap(&caller_, &own_);
#ifdef __SANITIZE_ADDRESS__
    __sanitizer_finish_switch_fiber(fake_stack, nullptr, nullptr);
#endif
  }

  // From inside. `entry` begins with arrived().
  void yield() {
#ifdef __SANITIZE_ADDRESS__
    __sanitizer_start_switch_fiber(&fake_stack_, caller_stack_, caller_bytes_);
#endif
    Context::swap(&own_, &caller_);
    arrived();
  }
  void arrived() {
#ifdef __SANITIZE_ADDRESS__
    __sanitizer_finish_switch_fiber(fake_stack_, &caller_stack_, &caller_bytes_);
#endif
  }

 private:
  static constexpr size_t kPage = 4096, kStackBytes = 256 << 10;

  char* stack_;
  Context own_, caller_;
  void* fake_stack_ = nullptr;
  const void* caller_stack_ = nullptr;
  size_t caller_bytes_ = 0;
};

}  // namespace fastnn::emulator
