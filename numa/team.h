#pragma once
// A team of threads that stay together from region to region: the protocol, without the threads.
// Workers finds the threads; each of them calls serve().
//
// One word says which region runs and how many members are in it. The caller writes the region's
// description, then the word; members see the word change, do their part and write the region's
// number into a slot of their own; the caller reads all slots. That is two cache line transfers a
// member and region, where a scheduler needs tens of microseconds to find sleeping threads.
//
// A member that has not begun when the caller is done with its own part may be asleep, or another
// process may have its processor, for milliseconds. The caller then takes its part over: who
// changes a member's `claimed` to the region's number does the part.
//
// All of it is acquire and release on atomics, without fences, so that ThreadSanitizer sees it.

#include <atomic>
#include <chrono>
#include <cstdint>
#include <exception>
#include <memory>
#include <optional>
#include <vector>

#include "base/function_ref.h"
#include "numa/backoff.h"
#include "numa/cpu_set.h"
#include "numa/team_member.h"

namespace hybrid {

/// Says that this thread is in a region while it lives. Throws Error where it already is in one:
/// regions are not nested.
class InsideRegion {
 public:
  InsideRegion();
  ~InsideRegion();
  InsideRegion(const InsideRegion&) = delete;
  InsideRegion& operator=(const InsideRegion&) = delete;
};

class Team {
 public:
  /// Whether the caller may call the body for a member that has not begun. Not where the members
  /// wait for each other.
  enum class StandIn { no, yes };

  /// pins[i]: the processors of member i, [n_threads].
  Team(std::vector<CpuList> pins, const WaitPolicy& policy);

  int n_threads() const { return static_cast<int>(pins_.size()); }
  /// The caller and the threads that are in serve().
  int n_present() const { return 1 + n_arrived_.load(std::memory_order_acquire); }

  /// What a thread does that is to be a member: waits for regions and takes part in them until
  /// end(). At most n_threads - 1 threads may call it. A thread that comes late is in the regions
  /// that begin after it came.
  void serve();

  /// Returns when all members came, or at the limit.
  void await_members(std::chrono::milliseconds limit) const;

  /// Calls body once for each of the first n_wanted members that are present and returns when all
  /// are done; the caller's thread is one of them. The first exception comes out, after that. One
  /// region at a time.
  void run_region(int n_wanted, StandIn stand_in, FunctionRef<void(TeamMember&)> body);

  /// Sends the members away. Returns when they have gone, or after a second: a member may need a
  /// processor to go, but needs nothing else that the caller could take from it.
  void end();

 private:
  friend class TeamMember;

  // Of one cache line and its neighbour, which processors fetch along with it.
  static constexpr size_t kLine = 128;
  static constexpr uint64_t kOver = ~uint64_t{0};
  static constexpr int kMemberBits = 16;
  static constexpr uint64_t kMaxMembers = 0xffff;

  struct Region {
    std::optional<FunctionRef<void(TeamMember&)>> body;  // here: one cache line less to fetch
    uint64_t number = 0;
    int n_members = 0;
    std::exception_ptr error;  // of the member that set failed_
  };
  /// Of one member. Numbers of regions: the last it has finished, and the last that it, or the
  /// caller for it, has begun.
  struct Slot {
    alignas(kLine) std::atomic<uint64_t> done{0};
    alignas(kLine) std::atomic<uint64_t> claimed{0};
  };

  /// True where members were asleep.
  bool publish(uint64_t word);
  uint64_t await_word_after(uint64_t seen);
  void sleep_while(uint64_t seen);
  void take_part(int index);
  void await_part(int index, StandIn stand_in, const WaitPolicy& policy);
  bool claim(int index, uint64_t number);
  void barrier(int n_members);

  const std::vector<CpuList> pins_;
  const WaitPolicy policy_;
  const std::unique_ptr<Slot[]> slots_;

  // Written by the caller before a region; members read it after they have seen the word, which is
  // beside it so that both come with one transfer.
  alignas(kLine) Region region_;

  /// The region's number and its members, those in kMemberBits; kOver at the end. A member that is
  /// not in a region may miss its word, but no later one: one it is in waits for it.
  std::atomic<uint64_t> word_{0};

  // Sleeping: who sleeps waits for wake_ to change.
  alignas(kLine) std::atomic<uint32_t> n_sleeping_{0};
  std::atomic<uint32_t> wake_{0};
  std::atomic<int> n_arrived_{0};
  std::atomic<int> n_left_{0};

  alignas(kLine) std::atomic<int> n_at_barrier_{0};
  alignas(kLine) std::atomic<uint32_t> barrier_phase_{0};
  std::atomic<bool> failed_{false};
};

}  // namespace hybrid
