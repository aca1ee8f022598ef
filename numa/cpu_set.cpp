#include "numa/cpu_set.h"

#include <fmt/format.h>
#include <hwloc.h>
#include <sched.h>

#include <algorithm>
#include <cmath>
#include <map>
#include <memory>

#include "numa/cgroup.h"
#include "numa/hwloc_handle.h"

namespace hybrid {
namespace {

std::vector<CpuList> group_by_core(hwloc_topology_t topology, hwloc_const_bitmap_t cpus) {
  std::map<unsigned, CpuList> cores;  // by hwloc's number of the core, which is in order
  std::vector<CpuList> alone;
  unsigned cpu;
  hwloc_bitmap_foreach_begin(cpu, cpus);
  const hwloc_obj_t pu = hwloc_get_pu_obj_by_os_index(topology, cpu);
  const hwloc_obj_t core =
      pu == nullptr ? nullptr : hwloc_get_ancestor_obj_by_type(topology, HWLOC_OBJ_CORE, pu);
  if (core != nullptr) {
    cores[core->logical_index].push_back(static_cast<int>(cpu));
  } else {
    alone.push_back({static_cast<int>(cpu)});
  }
  hwloc_bitmap_foreach_end();
  for (auto& [index, list] : cores) alone.push_back(std::move(list));
  return alone;
}

std::string cpu_names(const std::vector<CpuList>& cpus) {
  std::string text;
  for (const CpuList& core : cpus) {
    for (const int cpu : core) text += (cpu == core.front() ? ", " : "+") + std::to_string(cpu);
  }
  return text.substr(std::min<size_t>(2, text.size()));
}

bool set_affinity(const CpuList& cpus) {
  cpu_set_t set;
  CPU_ZERO(&set);
  for (const int cpu : cpus) CPU_SET(static_cast<size_t>(cpu), &set);
  return sched_setaffinity(0, sizeof set, &set) == 0;
}

}  // namespace

int AllowedCpus::n_cpus() const {
  size_t n = 0;
  for (const CpuList& core : cores) n += core.size();
  return static_cast<int>(n);
}

AllowedCpus allowed_cpus() {
  AllowedCpus result{{{0}}, 1};
  const HwlocHandle topology = load_hwloc(HwlocScope::processors);
  hwloc_topology_t t = topology.get();
  const std::unique_ptr<hwloc_bitmap_s, void (*)(hwloc_bitmap_t)> cpus(hwloc_bitmap_alloc(),
                                                                       hwloc_bitmap_free);
  if (hwloc_get_cpubind(t, cpus.get(), HWLOC_CPUBIND_PROCESS) != 0) {
    hwloc_bitmap_copy(cpus.get(), hwloc_topology_get_topology_cpuset(t));
  }
  hwloc_bitmap_and(cpus.get(), cpus.get(), hwloc_topology_get_allowed_cpuset(t));
  std::vector<CpuList> cores = group_by_core(t, cpus.get());
  if (!cores.empty()) result.cores = std::move(cores);
  const int n_online = hwloc_bitmap_weight(hwloc_topology_get_topology_cpuset(t));
  result.n_online = std::max(n_online, result.n_cpus());
  return result;
}

int n_allowed_cores() { return static_cast<int>(allowed_cpus().cores.size()); }

int within_quota(int n, std::optional<double> quota) {
  if (!quota || *quota >= n) return n;
  return std::max(1, static_cast<int>(std::ceil(*quota)));
}

int usable_cores() {
  return within_quota(n_allowed_cores(), cpu_quota(kCgroupMount, own_cgroup()));
}

PinPlan plan_pins(const AllowedCpus& allowed, int n_threads) {
  PinPlan plan;
  const size_t n = static_cast<size_t>(n_threads);
  plan.cpus.resize(n);
  if (n_threads == 1) {
    plan.text = "not pinned: one thread";
  } else if (allowed.n_cpus() >= allowed.n_online) {
    plan.text = fmt::format("not pinned: none of the {} processors is set aside for this process",
                            allowed.n_online);
  } else if (n > allowed.cores.size()) {
    plan.text = fmt::format("not pinned: {} threads on {} allowed core{}", n, allowed.cores.size(),
                            allowed.cores.size() == 1 ? "" : "s");
  } else {
    std::copy_n(allowed.cores.begin() + 1, n - 1, plan.cpus.begin() + 1);
    plan.text = fmt::format("all but the first pinned, to processors {}", cpu_names(plan.cpus));
  }
  return plan;
}

CpuList thread_affinity() {
  cpu_set_t set;
  CPU_ZERO(&set);
  CpuList cpus;
  if (sched_getaffinity(0, sizeof set, &set) != 0) return cpus;
  for (int cpu = 0; cpu < CPU_SETSIZE; ++cpu) {
    if (CPU_ISSET(static_cast<size_t>(cpu), &set)) cpus.push_back(cpu);
  }
  return cpus;
}

ScopedPin::ScopedPin(const CpuList& cpus) {
  if (cpus.empty() || cpus.back() >= CPU_SETSIZE) return;
  CpuList before = thread_affinity();
  if (!before.empty() && set_affinity(cpus)) before_ = std::move(before);
}

ScopedPin::~ScopedPin() {
  if (!before_.empty()) set_affinity(before_);
}

}  // namespace hybrid
