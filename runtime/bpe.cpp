#include "runtime/bpe.h"

#include <algorithm>
#include <bit>
#include <limits>

#include "base/error.h"

namespace hybrid {
namespace {

constexpr uint64_t kFree = std::numeric_limits<uint64_t>::max();
constexpr int32_t kGone = -1;  // a symbol that was merged into the one on its left

uint64_t pair_of(int32_t left, int32_t right) {
  return uint64_t{static_cast<uint32_t>(left)} << 32 | static_cast<uint32_t>(right);
}

}  // namespace

MergeTable::MergeTable(size_t n_merges)
    : slots_(std::bit_ceil(2 * n_merges + 2), Slot{kFree, {-1, -1}}), capacity_(n_merges) {}

size_t MergeTable::slot_of(uint64_t pair) const {
  const size_t mask = slots_.size() - 1;
  // The upper half of a product with an odd constant depends on all bits of the pair.
  size_t slot = (pair * 0x9e3779b97f4a7c15u >> 32) & mask;
  while (slots_[slot].pair != pair && slots_[slot].pair != kFree) slot = (slot + 1) & mask;
  return slot;
}

void MergeTable::add(int32_t left, int32_t right, int32_t merged) {
  HYBRID_CHECK(left >= 0 && right >= 0 && merged >= 0);
  HYBRID_CHECK(static_cast<size_t>(n_) < capacity_);
  Slot& slot = slots_[slot_of(pair_of(left, right))];
  if (slot.pair == kFree) slot = {pair_of(left, right), {n_, merged}};
  ++n_;
}

MergeTable::Merge MergeTable::find(int32_t left, int32_t right) const {
  return slots_[slot_of(pair_of(left, right))].merge;
}

bool BpeMerger::later(const Candidate& a, const Candidate& b) {
  return a.rank != b.rank ? a.rank > b.rank : a.position > b.position;
}

void BpeMerger::consider(const MergeTable& merges, const std::vector<int32_t>& symbols,
                         int32_t position) {
  const int32_t next = position < 0 ? 0 : links_[position].next;
  if (position < 0 || next >= static_cast<int32_t>(symbols.size())) return;
  const int32_t left = symbols[position], right = symbols[next];
  const MergeTable::Merge merge = merges.find(left, right);
  if (merge.rank < 0) return;
  heap_.push_back({merge.rank, position, left, right, merge.merged});
  std::push_heap(heap_.begin(), heap_.end(), later);
}

void BpeMerger::merge(const MergeTable& merges, std::vector<int32_t>& symbols) {
  const auto n = static_cast<int32_t>(symbols.size());
  links_.resize(symbols.size());
  heap_.clear();
  for (int32_t i = 0; i < n; ++i) links_[i] = {i - 1, i + 1};
  for (int32_t i = 0; i + 1 < n; ++i) consider(merges, symbols, i);

  while (!heap_.empty()) {
    std::pop_heap(heap_.begin(), heap_.end(), later);
    const Candidate best = heap_.back();
    heap_.pop_back();
    const int32_t right = links_[best.position].next;
    if (symbols[best.position] != best.left || right >= n || symbols[right] != best.right) continue;
    symbols[best.position] = best.merged;
    symbols[right] = kGone;
    const int32_t after = links_[right].next;
    links_[best.position].next = after;
    if (after < n) links_[after].previous = best.position;
    consider(merges, symbols, links_[best.position].previous);
    consider(merges, symbols, best.position);
  }
  std::erase(symbols, kGone);
}

}  // namespace hybrid
