#include "runtime/model_config.h"

#include <algorithm>
#include <cmath>

#include "base/error.h"

namespace hybrid {
namespace {

/// Reads keys under the architecture's prefix and refuses values no model can have.
class Keys {
 public:
  Keys(const GgufFile& file, std::string prefix)
      : metadata_(file.metadata()), prefix_(std::move(prefix)) {}

  std::string name(std::string_view key) const { return prefix_ + "." + std::string(key); }

  uint32_t required(std::string_view key, uint32_t min, uint32_t max) const {
    return in_range(key, metadata_.get_u32(name(key)), min, max);
  }
  uint32_t optional(std::string_view key, uint32_t fallback, uint32_t min, uint32_t max) const {
    const auto value = metadata_.find_u32(name(key));
    return value ? in_range(key, *value, min, max) : fallback;
  }
  bool has(std::string_view key) const { return metadata_.contains(name(key)); }

  float optional_float(std::string_view key, float fallback) const {
    const auto value = metadata_.find_f32(name(key));
    if (value && !std::isfinite(*value)) {
      fail("{}: key {}: expected a finite number, found {}", metadata_.source(), name(key), *value);
    }
    return value.value_or(fallback);
  }
  float positive_float(std::string_view key, float fallback) const {
    const float value = optional_float(key, fallback);
    if (!(value > 0)) {
      fail("{}: key {}: expected a positive number, found {}", metadata_.source(), name(key),
           value);
    }
    return value;
  }
  bool flag(std::string_view key) const { return metadata_.find_bool(name(key)).value_or(false); }
  const std::string* text(std::string_view key) const { return metadata_.find_string(name(key)); }
  const std::string& source() const { return metadata_.source(); }

 private:
  uint32_t in_range(std::string_view key, uint32_t value, uint32_t min, uint32_t max) const {
    if (value < min || value > max) {
      fail("{}: key {}: expected {} to {}, found {}", metadata_.source(), name(key), min, max,
           value);
    }
    return value;
  }

  const GgufMetadata& metadata_;
  std::string prefix_;
};

constexpr uint32_t kMaxDim = 1u << 20;

const GgufTensor& required_tensor(const GgufFile& file, const std::string& name) {
  const GgufTensor* tensor = file.find(name);
  if (tensor == nullptr) {
    fail("{}: tensor '{}' is missing; the file is incomplete or not a deepseek2 model",
         file.metadata().source(), name);
  }
  return *tensor;
}

/// Files of the newer layout without the *_mla keys leave the true head sizes to the tensors.
void head_sizes_from_tensors(const GgufFile& file, MlaShape& mla, uint32_t& qk_dim) {
  const char* q = mla.q_lora > 0 ? "blk.0.attn_q_b.weight" : "blk.0.attn_q.weight";
  qk_dim = static_cast<uint32_t>(required_tensor(file, q).info.ne[1] / mla.n_heads);
  const uint64_t out = required_tensor(file, "blk.0.attn_output.weight").info.ne[0];
  mla.v_dim = static_cast<uint32_t>(out / mla.n_heads);
}

MlaShape read_mla(const GgufFile& file, const Keys& keys) {
  MlaShape mla;
  mla.n_heads = keys.required("attention.head_count", 1, 4096);
  mla.kv_lora = keys.required("attention.kv_lora_rank", 1, kMaxDim);
  mla.qk_rope = keys.required("rope.dimension_count", 2, 4096);
  // A model without attn_q_a has one matrix for q, whatever a stray key may say.
  if (file.find("blk.0.attn_q.weight") == nullptr) {
    mla.q_lora = keys.required("attention.q_lora_rank", 1, kMaxDim);
  }
  uint32_t qk_dim = 0;
  if (keys.has("attention.key_length_mla")) {
    qk_dim = keys.required("attention.key_length_mla", 1, kMaxDim);
    mla.v_dim = keys.required("attention.value_length_mla", 1, kMaxDim);
  } else if (keys.optional("attention.head_count_kv", mla.n_heads, 1, 4096) == 1 &&
             mla.n_heads > 1) {
    head_sizes_from_tensors(file, mla, qk_dim);
  } else {
    qk_dim = keys.required("attention.key_length", 1, kMaxDim);
    mla.v_dim = keys.required("attention.value_length", 1, kMaxDim);
  }
  if (qk_dim <= mla.qk_rope || mla.qk_rope % 2 != 0) {
    fail("{}: expected an even {} smaller than the key length, found {} of {}", keys.source(),
         keys.name("rope.dimension_count"), mla.qk_rope, qk_dim);
  }
  mla.qk_nope = qk_dim - mla.qk_rope;
  return mla;
}

/// Fills rope and kq_scale; see the header of tensor/rope.h for why YaRN's magnitude is in
/// kq_scale.
void read_rope(const Keys& keys, ModelConfig& config) {
  RopeConfig& rope = config.rope;
  rope.n_dims = config.mla.qk_rope;
  rope.freq_base = keys.positive_float("rope.freq_base", 10000);
  rope.n_ctx_original =
      keys.optional("rope.scaling.original_context_length", config.n_ctx_train, 1, 1u << 30);
  rope.beta_fast = keys.positive_float("rope.scaling.yarn_beta_fast", 32);
  rope.beta_slow = keys.positive_float("rope.scaling.yarn_beta_slow", 1);
  const std::string* type = keys.text("rope.scaling.type");
  const std::string scaling = type != nullptr ? *type : "linear";
  if (type == nullptr && keys.has("rope.scaling.factor")) {
    config.notes.push_back(fmt::format("rope: scaled linearly, because {} is missing",
                                       keys.name("rope.scaling.type")));
  }
  if (scaling != "none" && scaling != "linear" && scaling != "yarn") {
    fail("{}: key {}: expected none, linear or yarn, found '{}'", keys.source(),
         keys.name("rope.scaling.type"), printable(scaling));
  }
  rope.yarn = scaling == "yarn";
  float factor = keys.optional_float("rope.scaling.factor", 1);
  if (factor == 0 || scaling == "none") factor = 1;
  if (!(factor > 0)) {
    fail("{}: key {}: expected a positive number, found {}", keys.source(),
         keys.name("rope.scaling.factor"), factor);
  }
  rope.freq_scale = 1 / factor;
  const double log_multiplier = keys.optional_float("rope.scaling.yarn_log_multiplier", 0);
  const double attn_factor = keys.optional_float("rope.scaling.attn_factor", 1);
  const double mscale = attn_factor * (1 + log_multiplier * std::log(factor));
  config.kq_scale = static_cast<float>(mscale * mscale / std::sqrt(config.mla.qk_dim()));
  if (!std::isfinite(config.kq_scale) || config.kq_scale <= 0 || !std::isfinite(rope.freq_scale)) {
    fail("{}: {}.*: a factor of {}, log multiplier {} and attention factor {} give no usable scale",
         keys.source(), keys.name("rope.scaling"), factor, log_multiplier, attn_factor);
  }
}

Gating read_gating(const Keys& keys, bool has_bias, std::vector<std::string>& notes) {
  const uint32_t func = keys.optional("expert_gating_func", 0, 0, 1000);
  if (func == 1 || func == 2) return static_cast<Gating>(func);
  if (func != 0) {
    fail("{}: key {}: expected 1 (softmax) or 2 (sigmoid), found {}", keys.source(),
         keys.name("expert_gating_func"), func);
  }
  // Selection biases came with sigmoid gating; files from before the key existed have softmax.
  const Gating gating = has_bias ? Gating::sigmoid : Gating::softmax;
  notes.push_back(fmt::format("gating: {}, because {} is missing and the layers have {}",
                              name_of(gating), keys.name("expert_gating_func"),
                              has_bias ? "selection biases" : "no selection bias"));
  return gating;
}

void read_groups(const Keys& keys, ExpertGroups mode, MoeShape& moe,
                 std::vector<std::string>& notes) {
  const bool v3 = moe.gating == Gating::sigmoid || moe.selection_bias;
  uint32_t n_groups = keys.optional("expert_group_count", 1, 0, moe.n_experts);
  uint32_t n_used = keys.optional("expert_group_used_count", n_groups, 0, moe.n_experts);
  const bool in_file = n_groups > 1;
  if (mode == ExpertGroups::off || (mode == ExpertGroups::automatic && !in_file)) {
    notes.push_back(fmt::format(
        "routing: plain top-{} of {} experts ({})", moe.n_used, moe.n_experts,
        mode == ExpertGroups::off ? "--expert-groups off" : "the file has no expert groups"));
    return;
  }
  if (!in_file) {
    n_groups = 8;
    n_used = v3 ? 4 : 3;
  }
  if (n_used < 1 || n_used > n_groups || moe.n_experts % n_groups != 0 ||
      moe.n_experts / n_groups * n_used < moe.n_used) {
    fail(
        "{}: {} experts, {} per token, cannot be routed in {} groups of which {} are used; "
        "--expert-groups off routes without groups",
        keys.source(), moe.n_experts, moe.n_used, n_groups, n_used);
  }
  moe.n_groups = n_groups;
  moe.n_groups_used = n_used;
  moe.group_rule = v3 ? GroupRule::top2_sum : GroupRule::max;
  notes.push_back(fmt::format(
      "routing: top-{} of {} experts within {} of {} groups, a group's score is the {} ({})",
      moe.n_used, moe.n_experts, n_used, n_groups, v3 ? "sum of its two best" : "best one",
      in_file ? "from the file" : "--expert-groups on, the model family's numbers"));
}

MoeShape read_moe(const GgufFile& file, const Keys& keys, ExpertGroups groups,
                  ModelConfig& config) {
  MoeShape moe;
  moe.n_experts = keys.optional("expert_count", 0, 0, 65536);
  if (moe.n_experts == 0) {
    config.n_dense_lead = config.n_layers;
    if (groups != ExpertGroups::automatic) {
      fail("--expert-groups: {} has no experts; leave it out", keys.source());
    }
    return moe;
  }
  moe.n_used = keys.required("expert_used_count", 1, moe.n_experts);
  moe.n_shared = keys.optional("expert_shared_count", 0, 0, 1024);
  moe.ff_dim = keys.required("expert_feed_forward_length", 1, kMaxDim);
  moe.normalize_weights = keys.flag("expert_weights_norm");
  moe.weights_scale = keys.optional_float("expert_weights_scale", 0);
  if (moe.weights_scale == 0) {  // what some files write for "not set"
    moe.weights_scale = 1;
    config.notes.push_back(
        fmt::format("expert weights: not scaled, {} is missing or 0; V3 has 2.5, V2 16, Lite 1",
                    keys.name("expert_weights_scale")));
  }
  const std::string bias = fmt::format("blk.{}.exp_probs_b.bias", config.n_dense_lead);
  moe.selection_bias = file.find(bias) != nullptr;
  moe.gating = read_gating(keys, moe.selection_bias, config.notes);
  read_groups(keys, groups, moe, config.notes);
  return moe;
}

}  // namespace

ModelConfig read_model_config(const GgufFile& file, ExpertGroups groups) {
  const GgufMetadata& metadata = file.metadata();
  ModelConfig config;
  config.architecture = metadata.get_string("general.architecture");
  if (config.architecture != "deepseek2") {
    fail("{}: architecture '{}' is not supported; supported: deepseek2", metadata.source(),
         printable(config.architecture));
  }
  const std::string* name = metadata.find_string("general.name");
  config.name =
      name != nullptr ? printable(*name) : printable(file.parts().front().path.filename().string());

  const Keys keys(file, config.architecture);
  const uint32_t n_blocks = keys.required("block_count", 1, 4096);
  config.n_layers = n_blocks - keys.optional("nextn_predict_layers", 0, 0, n_blocks - 1);
  config.n_dense_lead = keys.optional("leading_dense_block_count", 0, 0, config.n_layers);
  config.n_embd = keys.required("embedding_length", 1, kMaxDim);
  config.n_ctx_train = keys.required("context_length", 1, 1u << 30);
  config.rms_epsilon = keys.positive_float("attention.layer_norm_rms_epsilon", 1e-6f);
  const uint64_t n_vocab = required_tensor(file, "token_embd.weight").info.ne[1];
  if (n_vocab < 1 || n_vocab > (1u << 30)) {
    fail("{}: tensor 'token_embd.weight': expected 1 to {} rows, found {}", metadata.source(),
         1u << 30, n_vocab);
  }
  config.n_vocab = static_cast<uint32_t>(n_vocab);
  config.mla = read_mla(file, keys);
  read_rope(keys, config);
  config.moe = read_moe(file, keys, groups, config);
  if (config.n_dense_lead > 0) config.n_ff_dense = keys.required("feed_forward_length", 1, kMaxDim);
  return config;
}

}  // namespace hybrid
