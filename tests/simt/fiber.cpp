#include "tests/simt/fiber.h"

#include <sys/mman.h>
#include <ucontext.h>

#include <cstdlib>

#include "tests/simt/sanitizers.h"

// On x86-64 a switch is 16 instructions (10 ns); swapcontext, which makes a system call for the
// signal mask, takes 200 ns.
#if defined(__x86_64__)
#define SIMT_OWN_SWITCH 1
extern "C" void simt_switch_stack(void** save, void* to);
asm(R"(
.text
.globl simt_switch_stack
.type simt_switch_stack, @function
simt_switch_stack:
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
.size simt_switch_stack, .-simt_switch_stack
)");
#endif

namespace simt {
namespace {

constexpr size_t kPage = 4096;
Fiber* running = nullptr;  // what is being switched to
Fiber* the_thread = nullptr;

}  // namespace

Fiber::Fiber(void (*entry)()) : entry_(entry), stack_bytes_(kStackBytes) {
  void* memory = mmap(nullptr, kStackBytes + kPage, PROT_READ | PROT_WRITE,
                      MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
  if (memory == MAP_FAILED || mprotect(memory, kPage, PROT_NONE) != 0) std::abort();
  stack_ = static_cast<char*>(memory) + kPage;
#ifdef SIMT_TSAN
  sanitizer_ = __tsan_create_fiber(0);
#endif
  restart();
}

Fiber::~Fiber() {
  if (stack_bytes_ != kStackBytes || entry_ == nullptr) return;
#ifdef SIMT_TSAN
  __tsan_destroy_fiber(sanitizer_);
#endif
#ifndef SIMT_OWN_SWITCH
  delete static_cast<ucontext_t*>(context_);
#endif
  munmap(static_cast<char*>(stack_) - kPage, kStackBytes + kPage);
}

Fiber* Fiber::of_this_thread() {
  if (the_thread == nullptr) {
    the_thread = new Fiber;
#ifdef SIMT_TSAN
    the_thread->sanitizer_ = __tsan_get_current_fiber();
#endif
#ifndef SIMT_OWN_SWITCH
    the_thread->context_ = new ucontext_t;
#endif
  }
  return the_thread;
}

void Fiber::restart() {
  SIMT_ASAN_UNPOISON(stack_, stack_bytes_);
#ifdef SIMT_OWN_SWITCH
  // What the switch pops: six registers and the return address, above which a called function
  // expects its own: at entry the stack is at 16 n + 8.
  auto* top = reinterpret_cast<void**>(static_cast<char*>(stack_) + stack_bytes_);
  *--top = nullptr;
  *--top = reinterpret_cast<void*>(entry_);
  for (int i = 0; i < 6; ++i) *--top = nullptr;
  context_ = top;
#else
  if (context_ == nullptr) context_ = new ucontext_t;
  auto* context = static_cast<ucontext_t*>(context_);
  getcontext(context);
  context->uc_stack.ss_sp = stack_;
  context->uc_stack.ss_size = stack_bytes_;
  context->uc_link = nullptr;
  makecontext(context, entry_, 0);
#endif
#ifdef SIMT_ASAN
  sanitizer_ = nullptr;
#endif
}

void Fiber::switch_to(Fiber& from, Fiber& to) {
  running = &to;
#ifdef SIMT_ASAN
  __sanitizer_start_switch_fiber(&from.sanitizer_, to.stack_, to.stack_bytes_);
#endif
#ifdef SIMT_TSAN
  __tsan_switch_to_fiber(to.sanitizer_, 1);  // 1: the switch itself orders nothing
#endif
#ifdef SIMT_OWN_SWITCH
  simt_switch_stack(&from.context_, to.context_);
#else
  swapcontext(static_cast<ucontext_t*>(from.context_), static_cast<ucontext_t*>(to.context_));
#endif
#ifdef SIMT_ASAN
  __sanitizer_finish_switch_fiber(running->sanitizer_, nullptr, nullptr);
#endif
}

void Fiber::entered() {
#ifdef SIMT_ASAN
  const void* bottom = nullptr;
  size_t bytes = 0;
  __sanitizer_finish_switch_fiber(nullptr, &bottom, &bytes);
  if (the_thread->stack_ == nullptr) {
    the_thread->stack_ = const_cast<void*>(bottom);
    the_thread->stack_bytes_ = bytes;
  }
#endif
}

}  // namespace simt
