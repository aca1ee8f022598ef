#pragma once
// The static split of work: who gets what depends on three numbers and on nothing else.

#include <algorithm>
#include <cstdint>

namespace hybrid {

/// [begin, end)
struct IndexRange {
  uint64_t begin = 0;
  uint64_t end = 0;

  bool is_empty() const { return begin == end; }
  friend bool operator==(const IndexRange&, const IndexRange&) = default;
};

/// Part `part` of [0, n) cut into n_parts contiguous parts, in order. Every boundary except n is a
/// multiple of `multiple` (>= 1), and parts differ by at most one `multiple`: the last parts get
/// what is left over, since the very last one is the one that n may cut short.
constexpr IndexRange split_range(uint64_t n, uint64_t multiple, uint64_t part, uint64_t n_parts) {
  const uint64_t n_units = n / multiple + (n % multiple != 0 ? 1 : 0);
  const uint64_t share = n_units / n_parts;
  const uint64_t n_larger = n_units % n_parts;
  const auto boundary = [&](uint64_t p) {
    const uint64_t n_smaller = n_parts - n_larger;
    return std::min(n, (p * share + (p > n_smaller ? p - n_smaller : 0)) * multiple);
  };
  return {boundary(part), boundary(part + 1)};
}

}  // namespace hybrid
