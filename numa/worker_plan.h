#pragma once
// How many threads work on which slice of a node plan, and where they are to stay: pure, as the
// plan is. Any number of threads works on the same slices, so decode and prefill may have their
// own.

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "numa/node_plan.h"

namespace hybrid {

struct WorkerSeat {
  uint32_t slice = 0;
  CpuList cpus = {};  // where it is to stay; empty: anywhere

  bool operator==(const WorkerSeat&) const = default;
};

/// What threads are kept to.
enum class WorkerPins { none, slices, cores };

struct WorkerPlan {
  std::vector<WorkerSeat> seats;  // [n_threads], those of slice 0 first, then of slice 1
  std::vector<uint32_t> servers;  // [slices]: the first worker of a slice; of one that has none
                                  // a worker that reads it beside its own
  WorkerPins pins = WorkerPins::none;
  std::string pin_text;            // what is done and why, for a person
  std::vector<std::string> notes;  // a sentence each

  int n_threads() const { return static_cast<int>(seats.size()); }
  /// The workers of a slice: [begin, end), empty where it has none.
  IndexRange workers_of(uint32_t slice) const;
};

/// n_threads: of -t, >= 1; none: each slice's n_default. More threads than processors, or than the
/// quota pays for, are cut to these, which is noted. Slices get threads evenly as far as they have
/// cores, then a second round of siblings.
///
/// Threads are pinned to a core each where the processors were set aside for us and there is one
/// for each; else, where there are several slices or the plan keeps to one node of several, to
/// their slice's processors: a pinned thread that shares its core with another busy process can be
/// a hundred times slower, one that may move within its node is not. Otherwise none is pinned.
WorkerPlan plan_workers(const NodePlan& plan, std::optional<int> n_threads);

/// The plan and its workers as lines of text, for golden files and -v.
std::string node_plan_text(const NodePlan& plan, const WorkerPlan& workers);

}  // namespace hybrid
