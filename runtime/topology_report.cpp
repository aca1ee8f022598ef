#include "runtime/topology_report.h"

#include <algorithm>
#include <fstream>

#include "base/error.h"
#include "base/text.h"
#include "base/units.h"
#include "numa/memory_info.h"
#include "tensor/simd_level.h"

namespace hybrid {
namespace {

constexpr uint64_t kProbeBytes = uint64_t{8} << 20;

std::optional<bool> read_numa_balancing() {
  std::ifstream file("/proc/sys/kernel/numa_balancing");
  int value = 0;
  return file >> value ? std::optional(value != 0) : std::nullopt;
}

/// Takes memory on each usable node and looks what came; the notices are those of a slice.
void probe_nodes(TopologyReport& report) {
  std::vector<NodeShare> shares;
  for (const MemoryNode& node : report.topology.nodes) {
    if (!has_number(report.launch.usable_nodes(), node.number)) continue;
    const NodeMemory* memory = report.find_memory(node.number);
    if (memory != nullptr && memory->available_bytes() < 2 * kProbeBytes) {
      report.notices.push_back(fmt::format("node {} has {} of memory left, too little to try it",
                                           node.number, format_bytes(memory->available_bytes())));
      continue;
    }
    shares.push_back({node.number, common_numbers(node.cpus, report.launch.cpus), kProbeBytes});
  }
  NodeArena arena(shares, "memory that was tried");
  arena.populate(1);
  NodeArena::Report found = arena.report();
  report.probes = std::move(found.slices);
  report.notices.insert(report.notices.end(), found.notices.begin(), found.notices.end());
}

void note_launch(TopologyReport& report) {
  const Topology& t = report.topology;
  const LaunchContext& launch = report.launch;
  auto& notices = report.notices;
  const NodeList usable = launch.usable_nodes();
  if (t.cpuset_cpus != t.cpus) {
    notices.push_back(fmt::format("a cpuset leaves this process processors {} of {}",
                                  number_list_text(t.cpuset_cpus), number_list_text(t.cpus)));
  }
  if (launch.policy == MemoryPolicy::unknown) {
    notices.push_back(
        "the kernel does not tell the memory policy (get_mempolicy is refused), as in containers; "
        "start the container with --cap-add SYS_NICE");
  }
  const bool has_policy =
      launch.policy != MemoryPolicy::standard && launch.policy != MemoryPolicy::unknown;
  if (launch.cpus != t.cpuset_cpus || has_policy) {
    notices.push_back("what launched this process asked for: " + launch_text(launch, t.cpus) +
                      "; launch it without taskset or numactl to use all");
  }
  NodeList hidden;
  for (const MemoryNode& node : t.nodes) {
    if (!has_number(usable, node.number)) hidden.push_back(node.number);
  }
  if (!hidden.empty()) {
    notices.push_back(
        fmt::format("memory of {} may not be used, by cpuset or policy", nodes_text(hidden)));
  }
  if (launch.cpu_quota && *launch.cpu_quota < static_cast<double>(t.cores.size())) {
    notices.push_back(fmt::format(
        "cpu.max pays for {:.3g} processors where there are {}; threads beyond it only wait",
        *launch.cpu_quota, plural(t.cores.size(), "core")));
  }
}

void note_machine(TopologyReport& report) {
  const Topology& t = report.topology;
  auto& notices = report.notices;
  uint64_t of_nodes = 0;
  for (const NodeMemory& m : report.memory) of_nodes += m.total_bytes;
  const uint64_t total = total_memory_bytes();  // of the cgroup, where that has less
  if (of_nodes > 0 && total != UINT64_MAX && of_nodes < total / 100 * 99) {
    notices.push_back(fmt::format(
        "the system says that its nodes have {} of memory, and {} for all of them: some of it is "
        "counted at no node, so what a node has may be more than is shown",
        format_bytes(of_nodes), format_bytes(total)));
  }
  if (t.nodes.size() < 2) return;
  if (report.numa_balancing.value_or(false)) {
    notices.push_back(
        "the kernel moves memory that is not bound between nodes (numa_balancing); as root: echo 0 "
        "> /proc/sys/kernel/numa_balancing");
  }
  for (const GpuInfo& gpu : t.gpus) {
    if (gpu.node >= 0) continue;
    notices.push_back(fmt::format(
        "the firmware does not say which node the GPU {} is at; look for NUMA or SRAT settings in "
        "it",
        gpu.pci_address));
  }
}

void read_stored_bandwidth(TopologyReport& report) {
  NodeList nodes;
  for (const MemoryNode& node : report.topology.nodes) nodes.push_back(node.number);
  auto found = find_node_bandwidth(printable(report.topology.cpu_model), nodes);
  if (!found.notice.empty()) report.notices.push_back(found.notice);
  if (found.value) {
    report.bandwidth_source = fmt::format("measured at {}, kept in {}", found.value->measured,
                                          printable(node_bandwidth_path().string(), 4096));
  } else {
    report.bandwidth_source = "not measured; `topology --measure` does";
  }
  report.bandwidth = std::move(found.value);
}

// --- text ---------------------------------------------------------------------------------------

std::string rate_text(double gb_per_s) {
  return gb_per_s > 0 ? fmt::format("{:.1f} GB/s", gb_per_s) : "-";
}

std::string cpu_text(const Topology& t) {
  const auto n_efficient = std::count_if(t.cores.begin(), t.cores.end(), [](const CpuCore& core) {
    return core.kind == CoreKind::efficiency;
  });
  std::string text =
      fmt::format("{}\n{}, {}, {}", printable(t.cpu_model),
                  plural(std::max<size_t>(1, t.packages.size()), "package"),
                  plural(t.cores.size(), "core"), plural(t.cpus.size(), "processor"));
  if (n_efficient > 0) text += fmt::format(" ({} of the cores for efficiency)", n_efficient);
  return text + fmt::format("; {} kernels ({})\n", name_of(simd_level()), simd_level_reason());
}

std::string obtained_text(const TopologyReport& r, int node) {
  const NodeArena::SliceReport* probe = r.find_probe(node);
  if (probe == nullptr) return "not usable";
  if (!probe->is_bound) return "not bound";
  if (!probe->pages.is_known) return "bound, not verified";
  return probe->pages.n_elsewhere(node) == 0 ? "bound" : "elsewhere";
}

std::string nodes_table(const TopologyReport& r) {
  std::string text =
      fmt::format("\n{:>4}  {:>7}  {:>5}  {:>10}  {:>10}  {:<20}{}\n", "node", "package", "cores",
                  "memory", "available", "obtained", "processors");
  for (const MemoryNode& node : r.topology.nodes) {
    const auto n_cores = std::count_if(
        r.topology.cores.begin(), r.topology.cores.end(),
        [&](const CpuCore& core) { return has_number(node.cpus, core.cpus.front()); });
    const NodeMemory* memory = r.find_memory(node.number);
    text += fmt::format("{:>4}  {:>7}  {:>5}  {:>10}  {:>10}  {:<20}{}\n", node.number,
                        node.package < 0 ? "-" : std::to_string(node.package), n_cores,
                        format_bytes(node.memory_bytes),
                        memory == nullptr ? "-" : format_bytes(memory->available_bytes()),
                        obtained_text(r, node.number), number_list_text(node.cpus));
  }
  return text;
}

std::string bandwidth_table(const TopologyReport& r) {
  std::string text = fmt::format("\nbandwidth: {}\n", r.bandwidth_source);
  if (!r.bandwidth) return text;
  const NodeBandwidth& b = r.bandwidth->bandwidth;
  text += "  cores of      ";
  for (const MemoryNode& to : r.topology.nodes) {
    text += fmt::format("{:>14}", fmt::format("memory of {}", to.number));
  }
  text += "\n";
  for (const MemoryNode& from : r.topology.nodes) {
    if (from.cpus.empty()) continue;
    text += fmt::format("  node {:<9}", from.number);
    for (const MemoryNode& to : r.topology.nodes) {
      text += fmt::format("{:>14}", rate_text(b.between(from.number, to.number)));
    }
    text += "\n";
  }
  return text +
         fmt::format("  all nodes at once, each its own: {}\n", rate_text(b.all_local_gb_per_s));
}

std::string devices_text(const TopologyReport& r) {
  const Topology& t = r.topology;
  std::vector<std::string> caches;
  for (const CacheKind& c : t.caches) {
    caches.push_back(fmt::format(
        "{} {} x {}{}", c.name, format_bytes(c.n_bytes), c.n_caches,
        c.n_cores_each > 1 ? fmt::format(" of {} cores", c.n_cores_each) : std::string()));
  }
  std::string text =
      fmt::format("\ncaches: {}\n", caches.empty() ? "not known" : join(caches, ", "));
  if (t.gpus.empty()) text += "GPUs: none on PCI\n";
  for (const GpuInfo& gpu : t.gpus) {
    text +=
        fmt::format("GPU: {} {}, at {}\n", gpu.pci_address,
                    gpu.name.empty() ? fmt::format("{:04x}:{:04x}", gpu.vendor_id, gpu.device_id)
                                     : printable(gpu.name),
                    gpu.node < 0 ? "a node that is not known" : fmt::format("node {}", gpu.node));
  }
  return text;
}

std::string memory_text(const TopologyReport& r) {
  uint64_t asked = 0, huge = 0, n_reserved = 0;
  for (const NodeArena::SliceReport& probe : r.probes) {
    asked += probe.n_bytes;
    huge += probe.huge_bytes;
  }
  for (const NodeMemory& m : r.memory) n_reserved += m.huge_pages_total;
  std::string text = fmt::format(
      "huge pages: transparent ones {} (defrag {}); of {} that were tried {} came in huge "
      "pages{}\n",
      r.huge_pages.mode.empty() ? "unknown" : r.huge_pages.mode,
      r.huge_pages.defrag.empty() ? "unknown" : r.huge_pages.defrag, format_bytes(asked),
      format_bytes(huge),
      n_reserved == 0 ? "" : fmt::format("; {} reserved, not used", n_reserved));
  return text + fmt::format("launched with: {}\n", launch_text(r.launch, r.topology.cpus));
}

}  // namespace

const NodeMemory* TopologyReport::find_memory(int node) const {
  const auto found = std::find_if(memory.begin(), memory.end(),
                                  [&](const NodeMemory& m) { return m.node == node; });
  return found == memory.end() ? nullptr : &*found;
}

const NodeArena::SliceReport* TopologyReport::find_probe(int node) const {
  const auto found =
      std::find_if(probes.begin(), probes.end(),
                   [&](const NodeArena::SliceReport& probe) { return probe.node == node; });
  return found == probes.end() ? nullptr : &*found;
}

TopologyReport inspect_machine() {
  TopologyReport report;
  report.topology = this_topology();
  report.launch = read_launch_context();
  report.memory = read_node_memory();
  report.huge_pages = read_huge_page_state();
  report.numa_balancing = read_numa_balancing();
  note_launch(report);
  probe_nodes(report);
  note_machine(report);
  read_stored_bandwidth(report);
  return report;
}

std::string topology_text(const TopologyReport& report) {
  std::string text = cpu_text(report.topology) + nodes_table(report) + bandwidth_table(report) +
                     devices_text(report) + memory_text(report);
  for (const std::string& notice : report.notices) text += "note: " + notice + "\n";
  return text;
}

}  // namespace hybrid
