#include "tests/support/tiny_model.h"

#include <algorithm>
#include <bit>
#include <cmath>
#include <map>
#include <optional>
#include <vector>

#include "base/error.h"
#include "base/half.h"
#include "runtime/byte_level.h"
#include "tensor/dequantize.h"
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

double deviation(const Floats& values) {
  double sum = 0;
  for (const float v : values) sum += double{v} * v;
  return std::sqrt(sum / static_cast<double>(values.size()));
}

template <class Block>
void scale_blocks(std::vector<std::byte>& bytes, double factor) {
  const auto scaled = [&](f16_t d) {
    return f32_to_f16(static_cast<float>(f16_to_f32(d) * factor));
  };
  for (size_t at = 0; at < bytes.size(); at += sizeof(Block)) {
    auto& block = reinterpret_cast<Block&>(bytes[at]);
    block.d = scaled(block.d);
    if constexpr (requires { block.dmin; }) block.dmin = scaled(block.dmin);
  }
}

/// Random blocks with the values' deviation, and their first value as seed.
std::string random_bytes(DType type, const Floats& values) {
  std::vector<std::byte> bytes =
      balanced_weights(type, values.size(), std::bit_cast<uint32_t>(values.front()));
  Floats decoded(values.size());
  dequantize(type, bytes.data(), decoded.data(), decoded.size());
  const double factor = deviation(values) / deviation(decoded);
  HYBRID_CHECK(type == DType::q4_k || type == DType::q6_k || type == DType::iq4_xs);
  if (type == DType::q4_k) scale_blocks<BlockQ4_K>(bytes, factor);
  if (type == DType::q6_k) scale_blocks<BlockQ6_K>(bytes, factor);
  if (type == DType::iq4_xs) scale_blocks<BlockIQ4_XS>(bytes, factor);
  return {reinterpret_cast<const char*>(bytes.data()), bytes.size()};
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
    if (const auto type = type_of(name)) return add_typed(name, *type, std::move(dims), data);
    const bool is_matrix = dims.size() > 1 && name.find("ffn_gate_inp") == std::string::npos;
    if (!o_.quantised || !is_matrix) {
      gguf_.add_tensor(name, DType::f32, std::move(dims), f32_bytes(data));
    } else if (dims[0] % 32 == 0) {
      gguf_.add_tensor(name, DType::q8_0, std::move(dims), q8_0_bytes(data));
    } else {
      gguf_.add_tensor(name, DType::f16, std::move(dims), f16_bytes(data));
    }
  }

  std::optional<DType> type_of(const std::string& name) const {
    for (const TinyType& t : o_.types) {
      if (name.find(t.part) != std::string::npos) return t.type;
    }
    return std::nullopt;
  }

  /// In types that have no quantiser here: random blocks of the data's deviation.
  void add_typed(const std::string& name, DType type, std::vector<uint64_t> dims,
                 const Floats& data) {
    std::string bytes;
    if (type == DType::f32) {
      bytes = f32_bytes(data);
    } else if (type == DType::f16) {
      bytes = f16_bytes(data);
    } else if (type == DType::q8_0) {
      bytes = q8_0_bytes(data);
    } else {
      bytes = random_bytes(type, data);
    }
    gguf_.add_tensor(name, type, std::move(dims), std::move(bytes));
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
    const TinyDims& d = o_.dims;
    const uint64_t head_rows = d.nope + d.v;
    const Floats merged = values(layer + "kv_b", head_rows * d.heads * d.lora,
                                 1 / std::sqrt(static_cast<float>(d.lora)));
    if (o_.kv == TinyModelOptions::Kv::merged) {
      return add(layer + "attn_kv_b.weight", {d.lora, head_rows * d.heads}, merged);
    }
    Floats k_b, v_b;
    for (uint32_t h = 0; h < d.heads; ++h) {
      const float* head = merged.data() + h * head_rows * d.lora;
      for (uint32_t j = 0; j < d.lora; ++j) {
        for (uint32_t i = 0; i < d.nope; ++i) k_b.push_back(head[i * d.lora + j]);
      }
      v_b.insert(v_b.end(), head + d.nope * d.lora, head + head_rows * d.lora);
    }
    const bool flat = o_.kv == TinyModelOptions::Kv::split_2d;
    add(layer + "attn_k_b.weight",
        flat ? std::vector<uint64_t>{d.nope, d.lora * d.heads}
             : std::vector<uint64_t>{d.nope, d.lora, d.heads},
        k_b);
    add(layer + "attn_v_b.weight",
        flat ? std::vector<uint64_t>{d.lora, d.v * d.heads}
             : std::vector<uint64_t>{d.lora, d.v, d.heads},
        v_b);
  }

  void gate_up(const std::string& layer) {
    const TinyDims& d = o_.dims;
    const uint64_t n = uint64_t{d.embd} * d.expert_ff;
    const std::string gate = layer + "ffn_gate_exps.weight", up = layer + "ffn_up_exps.weight";
    if (!o_.merged_gate_up) {
      weight(gate, {d.embd, d.expert_ff, d.experts});
      weight(up, {d.embd, d.expert_ff, d.experts});
      return;
    }
    const float scale = 1 / std::sqrt(static_cast<float>(d.embd));
    const Floats g = values(gate, n * d.experts, scale), u = values(up, n * d.experts, scale);
    Floats merged;
    for (uint32_t e = 0; e < d.experts; ++e) {
      merged.insert(merged.end(), g.data() + e * n, g.data() + (e + 1) * n);
      merged.insert(merged.end(), u.data() + e * n, u.data() + (e + 1) * n);
    }
    add(layer + "ffn_gate_up_exps.weight", {d.embd, 2 * d.expert_ff, d.experts}, merged);
  }

 private:
  GgufBuilder& gguf_;
  const TinyModelOptions& o_;
  uint32_t seed_;
};

void add_metadata(GgufBuilder& gguf, const TinyModelOptions& o, uint32_t n_vocab) {
  const TinyDims& d = o.dims;
  gguf.add("general.architecture", o.architecture).add("general.name", "tiny");
  const std::map<std::string, uint32_t> numbers = {
      {"block_count", o.n_layers},
      {"context_length", d.context},
      {"embedding_length", d.embd},
      {"feed_forward_length", d.ff},
      {"leading_dense_block_count", o.n_dense_lead},
      {"vocab_size", n_vocab},
      {"attention.head_count", d.heads},
      {"attention.head_count_kv", o.newer_metadata ? 1 : d.heads},
      {"attention.kv_lora_rank", d.lora},
      {"attention.key_length", o.newer_metadata ? d.lora + d.rope : d.nope + d.rope},
      {"attention.value_length", o.newer_metadata ? d.lora : d.v},
      {"rope.dimension_count", d.rope},
      {"rope.scaling.original_context_length", 16},
      {"expert_count", d.experts},
      {"expert_used_count", d.used},
      {"expert_shared_count", 1},
      {"expert_feed_forward_length", d.expert_ff},
  };
  for (const auto& [key, value] : numbers) gguf.add("deepseek2." + key, value);
  const auto optional = [&](const char* key, uint32_t value) {
    if (value > 0) gguf.add(std::string("deepseek2.") + key, value);
  };
  optional("attention.q_lora_rank", o.q_lora);
  optional("expert_gating_func", o.gating);
  optional("expert_group_count", o.n_groups);
  optional("expert_group_used_count", o.n_groups_used);
  optional("attention.key_length_mla", o.newer_metadata ? d.nope + d.rope : 0);
  optional("attention.value_length_mla", o.newer_metadata ? d.v : 0);
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
  const TinyDims& d = o.dims;
  const std::string layer = "blk." + std::to_string(index) + ".";
  const uint64_t q_rows = uint64_t{d.heads} * (d.nope + d.rope);
  make.norm(layer + "attn_norm.weight", d.embd);
  if (o.q_lora == 0) {
    make.weight(layer + "attn_q.weight", {d.embd, q_rows});
  } else {
    make.weight(layer + "attn_q_a.weight", {d.embd, o.q_lora});
    make.norm(layer + "attn_q_a_norm.weight", o.q_lora);
    make.weight(layer + "attn_q_b.weight", {o.q_lora, q_rows});
  }
  make.weight(layer + "attn_kv_a_mqa.weight", {d.embd, d.lora + d.rope});
  make.norm(layer + "attn_kv_a_norm.weight", d.lora);
  make.kv_up(layer);
  make.weight(layer + "attn_output.weight", {d.heads * d.v, d.embd});
  make.norm(layer + "ffn_norm.weight", d.embd);
  if (index < o.n_dense_lead) {
    make.weight(layer + "ffn_gate.weight", {d.embd, d.ff});
    make.weight(layer + "ffn_up.weight", {d.embd, d.ff});
    make.weight(layer + "ffn_down.weight", {d.ff, d.embd});
    return;
  }
  make.weight(layer + "ffn_gate_inp.weight", {d.embd, d.experts});
  if (o.selection_bias) make.norm(layer + "exp_probs_b.bias", d.experts);
  make.gate_up(layer);
  make.weight(layer + "ffn_down_exps.weight", {d.expert_ff, d.embd, d.experts});
  make.weight(layer + "ffn_gate_shexp.weight", {d.embd, d.expert_ff});
  make.weight(layer + "ffn_up_shexp.weight", {d.embd, d.expert_ff});
  make.weight(layer + "ffn_down_shexp.weight", {d.expert_ff, d.embd});
}

}  // namespace

GgufBuilder tiny_model(const TinyModelOptions& options, uint32_t seed) {
  const TinyDims& d = options.dims;
  GgufBuilder gguf;
  const uint32_t n_vocab = add_vocabulary(gguf, options);
  add_metadata(gguf, options, n_vocab);
  Maker make(gguf, options, seed);
  make.weight("token_embd.weight", {d.embd, n_vocab});
  for (uint32_t i = 0; i < options.n_layers; ++i) add_layer(make, options, i);
  make.norm("output_norm.weight", d.embd);
  make.weight("output.weight", {d.embd, n_vocab});
  return gguf;
}

}  // namespace hybrid::test
