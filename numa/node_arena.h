#pragma once
// Memory for the slices of a node plan: huge pages, each slice bound to its node, populated there,
// and the kernel asked afterwards where they are.
//
// What fails is survived where it can be: without mbind pages go to the node of the thread that
// populates them, without huge pages they are small; both are said. What cannot be survived is
// known before a page is taken: a slice that its node has no memory for would get the process
// killed.

#include <atomic>
#include <cstdint>
#include <optional>
#include <span>
#include <string>
#include <vector>

#include "numa/huge_buffer.h"
#include "numa/node_memory.h"
#include "numa/node_plan.h"
#include "numa/page_placement.h"

namespace hybrid {

/// What a slice is to hold.
struct NodeShare {
  int node = -1;      // whose memory; -1: any
  CpuList cpus = {};  // at it, whose threads take the pages; empty: any
  uint64_t n_bytes = 0;
};

/// The shares of a plan's slices, of which slice i holds n_bytes[i]: [plan.slices].
std::vector<NodeShare> node_shares(const NodePlan& plan, std::span<const uint64_t> n_bytes);

/// Throws Error, with the figures and what to do, where shares of a node are more than it has left.
/// Shares without a node, and nodes that `memory` does not have, are not checked. what: "the
/// weights".
void check_node_space(std::span<const NodeShare> shares, std::span<const NodeMemory> memory,
                      const std::string& what);

class NodeArena {
 public:
  NodeArena() = default;
  /// Takes address space, binds it, and checks what nodes have left; no page is taken yet. Throws
  /// Error where there is no room. what: "the weights", for messages.
  NodeArena(std::vector<NodeShare> shares, std::string what);

  size_t n_slices() const { return slices_.size(); }
  /// Zeros until written to; begins on 2 MB.
  std::span<std::byte> slice(size_t i) { return {slices_[i].data(), slices_[i].n_bytes()}; }
  std::span<const std::byte> slice(size_t i) const {
    return {slices_[i].data(), slices_[i].n_bytes()};
  }
  uint64_t n_bytes() const;
  /// Whether the kernel took the binding; of a share without a node false.
  bool is_bound(size_t i) const { return is_bound_[i]; }

  /// Takes the pages of all slices from the system, each by up to n_threads_each threads on its
  /// share's processors; later writes then cost no fault and land where they should even where the
  /// binding was refused. What was written before stays. False where `stop` ended it. Throws Error
  /// where a node's memory runs out meanwhile, before the kernel kills for it. Not needed: pages
  /// are taken as they are written to, by whomever.
  bool populate(int n_threads_each, const std::atomic<bool>* stop = nullptr);

  /// What was obtained; pages that were not touched yet count as none.
  struct SliceReport {
    int node = -1;
    uint64_t n_bytes = 0;
    bool is_bound = false;
    PagePlacement pages;
    uint64_t huge_bytes = 0;
  };
  struct Report {
    std::vector<SliceReport> slices;
    std::vector<std::string> notices;  // what was refused, with its remedy, a sentence each

    /// Every touched page is on its slice's node, and the kernel told so.
    bool is_verified() const;
  };
  Report report() const;

 private:
  std::vector<NodeShare> shares_;
  std::string what_;
  std::vector<HugeBuffer> slices_;
  std::vector<bool> is_bound_;
  std::vector<std::string> refusals_;
};

}  // namespace hybrid
