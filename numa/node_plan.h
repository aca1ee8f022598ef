#pragma once
// Which memory nodes hold the weights, which cores are at them, and which rows each gets: a pure
// function of the machine, of what the process was launched with, and of --numa.
//
// Each matrix is cut by output rows, in whole panels, into one slice per node; a slice lies in
// memory bound to its node and is read by that node's workers. Shares follow the nodes' bandwidth
// and not their cores: that of memory is what decode waits for, so nodes of 43, 43 and 42 cores get
// the same.

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "numa/launch_context.h"
#include "numa/split_range.h"
#include "numa/topology.h"

namespace hybrid {

enum class NumaMode {
  automatic,   // numactl where the launch bound anything, else distribute
  distribute,  // all nodes, sliced by rows
  isolate,     // the node that the process runs on
  numactl,     // what the launch allowed
  off,         // the system places memory and threads
};

struct NodeSlice {
  NodeList nodes = {};              // of its memory: one where it is bound
  uint32_t weight = 1;              // its share of the rows is this among the weights of all slices
  std::vector<CpuList> cores = {};  // its allowed processors by core, in the order in which workers
                                    // take them: performance cores first, L3 groups in turn
  uint32_t n_default = 0;           // of these cores those that work unless -t says otherwise
};

struct NodePlan {
  NumaMode mode = NumaMode::off;  // never automatic
  bool is_bound = false;          // slices are bound to their nodes; else the kernel places them
  bool is_set_aside = false;      // fewer processors are allowed than there are: they are ours
  std::vector<NodeSlice> slices;  // at least one, each with a core
  std::optional<double> cpu_quota;
  std::vector<std::string> notes;  // what a person should know, a sentence each
};

/// node_rates[i]: of topology.nodes[i] what its memory was measured to deliver to its own cores, in
/// any unit; empty where that is not known. Throws Error where --numa contradicts the launch.
NodePlan plan_nodes(const Topology& topology, const LaunchContext& launch, NumaMode mode,
                    const std::vector<double>& node_rates = {});

/// "distribute"; automatic is "auto".
const char* name_of(NumaMode mode);

/// Cuts [0, n_rows) into one range per slice, in order; every boundary but n_rows is a multiple of
/// `multiple` (rows of a panel). A slice has its share of the panels, rounded to whole ones: which
/// slices are rounded up depends on `phase`, so that over many matrices, as a layer's experts, all
/// get the same: give phases 0, 1, 2, ... A slice may be empty where there are few panels.
std::vector<IndexRange> slice_rows(const NodePlan& plan, uint64_t n_rows, uint64_t multiple,
                                   uint64_t phase = 0);

}  // namespace hybrid
