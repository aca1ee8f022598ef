#include "runtime/node_use.h"

#include <fmt/format.h>

#include "base/error.h"
#include "base/text.h"
#include "base/units.h"
#include "runtime/stored_node_bandwidth.h"

namespace hybrid {
namespace {

std::vector<double> stored_rates_of(const Topology& topology) {
  if (topology.nodes.size() < 2) return {};
  NodeList numbers;
  for (const MemoryNode& node : topology.nodes) numbers.push_back(node.number);
  const auto found = find_node_bandwidth(printable(topology.cpu_model), numbers).value;
  return found ? found->bandwidth.local_rates(topology) : std::vector<double>{};
}

NodeList nodes_of(const NodePlan& plan) {
  NodeList nodes;
  for (const NodeSlice& slice : plan.slices) {
    nodes.insert(nodes.end(), slice.nodes.begin(), slice.nodes.end());
  }
  return nodes;
}

}  // namespace

bool NodeUse::is_special() const {
  return is_asked || plan.mode == NumaMode::numactl || plan.is_bound || !plan.notes.empty();
}

NodeUse use_nodes(NumaMode mode) {
  const Topology topology = this_topology();
  const LaunchContext launch = read_launch_context();
  return {plan_nodes(topology, launch, mode, stored_rates_of(topology)),
          launch_text(launch, topology.cpus), mode != NumaMode::automatic};
}

std::unique_ptr<Workers> make_workers(const NodeUse* nodes, int n_threads) {
  if (nodes == nullptr) return std::make_unique<Workers>(n_threads);
  return std::make_unique<Workers>(plan_workers(nodes->plan, n_threads));
}

std::string node_use_text(const NodeUse& nodes) {
  const NodePlan& plan = nodes.plan;
  const bool is_cut = plan.slices.size() > 1;
  const std::string what = is_cut          ? "the rows of each matrix are divided among "
                           : plan.is_bound ? "weights are bound to "
                                           : "weights are where the system puts them, on ";
  return fmt::format("--numa {}{}: {}{}{}; launched with {}", name_of(plan.mode),
                     nodes.is_asked ? "" : " (by default)", what, nodes_text(nodes_of(plan)),
                     is_cut && plan.is_bound ? ", and bound to them" : "", nodes.launch);
}

std::vector<std::string> arena_lines(const NodeUse& nodes, const NodeArena::Report& report) {
  if (!nodes.plan.is_bound) return {};
  std::vector<std::string> shares;
  uint64_t n_looked_at = 0, n_elsewhere = 0;
  for (const NodeArena::SliceReport& slice : report.slices) {
    shares.push_back(fmt::format("{} for node {}", format_bytes(slice.n_bytes), slice.node));
    n_looked_at += slice.pages.n_sampled() - slice.pages.n_untouched;
    n_elsewhere += slice.pages.n_elsewhere(slice.node);
  }
  std::vector<std::string> lines{fmt::format(
      "the packed weights: {}; {}", join(shares, ", "),
      !report.is_verified() && n_elsewhere == 0 ? "where they are is not known"
      : n_elsewhere == 0 ? fmt::format("all of {} pages that were looked at are there", n_looked_at)
                         : fmt::format("{} of {} pages that were looked at are elsewhere",
                                       n_elsewhere, n_looked_at))};
  lines.insert(lines.end(), report.notices.begin(), report.notices.end());
  return lines;
}

}  // namespace hybrid
