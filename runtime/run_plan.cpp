#include "runtime/run_plan.h"

#include <algorithm>

#include "base/error.h"
#include "base/units.h"
#include "runtime/packed_weights.h"
#include "tensor/simd_level.h"

namespace hybrid {
namespace {

constexpr uint32_t kDefaultMaxContext = 32768;
constexpr uint64_t kCandidateBytes = 16;  // of the sampler, for each token of the vocabulary

TensorSet sources_of(const std::vector<const Weight*>& weights) {
  TensorSet set;
  for (const Weight* w : weights) set.insert(w->source);
  return set;
}

WeightBytes sum_weights(const ModelConfig& config, const ModelWeights& weights,
                        const RunSettings& settings) {
  WeightBytes n;
  if (settings.pack) {
    for (const Weight* w : packable_weights(weights, settings.kept))
      n.panels += packed_bytes(*w) + packed_panels(*w);
  }
  if (settings.prepare_decode) {
    for (const LayerWeights& w : weights.layers) {
      n.decode += mla_decode_bytes(config.mla, w.kv_up) + mla_decode_panels(config.mla, w.kv_up);
    }
  }
  return n;
}

/// Of the weights that stay as the file has them and whose products take panels.
uint64_t most_spot_bytes(const ModelWeights& weights, const TensorSet& packed) {
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
                   settings.execution),
               .weights = sum_weights(config, weights, settings)};
  plan.settings.n_ctx = plan.sequence.n_ctx;
  plan.output_bytes = config.n_vocab * (sizeof(float) + kCandidateBytes);
  const TensorSet packed = settings.pack ? sources_of(packable_weights(weights, settings.kept)) : TensorSet{};
  const TensorSet copied(weights.copied.begin(), weights.copied.end());
  const TensorSet unused(weights.unused.begin(), weights.unused.end());
  for (const GgufTensor& tensor : file.tensors()) {
    PlannedTensor planned{&tensor};
    if (packed.contains(&tensor)) {
      planned.layout = TensorLayout::panels;
    } else if (copied.contains(&tensor)) {
      planned.layout = TensorLayout::floats;
      plan.weights.floats += tensor.info.ne[0] * sizeof(float);
    } else if (unused.contains(&tensor)) {
      planned.layout = TensorLayout::unused;
    } else {
      plan.weights.mapped += tensor.info.n_bytes;
    }
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
