#include "numa/node_plan.h"

#include <algorithm>
#include <cmath>
#include <limits>
#include <map>
#include <numeric>

#include "base/error.h"
#include "base/rounding.h"
#include "base/units.h"

namespace hybrid {
namespace {

/// A core of which some processors are allowed.
struct OwnCore {
  CpuList cpus;  // those
  const CpuCore* core;
  int home = -1;  // the node of its memory; -1: it has none that may be used
};

class NodePlanner {
 public:
  NodePlanner(const Topology& topology, const LaunchContext& launch, NumaMode mode,
              const std::vector<double>& rates)
      : topology_(topology), launch_(launch), asked_(mode), rates_(rates) {
    const NodeList allowed = launch.memory_nodes.empty() ? all_nodes() : launch.usable_nodes();
    usable_ = common_numbers(allowed, all_nodes());
    collect_cores();
  }

  NodePlan plan() {
    plan_.mode = resolved_mode();
    plan_.cpu_quota = launch_.cpu_quota;
    plan_.is_set_aside = n_own_cpus() < topology_.cpus.size();
    check_launch();
    const bool is_one = plan_.mode == NumaMode::off || is_interleaved();
    if (is_one) {
      make_one_slice();
    } else {
      make_slices();
      if (plan_.mode == NumaMode::isolate) keep_current_node();
      check_nothing_left_out();
      attach_foreign_cores();
      plan_.is_bound = topology_.nodes.size() > 1;
      note_unused_nodes();
      set_weights();
    }
    for (NodeSlice& slice : plan_.slices) order_cores(slice);
    return std::move(plan_);
  }

 private:
  bool is_interleaved() const { return launch_.policy == MemoryPolicy::interleave; }
  bool are_cpus_bound() const { return launch_.cpus != topology_.cpuset_cpus; }
  bool is_bound() const { return launch_.is_memory_bound() || are_cpus_bound(); }

  NodeList all_nodes() const {
    NodeList nodes;
    for (const MemoryNode& node : topology_.nodes) nodes.push_back(node.number);
    return nodes;
  }

  size_t n_own_cpus() const {
    size_t n = 0;
    for (const OwnCore& core : cores_) n += core.cpus.size();
    return n;
  }

  NumaMode resolved_mode() const {
    if (asked_ != NumaMode::automatic) return asked_;
    return is_bound() ? NumaMode::numactl : NumaMode::distribute;
  }

  /// As Topology::home_of, among the nodes that may be used.
  int usable_home_of(const CpuCore& core) const {
    Topology usable;
    for (const MemoryNode& node : topology_.nodes) {
      if (has_number(usable_, node.number)) usable.nodes.push_back(node);
    }
    const MemoryNode* home = usable.home_of(core);
    return home == nullptr ? -1 : home->number;
  }

  void collect_cores() {
    for (const CpuCore& core : topology_.cores) {
      CpuList cpus = common_numbers(core.cpus, launch_.cpus);
      if (!cpus.empty()) cores_.push_back({std::move(cpus), &core, usable_home_of(core)});
    }
    if (cores_.empty()) {
      fail(
          "the process may run on processors {}, and the machine is said to have {}: no plan of "
          "threads can be made; unset HWLOC_* variables of the environment",
          number_list_text(launch_.cpus), number_list_text(topology_.cpus));
    }
  }

  /// Contradictions of mode and launch that need no slices.
  void check_launch() const {
    const std::string mode = name_of(plan_.mode);
    if (plan_.mode == NumaMode::numactl && !is_bound()) {
      fail(
          "--numa numactl: the process was launched with all processors and no memory policy; "
          "launch it through numactl, or leave --numa out to use all nodes");
    }
    const bool wants_slices = plan_.mode == NumaMode::distribute || plan_.mode == NumaMode::isolate;
    if (wants_slices && is_interleaved()) {
      fail(
          "--numa {} binds weights to nodes, but the process was launched with {}; leave one of "
          "them out",
          mode, policy_text(launch_));
    }
  }

  void make_one_slice() {
    NodeSlice slice{.nodes = usable_};
    for (const OwnCore& core : cores_) slice.cores.push_back(core.cpus);
    plan_.slices.push_back(std::move(slice));
    if (is_interleaved()) {
      plan_.notes.push_back("weights are not bound to nodes: " + policy_text(launch_));
    }
  }

  NodeSlice& slice_of(int node) {
    for (NodeSlice& slice : plan_.slices) {
      if (slice.nodes.front() == node) return slice;
    }
    return plan_.slices.emplace_back(NodeSlice{.nodes = {node}});
  }

  void make_slices() {
    for (const OwnCore& core : cores_) {
      if (core.home >= 0) slice_of(core.home).cores.push_back(core.cpus);
    }
    if (plan_.slices.empty()) {  // memory of nodes far from all our processors
      for (const int node : usable_) slice_of(node);
    }
    std::sort(plan_.slices.begin(), plan_.slices.end(),
              [](const NodeSlice& a, const NodeSlice& b) { return a.nodes < b.nodes; });
  }

  void keep_current_node() {
    const CpuCore* current = nullptr;
    for (const OwnCore& core : cores_) {
      if (has_number(core.cpus, launch_.current_cpu)) current = core.core;
    }
    if (current == nullptr) current = cores_.front().core;
    const int node = usable_home_of(*current);
    if (node < 0) {
      fail(
          "--numa isolate: the process runs on processor {}, whose node's memory it may not use "
          "({}); launch it with processors of {}, or leave --numa out",
          current->cpus.front(), policy_text(launch_), nodes_text(usable_));
    }
    std::erase_if(plan_.slices, [&](const NodeSlice& s) { return s.nodes.front() != node; });
  }

  /// `--numa distribute` means all nodes; where a cpuset hides some, those are not ours to ask for.
  void check_nothing_left_out() const {
    if (asked_ != NumaMode::distribute || !is_bound()) return;
    NodeList left_out;
    for (const CpuCore& core : topology_.cores) {
      if (common_numbers(core.cpus, topology_.cpuset_cpus).empty()) continue;
      const MemoryNode* home = topology_.home_of(core);
      if (home == nullptr || !has_number(topology_.cpuset_nodes, home->number)) continue;
      const bool is_used =
          std::any_of(plan_.slices.begin(), plan_.slices.end(), [&](const NodeSlice& slice) {
            return topology_.find_node(slice.nodes.front())->cpus == home->cpus;
          });
      if (!is_used && (left_out.empty() || left_out.back() != home->number)) {
        left_out.push_back(home->number);
      }
    }
    if (left_out.empty()) return;
    std::sort(left_out.begin(), left_out.end());
    fail(
        "--numa distribute uses all nodes, but the process was launched without {}: {}; leave "
        "--numa out to use what it was given, or launch it without numactl or taskset",
        nodes_text(left_out), launch_text(launch_, topology_.cpus));
  }

  uint32_t distance(int from, int to) const {
    if (topology_.distances.empty()) return from == to ? 10 : 20;
    const auto index = [&](int node) {
      return static_cast<size_t>(topology_.find_node(node) - topology_.nodes.data());
    };
    return topology_.distances[index(from)][index(to)];
  }

  /// Cores whose own memory may not be used work on the nearest slice; `isolate` leaves them out.
  void attach_foreign_cores() {
    if (plan_.mode == NumaMode::isolate) return;
    std::map<int, CpuList> attached;  // by slice's node
    for (const OwnCore& core : cores_) {
      if (core.home >= 0) continue;
      const MemoryNode* at = topology_.home_of(*core.core);
      const auto cost = [&](const NodeSlice& slice) {
        const uint32_t d = at == nullptr ? 0 : distance(at->number, slice.nodes.front());
        return std::pair(d, slice.cores.size());
      };
      const auto nearest = std::min_element(
          plan_.slices.begin(), plan_.slices.end(),
          [&](const NodeSlice& a, const NodeSlice& b) { return cost(a) < cost(b); });
      nearest->cores.push_back(core.cpus);
      CpuList& cpus = attached[nearest->nodes.front()];
      cpus.insert(cpus.end(), core.cpus.begin(), core.cpus.end());
    }
    for (auto& [node, cpus] : attached) {
      std::sort(cpus.begin(), cpus.end());
      plan_.notes.push_back(
          fmt::format("processors {} may not use the memory at them and read that of node {}",
                      number_list_text(cpus), node));
    }
  }

  /// Memory that the process may use and that no slice lies in, a sentence for each reason.
  void note_unused_nodes() {
    if (plan_.mode == NumaMode::isolate) return;
    NodeList twins, memory_only, without_cpus;
    for (const int number : usable_) {
      const MemoryNode* node = topology_.find_node(number);
      bool is_slice = false, is_twin = false;
      for (const NodeSlice& slice : plan_.slices) {
        is_slice |= slice.nodes.front() == number;
        is_twin |=
            !node->cpus.empty() && topology_.find_node(slice.nodes.front())->cpus == node->cpus;
      }
      if (is_slice) continue;
      (is_twin ? twins : node->cpus.empty() ? memory_only : without_cpus).push_back(number);
    }
    note_unused(without_cpus, "none of {} processors is allowed; launch with some to use {}");
    note_unused(twins, "{} processors have other memory, too; numactl -m uses {} instead");
    note_unused(memory_only, "no processors are near; numactl -m uses {1} instead");
  }

  void note_unused(const NodeList& nodes, fmt::format_string<const char*, const char*> why) {
    if (nodes.empty()) return;
    uint64_t n_bytes = 0;
    for (const int node : nodes) n_bytes += topology_.find_node(node)->memory_bytes;
    const bool is_one = nodes.size() == 1;
    plan_.notes.push_back(fmt::format("{} with {} {} not used: ", nodes_text(nodes),
                                      format_bytes(n_bytes), is_one ? "is" : "are") +
                          fmt::format(why, is_one ? "its" : "their", is_one ? "it" : "them"));
  }

  /// In steps of a twentieth, so that a measurement's noise does not move rows about.
  void set_weights() {
    constexpr double kSteps = 20;
    std::vector<double> rates;
    for (const NodeSlice& slice : plan_.slices) {
      const MemoryNode* node = topology_.find_node(slice.nodes.front());
      const auto index = static_cast<size_t>(node - topology_.nodes.data());
      rates.push_back(node != nullptr && index < rates_.size() ? rates_[index] : 0);
    }
    const auto [least, most] = std::minmax_element(rates.begin(), rates.end());
    if (*least <= 0) return;
    for (size_t i = 0; i < rates.size(); ++i) {
      plan_.slices[i].weight =
          std::max(1u, static_cast<uint32_t>(std::lround(kSteps * rates[i] / *most)));
    }
    const bool are_even = std::all_of(
        plan_.slices.begin(), plan_.slices.end(),
        [](const NodeSlice& slice) { return slice.weight + 1 >= static_cast<uint32_t>(kSteps); });
    if (!are_even) return;
    for (NodeSlice& slice : plan_.slices) slice.weight = 1;
  }

  const CpuCore& core_with(int cpu) const {
    for (const CpuCore& core : topology_.cores) {
      if (has_number(core.cpus, cpu)) return core;
    }
    HYBRID_CHECK(!"a slice's core is of the machine");
    return topology_.cores.front();
  }

  /// A few threads get an L3 cache, and what connects it to memory, each for itself.
  void order_cores(NodeSlice& slice) const {
    struct Key {
      CoreKind kind;
      size_t turn;  // how many cores of its L3 group and kind come before
      int l3;
      auto operator<=>(const Key&) const = default;
    };
    std::map<std::pair<CoreKind, int>, size_t> n_seen;
    std::map<Key, std::vector<CpuList>> ordered;
    for (CpuList& cpus : slice.cores) {
      const CpuCore& core = core_with(cpus.front());
      const size_t turn = core.l3 < 0 ? 0 : n_seen[{core.kind, core.l3}]++;
      ordered[{core.kind, turn, core.l3}].push_back(std::move(cpus));
    }
    slice.cores.clear();
    for (auto& [key, cores] : ordered) {
      if (key.kind == CoreKind::performance) {
        slice.n_default += static_cast<uint32_t>(cores.size());
      }
      for (CpuList& cpus : cores) slice.cores.push_back(std::move(cpus));
    }
    if (slice.n_default == 0) slice.n_default = static_cast<uint32_t>(slice.cores.size());
  }

  const Topology& topology_;
  const LaunchContext& launch_;
  const NumaMode asked_;
  const std::vector<double>& rates_;
  NodeList usable_;
  std::vector<OwnCore> cores_;
  NodePlan plan_;
};

}  // namespace

const char* name_of(NumaMode mode) {
  switch (mode) {
    case NumaMode::automatic:
      return "auto";
    case NumaMode::distribute:
      return "distribute";
    case NumaMode::isolate:
      return "isolate";
    case NumaMode::numactl:
      return "numactl";
    case NumaMode::off:
      break;
  }
  return "off";
}

NodePlan plan_nodes(const Topology& topology, const LaunchContext& launch, NumaMode mode,
                    const std::vector<double>& node_rates) {
  return NodePlanner(topology, launch, mode, node_rates).plan();
}

std::vector<IndexRange> slice_rows(const NodePlan& plan, uint64_t n_rows, uint64_t multiple,
                                   uint64_t phase) {
  HYBRID_CHECK(multiple >= 1 && !plan.slices.empty());
  uint64_t all = 0;
  for (const NodeSlice& slice : plan.slices) all += slice.weight;
  // Neighbouring phases far apart: a few matrices are as even as many.
  uint64_t stride = std::max<uint64_t>(1, all * 618 / 1000);
  while (std::gcd(stride, all) != 1) ++stride;
  const uint64_t shift = phase % all * stride % all;
  const uint64_t n_panels = divide_up(n_rows, multiple);
  std::vector<IndexRange> ranges;
  uint64_t weight = 0, begin = 0;
  for (const NodeSlice& slice : plan.slices) {
    weight += slice.weight;
    const uint64_t end = std::min(n_rows, (n_panels * weight + shift) / all * multiple);
    ranges.push_back({begin, end});
    begin = end;
  }
  return ranges;
}

}  // namespace hybrid
