#pragma once
// One thread's view of a region of work that a whole team is in.

#include <cstdint>

#include "base/function_ref.h"

namespace hybrid {

class Team;

/// body(begin, end, index): the items [begin, end) are the share of index.
using RangeBody = FunctionRef<void(uint64_t begin, uint64_t end, int index)>;

class TeamMember {
 public:
  /// 0 is the caller's thread. In [0, n_members()).
  int index() const { return index_; }
  /// The threads that are in this region: n_threads of the team, or fewer where not all came.
  int n_members() const { return n_members_; }

  /// Returns when all members have called it as often; what they wrote before is then visible. All
  /// must call it equally often. Where another member's body has thrown it does not return but
  /// throws something that is no std::exception: let it pass.
  void barrier();

  /// Calls body(begin, end, index) for this member's share of [0, n), as Workers::parallel_ranges
  /// splits it. The shares of threads that did not come fall to those that did.
  void ranges(uint64_t n, uint64_t multiple, RangeBody body);

 private:
  friend class Team;
  friend class Workers;
  TeamMember(Team* team, int index, int n_members, int n_threads)
      : team_(team), index_(index), n_members_(n_members), n_threads_(n_threads) {}

  Team* team_;  // null where the caller is alone
  int index_;
  int n_members_;
  int n_threads_;
};

}  // namespace hybrid
