#include "tests/support/machines.h"

#include <fmt/format.h>
#include <hwloc.h>

#include <stdexcept>

namespace hybrid::test {
namespace {

HwlocHandle new_topology() {
  hwloc_topology_t topology = nullptr;
  if (hwloc_topology_init(&topology) != 0) throw std::runtime_error("hwloc_topology_init");
  return HwlocHandle(topology);
}

HwlocHandle loaded(HwlocHandle handle, const std::string& what) {
  hwloc_topology_set_io_types_filter(handle.get(), HWLOC_TYPE_FILTER_KEEP_IMPORTANT);
  if (hwloc_topology_load(handle.get()) != 0) throw std::runtime_error("hwloc refuses " + what);
  return handle;
}

/// Takes away all processors from `first` on.
void cut_from(hwloc_topology_t topology, int first) {
  hwloc_bitmap_t kept = hwloc_bitmap_alloc();
  hwloc_bitmap_set_range(kept, 0, first - 1);
  hwloc_topology_restrict(topology, kept, HWLOC_RESTRICT_FLAG_REMOVE_CPULESS);
  hwloc_bitmap_free(kept);
}

void mark_kind(hwloc_topology_t topology, int first, int last, int efficiency, const char* type) {
  hwloc_bitmap_t cpus = hwloc_bitmap_alloc();
  hwloc_bitmap_set_range(cpus, static_cast<unsigned>(first), last);
  char name[] = "CoreType";
  hwloc_info_s info{name, const_cast<char*>(type)};
  if (hwloc_cpukinds_register(topology, cpus, efficiency, 1, &info, 0) != 0) {
    throw std::runtime_error("hwloc_cpukinds_register");
  }
  hwloc_bitmap_free(cpus);
}

}  // namespace

HwlocHandle synthetic_hwloc(const std::string& description) {
  HwlocHandle handle = new_topology();
  if (hwloc_topology_set_synthetic(handle.get(), description.c_str()) != 0) {
    throw std::runtime_error("hwloc refuses " + description);
  }
  return loaded(std::move(handle), description);
}

HwlocHandle xml_hwloc(const std::string& name) {
  const std::string path = std::string(HYBRID_TEST_SOURCE_DIR "/tests/numa/machines/") + name;
  HwlocHandle handle = new_topology();
  if (hwloc_topology_set_xml(handle.get(), path.c_str()) != 0) {
    throw std::runtime_error("hwloc refuses " + path);
  }
  return loaded(std::move(handle), path);
}

Topology two_xeon_6980p() {
  // Six dies of 43 cores, of which the third of each socket loses one: its processors get the
  // numbers behind all others. Linux counts cores through, then their siblings.
  constexpr int kDies = 6, kCores = 43, kReal = 256;
  std::string indexes;
  for (int die = 0, next = 0, spare = 2 * kReal; die < kDies; ++die) {
    for (int core = 0; core < kCores; ++core) {
      const bool is_there = die % 3 != 2 || core < kCores - 1;
      const int first = is_there ? next++ : spare++;
      const int second = is_there ? first + kReal : spare++;
      indexes += fmt::format("{}{},{}", indexes.empty() ? "" : ",", first, second);
    }
  }
  const HwlocHandle handle = synthetic_hwloc(
      "pack:2 die:3 [numa(memory=256GiB)] l3:1(size=168MiB) l2:43(size=2MiB) l1d:1(size=48KiB) "
      "core:1 pu:2(indexes=" +
      indexes + ")");
  cut_from(handle.get(), 2 * kReal);
  return describe_topology(handle.get());
}

Topology two_epyc_9355() {
  return describe_topology(
      synthetic_hwloc("pack:2 group:4 [numa(memory=96GiB)] l3:2(size=32MiB) l2:4(size=1MiB) "
                      "l1d:1(size=48KiB) core:1 pu:2(indexes=l2:l3:group:pack)")
          .get());
}

Topology threadripper_7970x() {
  return describe_topology(synthetic_hwloc("pack:1 [numa(memory=256GiB)] l3:4(size=32MiB) "
                                           "l2:8(size=1MiB) l1d:1(size=32KiB) core:1 "
                                           "pu:2(indexes=l2:l3)")
                               .get());
}

Topology ryzen_7950x() {
  return describe_topology(synthetic_hwloc("pack:1 [numa(memory=64GiB)] l3:2(size=32MiB) "
                                           "l2:8(size=1MiB) l1d:1(size=32KiB) core:1 "
                                           "pu:2(indexes=l2:l3)")
                               .get());
}

Topology laptop_with_e_cores() {
  // Fourteen cores of two processors; the last eight lose their second ones, which get the numbers
  // behind all others. Linux numbers siblings of such processors side by side.
  std::string indexes;
  for (int core = 0; core < 14; ++core) {
    const int first = core < 6 ? 2 * core : 12 + core - 6;
    const int second = core < 6 ? first + 1 : 20 + core - 6;
    indexes += fmt::format("{}{},{}", core == 0 ? "" : ",", first, second);
  }
  const HwlocHandle handle = synthetic_hwloc(
      "pack:1 [numa(memory=32GiB)] l3:1(size=24MiB) l2:14(size=1280KiB) l1d:1(size=48KiB) core:1 "
      "pu:2(indexes=" +
      indexes + ")");
  cut_from(handle.get(), 20);
  mark_kind(handle.get(), 0, 11, 1, "IntelCore");
  mark_kind(handle.get(), 12, 19, 0, "IntelAtom");
  return describe_topology(handle.get());
}

Topology two_sockets_with_hbm() {
  return describe_topology(synthetic_hwloc("pack:2 l3:1(size=105MiB) [numa(memory=512GiB)] "
                                           "[numa(memory=64GiB)] core:4 pu:1")
                               .get());
}

Topology two_nodes_and_cxl() { return describe_topology(xml_hwloc("two-nodes-and-cxl.xml").get()); }

}  // namespace hybrid::test
