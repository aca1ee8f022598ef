#pragma once
// Byte-pair merging. Works on symbols, small numbers that stand for strings; which ones is up to
// the caller.

#include <cstddef>
#include <cstdint>
#include <vector>

namespace hybrid {

class MergeTable {
 public:
  /// For at most `n_merges` merges.
  explicit MergeTable(size_t n_merges = 0);

  /// Merges are added in the order of their rank, the most urgent first. Of equal pairs the first
  /// counts. Symbols are not negative.
  void add(int32_t left, int32_t right, int32_t merged);

  struct Merge {
    int32_t rank;  // -1: this pair is never merged
    int32_t merged;
  };
  Merge find(int32_t left, int32_t right) const;

 private:
  struct Slot {
    uint64_t pair;
    Merge merge;
  };
  size_t slot_of(uint64_t pair) const;

  std::vector<Slot> slots_;  // open addressing; a power of two, at most half full
  size_t capacity_ = 0;
  int32_t n_ = 0;
};

/// Merges sequences of symbols; keeps its buffers, so one per thread.
class BpeMerger {
 public:
  /// Replaces, as long as there is one, the neighbouring pair with the lowest rank (the leftmost of
  /// equal ones) by what it merges to. In place; n log n in the number of symbols.
  void merge(const MergeTable& merges, std::vector<int32_t>& symbols);

 private:
  struct Candidate {
    int32_t rank, position;  // of the left symbol
    int32_t left, right;     // the symbols seen then; where they changed the candidate is stale
    int32_t merged;
  };
  struct Link {
    int32_t previous, next;  // positions; -1 before the first, the length after the last
  };
  static bool later(const Candidate& a, const Candidate& b);
  void consider(const MergeTable& merges, const std::vector<int32_t>& symbols, int32_t position);

  std::vector<Candidate> heap_;
  std::vector<Link> links_;
};

}  // namespace hybrid
