#pragma once
// The threads that compute. A region of work is a range of independent items; how it is split, and
// how many threads came, never changes a result, because no item's arithmetic depends on another
// item.
//
// The threads are a team that stays together: oneTBB workers that entered one long task each, the
// caller's thread being member 0. It forms in the first region and waits for the next one spinning,
// then yielding, and after 1.5 ms asleep; an idle team costs nothing. A region of two threads costs
// 0.4 to 0.8 us while they spin or yield and 20 to 50 us when they sleep (docs/measurements.md).
//
// TBB promises no thread. The first region waits 200 ms for all of them; after that, regions run
// with those present and whoever comes late is in the next one.
//
// More threads than processors work, and are no gain: waits then yield from the start and sleep
// after 0.1 ms, or each would last until the scheduler takes the processor away, milliseconds.

#include <cstdint>
#include <memory>
#include <span>
#include <string>

#include "base/function_ref.h"
#include "numa/cpu_set.h"
#include "numa/split_range.h"
#include "numa/team_member.h"

namespace hybrid {

struct WorkerPlan;

class Workers {
 public:
  static constexpr size_t kMaxSlices = 64;

  /// n_threads in [1, 65535], the caller's thread among them. With 1 the bodies are simply called.
  explicit Workers(int n_threads);
  /// A thread for each seat of a plan (numa/worker_plan.h), kept to its processors, at its slice.
  /// The first is the caller's, whom pin_caller() keeps to its seat.
  explicit Workers(const WorkerPlan& plan);
  /// Sends the team away. Not inside a region.
  ~Workers();
  Workers(const Workers&) = delete;
  Workers& operator=(const Workers&) = delete;

  int n_threads() const;

  /// Keeps the calling thread at the first seat for as long as the result lives, where the plan
  /// keeps workers to nodes; else nothing. For who is about to call the regions below: a few
  /// microseconds.
  [[nodiscard]] ScopedPin pin_caller();

  // The five calls below return when all is done. An exception that a body throws comes out then,
  // the first where there are several, and the team stays good. Throws Error when called inside a
  // body, of this team or another, and when called while another thread is in one of them.

  /// Calls body(begin, end) on disjoint ranges that cover [0, n), `grain` items long but for the
  /// last; where one thread does it all, on longer ones. Each goes to whoever is free, so this is
  /// for uneven work.
  void parallel_for(uint64_t n, uint64_t grain,
                    FunctionRef<void(uint64_t begin, uint64_t end)> body);

  /// Calls body(begin, end, index) once for every index in [0, n_threads) whose share of [0, n) is
  /// not empty. The share is split_range(n, multiple, index, n_threads), so the same index has the
  /// same items each time: for even work, and for data that should stay near a thread. Share i is
  /// done by member i; only where that has not come, or has not begun when the caller is done with
  /// share 0, by another. multiple >= 1.
  void parallel_ranges(uint64_t n, uint64_t multiple, RangeBody body);

  /// Calls body(begin, end) on disjoint ranges that cover [0, n), bounded by multiples of `grain`.
  /// Each member goes through a share as parallel_ranges gives it, from front to end, and then
  /// takes items, `grain` at a time, from the end of the others': for even work along memory, where
  /// a thread may be slower for a while. grain >= 1, n / grain < 2^32.
  void parallel_shares(uint64_t n, uint64_t grain,
                       FunctionRef<void(uint64_t begin, uint64_t end)> body);

  /// Calls body(slice, begin, end) on disjoint ranges that cover ranges[slice], for every slice,
  /// bounded by multiples of `grain` from its beginning. What is of a slice is done by the workers
  /// that the plan gave it, who help each other as in parallel_shares and nobody else: rows stay
  /// with the threads that are near to their memory. Only where a slice has no worker, or one did
  /// not come, all do its part. Without a plan all workers are of slice 0. grain >= 1, fewer than
  /// 2^32 pieces, at most kMaxSlices slices. Allocates nothing.
  void parallel_slices(std::span<const IndexRange> ranges, uint64_t grain,
                       FunctionRef<void(uint64_t slice, uint64_t begin, uint64_t end)> body);

  /// Calls body(member) once on every member, all at the same time: for several phases in one
  /// region, with TeamMember::barrier() between them and TeamMember::ranges() to split each. Waits
  /// for every member to begin, so where one is asleep or has lost its processor this is slower
  /// than the two above.
  void run(FunctionRef<void(TeamMember& member)> body);

  /// Pieces of parallel_slices() so far, by whether a worker of their slice did them. Far ones are
  /// of slices that have no worker, or of workers that another process kept from their part.
  struct SliceCounts {
    uint64_t n_near = 0, n_far = 0;
  };
  SliceCounts slice_counts() const;

  /// Whether the threads are pinned, and why or where; that not all came, if so. For a person. Not
  /// while another thread is in a region.
  std::string placement() const;

 private:
  struct Impl;
  std::unique_ptr<Impl> impl_;
};

}  // namespace hybrid
