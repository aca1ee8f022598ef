#pragma once
// A deepseek2 model small enough to build in a test, in every layout a file may have. Random
// weights (f32 unless asked for others), real tensor names, a byte-level vocabulary.

#include <cstdint>
#include <string>
#include <vector>

#include "tests/support/gguf_builder.h"

namespace hybrid::test {

// The dimensions of tiny models.
inline constexpr uint32_t kTinyEmbd = 32, kTinyHeads = 2, kTinyNope = 8, kTinyRope = 4, kTinyV = 8,
                          kTinyLora = 16, kTinyFf = 48, kTinyExperts = 8, kTinyUsed = 3,
                          kTinyExpertFf = 16, kTinyContext = 64;

/// The same for models that need others.
struct TinyDims {
  uint32_t embd = kTinyEmbd, heads = kTinyHeads, nope = kTinyNope, rope = kTinyRope, v = kTinyV,
           lora = kTinyLora, ff = kTinyFf, experts = kTinyExperts, used = kTinyUsed,
           expert_ff = kTinyExpertFf, context = kTinyContext;
};

/// The type of tensors whose names contain `part`.
struct TinyType {
  std::string part;
  DType type;
};

struct TinyModelOptions {
  TinyDims dims = {};
  uint32_t n_layers = 3;
  uint32_t n_dense_lead = 1;
  uint32_t q_lora = 0;  // 0: attn_q
  bool selection_bias = false;
  uint32_t gating = 1;    // 0: leave the key out
  uint32_t n_groups = 0;  // 0: leave the keys out
  uint32_t n_groups_used = 0;
  bool merged_gate_up = false;
  enum class Kv { merged, split_2d, split_3d } kv = Kv::merged;
  bool newer_metadata = false;  // head_count_kv 1 and the *_mla keys
  /// Matrices other than the router are Q8_0 where the length of their rows allows it, else F16.
  bool quantised = false;
  std::vector<TinyType> types = {};  // the first that matches, before `quantised`
  std::string architecture = "deepseek2";
  std::string chat_template = "";
  std::string leave_out = "";  // a tensor that is missing
  std::string misshape = "";   // a tensor whose rows are one too many
};

/// The same options and seed give the same weights in every layout.
GgufBuilder tiny_model(const TinyModelOptions& options = {}, uint32_t seed = 1);

}  // namespace hybrid::test
