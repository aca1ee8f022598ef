#pragma once
// A stack of its own that code can be switched to and from: one for each thread of a CUDA block.

#include <cstddef>

namespace simt {

class Fiber {
 public:
  static constexpr size_t kStackBytes = 128 * 1024;

  /// A fibre that runs `entry` when it is switched to first. `entry` never returns.
  explicit Fiber(void (*entry)());
  ~Fiber();
  Fiber(const Fiber&) = delete;
  Fiber& operator=(const Fiber&) = delete;

  /// The calling thread itself, to switch back to.
  static Fiber* of_this_thread();

  /// Leaves `from`, which must be running, for `to`.
  static void switch_to(Fiber& from, Fiber& to);

  /// To be called first by an entry function.
  static void entered();

  /// Forgets where the fibre was; it begins again at its entry function.
  void restart();

  void stack(const char*& lowest, size_t& bytes) const {
    lowest = static_cast<const char*>(stack_);
    bytes = stack_bytes_;
  }

 private:
  Fiber() = default;

  void (*entry_)() = nullptr;
  void* stack_ = nullptr;  // lowest address; the page below it is a guard
  size_t stack_bytes_ = 0;
  void* context_ = nullptr;    // the saved stack pointer, or a ucontext_t
  void* sanitizer_ = nullptr;  // what ASan or TSan keep of it
};

}  // namespace simt
