#include "numa/worker_plan.h"

#include <fmt/format.h>

#include <algorithm>

#include "base/error.h"
#include "base/text.h"
#include "numa/cpu_set.h"

namespace hybrid {
namespace {

CpuList all_cpus(const NodeSlice& slice) {
  CpuList cpus;
  for (const CpuList& core : slice.cores) cpus.insert(cpus.end(), core.begin(), core.end());
  std::sort(cpus.begin(), cpus.end());
  return cpus;
}

size_t n_cores(const NodePlan& plan) {
  size_t n = 0;
  for (const NodeSlice& slice : plan.slices) n += slice.cores.size();
  return n;
}

/// -t, or the default, within processors and quota.
int usable_threads(const NodePlan& plan, std::optional<int> asked,
                   std::vector<std::string>& notes) {
  int n_default = 0, n_cpus = 0;
  for (const NodeSlice& slice : plan.slices) {
    n_default += static_cast<int>(slice.n_default);
    n_cpus += static_cast<int>(all_cpus(slice).size());
  }
  const int wanted = asked.value_or(n_default);
  int n = wanted;
  if (n > n_cpus) {
    n = n_cpus;
    notes.push_back(fmt::format("-t {}: {} may be used, and so many threads work", wanted,
                                plural(static_cast<uint64_t>(n_cpus), "processor")));
  }
  if (const int paid = within_quota(n, plan.cpu_quota); paid < n) {
    n = paid;
    notes.push_back(fmt::format(
        "{}: cpu.max pays for {:.3g} processors, so {} {}",
        asked ? fmt::format("-t {}", wanted) : fmt::format("{} cores", n_default), *plan.cpu_quota,
        plural(static_cast<uint64_t>(n), "thread"), n == 1 ? "works" : "work"));
  }
  if (!asked && n_default < static_cast<int>(n_cores(plan))) {
    notes.push_back(fmt::format(
        "{} efficiency cores are left out, as all would wait for them; -t {} takes them, too",
        static_cast<int>(n_cores(plan)) - n_default, n_cores(plan)));
  }
  return n;
}

/// Threads of each slice: one by one to the slice that has the fewest and a place left.
std::vector<size_t> deal_out(const NodePlan& plan, int n_threads, bool by_default) {
  std::vector<size_t> counts(plan.slices.size());
  const auto place = [&](const auto& limit_of) {
    size_t best = counts.size();
    for (size_t s = 0; s < counts.size(); ++s) {
      const bool is_free = counts[s] < limit_of(plan.slices[s]);
      if (is_free && (best == counts.size() || counts[s] < counts[best])) best = s;
    }
    if (best == counts.size()) return false;
    ++counts[best];
    return true;
  };
  for (int i = 0; i < n_threads; ++i) {
    if (by_default && place([](const NodeSlice& s) { return size_t{s.n_default}; })) continue;
    if (place([](const NodeSlice& s) { return s.cores.size(); })) continue;
    const bool is_placed = place([](const NodeSlice& s) { return all_cpus(s).size(); });
    HYBRID_CHECK(is_placed);  // there are no more threads than processors
  }
  return counts;
}

WorkerPins choose_pins(const NodePlan& plan, int n_threads, std::string& text) {
  const bool keeps_to_nodes =
      plan.slices.size() > 1 || (plan.mode == NumaMode::isolate && plan.is_bound);
  const bool has_cores = static_cast<size_t>(n_threads) <= n_cores(plan);
  if (n_threads == 1 && !keeps_to_nodes) {
    text = "not pinned: one thread";
    return WorkerPins::none;
  }
  if (plan.is_set_aside && has_cores) {
    text = "each pinned to a core: the processors were set aside for this process";
    return WorkerPins::cores;
  }
  if (keeps_to_nodes) {
    text = plan.is_set_aside ? "pinned to nodes: there are more threads than cores"
                             : "pinned to nodes, not to cores: others may run on them";
    return WorkerPins::slices;
  }
  text = plan.is_set_aside ? "not pinned: there are more threads than cores"
                           : "not pinned: no processors were set aside for this process";
  return WorkerPins::none;
}

/// "workers 3-5 on cores 8, 12, 9", each core by its first processor.
std::string members_text(const WorkerPlan& workers, uint32_t slice) {
  const IndexRange own = workers.workers_of(slice);
  if (own.is_empty()) return fmt::format("no worker, read by worker {}", workers.servers[slice]);
  std::string text = own.end - own.begin == 1
                         ? fmt::format("worker {}", own.begin)
                         : fmt::format("workers {}-{}", own.begin, own.end - 1);
  if (workers.pins != WorkerPins::cores) return text;
  for (uint64_t w = own.begin; w < own.end; ++w) {
    text +=
        fmt::format("{}{}", w == own.begin ? " on cores " : ", ", workers.seats[w].cpus.front());
  }
  return text;
}

}  // namespace

IndexRange WorkerPlan::workers_of(uint32_t slice) const {
  const auto is_of = [&](const WorkerSeat& seat) { return seat.slice == slice; };
  const auto first = std::find_if(seats.begin(), seats.end(), is_of);
  const auto last = std::find_if_not(first, seats.end(), is_of);
  return {static_cast<uint64_t>(first - seats.begin()),
          static_cast<uint64_t>(last - seats.begin())};
}

WorkerPlan plan_workers(const NodePlan& plan, std::optional<int> n_threads) {
  HYBRID_CHECK(!plan.slices.empty() && n_threads.value_or(1) >= 1);
  WorkerPlan workers;
  const int n = usable_threads(plan, n_threads, workers.notes);
  const std::vector<size_t> counts = deal_out(plan, n, !n_threads);
  workers.pins = choose_pins(plan, n, workers.pin_text);
  for (uint32_t s = 0; s < counts.size(); ++s) {
    const NodeSlice& slice = plan.slices[s];
    const bool is_served = counts[s] > 0;
    workers.servers.push_back(is_served ? static_cast<uint32_t>(workers.seats.size())
                                        : s % static_cast<uint32_t>(n));
    for (size_t i = 0; i < counts[s]; ++i) {
      WorkerSeat seat{.slice = s};
      if (workers.pins == WorkerPins::cores) seat.cpus = slice.cores[i];
      if (workers.pins == WorkerPins::slices) seat.cpus = all_cpus(slice);
      workers.seats.push_back(std::move(seat));
    }
  }
  const size_t n_slices = plan.slices.size();
  if (static_cast<size_t>(n) < n_slices) {
    workers.notes.push_back(fmt::format(
        "{} for {} nodes: memory without a thread at it is read from another node, more slowly",
        plural(static_cast<uint64_t>(n), "thread"), n_slices));
  }
  return workers;
}

std::string node_plan_text(const NodePlan& plan, const WorkerPlan& workers) {
  std::string text = fmt::format("--numa {}: {}\n", name_of(plan.mode),
                                 plan.is_bound ? "bound to nodes" : "placed by the system");
  for (uint32_t s = 0; s < plan.slices.size(); ++s) {
    const NodeSlice& slice = plan.slices[s];
    text += fmt::format("  slice {}: {}, weight {}, {} on processors {}; {}\n", s,
                        nodes_text(slice.nodes), slice.weight, plural(slice.cores.size(), "core"),
                        number_list_text(all_cpus(slice)), members_text(workers, s));
  }
  text += fmt::format("  {}, {}\n", plural(static_cast<uint64_t>(workers.n_threads()), "worker"),
                      workers.pin_text);
  for (const auto& notes : {plan.notes, workers.notes}) {
    for (const std::string& note : notes) text += "  note: " + note + "\n";
  }
  return text;
}

}  // namespace hybrid
