#pragma once
// (token, k) -> expert turned around: for each expert the slots that want it.

#include <cstdint>
#include <span>
#include <vector>

namespace hybrid {

/// A slot is token * n_used + k. Slots are sorted by expert, and by slot within an expert.
struct Routes {
  std::vector<uint32_t> slots;  // [n_tokens * n_used] or fewer, expert-sorted
  std::vector<uint32_t>
      offsets;                   // [n_experts + 1]: expert e owns slots[offsets[e] .. offsets[e+1])
  std::vector<uint32_t> next;    // scratch of the sort
  std::vector<uint32_t> active;  // the experts that own at least one slot, ascending
};

/// What another processor made of experts [first, first + n): a row for each of their slots, in the
/// order of slots.
struct ExpertRows {
  uint32_t first = 0;
  uint32_t n = 0;
  const float* rows = nullptr;

  bool has(int32_t id) const { return static_cast<uint32_t>(id) - first < n; }
};

inline bool is_among(std::span<const ExpertRows> ranges, int32_t id) {
  for (const ExpertRows& range : ranges) {
    if (range.has(id)) return true;
  }
  return false;
}

/// ids: [n_tokens * n_used], each in [0, n_experts). Slots of experts that are `elsewhere` are left
/// out. A counting sort, O(slots + experts). Keeps the memory that `routes` has.
void sort_by_expert(std::span<const int32_t> ids, uint32_t n_experts, Routes& routes,
                    std::span<const ExpertRows> elsewhere = {});

inline Routes sort_by_expert(std::span<const int32_t> ids, uint32_t n_experts) {
  Routes routes;
  sort_by_expert(ids, n_experts, routes);
  return routes;
}

}  // namespace hybrid
