#include "tests/support/tiny_model.h"

#include <algorithm>
#include <cmath>
#include <map>
#include <vector>

#include "base/half.h"
#include "runtime/byte_level.h"
#include "tensor/quant_blocks.h"
#include "tests/support/random_weights.h"

namespace hybrid::test {
namespace {

using Floats = std::vector<float>;

std::string q8_0_bytes(const Floats& values) {
  std::string bytes;
  for (size_t at = 0; at < values.size(); at += 32) {
    float largest = 0;
    for (size_t i = at; i < at + 32; ++i) largest = std::max(largest, std::abs(values[i]));
    BlockQ8_0 block;
    block.d = f32_to_f16(largest / 127);
    const float d = f16_to_f32(block.d);
    for (size_t i = 0; i < 32; ++i) {
      block.qs[i] = static_cast<int8_t>(std::lround(std::clamp(values[at + i] / d, -127.f, 127.f)));
    }
    bytes.append(reinterpret_cast<const char*>(&block), sizeof(block));
  }
  return bytes;
}

std::string f16_bytes(const Floats& values) {
  std::string bytes;
  for (const float v : values) bytes += gguf_bytes(f32_to_f16(v));
  return bytes;
}

std::string f32_bytes(const Floats& values) {
  return {reinterpret_cast<const char*>(values.data()), values.size() * sizeof(float)};
}

/// Adds tensors whose values depend on their name alone, so that layouts can be compared.
class Maker {
 public:
  Maker(GgufBuilder& gguf, const TinyModelOptions& options, uint32_t seed)
      : gguf_(gguf), o_(options), seed_(seed) {}

  Floats values(const std::string& name, uint64_t n, float scale) const {
    uint32_t hash = 2166136261u ^ seed_;
    for (const char c : name) hash = (hash ^ static_cast<uint8_t>(c)) * 16777619u;
    Floats out = random_floats(n, hash);
    for (float& v : out) v *= scale;
    return out;
  }

  void add(const std::string& name, std::vector<uint64_t> dims, Floats data) {
    if (name == o_.leave_out) return;
    if (name == o_.misshape) {
      const uint64_t row = data.size() / dims.back();
      dims.back() += 1;
      data.resize(data.size() + row);
    }
    const bool is_matrix = dims.size() > 1 && name.find("ffn_gate_inp") == std::string::npos;
    if (!o_.quantised || !is_matrix) {
      gguf_.add_tensor(name, DType::f32, std::move(dims), f32_bytes(data));
    } else if (dims[0] % 32 == 0) {
      gguf_.add_tensor(name, DType::q8_0, std::move(dims), q8_0_bytes(data));
    } else {
      gguf_.add_tensor(name, DType::f16, std::move(dims), f16_bytes(data));
    }
  }

  void weight(const std::string& name, std::vector<uint64_t> dims) {
    uint64_t n = 1;
    for (const uint64_t d : dims) n *= d;
    const float scale = 1 / std::sqrt(static_cast<float>(dims[0]));
    add(name, std::move(dims), values(name, n, scale));
  }

  void norm(const std::string& name, uint64_t n) {
    Floats data = values(name, n, 0.1f);
    for (float& v : data) v += 1;
    add(name, {n}, std::move(data));
  }

  void kv_up(const std::string& layer) {
    const uint64_t head_rows = kTinyNope + kTinyV;
    const Floats merged = values(layer + "kv_b", head_rows * kTinyHeads * kTinyLora, 0.25f);
    if (o_.kv == TinyModelOptions::Kv::merged) {
      return add(layer + "attn_kv_b.weight", {kTinyLora, head_rows * kTinyHeads}, merged);
    }
    Floats k_b, v_b;
    for (uint32_t h = 0; h < kTinyHeads; ++h) {
      const float* head = merged.data() + h * head_rows * kTinyLora;
      for (uint32_t j = 0; j < kTinyLora; ++j) {
        for (uint32_t i = 0; i < kTinyNope; ++i) k_b.push_back(head[i * kTinyLora + j]);
      }
      v_b.insert(v_b.end(), head + kTinyNope * kTinyLora, head + head_rows * kTinyLora);
    }
    const bool flat = o_.kv == TinyModelOptions::Kv::split_2d;
    add(layer + "attn_k_b.weight",
        flat ? std::vector<uint64_t>{kTinyNope, kTinyLora * kTinyHeads}
             : std::vector<uint64_t>{kTinyNope, kTinyLora, kTinyHeads},
        k_b);
    add(layer + "attn_v_b.weight",
        flat ? std::vector<uint64_t>{kTinyLora, kTinyV * kTinyHeads}
             : std::vector<uint64_t>{kTinyLora, kTinyV, kTinyHeads},
        v_b);
  }

  void gate_up(const std::string& layer) {
    const uint64_t n = uint64_t{kTinyEmbd} * kTinyExpertFf;
    const std::string gate = layer + "ffn_gate_exps.weight", up = layer + "ffn_up_exps.weight";
    if (!o_.merged_gate_up) {
      weight(gate, {kTinyEmbd, kTinyExpertFf, kTinyExperts});
      weight(up, {kTinyEmbd, kTinyExpertFf, kTinyExperts});
      return;
    }
    const float scale = 1 / std::sqrt(static_cast<float>(kTinyEmbd));
    const Floats g = values(gate, n * kTinyExperts, scale), u = values(up, n * kTinyExperts, scale);
    Floats merged;
    for (uint32_t e = 0; e < kTinyExperts; ++e) {
      merged.insert(merged.end(), g.data() + e * n, g.data() + (e + 1) * n);
      merged.insert(merged.end(), u.data() + e * n, u.data() + (e + 1) * n);
    }
    add(layer + "ffn_gate_up_exps.weight", {kTinyEmbd, 2 * kTinyExpertFf, kTinyExperts}, merged);
  }

 private:
  GgufBuilder& gguf_;
  const TinyModelOptions& o_;
  uint32_t seed_;
};

void add_metadata(GgufBuilder& gguf, const TinyModelOptions& o, uint32_t n_vocab) {
  gguf.add("general.architecture", o.architecture).add("general.name", "tiny");
  const std::map<std::string, uint32_t> numbers = {
      {"block_count", o.n_layers},
      {"context_length", kTinyContext},
      {"embedding_length", kTinyEmbd},
      {"feed_forward_length", kTinyFf},
      {"leading_dense_block_count", o.n_dense_lead},
      {"vocab_size", n_vocab},
      {"attention.head_count", kTinyHeads},
      {"attention.head_count_kv", o.newer_metadata ? 1 : kTinyHeads},
      {"attention.kv_lora_rank", kTinyLora},
      {"attention.key_length", o.newer_metadata ? kTinyLora + kTinyRope : kTinyNope + kTinyRope},
      {"attention.value_length", o.newer_metadata ? kTinyLora : kTinyV},
      {"rope.dimension_count", kTinyRope},
      {"rope.scaling.original_context_length", 16},
      {"expert_count", kTinyExperts},
      {"expert_used_count", kTinyUsed},
      {"expert_shared_count", 1},
      {"expert_feed_forward_length", kTinyExpertFf},
  };
  for (const auto& [key, value] : numbers) gguf.add("deepseek2." + key, value);
  const auto optional = [&](const char* key, uint32_t value) {
    if (value > 0) gguf.add(std::string("deepseek2.") + key, value);
  };
  optional("attention.q_lora_rank", o.q_lora);
  optional("expert_gating_func", o.gating);
  optional("expert_group_count", o.n_groups);
  optional("expert_group_used_count", o.n_groups_used);
  optional("attention.key_length_mla", o.newer_metadata ? kTinyNope + kTinyRope : 0);
  optional("attention.value_length_mla", o.newer_metadata ? kTinyV : 0);
  gguf.add("deepseek2.attention.layer_norm_rms_epsilon", 1e-6f)
      .add("deepseek2.rope.freq_base", 10000.0f)
      .add("deepseek2.rope.scaling.type", "yarn")
      .add("deepseek2.rope.scaling.factor", 4.0f)
      .add("deepseek2.rope.scaling.yarn_log_multiplier", 0.1f)
      .add("deepseek2.expert_weights_scale", 1.5f)
      .add("deepseek2.expert_weights_norm", true);
}

uint32_t add_vocabulary(GgufBuilder& gguf, const TinyModelOptions& o) {
  std::vector<std::string> tokens{"<bos>", "<eos>"};
  std::vector<int32_t> types{3, 3};
  for (int byte = 0; byte < 256; ++byte) {
    tokens.emplace_back(byte_character(static_cast<uint8_t>(byte)));
    types.push_back(1);
  }
  gguf.add("tokenizer.ggml.model", "gpt2").add("tokenizer.ggml.pre", "gpt-2");
  gguf.add_array("tokenizer.ggml.tokens", tokens).add_array("tokenizer.ggml.token_type", types);
  gguf.add_array("tokenizer.ggml.merges", std::vector<std::string>{});
  gguf.add("tokenizer.ggml.bos_token_id", uint32_t{0}).add("tokenizer.ggml.eos_token_id", 1u);
  gguf.add("tokenizer.ggml.add_bos_token", true);
  if (!o.chat_template.empty()) gguf.add("tokenizer.chat_template", o.chat_template);
  return static_cast<uint32_t>(tokens.size());
}

void add_layer(Maker& make, const TinyModelOptions& o, uint32_t index) {
  const std::string layer = "blk." + std::to_string(index) + ".";
  const uint64_t q_rows = kTinyHeads * (kTinyNope + kTinyRope);
  make.norm(layer + "attn_norm.weight", kTinyEmbd);
  if (o.q_lora == 0) {
    make.weight(layer + "attn_q.weight", {kTinyEmbd, q_rows});
  } else {
    make.weight(layer + "attn_q_a.weight", {kTinyEmbd, o.q_lora});
    make.norm(layer + "attn_q_a_norm.weight", o.q_lora);
    make.weight(layer + "attn_q_b.weight", {o.q_lora, q_rows});
  }
  make.weight(layer + "attn_kv_a_mqa.weight", {kTinyEmbd, kTinyLora + kTinyRope});
  make.norm(layer + "attn_kv_a_norm.weight", kTinyLora);
  make.kv_up(layer);
  make.weight(layer + "attn_output.weight", {kTinyHeads * kTinyV, kTinyEmbd});
  make.norm(layer + "ffn_norm.weight", kTinyEmbd);
  if (index < o.n_dense_lead) {
    make.weight(layer + "ffn_gate.weight", {kTinyEmbd, kTinyFf});
    make.weight(layer + "ffn_up.weight", {kTinyEmbd, kTinyFf});
    make.weight(layer + "ffn_down.weight", {kTinyFf, kTinyEmbd});
    return;
  }
  make.weight(layer + "ffn_gate_inp.weight", {kTinyEmbd, kTinyExperts});
  if (o.selection_bias) make.norm(layer + "exp_probs_b.bias", kTinyExperts);
  make.gate_up(layer);
  make.weight(layer + "ffn_down_exps.weight", {kTinyExpertFf, kTinyEmbd, kTinyExperts});
  make.weight(layer + "ffn_gate_shexp.weight", {kTinyEmbd, kTinyExpertFf});
  make.weight(layer + "ffn_up_shexp.weight", {kTinyEmbd, kTinyExpertFf});
  make.weight(layer + "ffn_down_shexp.weight", {kTinyExpertFf, kTinyEmbd});
}

}  // namespace

GgufBuilder tiny_model(const TinyModelOptions& options, uint32_t seed) {
  GgufBuilder gguf;
  const uint32_t n_vocab = add_vocabulary(gguf, options);
  add_metadata(gguf, options, n_vocab);
  Maker make(gguf, options, seed);
  make.weight("token_embd.weight", {kTinyEmbd, n_vocab});
  for (uint32_t i = 0; i < options.n_layers; ++i) add_layer(make, options, i);
  make.norm("output_norm.weight", kTinyEmbd);
  make.weight("output.weight", {kTinyEmbd, n_vocab});
  return gguf;
}

}  // namespace hybrid::test
