#pragma once
// Which processors this process may use, as restricted by cpusets, numactl, taskset or a quota.

#include <optional>
#include <string>
#include <vector>

#include "numa/number_list.h"

namespace hybrid {

struct AllowedCpus {
  std::vector<CpuList> cores;  // those we may use, grouped by physical core; at least one
  int n_online = 1;            // processors of the machine

  int n_cpus() const;
};

/// Reads the topology anew (milliseconds): not for hot paths. Throws Error where the environment
/// has hwloc describe another machine (hwloc_handle.h).
AllowedCpus allowed_cpus();

/// Physical cores among the processors we are allowed (SMT siblings counted once); at least 1.
int n_allowed_cores();

/// n_allowed_cores(), or as many as the cgroup's cpu.max pays for where that is less: beyond it
/// every thread more only makes all of them wait for the next period.
int usable_cores();

/// n, or `quota` rounded up where that is less; at least 1.
int within_quota(int n, std::optional<double> quota);

struct PinPlan {
  std::vector<CpuList> cpus;  // of thread i; empty: thread i is not pinned. [n_threads]
  std::string text;           // what is done and why, for a person
};

/// Threads get a core each if someone set processors aside for this process (fewer are allowed than
/// are online) and there are cores enough. Where others may run on the same processors a pinned
/// spinning thread can be made a hundred times slower, so then none is pinned; thread 0, which is
/// the caller's, never is.
PinPlan plan_pins(const AllowedCpus& allowed, int n_threads);

/// Keeps the calling thread on `cpus` while it lives, and then gives it back the mask it had. Does
/// nothing where `cpus` is empty or the kernel refuses.
class ScopedPin {
 public:
  explicit ScopedPin(const CpuList& cpus);
  ~ScopedPin();
  ScopedPin(const ScopedPin&) = delete;
  ScopedPin& operator=(const ScopedPin&) = delete;

 private:
  CpuList before_;  // empty: nothing to restore
};

/// The processors that the calling thread may run on; empty where the kernel does not say.
CpuList thread_affinity();

}  // namespace hybrid
