#include "numa/node_bandwidth.h"

#include <fmt/format.h>

#include <algorithm>
#include <barrier>
#include <chrono>
#include <map>
#include <thread>

#include "base/error.h"
#include "base/units.h"
#include "numa/cpu_set.h"
#include "numa/node_arena.h"
#include "numa/split_range.h"
#include "numa/sum_words.h"

namespace hybrid {
namespace {

using Clock = std::chrono::steady_clock;

constexpr uint64_t kLeastBuffer = uint64_t{16} << 20;
constexpr int kMinPasses = 3, kMaxPasses = 64;

/// The allowed cores of a node that has processors.
struct Readers {
  int node = 0;
  std::vector<CpuList> cores;
};

/// Memory on a node whose words hold their own indexes.
struct Target {
  int node = 0;
  NodeArena arena;

  const uint64_t* words() const { return reinterpret_cast<const uint64_t*>(arena.slice(0).data()); }
  uint64_t n_words() const { return arena.n_bytes() / sizeof(uint64_t); }
};

std::vector<Readers> find_readers(const Topology& topology, const LaunchContext& launch) {
  std::map<int, Readers> by_node;
  for (const CpuCore& core : topology.cores) {
    const MemoryNode* home = topology.home_of(core);
    CpuList cpus = common_numbers(core.cpus, launch.cpus);
    if (home == nullptr || cpus.empty()) continue;
    by_node[home->number].node = home->number;
    by_node[home->number].cores.push_back(std::move(cpus));
  }
  std::vector<Readers> readers;
  for (auto& [node, r] : by_node) readers.push_back(std::move(r));
  return readers;
}

/// Writes each word's index with a thread on each processor of the node, or with one.
void fill(std::span<std::byte> memory, const CpuList& cpus) {
  auto* words = reinterpret_cast<uint64_t*>(memory.data());
  const uint64_t n = memory.size() / sizeof(uint64_t);
  const uint64_t n_threads = std::max<size_t>(1, cpus.size());
  std::vector<std::jthread> threads;
  for (uint64_t t = 0; t < n_threads; ++t) {
    const IndexRange range = split_range(n, 512, t, n_threads);
    threads.emplace_back([=, &cpus] {
      const ScopedPin pin(cpus);
      for (uint64_t i = range.begin; i < range.end; ++i) words[i] = i;
    });
  }
}

/// Reads targets[i] with the cores of readers[i], all at once, and returns GB/s of the fastest pass
/// over all of them.
double read_rate(const std::vector<const Readers*>& readers,
                 const std::vector<const Target*>& targets, double seconds_wanted) {
  uint64_t n_bytes = 0;
  ptrdiff_t n_threads = 0;
  for (size_t i = 0; i < readers.size(); ++i) {
    n_bytes += targets[i]->n_words() * sizeof(uint64_t);
    n_threads += static_cast<ptrdiff_t>(readers[i]->cores.size());
  }
  std::atomic<uint64_t> sum{0};
  std::atomic<bool> is_done{false};
  double best_seconds = 1e30, seconds_so_far = 0;
  int n_passes = 0;
  Clock::time_point start;
  // Runs on one thread, when all have come to a pass's begin or end.
  const auto between_passes = [&, is_running = false]() mutable noexcept {
    const Clock::time_point now = Clock::now();
    if (is_running) {
      const double seconds = std::max(std::chrono::duration<double>(now - start).count(), 1e-9);
      best_seconds = std::min(best_seconds, seconds);
      seconds_so_far += seconds;
      ++n_passes;
      is_done =
          n_passes == kMaxPasses || (n_passes >= kMinPasses && seconds_so_far >= seconds_wanted);
    }
    is_running = !is_running;
    start = Clock::now();
  };
  std::barrier barrier(n_threads, between_passes);
  std::vector<std::jthread> threads;
  for (size_t i = 0; i < readers.size(); ++i) {
    const uint64_t n_parts = readers[i]->cores.size();
    for (uint64_t part = 0; part < n_parts; ++part) {
      threads.emplace_back([&, i, part, n_parts] {
        const ScopedPin pin(readers[i]->cores[part]);
        const Target& target = *targets[i];
        const IndexRange range = split_range(target.n_words(), 512, part, n_parts);
        while (!is_done) {
          barrier.arrive_and_wait();
          sum += sum_words(target.words() + range.begin, range.end - range.begin);
          barrier.arrive_and_wait();
        }
      });
    }
  }
  threads.clear();
  uint64_t expected = 0;
  for (const Target* target : targets) expected += sum_below(target->n_words());
  HYBRID_CHECK(sum == expected * static_cast<uint64_t>(n_passes));
  return static_cast<double>(n_bytes) / best_seconds * 1e-9;
}

std::vector<Target> make_targets(const Topology& topology, const LaunchContext& launch,
                                 uint64_t buffer_bytes, NodeBandwidth& result) {
  std::vector<Target> targets;
  const std::vector<NodeMemory> memory = read_node_memory();
  for (const MemoryNode& node : topology.nodes) {
    if (!has_number(launch.usable_nodes(), node.number)) {
      result.notices.push_back(
          fmt::format("node {} was not measured: its memory may not be used", node.number));
      continue;
    }
    uint64_t n_bytes = buffer_bytes;
    for (const NodeMemory& m : memory) {
      if (m.node == node.number) n_bytes = std::min(n_bytes, m.available_bytes() / 4);
    }
    n_bytes = n_bytes / 4096 * 4096;
    if (n_bytes < kLeastBuffer) {
      result.notices.push_back(
          fmt::format("node {} was not measured: it has too little memory left", node.number));
      continue;
    }
    Target target{node.number, NodeArena({{node.number, node.cpus, n_bytes}}, "the measurement")};
    target.arena.populate(1);
    const CpuList cpus = common_numbers(node.cpus, launch.cpus);
    fill(target.arena.slice(0), cpus);
    const NodeArena::Report report = target.arena.report();
    for (const std::string& notice : report.notices) {
      const auto& notices = result.notices;
      if (std::find(notices.begin(), notices.end(), notice) == notices.end()) {
        result.notices.push_back(notice);
      }
    }
    if (topology.nodes.size() > 1 && !report.is_verified()) {
      result.notices.push_back(fmt::format(
          "node {} was not measured: it is not sure that memory came from there", node.number));
      continue;
    }
    targets.push_back(std::move(target));
  }
  return targets;
}

}  // namespace

double NodeBandwidth::between(int cpu_node, int memory_node) const {
  for (const Pair& pair : pairs) {
    if (pair.cpu_node == cpu_node && pair.memory_node == memory_node) return pair.gb_per_s;
  }
  return 0;
}

std::vector<double> NodeBandwidth::local_rates(const Topology& topology) const {
  std::vector<double> rates;
  for (const MemoryNode& node : topology.nodes) {
    rates.push_back(between(node.number, node.number));
    if (rates.back() <= 0 && !node.cpus.empty()) return {};
  }
  return rates;
}

bool NodeBandwidth::is_whole(const Topology& topology) const {
  for (const CpuCore& core : topology.cores) {
    const MemoryNode* home = topology.home_of(core);
    for (const MemoryNode& node : topology.nodes) {
      if (home != nullptr && between(home->number, node.number) <= 0) return false;
    }
  }
  return true;
}

std::optional<NodeBandwidth> measure_node_bandwidth(const Topology& topology,
                                                    const LaunchContext& launch,
                                                    const BandwidthEffort& effort,
                                                    const std::atomic<bool>* stop) {
  HYBRID_CHECK(effort.buffer_bytes >= kLeastBuffer);
  NodeBandwidth result;
  const std::vector<Readers> readers = find_readers(topology, launch);
  const std::vector<Target> targets = make_targets(topology, launch, effort.buffer_bytes, result);
  std::vector<const Readers*> local_readers;
  std::vector<const Target*> local_targets;
  for (const Readers& r : readers) {
    for (const Target& target : targets) {
      if (stop != nullptr && *stop) return std::nullopt;
      const double rate = read_rate({&r}, {&target}, effort.seconds_of_each);
      result.pairs.push_back({r.node, target.node, rate});
      if (r.node != target.node) continue;
      local_readers.push_back(&r);
      local_targets.push_back(&target);
    }
  }
  if (local_readers.size() == 1) {
    result.all_local_gb_per_s = result.between(local_readers[0]->node, local_targets[0]->node);
  } else if (!local_readers.empty()) {
    result.all_local_gb_per_s = read_rate(local_readers, local_targets, effort.seconds_of_each);
  }
  return result;
}

}  // namespace hybrid
