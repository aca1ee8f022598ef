#pragma once
// The routed experts of one layer:
//
//   hidden[t,k] = silu(gate_e x_t) * (up_e x_t)     e = ids[t,k]
//   y_t         = sum_k weights[t,k] * down_e hidden[t,k]
//
// Each (token, k) has a slot of its own that one task writes, and slots are summed in the order of
// k: threads do not change a bit of a token's result. Nor does it matter on which processors the
// experts of a layer are: rows of slots that were made elsewhere are summed among the others.

#include <cstdint>
#include <functional>
#include <span>
#include <vector>

#include "experts/composed_ffn.h"
#include "experts/moe_shape.h"
#include "experts/routes.h"

namespace hybrid {

struct MoeFfnArgs {
  MatmulInput& input;                             // [n_tokens][n_embd]
  float* y = nullptr;                             // [n_tokens][n_embd]
  std::span<const int32_t> ids;                   // [n_tokens][n_used]
  std::span<const float> weights;                 // [n_tokens][n_used]
  bool fused = true;                              // false: composed_ffn.h
  std::span<const ExpertRows> elsewhere = {};     // of these experts no net is computed
  const std::function<void()>* arrive = nullptr;  // called before their rows are read
};

/// The buffers, kept between calls.
struct MoeFfnScratch {
  /// Takes what n_tokens need, and counts it; for the nets themselves in one of the two forms.
  void reserve(const MoeShape& shape, uint64_t n_embd, uint64_t n_tokens, bool fused = true);
  static uint64_t n_bytes(const MoeShape& shape, uint64_t n_embd, uint64_t n_tokens,
                          bool fused = true);
  uint64_t held_bytes() const;  // what has really been taken

  FfnScratch ffn;
  ComposedFfnScratch composed;
  HugeBuffer out;  // [slots][n_embd] floats, in expert order
  Routes routes;
  std::vector<FfnJob> jobs;           // [active experts]
  std::vector<uint32_t> slot_tokens;  // [slots]
  std::vector<const float*> rows;     // [slots]: the row of slot (token, k)
};

/// parts: all experts but those that are elsewhere are in one of them.
void moe_ffn(const MoeFfnArgs& args, const MoeShape& shape, std::span<const ExpertPart> parts,
             MoeFfnScratch& scratch, Workers& workers);

/// The same with all experts in one part.
void moe_ffn(const MoeFfnArgs& args, const MoeShape& shape, const ExpertWeights& experts,
             MoeFfnScratch& scratch, Workers& workers);

/// ExpertRows of one part: its slots' rows, neither weighed nor summed. Of args: input, ids, fused.
void moe_rows(const MoeFfnArgs& args, const MoeShape& shape, const ExpertPart& part, float* rows,
              MoeFfnScratch& scratch, Workers& workers);

}  // namespace hybrid
