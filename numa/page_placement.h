#pragma once
// Asking the kernel for pages on a node, and asking it where they are. What it refuses comes back
// as a sentence: containers refuse most of this, and the program is to go on.

#include <cstdint>
#include <map>
#include <string>

namespace hybrid {

/// Binds pages that were not touched yet to a node: from there or not at all. "" or why it was
/// refused, with the remedy. Only whole pages: begin is a multiple of the page size.
///
/// A bound page that its node has no memory for does not fail: the kernel kills the process. So ask
/// NodeMemory first.
std::string bind_to_node(void* begin, uint64_t n_bytes, int node);

/// Takes the pages from the system, for writing, as the calling thread. Throws Error where the
/// kernel fails to; says what for by `what`.
void populate_pages(void* begin, uint64_t n_bytes, const std::string& what);

struct PagePlacement {
  bool is_known = false;              // false: the kernel does not tell
  std::map<int, uint64_t> n_on_node;  // sampled pages, by node
  uint64_t n_untouched = 0;           // samples that have no page yet

  uint64_t n_sampled() const;
  /// Of the samples that have a page those that are not on `node`.
  uint64_t n_elsewhere(int node) const;
};

/// Where the pages of memory are: one sample for each 2 MB.
PagePlacement find_pages(const void* begin, uint64_t n_bytes);

/// Bytes of these that are in huge pages, by /proc/self/smaps; n_bytes at most. Neighbours that the
/// kernel joined to the same mapping may count, too. Milliseconds.
uint64_t huge_page_bytes(const void* begin, uint64_t n_bytes);

}  // namespace hybrid
