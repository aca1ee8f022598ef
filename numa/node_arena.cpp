#include "numa/node_arena.h"

#include <fmt/format.h>

#include <algorithm>
#include <exception>
#include <mutex>
#include <thread>

#include "base/error.h"
#include "base/units.h"
#include "numa/cpu_set.h"
#include "numa/huge_pages.h"

namespace hybrid {
namespace {

// Between two looks at what a node has left; as much may be taken in between for a page fault each.
constexpr uint64_t kPopulateStep = uint64_t{64} << 20;
constexpr uint64_t kHugePage = uint64_t{2} << 20;

const NodeMemory* find_memory(std::span<const NodeMemory> memory, int node) {
  const auto found = std::find_if(memory.begin(), memory.end(),
                                  [&](const NodeMemory& m) { return m.node == node; });
  return found == memory.end() ? nullptr : &*found;
}

/// A page that its node has no room for is one that the kernel kills for. By then the space was
/// there once, so the half of what is left to the kernel may go before this gives up.
void check_step(const NodeShare& share, uint64_t step_bytes, const std::string& what) {
  if (share.node < 0) return;
  const std::vector<NodeMemory> all = read_node_memory();
  const NodeMemory* m = find_memory(all, share.node);
  if (m == nullptr || m->free_bytes + m->file_bytes >= step_bytes + m->kept_bytes() / 2) return;
  fail(
      "node {} ran out of memory while {} took theirs: {} are left of {}; another process took "
      "what was free before",
      share.node, what, format_bytes(m->free_bytes + m->file_bytes), format_bytes(m->total_bytes));
}

/// Runs the bodies, each on a thread of its own, and throws what the first that failed threw.
class Threads {
 public:
  template <class Body>
  void start(Body body) {
    threads_.emplace_back([this, body] {
      try {
        body();
      } catch (...) {
        const std::lock_guard lock(mutex_);
        if (!error_) error_ = std::current_exception();
        has_failed_ = true;
      }
    });
  }
  bool has_failed() const { return has_failed_; }
  void join() {
    for (std::thread& thread : threads_) thread.join();
    threads_.clear();
    if (error_) std::rethrow_exception(error_);
  }
  ~Threads() {
    for (std::thread& thread : threads_) thread.join();
  }

 private:
  std::vector<std::thread> threads_;
  std::mutex mutex_;
  std::exception_ptr error_;
  std::atomic<bool> has_failed_{false};
};

}  // namespace

std::vector<NodeShare> node_shares(const NodePlan& plan, std::span<const uint64_t> n_bytes) {
  HYBRID_CHECK(n_bytes.size() == plan.slices.size());
  std::vector<NodeShare> shares;
  for (size_t s = 0; s < plan.slices.size(); ++s) {
    NodeShare share{.node = plan.is_bound ? plan.slices[s].nodes.front() : -1,
                    .n_bytes = n_bytes[s]};
    for (const CpuList& core : plan.slices[s].cores) {
      share.cpus.insert(share.cpus.end(), core.begin(), core.end());
    }
    std::sort(share.cpus.begin(), share.cpus.end());
    if (!plan.is_bound) share.cpus.clear();
    shares.push_back(std::move(share));
  }
  return shares;
}

void check_node_space(std::span<const NodeShare> shares, std::span<const NodeMemory> memory,
                      const std::string& what) {
  for (const NodeMemory& m : memory) {
    uint64_t n_bytes = 0;
    for (const NodeShare& share : shares) {
      if (share.node == m.node) n_bytes += HugeBuffer::whole_pages(share.n_bytes);
    }
    if (n_bytes <= m.available_bytes()) continue;
    fail(
        "{} on node {} would take {}, and the node has {} left of its {} (page cache counted as "
        "free); put less on the CPU, free memory on that node, or use --numa off, which takes "
        "memory of any node",
        what, m.node, format_bytes(n_bytes), format_bytes(m.available_bytes()),
        format_bytes(m.total_bytes));
  }
}

NodeArena::NodeArena(std::vector<NodeShare> shares, std::string what)
    : shares_(std::move(shares)), what_(std::move(what)), is_bound_(shares_.size()) {
  check_node_space(shares_, read_node_memory(), what_);
  for (size_t i = 0; i < shares_.size(); ++i) {
    const NodeShare& share = shares_[i];
    HugeBuffer& buffer = slices_.emplace_back(share.n_bytes);
    if (share.node < 0 || share.n_bytes == 0) continue;
    const std::string refusal =
        bind_to_node(buffer.data(), HugeBuffer::whole_pages(share.n_bytes), share.node);
    is_bound_[i] = refusal.empty();
    const bool is_new = std::find(refusals_.begin(), refusals_.end(), refusal) == refusals_.end();
    if (!refusal.empty() && is_new) refusals_.push_back(refusal);
  }
}

uint64_t NodeArena::n_bytes() const {
  uint64_t n = 0;
  for (const HugeBuffer& slice : slices_) n += slice.n_bytes();
  return n;
}

bool NodeArena::populate(int n_threads_each, const std::atomic<bool>* stop) {
  HYBRID_CHECK(n_threads_each >= 1);
  std::atomic<bool> is_stopped{false};
  std::vector<std::atomic<uint64_t>> left(slices_.size());  // not taken yet
  for (size_t s = 0; s < slices_.size(); ++s) left[s] = shares_[s].n_bytes;
  Threads threads;
  for (size_t s = 0; s < slices_.size(); ++s) {
    const NodeShare& share = shares_[s];
    const uint64_t n_cpus = share.cpus.empty() ? UINT64_MAX : share.cpus.size();
    const auto n_parts = std::min<uint64_t>(static_cast<uint64_t>(n_threads_each), n_cpus);
    for (uint64_t part = 0; part < n_parts; ++part) {
      // One range each: from a common queue, pages come at half the speed.
      const IndexRange range = split_range(share.n_bytes, kHugePage, part, n_parts);
      if (range.is_empty()) continue;
      std::byte* begin = slices_[s].data();
      threads.start([&, s, begin, range, n_parts] {
        const ScopedPin pin(share.cpus);
        for (uint64_t at = range.begin; at < range.end; at += kPopulateStep) {
          if (threads.has_failed()) return;
          if (stop != nullptr && *stop) {
            is_stopped = true;
            return;
          }
          const uint64_t n = std::min(kPopulateStep, range.end - at);
          // The others take as much meanwhile.
          check_step(share, std::min<uint64_t>(left[s], n_parts * n), what_);
          populate_pages(begin + at, n, what_);
          left[s] -= n;
        }
      });
    }
  }
  threads.join();
  return !is_stopped;
}

bool NodeArena::Report::is_verified() const {
  return std::all_of(slices.begin(), slices.end(), [](const SliceReport& slice) {
    return slice.node < 0 || (slice.pages.is_known && slice.pages.n_elsewhere(slice.node) == 0);
  });
}

NodeArena::Report NodeArena::report() const {
  Report report;
  report.notices = refusals_;
  uint64_t touched_bytes = 0, huge_bytes = 0;
  for (size_t i = 0; i < slices_.size(); ++i) {
    const HugeBuffer& buffer = slices_[i];
    SliceReport slice{.node = shares_[i].node,
                      .n_bytes = buffer.n_bytes(),
                      .is_bound = is_bound_[i],
                      .pages = find_pages(buffer.data(), buffer.n_bytes()),
                      .huge_bytes = huge_page_bytes(buffer.data(), buffer.n_bytes())};
    const uint64_t n_elsewhere = slice.pages.n_elsewhere(slice.node);
    if (slice.node >= 0 && slice.pages.is_known && n_elsewhere > 0) {
      report.notices.push_back(fmt::format(
          "{} of {} pages that were looked at of {} are not on node {}, where they "
          "belong",
          n_elsewhere, slice.pages.n_sampled() - slice.pages.n_untouched, what_, slice.node));
    }
    touched_bytes +=
        std::min(buffer.n_bytes(), (slice.pages.n_sampled() - slice.pages.n_untouched) * kHugePage);
    huge_bytes += slice.huge_bytes;
    report.slices.push_back(std::move(slice));
  }
  const bool is_any_unknown =
      std::any_of(report.slices.begin(), report.slices.end(), [](const SliceReport& slice) {
        return slice.node >= 0 && slice.n_bytes > 0 && !slice.pages.is_known;
      });
  if (is_any_unknown) {
    report.notices.push_back(
        "the kernel does not tell on which nodes pages are (move_pages is refused), so where they "
        "are was not verified");
  }
  // What is left over of the last page of a slice is small, whatever is done.
  if (huge_bytes + slices_.size() * kHugePage < touched_bytes) {
    const std::string why = read_huge_page_state().why_not();
    report.notices.push_back(fmt::format(
        "{} of {} lie in huge pages, small ones are read about a tenth slower: {}",
        format_bytes(huge_bytes), format_bytes(touched_bytes),
        why.empty() ? "memory is in pieces; as root: echo 1 > /proc/sys/vm/compact_memory" : why));
  }
  return report;
}

}  // namespace hybrid
