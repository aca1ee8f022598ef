#include "numa/sum_words.h"

namespace hybrid {

// Several sums, so that no addition waits for the one before it.
uint64_t sum_words(const uint64_t* words, uint64_t n) {
  constexpr uint64_t kSums = 8;
  uint64_t sums[kSums] = {};
  uint64_t i = 0;
  for (; i + kSums <= n; i += kSums) {
    for (uint64_t k = 0; k < kSums; ++k) sums[k] += words[i + k];
  }
  for (; i < n; ++i) sums[0] += words[i];
  uint64_t total = 0;
  for (const uint64_t sum : sums) total += sum;
  return total;
}

}  // namespace hybrid
