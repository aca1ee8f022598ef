#include "numa/team.h"

#include <linux/futex.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <algorithm>
#include <utility>

#include "base/error.h"
#include "numa/split_range.h"

namespace hybrid {
namespace {

thread_local bool t_inside_region = false;

/// Ends the body of a member at a barrier that will never be complete.
struct RegionFailed {};

/// A sleeper takes 50 us to come. Who yields meanwhile to a process that shares the processor loses
/// a slice of milliseconds, and by then the members sleep again: so every region would go.
constexpr std::chrono::microseconds kWakeTime{150};

/// A member that waits sees a region within 1 us. The caller who is done with its own part looks as
/// often as this (3 us and more) before it takes the part of one that has not begun.
constexpr int kGraceLooks = 64;

static_assert(sizeof(std::atomic<uint32_t>) == 4 && std::atomic<uint32_t>::is_always_lock_free);

/// Returns when `word` is not `seen`, when woken, or for no reason.
void futex_wait(const std::atomic<uint32_t>& word, uint32_t seen) {
  syscall(SYS_futex, &word, FUTEX_WAIT_PRIVATE, seen, nullptr, nullptr, 0);
}

void futex_wake_all(const std::atomic<uint32_t>& word) {
  syscall(SYS_futex, &word, FUTEX_WAKE_PRIVATE, INT32_MAX, nullptr, nullptr, 0);
}

/// Waits for what happens once in a team's life: without a hurry, and with a limit.
template <class Condition>
void await_with_limit(std::chrono::milliseconds limit, const Condition& is_true) {
  const auto deadline = Backoff::Clock::now() + limit;
  Backoff backoff({std::chrono::microseconds(0), std::chrono::microseconds(500)});
  while (!is_true() && Backoff::Clock::now() < deadline) backoff.step();
}

}  // namespace

InsideRegion::InsideRegion() {
  const bool is_nested = t_inside_region;
  HYBRID_CHECK(!is_nested);
  t_inside_region = true;
}

InsideRegion::~InsideRegion() { t_inside_region = false; }

Team::Team(std::vector<CpuList> pins, const WaitPolicy& policy)
    : pins_(std::move(pins)), policy_(policy), slots_(std::make_unique<Slot[]>(pins_.size())) {
  HYBRID_CHECK(!pins_.empty() && pins_.size() <= kMaxMembers);
}

void Team::serve() {
  // The word first: a region that counts this thread in has changed the word after this.
  uint64_t word = word_.load(std::memory_order_acquire);
  if (word == kOver) return;
  const int index = n_arrived_.fetch_add(1, std::memory_order_acq_rel) + 1;
  HYBRID_CHECK(index < n_threads());
  {
    const ScopedPin pin(pins_[static_cast<size_t>(index)]);
    const InsideRegion inside;
    while ((word = await_word_after(word)) != kOver) {
      const uint64_t number = word >> kMemberBits;
      if (index >= static_cast<int>(word & kMaxMembers) || !claim(index, number)) continue;
      take_part(index);
      slots_[static_cast<size_t>(index)].done.store(number, std::memory_order_release);
    }
  }
  n_left_.fetch_add(1, std::memory_order_release);
}

void Team::await_members(std::chrono::milliseconds limit) const {
  await_with_limit(limit, [&] { return n_present() == n_threads(); });
}

void Team::run_region(int n_wanted, StandIn stand_in, FunctionRef<void(TeamMember&)> body) {
  region_.body = body;
  region_.n_members = std::min(n_wanted, n_present());
  ++region_.number;
  n_at_barrier_.store(0, std::memory_order_relaxed);
  failed_.store(false, std::memory_order_relaxed);
  const auto n_members = static_cast<uint64_t>(region_.n_members);
  const bool were_asleep = publish(region_.number << kMemberBits | n_members);
  take_part(0);
  WaitPolicy policy = policy_;
  if (were_asleep && policy.spin.count() > 0) policy.spin = kWakeTime;
  for (int i = 1; i < region_.n_members; ++i) await_part(i, stand_in, policy);
  if (region_.error) std::rethrow_exception(std::exchange(region_.error, nullptr));
}

void Team::end() {
  publish(kOver);
  await_with_limit(std::chrono::seconds(1), [&] {
    return n_left_.load(std::memory_order_acquire) == n_arrived_.load(std::memory_order_acquire);
  });
}

bool Team::publish(uint64_t word) {
  // This store and the load after it, and the two in sleep_while(), are in one order for all
  // threads: either the sleeper sees the new word or it is seen here.
  word_.store(word, std::memory_order_seq_cst);
  if (n_sleeping_.load(std::memory_order_seq_cst) == 0) return false;
  wake_.fetch_add(1, std::memory_order_release);
  futex_wake_all(wake_);
  return true;
}

uint64_t Team::await_word_after(uint64_t seen) {
  Backoff backoff(policy_);
  for (;;) {
    const uint64_t word = word_.load(std::memory_order_acquire);
    if (word != seen) return word;
    if (backoff.is_long()) {
      sleep_while(seen);
    } else {
      backoff.step();
    }
  }
}

void Team::sleep_while(uint64_t seen) {
  const uint32_t ticket = wake_.load(std::memory_order_acquire);
  n_sleeping_.fetch_add(1, std::memory_order_seq_cst);
  if (word_.load(std::memory_order_seq_cst) == seen) futex_wait(wake_, ticket);
  n_sleeping_.fetch_sub(1, std::memory_order_relaxed);
}

void Team::take_part(int index) {
  TeamMember member(this, index, region_.n_members, n_threads());
  try {
    (*region_.body)(member);
  } catch (...) {
    if (!failed_.exchange(true, std::memory_order_acq_rel))
      region_.error = std::current_exception();
  }
}

void Team::await_part(int index, StandIn stand_in, const WaitPolicy& policy) {
  const std::atomic<uint64_t>& done = slots_[static_cast<size_t>(index)].done;
  Backoff backoff(policy);
  for (int n_looks = 0; done.load(std::memory_order_acquire) != region_.number; ++n_looks) {
    if (stand_in == StandIn::yes && n_looks == kGraceLooks && claim(index, region_.number)) {
      return take_part(index);
    }
    backoff.step();
  }
}

bool Team::claim(int index, uint64_t number) {
  std::atomic<uint64_t>& claimed = slots_[static_cast<size_t>(index)].claimed;
  uint64_t last = claimed.load(std::memory_order_relaxed);
  // Whoever comes second finds the number there, or a later one.
  return last < number && claimed.compare_exchange_strong(last, number, std::memory_order_acq_rel);
}

void Team::barrier(int n_members) {
  const uint32_t phase = barrier_phase_.load(std::memory_order_acquire);
  if (n_at_barrier_.fetch_add(1, std::memory_order_acq_rel) + 1 == n_members) {
    n_at_barrier_.store(0, std::memory_order_relaxed);
    barrier_phase_.store(phase + 1, std::memory_order_release);
    return;
  }
  Backoff backoff(policy_);
  while (barrier_phase_.load(std::memory_order_acquire) == phase) {
    if (failed_.load(std::memory_order_acquire)) throw RegionFailed();
    backoff.step();
  }
}

void TeamMember::barrier() {
  if (n_members_ > 1) team_->barrier(n_members_);
}

void TeamMember::ranges(uint64_t n, uint64_t multiple, RangeBody body) {
  HYBRID_CHECK(multiple >= 1);
  const auto n_parts = static_cast<uint64_t>(n_threads_);
  for (int i = index_; i < n_threads_; i += n_members_) {
    const IndexRange range = split_range(n, multiple, static_cast<uint64_t>(i), n_parts);
    if (!range.is_empty()) body(range.begin, range.end, i);
  }
}

}  // namespace hybrid
