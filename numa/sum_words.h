#pragma once
// Reading memory as fast as it comes, for measurements of bandwidth.

#include <cstdint>

namespace hybrid {

/// The sum of n words modulo 2^64. Whoever needs the sum, the compiler cannot leave the reads out.
uint64_t sum_words(const uint64_t* words, uint64_t n);

/// 0 + 1 + ... + (n - 1) modulo 2^64: what n words that hold their own indexes sum up to.
constexpr uint64_t sum_below(uint64_t n) { return n % 2 == 0 ? n / 2 * (n - 1) : (n - 1) / 2 * n; }

}  // namespace hybrid
