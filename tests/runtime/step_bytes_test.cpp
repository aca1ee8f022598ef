// Bytes by arithmetic, computed by hand from the dimensions of the tiny model. All its weights are
// f32. Elements a token reads: in each of 3 layers
//   q 32 x 24 = 768, kv_a 32 x 20 = 640, kv_b 16 x 32 = 512, attn_output 16 x 32 = 512: 2432;
// in the dense layer 3 x 32 x 48 = 4608; in each of 2 MoE layers
//   router 32 x 8 = 256, shared 3 x 32 x 16 = 1536, each routed expert 3 x 32 x 16 = 1536;
// output 32 x 258 = 8256, a row of token_embd 32. A cache row has 16 + 4 elements.

#include "runtime/step_bytes.h"

#include <doctest/doctest.h>

#include "tests/support/temp_dir.h"
#include "tests/support/tiny_model.h"

using namespace hybrid;
using namespace hybrid::test;

namespace {

const AttentionOptions kF16{};
const AttentionOptions kF32{.key_type = DType::f32};

constexpr uint64_t kCommon = 3 * 2432 + 4608 + 2 * (256 + 1536);  // elements
constexpr uint64_t kExpert = 2 * 1536;                            // one in each MoE layer
constexpr uint64_t kOutput = 8256, kEmbdRow = 32;
constexpr uint64_t kCacheRowF16 = 3 * 20 * 2;  // bytes, of all layers

struct Tiny {
  TempDir dir;
  Model model;
  explicit Tiny(const TinyModelOptions& options = {})
      : model(dir.write("tiny.gguf", tiny_model(options).bytes()), ExpertGroups::automatic) {}
};

}  // namespace

TEST_CASE("decode: every matrix once, the used experts, the context's cache rows") {
  const Tiny tiny;
  CHECK(4 * (kCommon + 3 * kExpert + kOutput + kEmbdRow) == 131968);
  CHECK(decode_bytes(tiny.model, kF16, 1) == 131968 + kCacheRowF16);
  CHECK(decode_bytes(tiny.model, kF16, 10) == 131968 + 10 * kCacheRowF16);
  CHECK(decode_bytes(tiny.model, kF32, 10) == 131968 + 20 * kCacheRowF16);
}

TEST_CASE("decode: the layouts of a file differ only where their matrices do") {
  using Kv = TinyModelOptions::Kv;
  const uint64_t base = decode_bytes(Tiny().model, kF16, 4);
  CHECK(decode_bytes(Tiny({.merged_gate_up = true}).model, kF16, 4) == base);
  CHECK(decode_bytes(Tiny({.kv = Kv::split_3d}).model, kF16, 4) == base);
  // attn_q becomes attn_q_a 32 x 24 and attn_q_b 24 x 24.
  CHECK(decode_bytes(Tiny({.q_lora = 24}).model, kF16, 4) == base + 3 * 4 * 24 * 24);
}

TEST_CASE("a model without experts") {
  const Tiny tiny({.n_dense_lead = 3});
  const uint64_t elements = 3 * (2432 + 4608) + kOutput + kEmbdRow;
  CHECK(decode_bytes(tiny.model, kF16, 1) == 4 * elements + kCacheRowF16);
  CHECK(step_bytes(tiny.model, kF16, {.n_tokens = 2}) ==
        4 * (elements + kEmbdRow) + 2 * kCacheRowF16);
}

TEST_CASE("experts that several tokens need") {
  const MoeShape shape{.n_experts = 8, .n_used = 3};
  CHECK(expected_experts(shape, 1) == doctest::Approx(3).epsilon(1e-12));
  CHECK(expected_experts(shape, 2) == doctest::Approx(4.875).epsilon(1e-12));  // 8 - 8 (5/8)^2
  CHECK(expected_experts(shape, 3) == doctest::Approx(6.046875).epsilon(1e-12));
  CHECK(expected_experts(shape, 100000) == doctest::Approx(8));
  CHECK(expected_experts({.n_experts = 4, .n_used = 4}, 1) == 4);
}

TEST_CASE("prefill: the same for each micro-batch, logits in the last one") {
  const Tiny tiny;
  const auto prefill = [&](uint64_t n, uint64_t n_batch, uint64_t n_ubatch) {
    return prefill_bytes(tiny.model, kF16, n, n_batch, n_ubatch);
  };
  // 4.875 experts: 4.875 * 3072 = 14976 elements.
  const uint64_t two = 4 * (kCommon + 14976 + kOutput + 2 * kEmbdRow) + 2 * kCacheRowF16;
  CHECK(prefill(2, 2048, 512) == two);
  // Batches of 4 in micro-batches of 3: 3 tokens (18576 elements of experts), 1, and 1 with logits.
  const uint64_t first = 4 * (kCommon + 18576 + 3 * kEmbdRow) + 3 * kCacheRowF16;
  const uint64_t second = 4 * (kCommon + 3 * kExpert + kEmbdRow) + 4 * kCacheRowF16;
  const uint64_t third = 4 * (kCommon + 3 * kExpert + kEmbdRow + kOutput) + 5 * kCacheRowF16;
  CHECK(prefill(5, 4, 3) == first + second + third);
  CHECK(prefill(5, 4, 3) == 368992);
  CHECK(prefill(1, 1, 1) == decode_bytes(tiny.model, kF16, 1));
}
