#include "numa/topology.h"

#include <fmt/format.h>
#include <hwloc.h>

#include <algorithm>
#include <map>
#include <string_view>

#include "numa/cpu_model.h"
#include "numa/hwloc_handle.h"

namespace hybrid {
namespace {

std::vector<int> numbers_of(hwloc_const_bitmap_t bitmap) {
  std::vector<int> numbers;
  for (int n = hwloc_bitmap_first(bitmap); n >= 0; n = hwloc_bitmap_next(bitmap, n)) {
    numbers.push_back(n);
  }
  return numbers;
}

/// Calls visit(object) on all objects of a type, in hwloc's order.
template <class Visit>
void for_each_object(hwloc_topology_t t, hwloc_obj_type_t type, const Visit& visit) {
  for (hwloc_obj_t o = nullptr; (o = hwloc_get_next_obj_by_type(t, type, o)) != nullptr;) visit(o);
}

std::string_view info_of(const hwloc_info_s* infos, unsigned n_infos, std::string_view name) {
  for (unsigned i = 0; i < n_infos; ++i) {
    if (name == infos[i].name) return infos[i].value;
  }
  return {};
}

/// The processors of efficiency cores. Only what says so counts: cores whose clocks differ, as the
/// best ones of many servers and Zen's compact ones do, are kinds of their own for hwloc, too, and
/// compute at nearly the same speed.
CpuList efficiency_cpus(hwloc_topology_t t) {
  struct Kind {
    CpuList cpus;
    std::string type;   // "IntelCore", "IntelAtom"
    long capacity = 0;  // Arm's, 1024 for the largest
  };
  std::vector<Kind> kinds;
  long largest = 0;
  const int n_kinds = std::max(0, hwloc_cpukinds_get_nr(t, 0));
  for (int k = 0; k < n_kinds; ++k) {
    const hwloc_bitmap_t cpus = hwloc_bitmap_alloc();
    unsigned n_infos = 0;
    hwloc_info_s* infos = nullptr;
    int efficiency = -1;
    hwloc_cpukinds_get_info(t, static_cast<unsigned>(k), cpus, &efficiency, &n_infos, &infos, 0);
    const std::string capacity(info_of(infos, n_infos, "LinuxCapacity"));
    kinds.push_back({numbers_of(cpus), std::string(info_of(infos, n_infos, "CoreType")),
                     std::strtol(capacity.c_str(), nullptr, 10)});
    largest = std::max(largest, kinds.back().capacity);
    hwloc_bitmap_free(cpus);
  }
  CpuList efficient;
  for (const Kind& kind : kinds) {
    const bool is_slow = kind.capacity > 0 && kind.capacity * 4 < largest * 3;
    if (kind.type != "IntelAtom" && !is_slow) continue;
    efficient.insert(efficient.end(), kind.cpus.begin(), kind.cpus.end());
  }
  std::sort(efficient.begin(), efficient.end());
  // A processor that has no others is not slow, but small: Intel's Atom line.
  const bool are_all = efficient == numbers_of(hwloc_topology_get_topology_cpuset(t));
  return are_all ? CpuList{} : efficient;
}

int package_of(hwloc_topology_t t, hwloc_obj_t object) {
  const hwloc_obj_t package = hwloc_get_ancestor_obj_by_type(t, HWLOC_OBJ_PACKAGE, object);
  return package == nullptr ? -1 : static_cast<int>(package->os_index);
}

std::vector<L3Group> read_l3_groups(hwloc_topology_t t) {
  std::vector<L3Group> groups;
  for_each_object(t, HWLOC_OBJ_L3CACHE, [&](hwloc_obj_t l3) {
    groups.push_back({numbers_of(l3->cpuset), l3->attr->cache.size});
  });
  return groups;
}

std::vector<CpuCore> read_cores(hwloc_topology_t t, const std::vector<L3Group>& l3_groups) {
  const CpuList efficient = efficiency_cpus(t);
  std::map<int, int> l3_of;
  for (size_t g = 0; g < l3_groups.size(); ++g) {
    for (const int cpu : l3_groups[g].cpus) l3_of.emplace(cpu, static_cast<int>(g));
  }
  std::vector<CpuCore> cores;
  const auto add = [&](hwloc_obj_t object) {
    CpuCore core{.cpus = numbers_of(object->cpuset), .package = package_of(t, object)};
    if (core.cpus.empty()) return;
    const int cpu = core.cpus.front();
    if (has_number(efficient, cpu)) core.kind = CoreKind::efficiency;
    if (const auto l3 = l3_of.find(cpu); l3 != l3_of.end()) core.l3 = l3->second;
    cores.push_back(std::move(core));
  };
  for_each_object(t, HWLOC_OBJ_CORE, add);
  // A processor that the system groups into no core, as some virtual machines do, is one.
  for_each_object(t, HWLOC_OBJ_PU, [&](hwloc_obj_t pu) {
    if (hwloc_get_ancestor_obj_by_type(t, HWLOC_OBJ_CORE, pu) == nullptr) add(pu);
  });
  return cores;
}

std::vector<MemoryNode> read_nodes(hwloc_topology_t t) {
  std::vector<MemoryNode> nodes;
  for_each_object(t, HWLOC_OBJ_NUMANODE, [&](hwloc_obj_t object) {
    MemoryNode node{.number = static_cast<int>(object->os_index),
                    .cpus = numbers_of(object->cpuset),
                    .memory_bytes = object->attr->numanode.local_memory,
                    .package = package_of(t, object)};
    nodes.push_back(std::move(node));
  });
  std::sort(nodes.begin(), nodes.end(),
            [](const MemoryNode& a, const MemoryNode& b) { return a.number < b.number; });
  // Memory without processors hangs below the object that holds all that can reach it, and has its
  // processors: they are near to the nodes below that.
  const std::vector<MemoryNode> all = nodes;
  for (MemoryNode& node : nodes) {
    for (const MemoryNode& other : all) {
      const bool is_part = !other.cpus.empty() && other.cpus.size() < node.cpus.size() &&
                           common_numbers(node.cpus, other.cpus) == other.cpus;
      if (is_part) node.cpus.clear();
    }
  }
  return nodes;
}

std::vector<CacheKind> read_caches(hwloc_topology_t t) {
  constexpr std::pair<hwloc_obj_type_t, const char*> kKinds[] = {{HWLOC_OBJ_L1CACHE, "L1d"},
                                                                 {HWLOC_OBJ_L1ICACHE, "L1i"},
                                                                 {HWLOC_OBJ_L2CACHE, "L2"},
                                                                 {HWLOC_OBJ_L3CACHE, "L3"}};
  std::vector<CacheKind> kinds;
  for (const auto& [type, name] : kKinds) {
    CacheKind kind{.name = name};
    for_each_object(t, type, [&](hwloc_obj_t cache) {
      const int n_cores = hwloc_get_nbobjs_inside_cpuset_by_type(t, cache->cpuset, HWLOC_OBJ_CORE);
      kind.n_bytes = std::max<uint64_t>(kind.n_bytes, cache->attr->cache.size);
      kind.n_cores_each = std::max(kind.n_cores_each, static_cast<uint32_t>(std::max(n_cores, 1)));
      ++kind.n_caches;
    });
    if (kind.n_caches > 0) kinds.push_back(std::move(kind));
  }
  return kinds;
}

/// The node whose processors are near to a device; -1 where several are. Firmware that says nothing
/// leaves a device with the whole machine.
int node_near(hwloc_obj_t place, const std::vector<MemoryNode>& nodes) {
  if (place == nullptr) return -1;
  const CpuList cpus = numbers_of(place->cpuset);
  const MemoryNode* near = nullptr;
  for (const MemoryNode& node : nodes) {
    if (common_numbers(node.cpus, cpus).empty()) continue;
    if (near != nullptr && near->cpus != node.cpus) return -1;
    if (near == nullptr) near = &node;
  }
  return near == nullptr ? -1 : near->number;
}

std::vector<GpuInfo> read_gpus(hwloc_topology_t t, const std::vector<MemoryNode>& nodes) {
  std::vector<GpuInfo> gpus;
  for_each_object(t, HWLOC_OBJ_PCI_DEVICE, [&](hwloc_obj_t object) {
    const auto& pci = object->attr->pcidev;
    if (!is_gpu(pci.class_id, pci.vendor_id)) return;
    GpuInfo gpu{.pci_address = fmt::format("{:04x}:{:02x}:{:02x}.{:x}", pci.domain, pci.bus,
                                           pci.dev, pci.func),
                .vendor_id = pci.vendor_id,
                .device_id = pci.device_id,
                .name = object->name == nullptr ? "" : object->name,
                .node = node_near(hwloc_get_non_io_ancestor_obj(t, object), nodes)};
    gpus.push_back(std::move(gpu));
  });
  std::sort(gpus.begin(), gpus.end(),
            [](const GpuInfo& a, const GpuInfo& b) { return a.pci_address < b.pci_address; });
  return gpus;
}

std::vector<std::vector<uint32_t>> read_distances(hwloc_topology_t t,
                                                  const std::vector<MemoryNode>& nodes) {
  unsigned n_found = 1;
  hwloc_distances_s* found = nullptr;
  if (hwloc_distances_get_by_type(t, HWLOC_OBJ_NUMANODE, &n_found, &found,
                                  HWLOC_DISTANCES_KIND_MEANS_LATENCY, 0) != 0 ||
      n_found == 0) {
    return {};
  }
  std::map<int, size_t> index_of;
  for (size_t i = 0; i < nodes.size(); ++i) index_of[nodes[i].number] = i;
  std::vector<std::vector<uint32_t>> distances(nodes.size(), std::vector<uint32_t>(nodes.size()));
  const unsigned n = found->nbobjs;
  for (unsigned i = 0; i < n; ++i) {
    for (unsigned j = 0; j < n; ++j) {
      const auto from = index_of.find(static_cast<int>(found->objs[i]->os_index));
      const auto to = index_of.find(static_cast<int>(found->objs[j]->os_index));
      if (from == index_of.end() || to == index_of.end()) continue;
      distances[from->second][to->second] = static_cast<uint32_t>(found->values[i * n + j]);
    }
  }
  hwloc_distances_release(t, found);
  return n == nodes.size() ? distances : std::vector<std::vector<uint32_t>>{};
}

}  // namespace

const MemoryNode* Topology::find_node(int number) const {
  for (const MemoryNode& node : nodes) {
    if (node.number == number) return &node;
  }
  return nullptr;
}

uint32_t Topology::n_smt() const {
  size_t most = 1;
  for (const CpuCore& core : cores) most = std::max(most, core.cpus.size());
  return static_cast<uint32_t>(most);
}

const MemoryNode* Topology::home_of(const CpuCore& core) const {
  const MemoryNode* home = nullptr;
  for (const MemoryNode& node : nodes) {
    if (!has_number(node.cpus, core.cpus.front())) continue;
    const bool is_nearer = home == nullptr || node.cpus.size() < home->cpus.size();
    const bool is_larger = home != nullptr && node.cpus.size() == home->cpus.size() &&
                           node.memory_bytes > home->memory_bytes;
    if (is_nearer || is_larger) home = &node;
  }
  return home;
}

Topology describe_topology(hwloc_topology* t) {
  Topology topology;
  const hwloc_obj_t package = hwloc_get_obj_by_type(t, HWLOC_OBJ_PACKAGE, 0);
  const char* model =
      package == nullptr ? nullptr : hwloc_obj_get_info_by_name(package, "CPUModel");
  topology.cpu_model = model == nullptr ? "unknown" : model;
  topology.nodes = read_nodes(t);
  for_each_object(t, HWLOC_OBJ_PACKAGE, [&](hwloc_obj_t object) {
    topology.packages.push_back(static_cast<int>(object->os_index));
  });
  std::sort(topology.packages.begin(), topology.packages.end());
  topology.l3_groups = read_l3_groups(t);
  topology.cores = read_cores(t, topology.l3_groups);
  topology.caches = read_caches(t);
  topology.gpus = read_gpus(t, topology.nodes);
  topology.distances = read_distances(t, topology.nodes);
  topology.cpus = numbers_of(hwloc_topology_get_topology_cpuset(t));
  topology.cpuset_cpus = numbers_of(hwloc_topology_get_allowed_cpuset(t));
  topology.cpuset_nodes = numbers_of(hwloc_topology_get_allowed_nodeset(t));
  return topology;
}

Topology this_topology() {
  const HwlocHandle handle = load_hwloc(HwlocScope::devices_too);
  Topology topology = describe_topology(handle.get());
  topology.cpu_model = cpu_model_name();
  // hwloc's PCI plugin is a package of its own; without it there are no devices and no word of it.
  if (topology.gpus.empty()) topology.gpus = gpus_in_sysfs("/sys/bus/pci/devices");
  for (GpuInfo& gpu : topology.gpus) {
    const std::string name = nvidia_model_name(gpu.pci_address);
    if (!name.empty()) gpu.name = name;
  }
  return topology;
}

}  // namespace hybrid
