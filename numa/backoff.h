#pragma once
// How a thread waits for another: first it spins, then it gives its processor away, and after a
// while it may sleep.
//
// Spinning answers in 0.1 us, but where there are more threads than processors it keeps the very
// thread from running that is waited for: without the yield each wait lasts a scheduler slice of
// milliseconds.

#include <sched.h>

#include <chrono>
#include <thread>

namespace hybrid {

/// Tells the processor that this is a spin loop.
inline void cpu_pause() {
#if defined(__x86_64__) || defined(__i386__)
  __builtin_ia32_pause();
#elif defined(__aarch64__)
  asm volatile("yield");
#endif
}

/// How long a wait spins, and after how long it sleeps; it yields in between.
struct WaitPolicy {
  std::chrono::microseconds spin;
  std::chrono::microseconds sleep_after;
};

/// One wait. Call step() between two looks at what is waited for.
class Backoff {
 public:
  using Clock = std::chrono::steady_clock;

  explicit Backoff(const WaitPolicy& policy)
      : policy_(policy), state_(policy.spin.count() > 0 ? kSpin : kYield) {}

  /// From here on a thread that can be woken should sleep; for one that cannot, step() naps.
  bool is_long() const { return state_ == kNap; }

  void step() {
    if (state_ == kSpin) {
      cpu_pause();
      // A pause is 10 to 140 cycles, depending on the processor, so it is time that is counted; but
      // a look at the clock costs as much as a pause, and short waits shall do without.
      if (++n_pauses_ % kPausesPerLook != 0) return;
    } else if (state_ == kYield) {
      sched_yield();
    } else {
      // A scheduler may ignore a yield for milliseconds, but not a sleep; and a processor without
      // work fetches a waiting thread from another.
      std::this_thread::sleep_for(kNapTime);
      return;
    }
    look_at_clock();
  }

 private:
  enum State { kSpin, kYield, kNap };
  static constexpr unsigned kPausesPerLook = 16;
  static constexpr std::chrono::microseconds kNapTime{20};

  void look_at_clock() {
    const Clock::time_point now = Clock::now();
    if (start_ == Clock::time_point{}) start_ = now;
    const Clock::duration waited = now - start_;
    if (waited >= policy_.sleep_after) {
      state_ = kNap;
    } else if (waited >= policy_.spin) {
      state_ = kYield;
    }
  }

  WaitPolicy policy_;
  State state_;
  unsigned n_pauses_ = 0;
  Clock::time_point start_{};
};

}  // namespace hybrid
