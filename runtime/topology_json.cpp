#include "base/error.h"

#include <nlohmann/json.hpp>
#include "runtime/topology_report.h"
#include "tensor/simd_level.h"

namespace hybrid {
namespace {

using Json = nlohmann::ordered_json;

Json number_or_null(bool is_known, const Json& value) { return is_known ? value : Json(nullptr); }

Json rate_or_null(double gb_per_s) { return number_or_null(gb_per_s > 0, gb_per_s * 1e9); }

Json cpu_json(const Topology& t) {
  uint64_t n_efficient = 0;
  for (const CpuCore& core : t.cores) n_efficient += core.kind == CoreKind::efficiency ? 1 : 0;
  return {{"model", printable(t.cpu_model, t.cpu_model.size())},
          {"n_packages", t.packages.size()},
          {"n_cores", t.cores.size()},
          {"n_cpus", t.cpus.size()},
          {"smt", t.n_smt()},
          {"n_performance_cores", t.cores.size() - n_efficient},
          {"n_efficiency_cores", n_efficient},
          {"isa", name_of(simd_level())},
          {"isa_reason", simd_level_reason()}};
}

/// Whether memory that was asked for on a node came from there; null where nobody knows.
Json bound_json(const NodeArena::SliceReport* probe) {
  if (probe == nullptr) return nullptr;
  if (!probe->is_bound) return false;
  return number_or_null(probe->pages.is_known, probe->pages.n_elsewhere(probe->node) == 0);
}

Json node_json(const TopologyReport& r, size_t index) {
  const MemoryNode& node = r.topology.nodes[index];
  uint64_t n_cores = 0;
  for (const CpuCore& core : r.topology.cores) {
    n_cores += has_number(node.cpus, core.cpus.front()) ? 1 : 0;
  }
  const NodeMemory* memory = r.find_memory(node.number);
  const NodeMemory known = memory == nullptr ? NodeMemory{} : *memory;
  const auto of_memory = [&](uint64_t value) { return number_or_null(memory != nullptr, value); };
  const bool has_distances = !r.topology.distances.empty();
  const double local = r.bandwidth ? r.bandwidth->bandwidth.between(node.number, node.number) : 0.0;
  return {{"node", node.number},
          {"package", number_or_null(node.package >= 0, node.package)},
          {"cpus", node.cpus},
          {"n_cores", n_cores},
          {"memory_bytes", node.memory_bytes},
          {"free_bytes", of_memory(known.free_bytes)},
          {"available_bytes", of_memory(known.available_bytes())},
          {"huge_pages_total", of_memory(known.huge_pages_total)},
          {"huge_pages_free", of_memory(known.huge_pages_free)},
          {"usable", has_number(r.launch.usable_nodes(), node.number)},
          {"distances", has_distances ? Json(r.topology.distances[index]) : Json(nullptr)},
          {"bound", bound_json(r.find_probe(node.number))},
          {"local_bytes_per_s", rate_or_null(local)}};
}

Json gpu_json(const GpuInfo& gpu) {
  return {{"pci_address", gpu.pci_address},
          {"vendor_id", gpu.vendor_id},
          {"device_id", gpu.device_id},
          {"name", number_or_null(!gpu.name.empty(), printable(gpu.name, gpu.name.size()))},
          {"node", number_or_null(gpu.node >= 0, gpu.node)}};
}

const char* policy_name(MemoryPolicy policy) {
  switch (policy) {
    case MemoryPolicy::bind:
      return "bind";
    case MemoryPolicy::interleave:
      return "interleave";
    case MemoryPolicy::preferred:
      return "preferred";
    case MemoryPolicy::unknown:
      return "unknown";
    case MemoryPolicy::standard:
      break;
  }
  return "default";
}

Json launch_json(const TopologyReport& r) {
  const LaunchContext& launch = r.launch;
  return {{"cpus", launch.cpus},
          {"cpuset_cpus", r.topology.cpuset_cpus},
          {"memory_nodes", launch.memory_nodes},
          {"policy", policy_name(launch.policy)},
          {"policy_nodes", launch.policy_nodes},
          {"usable_nodes", launch.usable_nodes()},
          {"cpu_quota", launch.cpu_quota ? Json(*launch.cpu_quota) : Json(nullptr)},
          {"text", launch_text(launch, r.topology.cpus)}};
}

Json huge_pages_json(const TopologyReport& r) {
  uint64_t asked = 0, obtained = 0;
  for (const NodeArena::SliceReport& probe : r.probes) {
    asked += probe.n_bytes;
    obtained += probe.huge_bytes;
  }
  return {{"mode", r.huge_pages.mode},
          {"defrag", r.huge_pages.defrag},
          {"page_bytes", r.huge_pages.page_bytes},
          {"obtainable", r.huge_pages.can_be_had()},
          {"asked_bytes", asked},
          {"obtained_bytes", obtained}};
}

Json bandwidth_json(const TopologyReport& r) {
  if (!r.bandwidth) return nullptr;
  Json pairs = Json::array();
  for (const NodeBandwidth::Pair& pair : r.bandwidth->bandwidth.pairs) {
    pairs.push_back({{"cpu_node", pair.cpu_node},
                     {"memory_node", pair.memory_node},
                     {"bytes_per_s", pair.gb_per_s * 1e9}});
  }
  return {{"measured", r.bandwidth->measured},
          {"all_local_bytes_per_s", rate_or_null(r.bandwidth->bandwidth.all_local_gb_per_s)},
          {"pairs", pairs}};
}

}  // namespace

Json topology_json(const TopologyReport& r) {
  Json nodes = Json::array(), caches = Json::array(), groups = Json::array(), gpus = Json::array();
  for (size_t i = 0; i < r.topology.nodes.size(); ++i) nodes.push_back(node_json(r, i));
  for (const CacheKind& c : r.topology.caches) {
    caches.push_back({{"name", c.name},
                      {"size_bytes", c.n_bytes},
                      {"count", c.n_caches},
                      {"cores_each", c.n_cores_each}});
  }
  for (const L3Group& group : r.topology.l3_groups) {
    groups.push_back({{"cpus", group.cpus}, {"size_bytes", group.n_bytes}});
  }
  for (const GpuInfo& gpu : r.topology.gpus) gpus.push_back(gpu_json(gpu));
  return {{"cpu", cpu_json(r.topology)},
          {"nodes", nodes},
          {"caches", caches},
          {"l3_groups", groups},
          {"gpus", gpus},
          {"huge_pages", huge_pages_json(r)},
          {"launch", launch_json(r)},
          {"numa_balancing", r.numa_balancing ? Json(*r.numa_balancing) : Json(nullptr)},
          {"bandwidth", bandwidth_json(r)},
          {"bandwidth_source", r.bandwidth_source},
          {"notices", r.notices}};
}

}  // namespace hybrid
