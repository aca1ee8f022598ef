#pragma once
// What a run takes and where its tensors go, from headers and options alone. The engine checks by
// it before it loads; `plan` shows it.

#include <cstdint>
#include <filesystem>
#include <string>
#include <vector>

#include "runtime/sequence_plan.h"

namespace hybrid {

/// What a run is asked for.
struct RunSettings {
  uint32_t n_ctx = 0;  // 0: default_context()
  ExecutionOptions execution = {};
  bool pack = true;            // -rtr
  bool prepare_decode = true;  // see Model; the scalar level has no use for it
  TensorSet kept = {};         // of them none is packed: rules leave them in the mapped file
};

/// What the model was trained for, at most 32768.
uint32_t default_context(const ModelConfig& config);

enum class TensorLayout {
  panels,  // packed into memory of its own
  mapped,  // read as it lies in the file
  floats,  // norms and biases, copied
  unused,
};
std::string_view name_of(TensorLayout layout);

struct WeightBytes {
  uint64_t panels = 0;  // with their exponents
  uint64_t decode = 0;  // the attention weights of single tokens
  uint64_t floats = 0;
  uint64_t mapped = 0;  // the system may drop these pages and read them again

  uint64_t taken() const { return panels + decode + floats; }
  uint64_t all() const { return taken() + mapped; }
  WeightBytes& operator+=(const WeightBytes& other);
};

struct PlannedTensor {
  const GgufTensor* tensor = nullptr;
  TensorLayout layout = TensorLayout::mapped;
  WeightBytes bytes = {};  // those for single tokens stand at the layer's attn_kv_a_mqa
  // On a GPU, all that is made of the up-projections stands there, and these take nothing.
  uint64_t gpu_decode_bytes = 0, gpu_key_bytes = 0;
  bool is_up_projection = false;  // attn_kv_b, attn_k_b, attn_v_b
};

struct RunPlan {
  RunSettings settings;  // with the context decided
  SequencePlan sequence;
  WeightBytes weights = {};
  uint64_t spot_thread_bytes = 0;           // what each thread keeps to pack weights on the spot
  uint64_t output_bytes = 0;                // a row of logits, and the sampler's candidates
  std::vector<PlannedTensor> tensors = {};  // of the file, in its order

  uint64_t activation_bytes() const;
  /// All but mapped pages: what has to be there.
  uint64_t needed_bytes() const;

  /// Why it cannot run where so many bytes are available; "" where it can.
  std::string why_not(uint64_t available_bytes) const;
};

/// `weights`: bound or described (runtime/weights.h); the tensors are those of `file`.
RunPlan plan_run(const GgufFile& file, const ModelConfig& config, const ModelWeights& weights,
                 const RunSettings& settings);

/// A model as plans look at it: types, shapes and sources of its weights, not their bytes. Owns
/// nothing.
struct ModelView {
  const GgufFile& file;
  const ModelConfig& config;
  const ModelWeights& weights;
};

/// A model of which headers alone are read; the file may end behind them.
struct ModelHeaders {
  GgufFile file;
  ModelConfig config;
  ModelWeights weights;

  operator ModelView() const { return {file, config, weights}; }

  /// Throws Error as Model does.
  ModelHeaders(const std::filesystem::path& path, ExpertGroups groups);
};

}  // namespace hybrid
