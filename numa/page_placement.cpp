#include "numa/page_placement.h"

#include <fmt/format.h>
#include <numaif.h>
#include <sys/mman.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <chrono>
#include <cstdio>
#include <cstring>
#include <fstream>
#include <thread>
#include <vector>

#include "base/error.h"
#include "base/rounding.h"
#include "base/units.h"

namespace hybrid {
namespace {

constexpr uint64_t kSampleStep = uint64_t{2} << 20;
constexpr unsigned long kMaskBits = 4096, kWordBits = 8 * sizeof(unsigned long);

uint64_t page_bytes() { return static_cast<uint64_t>(sysconf(_SC_PAGESIZE)); }

/// For kernels before 5.14. A write that changes nothing, whatever another thread writes meanwhile.
void touch_pages(std::byte* begin, uint64_t n_bytes) {
  const uint64_t step = page_bytes();
  for (uint64_t i = 0; i < n_bytes; i += step) {
    __atomic_fetch_or(reinterpret_cast<unsigned char*>(begin + i), 0, __ATOMIC_RELAXED);
  }
}

/// The states of pages; empty where the kernel does not tell.
std::vector<int> page_states(std::vector<void*>& pages) {
  std::vector<int> states(pages.size(), -ENOENT);
  const long result = move_pages(0, pages.size(), pages.data(), nullptr, states.data(), 0);
  return result < 0 ? std::vector<int>{} : states;
}

}  // namespace

std::string bind_to_node(void* begin, uint64_t n_bytes, int node) {
  HYBRID_CHECK(node >= 0 && node < static_cast<int>(kMaskBits));
  std::array<unsigned long, kMaskBits / kWordBits> mask{};
  const auto bit = static_cast<unsigned long>(node);
  mask[bit / kWordBits] |= 1ul << (bit % kWordBits);
  // The kernel reads one bit less than it is told of.
  if (mbind(begin, n_bytes, MPOL_BIND, mask.data(), kMaskBits + 1, 0) == 0) return {};
  const int error = errno;
  const std::string reason = std::strerror(error);
  if (error == EPERM || error == ENOSYS) {
    return fmt::format(
        "the kernel refuses to bind memory to nodes (mbind: {}), as containers do; start the "
        "container with --cap-add SYS_NICE",
        reason);
  }
  return fmt::format(
      "memory cannot be bound to node {} (mbind: {}); is the node there, and allowed by the cpuset "
      "(Mems_allowed_list in /proc/self/status)?",
      node, reason);
}

void populate_pages(void* begin, uint64_t n_bytes, const std::string& what) {
#ifdef MADV_POPULATE_WRITE
  constexpr int kPopulateWrite = MADV_POPULATE_WRITE;
#else
  constexpr int kPopulateWrite = 23;
#endif
  while (madvise(begin, n_bytes, kPopulateWrite) != 0) {
    if (errno == EAGAIN || errno == EINTR) continue;
    if (errno == EINVAL || errno == ENOSYS || errno == EPERM) {
      return touch_pages(static_cast<std::byte*>(begin), n_bytes);
    }
    fail("cannot take {} of memory for {}: {}; another process may have taken what was free",
         format_bytes(n_bytes), what, std::strerror(errno));
  }
}

uint64_t PagePlacement::n_sampled() const {
  uint64_t n = n_untouched;
  for (const auto& [node, n_pages] : n_on_node) n += n_pages;
  return n;
}

uint64_t PagePlacement::n_elsewhere(int node) const {
  uint64_t n = 0;
  for (const auto& [other, n_pages] : n_on_node) n += other == node ? 0 : n_pages;
  return n;
}

PagePlacement find_pages(const void* begin, uint64_t n_bytes) {
  // A page that is just being moved or joined into a huge one has no node for a moment.
  constexpr int kTries = 5;
  constexpr std::chrono::milliseconds kPause{2};
  std::vector<void*> pages;
  auto* first = static_cast<std::byte*>(const_cast<void*>(begin));
  for (uint64_t i = 0; i < n_bytes; i += kSampleStep) pages.push_back(first + i);
  PagePlacement placement;
  placement.is_known = true;
  for (int i = 0; !pages.empty(); ++i) {
    const std::vector<int> states = page_states(pages);
    if (states.empty()) return {};
    std::vector<void*> open;
    for (size_t p = 0; p < pages.size(); ++p) {
      if (states[p] >= 0) {
        ++placement.n_on_node[states[p]];
      } else {
        open.push_back(pages[p]);
      }
    }
    pages = std::move(open);
    if (i + 1 == kTries) break;
    if (!pages.empty()) std::this_thread::sleep_for(kPause);
  }
  placement.n_untouched = pages.size();
  return placement;
}

uint64_t huge_page_bytes(const void* begin, uint64_t n_bytes) {
  const auto first = reinterpret_cast<uint64_t>(begin);
  const uint64_t last = first + n_bytes;
  std::ifstream smaps("/proc/self/smaps");
  uint64_t n_huge = 0;
  bool is_ours = false;
  for (std::string line; std::getline(smaps, line);) {
    unsigned long from = 0, to = 0, n_kib = 0;
    if (std::sscanf(line.c_str(), "%lx-%lx ", &from, &to) == 2) {
      is_ours = from < last && to > first;
    } else if (is_ours && std::sscanf(line.c_str(), "AnonHugePages: %lu kB", &n_kib) == 1) {
      n_huge += n_kib * 1024;
    }
  }
  return std::min(n_huge, n_bytes);
}

}  // namespace hybrid
