#include "numa/workers.h"

#include <fmt/format.h>
#include <tbb/global_control.h>
#include <tbb/task_arena.h>

#include <algorithm>
#include <atomic>
#include <list>
#include <mutex>
#include <optional>

#include "base/error.h"
#include "numa/backoff.h"
#include "numa/cgroup.h"
#include "numa/cpu_set.h"
#include "numa/split_range.h"
#include "numa/team.h"

namespace hybrid {

namespace {

constexpr std::chrono::milliseconds kFormLimit{200};
constexpr WaitPolicy kWaitOwnCpu{std::chrono::microseconds(20), std::chrono::microseconds(1500)};
// With more threads than processors the one waited for may need this very processor.
constexpr WaitPolicy kWaitShared{std::chrono::microseconds(0), std::chrono::microseconds(100)};

/// TBB threads that living teams hold or are about to.
class ThreadAllowance {
 public:
  explicit ThreadAllowance(int n) : n_(n) {
    const std::lock_guard lock(mutex_);
    n_held_ += n;
    raise_limit(static_cast<size_t>(1 + n_held_));
  }
  ~ThreadAllowance() {
    const std::lock_guard lock(mutex_);
    n_held_ -= n_;
  }
  ThreadAllowance(const ThreadAllowance&) = delete;
  ThreadAllowance& operator=(const ThreadAllowance&) = delete;

 private:
  /// TBB offers no more threads than the processors it sees unless told so, and a team never gives
  /// its threads to another. Of several limits the smallest holds, so there is one for the process,
  /// and it only grows. It counts one thread that is not TBB's own.
  static void raise_limit(size_t n_threads) {
    static std::unique_ptr<tbb::global_control> limit;
    constexpr auto kParameter = tbb::global_control::max_allowed_parallelism;
    if (n_threads <= tbb::global_control::active_value(kParameter)) return;
    limit = std::make_unique<tbb::global_control>(kParameter, n_threads);
  }

  static inline std::mutex mutex_;
  static inline int n_held_ = 0;
  int n_;
};

/// The teams that TBB threads have been asked to join and have not joined yet. On a machine that is
/// busy enough they never do; what a task owns lies here then, as TBB's queues are out of sight of
/// leak checkers. Never destroyed: a thread may come late.
class Invitations {
 public:
  using Invitation = std::list<std::shared_ptr<Team>>::iterator;

  static Invitation add(const std::shared_ptr<Team>& team) {
    const std::lock_guard lock(mutex());
    return open().insert(open().end(), team);
  }
  static std::shared_ptr<Team> take(Invitation invitation) {
    const std::lock_guard lock(mutex());
    std::shared_ptr<Team> team = std::move(*invitation);
    open().erase(invitation);
    return team;
  }

 private:
  static std::list<std::shared_ptr<Team>>& open() {
    static auto& teams = *new std::list<std::shared_ptr<Team>>;
    return teams;
  }
  static std::mutex& mutex() {
    static auto& mutex = *new std::mutex;
    return mutex;
  }
};

/// What a TBB thread does to become a member. Owns a part of the team, since it may run late.
/// libtbb is not built for ThreadSanitizer, which so would see no order between the thread that
/// makes a task and the one that runs it: a store and a load of our own give it one.
class ServeTask {
 public:
  explicit ServeTask(const std::shared_ptr<Team>& team) : invitation_(Invitations::add(team)) {
    is_open_.store(true, std::memory_order_release);
  }
  ServeTask(ServeTask&& other) noexcept {
    const bool is_open = other.is_open_.exchange(false, std::memory_order_acquire);
    invitation_ = other.invitation_;
    is_open_.store(is_open, std::memory_order_release);
  }
  ~ServeTask() { take(); }
  void operator()() const { take()->serve(); }

 private:
  std::shared_ptr<Team> take() const {
    return is_open_.exchange(false, std::memory_order_acquire) ? Invitations::take(invitation_)
                                                               : nullptr;
  }

  mutable std::atomic<bool> is_open_{false};  // not run and not moved from
  Invitations::Invitation invitation_;
};

/// Around every region: refuses one inside another, and two at a time.
class RegionScope {
 public:
  /// is_busy: of the team; null for one thread, who shares nothing.
  explicit RegionScope(std::atomic<bool>* is_busy) : is_busy_(is_busy) {
    if (is_busy == nullptr) return;
    const bool is_used_by_another_thread = is_busy->exchange(true, std::memory_order_acquire);
    HYBRID_CHECK(!is_used_by_another_thread);
  }
  ~RegionScope() {
    if (is_busy_ != nullptr) is_busy_->store(false, std::memory_order_release);
  }
  RegionScope(const RegionScope&) = delete;
  RegionScope& operator=(const RegionScope&) = delete;

 private:
  const InsideRegion inside_;
  std::atomic<bool>* is_busy_;
};

/// The pieces of one member's share that nobody has taken: the member takes from the front, others
/// from the end.
class alignas(128) Share {
 public:
  void set(const IndexRange& pieces) {
    left_.store(pieces.begin << 32 | pieces.end, std::memory_order_relaxed);
  }
  /// Long pieces while much is left.
  IndexRange take_front() {
    return take([](IndexRange left) {
      return IndexRange{left.begin, left.begin + (left.end - left.begin + 3) / 4};
    });
  }
  IndexRange take_last() {
    return take([](IndexRange left) { return IndexRange{left.end - 1, left.end}; });
  }

 private:
  /// Order between the threads comes with the end of the region: only the pieces are shared out
  /// here.
  template <class Choose>
  IndexRange take(const Choose& choose) {
    uint64_t word = left_.load(std::memory_order_relaxed);
    for (;;) {
      const IndexRange left{word >> 32, word & 0xffffffff};
      if (left.is_empty()) return {};
      const IndexRange taken = choose(left);
      const uint64_t begin = taken.begin == left.begin ? taken.end : left.begin;
      const uint64_t end = taken.begin == left.begin ? left.end : taken.begin;
      if (left_.compare_exchange_weak(word, begin << 32 | end, std::memory_order_relaxed)) {
        return taken;
      }
    }
  }

  std::atomic<uint64_t> left_{0};
};

}  // namespace

struct Workers::Impl {
  explicit Impl(int n_threads) : n_threads(n_threads) {}
  Impl(int n_threads, const AllowedCpus& cpus);
  ~Impl() {
    if (team != nullptr) team->end();
  }
  void form();
  RegionScope enter() { return RegionScope(team == nullptr ? nullptr : &is_busy); }
  void run(int n_wanted, Team::StandIn stand_in, FunctionRef<void(TeamMember& member)> body);

  int n_threads;
  std::string pin_text = "not pinned: one thread";
  std::shared_ptr<Team> team;       // null for one thread
  std::unique_ptr<Share[]> shares;  // [n_threads], of parallel_shares
  std::atomic<bool> is_busy{false};
  std::optional<ThreadAllowance> allowance;  // these two from the first region on
  std::optional<tbb::task_arena> arena;
};

Workers::Impl::Impl(int n_threads, const AllowedCpus& cpus) : n_threads(n_threads) {
  PinPlan plan = plan_pins(cpus, n_threads);
  pin_text = std::move(plan.text);
  const int n_cpus = within_quota(cpus.n_cpus(), cpu_quota(kCgroupMount, own_cgroup()));
  team =
      std::make_shared<Team>(std::move(plan.cpus), n_threads > n_cpus ? kWaitShared : kWaitOwnCpu);
  shares = std::make_unique<Share[]>(static_cast<size_t>(n_threads));
}

void Workers::Impl::form() {
  allowance.emplace(n_threads - 1);
  arena.emplace(n_threads, 1);  // the one slot is the caller's, who never comes in
  for (int i = 1; i < n_threads; ++i) arena->enqueue(ServeTask(team));
  team->await_members(kFormLimit);
}

void Workers::Impl::run(int n_wanted, Team::StandIn stand_in,
                        FunctionRef<void(TeamMember& member)> body) {
  const RegionScope scope = enter();
  if (team == nullptr) {
    TeamMember alone(nullptr, 0, 1, 1);
    return body(alone);
  }
  if (!arena) form();
  team->run_region(n_wanted, stand_in, body);
}

Workers::Workers(int n_threads) {
  HYBRID_CHECK(n_threads >= 1);
  impl_ = n_threads == 1 ? std::make_unique<Impl>(1)
                         : std::make_unique<Impl>(n_threads, allowed_cpus());
}

Workers::~Workers() = default;

int Workers::n_threads() const { return impl_->n_threads; }

void Workers::parallel_for(uint64_t n, uint64_t grain,
                           FunctionRef<void(uint64_t begin, uint64_t end)> body) {
  grain = std::max<uint64_t>(1, grain);
  if (impl_->n_threads == 1 || n <= grain) {
    const RegionScope scope = impl_->enter();
    if (n > 0) body(0, n);
    return;
  }
  const uint64_t n_chunks = n / grain + (n % grain != 0 ? 1 : 0);
  const auto n_wanted = std::min(n_chunks, static_cast<uint64_t>(impl_->n_threads));
  std::atomic<uint64_t> next{0};
  impl_->run(static_cast<int>(n_wanted), Team::StandIn::yes, [&](TeamMember&) {
    try {
      for (uint64_t i; (i = next.fetch_add(1, std::memory_order_relaxed)) < n_chunks;) {
        body(i * grain, std::min(n, i * grain + grain));
      }
    } catch (...) {
      next.store(n_chunks, std::memory_order_relaxed);  // nobody needs the rest
      throw;
    }
  });
}

void Workers::parallel_ranges(uint64_t n, uint64_t multiple, RangeBody body) {
  impl_->run(impl_->n_threads, Team::StandIn::yes,
             [=](TeamMember& member) { member.ranges(n, multiple, body); });
}

void Workers::parallel_shares(uint64_t n, uint64_t grain,
                              FunctionRef<void(uint64_t begin, uint64_t end)> body) {
  HYBRID_CHECK(grain >= 1);
  const uint64_t n_pieces = n / grain + (n % grain != 0 ? 1 : 0);
  HYBRID_CHECK(n_pieces <= UINT32_MAX);
  if (impl_->n_threads == 1 || n_pieces <= 1) {
    const RegionScope scope = impl_->enter();
    if (n > 0) body(0, n);
    return;
  }
  const auto n_shares = static_cast<uint64_t>(impl_->n_threads);
  Share* shares = impl_->shares.get();
  for (uint64_t i = 0; i < n_shares; ++i) shares[i].set(split_range(n_pieces, 1, i, n_shares));
  const auto call = [&](IndexRange pieces) {
    body(pieces.begin * grain, std::min(n, pieces.end * grain));
  };
  impl_->run(impl_->n_threads, Team::StandIn::yes, [&](TeamMember& member) {
    const auto own = static_cast<uint64_t>(member.index());
    IndexRange pieces;
    while (!(pieces = shares[own].take_front()).is_empty()) call(pieces);
    for (uint64_t i = 1; i < n_shares; ++i) {
      Share& other = shares[(own + i) % n_shares];
      while (!(pieces = other.take_last()).is_empty()) call(pieces);
    }
  });
}

void Workers::run(FunctionRef<void(TeamMember& member)> body) {
  impl_->run(impl_->n_threads, Team::StandIn::no, body);
}

std::string Workers::placement() const {
  if (!impl_->arena || impl_->team->n_present() == impl_->n_threads) return impl_->pin_text;
  return fmt::format("{}; only {} of {} threads came", impl_->pin_text, impl_->team->n_present(),
                     impl_->n_threads);
}

}  // namespace hybrid

#if defined(__SANITIZE_THREAD__)
#define HYBRID_THREAD_SANITIZER
#elif defined(__has_feature)
#if __has_feature(thread_sanitizer)
#define HYBRID_THREAD_SANITIZER
#endif
#endif
#ifdef HYBRID_THREAD_SANITIZER
/// libtbb gives the memory of a task that has run to the next one, and orders that out of
/// ThreadSanitizer's sight. Only stacks of the enqueueing side are left out, as tasks are made
/// there.
extern "C" const char* __tsan_default_suppressions() { return "race:enqueue_impl\n"; }
#endif
