#include "numa/workers.h"

#include <fmt/format.h>
#include <tbb/global_control.h>
#include <tbb/task_arena.h>

#include <algorithm>
#include <array>
#include <atomic>
#include <list>
#include <mutex>
#include <optional>
#include <thread>

#include "base/error.h"
#include "numa/backoff.h"
#include "numa/cgroup.h"
#include "numa/cpu_set.h"
#include "numa/split_range.h"
#include "numa/team.h"
#include "numa/worker_plan.h"

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

/// Of one thread, which alone writes to it.
struct alignas(128) ThreadCounts {
  uint64_t n_near = 0, n_far = 0;
};

}  // namespace

struct Workers::Impl {
  explicit Impl(int n_threads) : n_threads(n_threads) {}
  /// pins[i]: of thread i, as Team takes them.
  Impl(std::vector<CpuList> pins, std::string pin_text, const AllowedCpus& allowed);
  ~Impl() {
    if (team != nullptr) team->end();
  }
  void form();
  RegionScope enter() { return RegionScope(team == nullptr ? nullptr : &is_busy); }
  void run(int n_wanted, Team::StandIn stand_in, FunctionRef<void(TeamMember& member)> body);

  int n_threads;
  std::string pin_text = "not pinned: one thread";
  std::shared_ptr<Team> team;        // null for one thread
  std::unique_ptr<Share[]> shares;   // [n_threads + 1]; the last for what belongs to nobody
  std::vector<uint32_t> slices;      // [n_threads]; empty: all are of slice 0
  std::vector<ThreadCounts> counts;  // [n_threads], where there are several
  CpuList caller_cpus;               // empty: anywhere
  std::atomic<bool> is_busy{false};
  std::optional<ThreadAllowance> allowance;  // these two from the first region on
  std::optional<tbb::task_arena> arena;
};

Workers::Impl::Impl(std::vector<CpuList> pins, std::string text, const AllowedCpus& allowed)
    : n_threads(static_cast<int>(pins.size())), pin_text(std::move(text)) {
  const int n_cpus = within_quota(allowed.n_cpus(), cpu_quota(kCgroupMount, own_cgroup()));
  shares = std::make_unique<Share[]>(pins.size() + 1);
  counts.resize(pins.size());
  team = std::make_shared<Team>(std::move(pins), n_threads > n_cpus ? kWaitShared : kWaitOwnCpu);
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
  if (n_threads == 1) {
    impl_ = std::make_unique<Impl>(1);
  } else {
    const AllowedCpus allowed = allowed_cpus();
    PinPlan plan = plan_pins(allowed, n_threads);
    impl_ = std::make_unique<Impl>(std::move(plan.cpus), std::move(plan.text), allowed);
  }
}

Workers::Workers(const WorkerPlan& plan) {
  HYBRID_CHECK(!plan.seats.empty());
  const bool keeps_to_nodes = plan.servers.size() > 1 || plan.pins == WorkerPins::slices;
  if (plan.seats.size() == 1) {
    impl_ = std::make_unique<Impl>(1);
    if (keeps_to_nodes) impl_->caller_cpus = plan.seats.front().cpus;
    return;
  }
  std::vector<CpuList> pins;
  for (const WorkerSeat& seat : plan.seats) pins.push_back(seat.cpus);
  pins.front().clear();  // the caller's
  impl_ = std::make_unique<Impl>(std::move(pins), plan.pin_text, allowed_cpus());
  for (const WorkerSeat& seat : plan.seats) impl_->slices.push_back(seat.slice);
  if (keeps_to_nodes) impl_->caller_cpus = plan.seats.front().cpus;
}

Workers::~Workers() = default;

int Workers::n_threads() const { return impl_->n_threads; }

ScopedPin Workers::pin_caller() {
  // Threads have the processors of who made them: the team comes first.
  if (!impl_->caller_cpus.empty() && impl_->team != nullptr && !impl_->arena) impl_->form();
  return ScopedPin(impl_->caller_cpus);
}

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

namespace {

/// The pieces of all slices under one numbering: those of slices that have workers, worker by
/// worker, then those that belong to nobody.
class SlicePieces {
 public:
  /// slice_of[i]: of worker i; empty: all n_workers are of slice 0.
  SlicePieces(std::span<const IndexRange> ranges, uint64_t grain,
              const std::vector<uint32_t>& slice_of, uint64_t n_workers)
      : ranges_(ranges), grain_(grain) {
    HYBRID_CHECK(ranges.size() <= Workers::kMaxSlices);
    for (uint64_t w = 0; w < n_workers; ++w) {
      const uint32_t slice = slice_of.empty() ? 0 : slice_of[w];
      if (slice >= ranges.size()) continue;
      IndexRange& workers = workers_[slice];
      workers = {workers.is_empty() ? w : workers.begin, w + 1};
    }
    number([](const IndexRange& workers) { return !workers.is_empty(); });
    n_owned_ = n_pieces_;
    number([](const IndexRange& workers) { return workers.is_empty(); });
    HYBRID_CHECK(n_pieces_ <= UINT32_MAX);
  }

  uint64_t n_pieces() const { return n_pieces_; }
  IndexRange unowned() const { return {n_owned_, n_pieces_}; }
  IndexRange workers_of(uint32_t slice) const {
    return slice < ranges_.size() ? workers_[slice] : IndexRange{};
  }
  IndexRange pieces_of(uint32_t slice, uint64_t worker) const {
    const IndexRange workers = workers_of(slice);
    if (workers.is_empty()) return {};
    const IndexRange part =
        split_range(n_pieces_of(slice), 1, worker - workers.begin, workers.end - workers.begin);
    return {first_piece_[slice] + part.begin, first_piece_[slice] + part.end};
  }

  /// Calls body(slice, begin, end) on what these pieces are of each slice.
  template <class Body>
  void visit(const IndexRange& pieces, const Body& body) const {
    for (size_t s = 0; s < ranges_.size(); ++s) {
      const uint64_t first = first_piece_[s];
      const uint64_t begin = std::max(pieces.begin, first);
      const uint64_t end = std::min(pieces.end, first + n_pieces_of(s));
      if (begin >= end) continue;
      body(s, ranges_[s].begin + (begin - first) * grain_,
           std::min(ranges_[s].end, ranges_[s].begin + (end - first) * grain_));
    }
  }

 private:
  uint64_t n_pieces_of(size_t slice) const {
    const uint64_t n = ranges_[slice].end - ranges_[slice].begin;
    return n / grain_ + (n % grain_ != 0 ? 1 : 0);
  }
  template <class IsWanted>
  void number(const IsWanted& is_wanted) {
    for (size_t s = 0; s < ranges_.size(); ++s) {
      if (!is_wanted(workers_[s])) continue;
      first_piece_[s] = n_pieces_;
      n_pieces_ += n_pieces_of(s);
    }
  }

  std::span<const IndexRange> ranges_;
  uint64_t grain_;
  std::array<uint64_t, Workers::kMaxSlices> first_piece_{};
  std::array<IndexRange, Workers::kMaxSlices> workers_{};
  uint64_t n_pieces_ = 0, n_owned_ = 0;
};

}  // namespace

void Workers::parallel_slices(std::span<const IndexRange> ranges, uint64_t grain,
                              FunctionRef<void(uint64_t, uint64_t, uint64_t)> body) {
  HYBRID_CHECK(grain >= 1);
  const auto n_workers = static_cast<uint64_t>(impl_->n_threads);
  const SlicePieces pieces(ranges, grain, impl_->slices, n_workers);
  if (n_workers == 1 || pieces.n_pieces() <= 1) {
    const RegionScope scope = impl_->enter();
    return pieces.visit({0, pieces.n_pieces()}, body);
  }
  Share* shares = impl_->shares.get();
  const auto slice_of = [&](uint64_t w) { return impl_->slices.empty() ? 0 : impl_->slices[w]; };
  for (uint64_t w = 0; w < n_workers; ++w) shares[w].set(pieces.pieces_of(slice_of(w), w));
  shares[n_workers].set(pieces.unowned());
  const std::thread::id caller = std::this_thread::get_id();
  impl_->run(impl_->n_threads, Team::StandIn::yes, [&](TeamMember& member) {
    const auto own = static_cast<uint64_t>(member.index());
    // The caller may do another's part, and stays where it is.
    const uint64_t self = std::this_thread::get_id() == caller ? 0 : own;
    ThreadCounts& counts = impl_->counts[self];
    const auto visit = [&](const IndexRange& taken) {
      pieces.visit(taken, [&](uint64_t slice, uint64_t begin, uint64_t end) {
        ++(slice == slice_of(self) ? counts.n_near : counts.n_far);
        body(slice, begin, end);
      });
    };
    const auto help = [&](Share& share) {
      IndexRange taken;
      while (!(taken = share.take_last()).is_empty()) visit(taken);
    };
    IndexRange taken;
    while (!(taken = shares[own].take_front()).is_empty()) visit(taken);
    const IndexRange mates = pieces.workers_of(slice_of(own));
    const uint64_t n_mates = mates.end - mates.begin;
    for (uint64_t i = 1; i < n_mates; ++i) {
      help(shares[mates.begin + (own - mates.begin + i) % n_mates]);
    }
    help(shares[n_workers]);
    for (auto w = static_cast<uint64_t>(member.n_members()); w < n_workers; ++w) help(shares[w]);
  });
}

void Workers::run(FunctionRef<void(TeamMember& member)> body) {
  impl_->run(impl_->n_threads, Team::StandIn::no, body);
}

Workers::SliceCounts Workers::slice_counts() const {
  SliceCounts all;
  for (const ThreadCounts& counts : impl_->counts) {
    all.n_near += counts.n_near;
    all.n_far += counts.n_far;
  }
  return all;
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
