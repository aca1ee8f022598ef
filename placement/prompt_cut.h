#pragma once
// How a prompt is cut into micro-batches.

#include <cstdint>

namespace hybrid {

struct PromptCut {
  uint32_t n_ubatch = 512;   // tokens of a micro-batch
  uint32_t n_in_flight = 1;  // micro-batches that are begun and not ended
  uint32_t n_in_pass = 1;    // of those that follow each other without a stop in between
};

}  // namespace hybrid
