#include "tests/support/real_headers.h"

#include <map>
#include <vector>

#include "base/rounding.h"
#include "tests/support/gguf_builder.h"

namespace hybrid::test {
namespace {

struct Geometry {
  uint32_t n_layers, n_dense_lead, n_embd, n_ff, n_vocab, n_heads, q_lora;
  uint32_t n_experts, n_used, n_shared;
  uint32_t expert_ff, gating;
};
constexpr uint32_t kNope = 128, kRope = 64, kV = 128, kLora = 512;

class Headers {
 public:
  Headers(const Geometry& g, const RealHeaderOptions& options) : g_(g), o_(options) {}

  std::string bytes() {
    add_metadata();
    add("token_embd.weight", o_.type, {g_.n_embd, g_.n_vocab});
    for (uint32_t layer = 0; layer < g_.n_layers; ++layer) add_layer(layer);
    add("output_norm.weight", DType::f32, {g_.n_embd});
    add("output.weight", o_.output_type, {g_.n_embd, g_.n_vocab});
    return gguf_.bytes();
  }

 private:
  void add_metadata() {
    gguf_.add("general.architecture", "deepseek2").add("general.name", "headers");
    const std::map<std::string, uint32_t> numbers = {
        {"block_count", g_.n_layers},
        {"context_length", 163840},
        {"embedding_length", g_.n_embd},
        {"feed_forward_length", g_.n_ff},
        {"leading_dense_block_count", g_.n_dense_lead},
        {"vocab_size", g_.n_vocab},
        {"attention.head_count", g_.n_heads},
        {"attention.head_count_kv", g_.n_heads},
        {"attention.kv_lora_rank", kLora},
        {"attention.key_length", kNope + kRope},
        {"attention.value_length", kV},
        {"rope.dimension_count", kRope},
        {"rope.scaling.original_context_length", 4096},
        {"expert_count", g_.n_experts},
        {"expert_used_count", g_.n_used},
        {"expert_shared_count", g_.n_shared},
        {"expert_feed_forward_length", g_.expert_ff},
        {"expert_gating_func", g_.gating},
    };
    for (const auto& [key, value] : numbers) gguf_.add("deepseek2." + key, value);
    if (g_.q_lora > 0) gguf_.add("deepseek2.attention.q_lora_rank", g_.q_lora);
    gguf_.add("deepseek2.attention.layer_norm_rms_epsilon", 1e-6f)
        .add("deepseek2.rope.freq_base", 10000.0f)
        .add("deepseek2.rope.scaling.type", "yarn")
        .add("deepseek2.rope.scaling.factor", 40.0f)
        .add("deepseek2.rope.scaling.yarn_log_multiplier", 0.1f)
        .add("deepseek2.expert_weights_scale", 1.0f)
        .add("deepseek2.expert_weights_norm", true);
  }

  void add_layer(uint32_t index) {
    const std::string layer = "blk." + std::to_string(index) + ".";
    const auto matrix = [&](const char* name, std::vector<uint64_t> dims) {
      add(layer + name + ".weight", o_.type, std::move(dims));
    };
    const auto norm = [&](const char* name, uint64_t n) {
      add(layer + name + ".weight", DType::f32, {n});
    };
    const uint64_t q_rows = uint64_t{g_.n_heads} * (kNope + kRope);
    norm("attn_norm", g_.n_embd);
    if (g_.q_lora > 0) {
      matrix("attn_q_a", {g_.n_embd, g_.q_lora});
      norm("attn_q_a_norm", g_.q_lora);
      matrix("attn_q_b", {g_.q_lora, q_rows});
    } else {
      matrix("attn_q", {g_.n_embd, q_rows});
    }
    matrix("attn_kv_a_mqa", {g_.n_embd, kLora + kRope});
    norm("attn_kv_a_norm", kLora);
    matrix("attn_kv_b", {kLora, uint64_t{g_.n_heads} * (kNope + kV)});
    matrix("attn_output", {uint64_t{g_.n_heads} * kV, g_.n_embd});
    norm("ffn_norm", g_.n_embd);
    if (index < g_.n_dense_lead) {
      matrix("ffn_gate", {g_.n_embd, g_.n_ff});
      matrix("ffn_up", {g_.n_embd, g_.n_ff});
      matrix("ffn_down", {g_.n_ff, g_.n_embd});
      return;
    }
    add(layer + "ffn_gate_inp.weight", DType::f32, {g_.n_embd, g_.n_experts});
    matrix("ffn_gate_exps", {g_.n_embd, g_.expert_ff, g_.n_experts});
    matrix("ffn_up_exps", {g_.n_embd, g_.expert_ff, g_.n_experts});
    add(layer + "ffn_down_exps.weight", o_.down_type, {g_.expert_ff, g_.n_embd, g_.n_experts});
    const uint64_t shared_ff = uint64_t{g_.n_shared} * g_.expert_ff;
    matrix("ffn_gate_shexp", {g_.n_embd, shared_ff});
    matrix("ffn_up_shexp", {g_.n_embd, shared_ff});
    matrix("ffn_down_shexp", {shared_ff, g_.n_embd});
  }

  /// Rows that are no multiple of a K-quant's 256 columns become IQ4_NL.
  void add(const std::string& name, DType type, std::vector<uint64_t> dims) {
    if (dims[0] % info_of(type).block_size != 0) type = DType::iq4_nl;
    uint64_t n_rows = 1;
    for (size_t d = 1; d < dims.size(); ++d) n_rows *= dims[d];
    const uint64_t n_bytes = row_bytes(type, dims[0]) * n_rows;
    gguf_.add_tensor({name, static_cast<uint32_t>(type), std::move(dims), {}, offset_});
    offset_ += round_up(n_bytes, 32);
  }

  const Geometry& g_;
  const RealHeaderOptions& o_;
  GgufBuilder gguf_;
  uint64_t offset_ = 0;
};

constexpr Geometry kR1{.n_layers = 61,
                       .n_dense_lead = 3,
                       .n_embd = 7168,
                       .n_ff = 18432,
                       .n_vocab = 129280,
                       .n_heads = 128,
                       .q_lora = 1536,
                       .n_experts = 256,
                       .n_used = 8,
                       .n_shared = 1,
                       .expert_ff = 2048,
                       .gating = 2};
constexpr Geometry kLite{.n_layers = 27,
                         .n_dense_lead = 1,
                         .n_embd = 2048,
                         .n_ff = 10944,
                         .n_vocab = 102400,
                         .n_heads = 16,
                         .q_lora = 0,
                         .n_experts = 64,
                         .n_used = 6,
                         .n_shared = 2,
                         .expert_ff = 1408,
                         .gating = 1};

}  // namespace

std::string r1_headers(const RealHeaderOptions& options) { return Headers(kR1, options).bytes(); }

std::string lite_headers(const RealHeaderOptions& options) {
  return Headers(kLite, options).bytes();
}

}  // namespace hybrid::test
