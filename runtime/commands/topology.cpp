#include <algorithm>
#include <nlohmann/json.hpp>

#include "base/text.h"
#include "base/units.h"
#include "numa/bandwidth.h"
#include "numa/cpu_set.h"
#include "numa/memory_info.h"
#include "runtime/commands/command.h"
#include "runtime/stored_rates.h"
#include "runtime/topology_report.h"

namespace hybrid::commands {
namespace {

/// Keeps something for later runs; where it cannot be written the rest is still worth showing.
template <class Store>
void keep(const char* what, const Store& store) {
  try {
    log_info(fmt::format("{} kept in {}", what, printable(store().string(), 4096)));
  } catch (const Error& error) {
    log_info(fmt::format("{} not kept: {}", what, error.what()));
  }
}

/// What `plan` takes where no kernels were measured: read by the threads that a run has by default,
/// on memory that the system places, as runs have it.
void measure_for_plan() {
  const int n_threads = usable_cores();
  Workers workers(n_threads);
  const ReadBandwidth found =
      measure_read_bandwidth(workers, bandwidth_buffer_bytes(available_memory_bytes()));
  log_info(fmt::format("memory: {:.1f} GB/s read by {} (best of {} passes over {})", found.gb_per_s,
                       plural(static_cast<uint64_t>(n_threads), "thread"), found.n_passes,
                       format_bytes(found.buffer_bytes)));
  keep("rate for `plan`", [&] {
    return store_rates({.key = rates_key(n_threads),
                        .bandwidth_bytes_per_s = found.gb_per_s * 1e9,
                        .measured = time_now(),
                        .rates = {}});
  });
}

/// Between nodes. What a launch or a full node leaves out is shown, but is not this machine's.
void measure_nodes(TopologyReport& report) {
  const BandwidthEffort effort{.buffer_bytes = bandwidth_buffer_bytes(available_memory_bytes())};
  auto found = measure_node_bandwidth(report.topology, report.launch, effort, &stop_flag());
  if (!found) throw Interrupted{};
  const bool is_whole =
      found->is_whole(report.topology) && report.launch.cpus == report.topology.cpus;
  for (std::string& notice : found->notices) {
    const auto& notices = report.notices;
    if (std::find(notices.begin(), notices.end(), notice) == notices.end()) {
      report.notices.push_back(std::move(notice));
    }
  }
  found->notices.clear();
  StoredNodeBandwidth stored{.cpu = printable(report.topology.cpu_model),
                             .nodes = {},
                             .measured = time_now(),
                             .bandwidth = std::move(*found)};
  for (const MemoryNode& node : report.topology.nodes) stored.nodes.push_back(node.number);
  if (is_whole) {
    keep("bandwidth of the nodes", [&] { return store_node_bandwidth(stored); });
  } else {
    log_info("bandwidth of the nodes not kept: it is not of the whole machine (see the notes)");
  }
  report.bandwidth_source = "measured now";
  report.bandwidth = std::move(stored);
}

}  // namespace

void topology(const Options& options) {
  catch_signals();
  TopologyReport report = inspect_machine();
  for (const L3Group& group : report.topology.l3_groups) {
    log_detail(fmt::format("L3 of {}: processors {}", format_bytes(group.n_bytes),
                           number_list_text(group.cpus)));
  }
  for (const CpuCore& core : report.topology.cores) {
    log_detail(fmt::format("core: processors {}{}", number_list_text(core.cpus),
                           core.kind == CoreKind::efficiency ? ", for efficiency" : ""));
  }
  if (options.get_toggle("measure")) {
    measure_for_plan();
    if (stop_flag()) throw Interrupted{};
    measure_nodes(report);
  }
  if (options.get_toggle("json")) {
    print(topology_json(report).dump(2) + "\n");
  } else {
    print(topology_text(report));
  }
}

}  // namespace hybrid::commands
