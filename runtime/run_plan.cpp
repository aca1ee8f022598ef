#include "runtime/run_plan.h"

#include <algorithm>
#include <unordered_map>

#include "base/error.h"
#include "base/units.h"
#include "runtime/packed_weights.h"
#include "tensor/simd_level.h"

namespace hybrid {
namespace {

constexpr uint32_t kDefaultMaxContext = 32768;
constexpr uint64_t kCandidateBytes = 16;  // of the sampler, for each token of the vocabulary

/// What products read in panels, with its bytes.
std::unordered_map<const GgufTensor*, uint64_t> packed_sizes(const ModelWeights& weights,
                                                             const RunSettings& settings) {
  std::unordered_map<const GgufTensor*, uint64_t> sizes;
  if (!settings.pack) return sizes;
  for (const Weight* w : packable_weights(weights, settings.kept)) {
    sizes[w->source] += packed_bytes(*w) + packed_panels(*w);  // of all its parts
  }
  return sizes;
}

/// What is made of the up-projections, by the tensor that it is counted with.
struct MadeBytes {
  uint64_t decode = 0;
  uint64_t gpu_keys = 0;
};
std::unordered_map<const GgufTensor*, MadeBytes> made_sizes(const ModelConfig& config,
                                                            const ModelWeights& weights) {
  std::unordered_map<const GgufTensor*, MadeBytes> sizes;
  for (const LayerWeights& w : weights.layers) {
    sizes[w.kv_a.source] = {
        mla_decode_bytes(config.mla, w.kv_up) + mla_decode_panels(config.mla, w.kv_up),
        mla_key_bytes(config.mla, w.kv_up)};
  }
  return sizes;
}

bool is_up_projection(const GgufTensor& tensor) {
  const std::string& name = tensor.info.name;
  return name.find(".attn_kv_b.") != std::string::npos ||
         name.find(".attn_k_b.") != std::string::npos ||
         name.find(".attn_v_b.") != std::string::npos;
}

/// Of the weights that stay as the file has them and whose products take panels.
uint64_t most_spot_bytes(const ModelWeights& weights,
                         const std::unordered_map<const GgufTensor*, uint64_t>& packed) {
  uint64_t n = 0;
  if (simd_level() == SimdLevel::scalar) return 0;
  for_weights(weights, [&](const Weight& w) {
    if (w.type() == DType::f32 || packed.contains(w.source)) return;
    n = std::max(n, on_the_spot_thread_bytes(w));
  });
  return n;
}

}  // namespace

uint32_t default_context(const ModelConfig& config) {
  return std::min(config.n_ctx_train, kDefaultMaxContext);
}

std::string_view name_of(TensorLayout layout) {
  switch (layout) {
    case TensorLayout::panels:
      return "panels";
    case TensorLayout::mapped:
      return "mapped";
    case TensorLayout::floats:
      return "floats";
    default:
      return "unused";
  }
}

WeightBytes& WeightBytes::operator+=(const WeightBytes& other) {
  panels += other.panels;
  decode += other.decode;
  floats += other.floats;
  mapped += other.mapped;
  return *this;
}

uint64_t RunPlan::activation_bytes() const {
  return sequence.activation_bytes() + sequence.n_threads * spot_thread_bytes + output_bytes;
}

uint64_t RunPlan::needed_bytes() const {
  return weights.taken() + sequence.cache_bytes + activation_bytes();
}

std::string RunPlan::why_not(uint64_t available_bytes) const {
  if (std::string refusal = sequence.attention.refusal(); !refusal.empty()) return refusal;
  if (needed_bytes() <= available_bytes) return {};
  const bool unpacked_fits = needed_bytes() - weights.panels <= available_bytes;
  return fmt::format("not enough memory: the weights need {}, {}, available are {}; {}",
                     format_bytes(weights.taken()), sequence.needs(), format_bytes(available_bytes),
                     settings.pack && unpacked_fits
                         ? "with -rtr 0 the program runs from the mapped file, slower"
                         : "lower -c or -ub, or take a smaller model");
}

RunPlan plan_run(const GgufFile& file, const ModelConfig& config, const ModelWeights& weights,
                 const RunSettings& settings) {
  RunPlan plan{.settings = settings,
               .sequence = plan_sequence(
                   config, weights, settings.n_ctx > 0 ? settings.n_ctx : default_context(config),
                   settings.execution)};
  plan.settings.n_ctx = plan.sequence.n_ctx;
  plan.output_bytes = config.n_vocab * (sizeof(float) + kCandidateBytes);
  const auto packed = packed_sizes(weights, settings);
  const auto made = made_sizes(config, weights);
  const TensorSet copied(weights.copied.begin(), weights.copied.end());
  const TensorSet unused(weights.unused.begin(), weights.unused.end());
  for (const GgufTensor& tensor : file.tensors()) {
    PlannedTensor planned{&tensor};
    if (const auto in_panels = packed.find(&tensor); in_panels != packed.end()) {
      planned.layout = TensorLayout::panels;
      planned.bytes.panels = in_panels->second;
    } else if (copied.contains(&tensor)) {
      planned.layout = TensorLayout::floats;
      planned.bytes.floats = tensor.info.ne[0] * sizeof(float);
    } else if (unused.contains(&tensor)) {
      planned.layout = TensorLayout::unused;
    } else {
      planned.bytes.mapped = tensor.info.n_bytes;
    }
    planned.is_up_projection = is_up_projection(tensor);
    if (const auto of_layer = made.find(&tensor); of_layer != made.end()) {
      planned.gpu_decode_bytes = of_layer->second.decode;
      planned.gpu_key_bytes = of_layer->second.gpu_keys;
      if (settings.prepare_decode) planned.bytes.decode = of_layer->second.decode;
    }
    plan.weights += planned.bytes;
    plan.tensors.push_back(planned);
  }
  plan.spot_thread_bytes = most_spot_bytes(weights, packed);
  return plan;
}

ModelHeaders::ModelHeaders(const std::filesystem::path& path, ExpertGroups groups)
    : file(GgufFile::open(path, {.data_required = false})),
      config(read_model_config(file, groups)),
      weights(describe_weights(file, config)) {
  if (!weights.unused.empty()) config.notes.push_back(unused_note(weights));
}

}  // namespace hybrid
