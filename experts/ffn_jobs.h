#pragma once
// Gated feed-forward nets, several at once, each on tokens of its own:
//
//   out[slot] = down_j ( silu(gate_j x) * (up_j x) )       x = the input row of the slot's token
//
// Routed experts are as many jobs as experts were chosen; a dense net or the shared expert is one
// job with every token. Gate and up are computed together, their product goes straight into the
// form that the down projection takes (InputForm), and no job waits for another: the rows of all of
// them are one range that is shared out over the workers, twice.

#include <cstdint>
#include <span>
#include <vector>

#include "experts/hidden_rows.h"
#include "tensor/matmul_input.h"
#include "tensor/weight.h"

namespace hybrid {

struct FfnJob {
  Weight gate;  // {n_embd, n_ff}
  Weight up;    // {n_embd, n_ff}
  Weight down;  // {n_ff, n_embd}
  uint32_t first_slot = 0;
  uint32_t n_slots = 0;  // at least 1
};

/// Jobs of one call have the same shapes and types. Their slots follow each other.
struct FfnArgs {
  MatmulInput&
      input;  // [n_tokens][n_embd]; forms are made as needed; not fine where they are tiles
  std::span<const FfnJob> jobs;
  std::span<const uint32_t> slot_tokens;  // [n_slots]; empty: slot i is token i
  float* out = nullptr;                   // [n_slots][n_embd]
};

/// The buffers, kept between calls.
struct FfnScratch {
  /// Takes what calls with n_slots slots of at most max_jobs jobs need, and counts it.
  void reserve(uint64_t n_embd, uint64_t n_ff, uint64_t n_slots, uint64_t max_jobs);
  static uint64_t n_bytes(uint64_t n_embd, uint64_t n_ff, uint64_t n_slots, uint64_t max_jobs);
  uint64_t held_bytes() const;  // what has really been taken

  HiddenRows hidden;
  HugeBuffer gathered;                         // input rows of the slots: tiles, or floats
  std::vector<const ActivationBlock*> blocks;  // [slots][parts] input blocks
  std::vector<uint32_t> first_row;             // [jobs + 1]: of their hidden rows
};

/// Throws Error where shapes do not agree. The result does not depend on the workers.
void run_ffn_jobs(const FfnArgs& args, FfnScratch& scratch, Workers& workers);

}  // namespace hybrid
