#include "runtime/weights.h"

#include <unordered_set>

#include "base/error.h"
#include "base/text.h"
#include "tensor/dequantize.h"

namespace hybrid {
namespace {

std::string shape_text(const uint64_t* ne, size_t n) {
  std::vector<std::string> parts;
  for (size_t i = 0; i < n; ++i) parts.push_back(std::to_string(ne[i]));
  return "[" + join(parts, ", ") + "]";
}

/// Finds tensors, checks their shapes, and remembers which were asked for.
class Binder {
 public:
  Binder(const GgufFile& file, bool with_data) : file_(file), with_data_(with_data) {}

  bool has(const std::string& name) const { return file_.find(name) != nullptr; }

  /// The tensor with exactly these dimensions (trailing ones of the file may be 1).
  TensorView get(const std::string& name, std::initializer_list<uint64_t> shape) {
    const GgufTensor& tensor = find(name);
    std::array<uint64_t, 4> expected{1, 1, 1, 1};
    std::copy(shape.begin(), shape.end(), expected.begin());
    if (tensor.info.ne != expected) wrong_shape(tensor, expected.data(), shape.size());
    return view(tensor);
  }

  Weight get_weight(const std::string& name, std::initializer_list<uint64_t> shape) {
    Weight w{get(name, shape)};
    w.source = file_.find(name);
    return w;
  }

  /// The tensor as {n_cols, n_rows}, however the file counts its rows (2D, or 3D by head).
  TensorView get_rows(const std::string& name, uint64_t n_cols, uint64_t n_rows) {
    const GgufTensor& tensor = find(name);
    TensorView view = this->view(tensor);
    const uint64_t expected[2] = {n_cols, n_rows};
    if (view.ne[0] != n_cols || view.n_rows() != n_rows) wrong_shape(tensor, expected, 2);
    view.ne = {n_cols, n_rows, 1, 1};
    return view;
  }

  FloatVector get_vector(const std::string& name, uint64_t n) {
    const TensorView view = get(name, {n});
    copied_.push_back(file_.find(name));
    float* values = floats_.emplace_back(std::make_unique<float[]>(n)).get();
    if (with_data_) dequantize(view.type, view.data.data(), values, n);
    return {values, n};
  }

  [[noreturn]] void refuse(const std::string& name, const char* reason) const {
    fail("{}: tensor '{}': expected none, because {}", file_.metadata().source(), name, reason);
  }

  /// Hands over the floats, and lists what has been asked for and what not.
  void finish(ModelWeights& weights) {
    weights.floats = std::move(floats_);
    weights.copied = copied_;
    for (const GgufTensor& tensor : file_.tensors()) {
      if (!used_.contains(tensor.info.name)) weights.unused.push_back(&tensor);
    }
  }

 private:
  const GgufTensor& find(const std::string& name) {
    const GgufTensor* tensor = file_.find(name);
    if (tensor == nullptr) {
      fail("{}: tensor '{}' is missing; the file is incomplete", file_.metadata().source(), name);
    }
    used_.insert(name);
    return *tensor;
  }

  [[noreturn]] void wrong_shape(const GgufTensor& tensor, const uint64_t* expected, size_t n) {
    fail("{}: tensor '{}': expected shape {}, found {}", file_.metadata().source(),
         tensor.info.name, shape_text(expected, n),
         shape_text(tensor.info.ne.data(), tensor.info.n_dims));
  }

  TensorView view(const GgufTensor& tensor) const {
    return with_data_ ? file_.view(tensor) : GgufFile::describe(tensor);
  }

  const GgufFile& file_;
  bool with_data_;
  std::unordered_set<std::string> used_;
  std::vector<std::unique_ptr<float[]>> floats_;
  std::vector<const GgufTensor*> copied_;
};

FfnWeights bind_ffn(Binder& bind, const std::string& layer, const char* suffix, uint64_t n_embd,
                    uint64_t n_ff) {
  const auto name = [&](const char* part) {
    return fmt::format("{}ffn_{}{}.weight", layer, part, suffix);
  };
  return {bind.get_weight(name("gate"), {n_embd, n_ff}),
          bind.get_weight(name("up"), {n_embd, n_ff}),
          bind.get_weight(name("down"), {n_ff, n_embd})};
}

void bind_attention(Binder& bind, const std::string& layer, const ModelConfig& c, LayerWeights& w) {
  const MlaShape& m = c.mla;
  const uint64_t q_rows = uint64_t{m.n_heads} * m.qk_dim();
  w.attn_norm = bind.get_vector(layer + "attn_norm.weight", c.n_embd);
  if (m.q_lora == 0) {
    w.q = bind.get_weight(layer + "attn_q.weight", {c.n_embd, q_rows});
  } else {
    w.q_a = bind.get_weight(layer + "attn_q_a.weight", {c.n_embd, m.q_lora});
    w.q_a_norm = bind.get_vector(layer + "attn_q_a_norm.weight", m.q_lora);
    w.q_b = bind.get_weight(layer + "attn_q_b.weight", {m.q_lora, q_rows});
  }
  w.kv_a = bind.get_weight(layer + "attn_kv_a_mqa.weight", {c.n_embd, m.cache_row()});
  w.kv_a_norm = bind.get_vector(layer + "attn_kv_a_norm.weight", m.kv_lora);
  // The merged tensor is the original; where both are there, the split pair is a derived copy.
  if (bind.has(layer + "attn_kv_b.weight") || !bind.has(layer + "attn_k_b.weight")) {
    w.kv_up.kv_b = bind.get_rows(layer + "attn_kv_b.weight", m.kv_lora,
                                 uint64_t{m.n_heads} * (m.qk_nope + m.v_dim));
  } else {
    w.kv_up.k_b =
        bind.get_rows(layer + "attn_k_b.weight", m.qk_nope, uint64_t{m.n_heads} * m.kv_lora);
    w.kv_up.v_b =
        bind.get_rows(layer + "attn_v_b.weight", m.kv_lora, uint64_t{m.n_heads} * m.v_dim);
  }
  w.attn_output =
      bind.get_weight(layer + "attn_output.weight", {uint64_t{m.n_heads} * m.v_dim, c.n_embd});
}

void bind_experts(Binder& bind, const std::string& layer, const ModelConfig& c, LayerWeights& w) {
  const MoeShape& moe = c.moe;
  w.router = bind.get_weight(layer + "ffn_gate_inp.weight", {c.n_embd, moe.n_experts});
  if (moe.selection_bias || bind.has(layer + "exp_probs_b.bias")) {
    if (!moe.selection_bias)
      bind.refuse(layer + "exp_probs_b.bias", "the first MoE layer has none");
    w.router_bias = w.host_router_bias = bind.get_vector(layer + "exp_probs_b.bias", moe.n_experts);
  }
  w.experts.push_back({0, moe.n_experts, {}});
  ExpertWeights& experts = w.experts.back().w;
  if (bind.has(layer + "ffn_gate_up_exps.weight")) {
    experts.gate_up = bind.get_weight(layer + "ffn_gate_up_exps.weight",
                                      {c.n_embd, 2 * uint64_t{moe.ff_dim}, moe.n_experts});
    experts.gate_up.n_parts = 2;
  } else {
    experts.gate =
        bind.get_weight(layer + "ffn_gate_exps.weight", {c.n_embd, moe.ff_dim, moe.n_experts});
    experts.up =
        bind.get_weight(layer + "ffn_up_exps.weight", {c.n_embd, moe.ff_dim, moe.n_experts});
  }
  experts.down =
      bind.get_weight(layer + "ffn_down_exps.weight", {moe.ff_dim, c.n_embd, moe.n_experts});
  if (moe.n_shared > 0) {
    w.shared = bind_ffn(bind, layer, "_shexp", c.n_embd, uint64_t{moe.ff_dim} * moe.n_shared);
  }
}

ModelWeights bind_all(Binder bind, const ModelConfig& c) {
  ModelWeights w;
  w.token_embd = bind.get("token_embd.weight", {c.n_embd, c.n_vocab});
  w.output_norm = bind.get_vector("output_norm.weight", c.n_embd);
  w.output = bind.get_weight("output.weight", {c.n_embd, c.n_vocab});
  w.layers.resize(c.n_layers);
  for (uint32_t i = 0; i < c.n_layers; ++i) {
    const std::string layer = fmt::format("blk.{}.", i);
    bind_attention(bind, layer, c, w.layers[i]);
    w.layers[i].ffn_norm = bind.get_vector(layer + "ffn_norm.weight", c.n_embd);
    if (c.is_dense_layer(i)) {
      w.layers[i].dense = bind_ffn(bind, layer, "", c.n_embd, c.n_ff_dense);
    } else {
      bind_experts(bind, layer, c, w.layers[i]);
    }
  }
  bind.finish(w);
  return w;
}

}  // namespace

ModelWeights bind_weights(const GgufFile& file, const ModelConfig& config) {
  return bind_all(Binder(file, true), config);
}

ModelWeights describe_weights(const GgufFile& file, const ModelConfig& config) {
  return bind_all(Binder(file, false), config);
}

std::string unused_note(const ModelWeights& weights) {
  const size_t n = weights.unused.size();
  HYBRID_CHECK(n > 0);
  return fmt::format("{} tensors of the file are not used: {}{}", n,
                     printable(weights.unused.front()->info.name), n > 1 ? ", ..." : "");
}

}  // namespace hybrid
