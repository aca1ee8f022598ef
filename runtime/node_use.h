#pragma once
// The memory nodes that a run uses (--numa), its threads at them, and what a person is told of it.

#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "numa/node_arena.h"
#include "numa/node_plan.h"
#include "numa/worker_plan.h"
#include "numa/workers.h"

namespace hybrid {

struct NodeUse {
  NodePlan plan;
  std::string launch = {};  // what the process was launched with (launch_text)
  bool is_asked = false;    // --numa was given

  /// Whether someone asked for anything, or weights are bound: worth a line.
  bool is_special() const;
};

/// Of this machine. Shares follow the bandwidth that `topology --measure` has stored. Throws Error
/// where the mode contradicts the launch, or HWLOC_* variables describe another machine.
NodeUse use_nodes(NumaMode mode);

/// So many threads: at the seats of the plan, or, without one, wherever the system puts them.
std::unique_ptr<Workers> make_workers(const NodeUse* nodes, int n_threads);

/// "--numa distribute (by default): rows of each matrix on nodes 0 and 1, bound; launched with ..."
std::string node_use_text(const NodeUse& nodes);

/// Where packed weights are, "the packed weights: 1.00 GiB on node 0, 1.00 GiB on node 1; all of
/// 1024 pages that were looked at are there", then what was refused; nothing where they were not
/// bound.
std::vector<std::string> arena_lines(const NodeUse& nodes, const NodeArena::Report& report);

}  // namespace hybrid
