#pragma once
// The library's front door: a model file in, text out.

#include <atomic>
#include <filesystem>
#include <functional>
#include <memory>
#include <optional>
#include <span>
#include <string_view>

#include "runtime/packed_weights.h"
#include "runtime/placement_plan.h"
#include "runtime/placement_request.h"
#include "runtime/run_plan.h"
#include "runtime/sampler.h"
#include "runtime/sequence.h"
#include "runtime/tokenizer.h"

namespace hybrid {

struct EngineOptions {
  std::filesystem::path model = {};
  uint32_t n_ctx = 0;  // 0: what the model was trained for, at most 32768
  ExpertGroups expert_groups = ExpertGroups::automatic;
  ExecutionOptions execution = {};
  PlacementRequest placement = {};  // of rules only those that name this machine's devices
  /// Pack the weights at load, or take them from the model's cache, where there is a valid one; the
  /// scalar level has no use for it.
  bool pack = true;
  bool prepare_decode = true;  // see Model; the scalar level has no use for it, either
  bool prepare_now = true;  // false: the caller has something to check first, then calls prepare()
  LoadProgress on_load = nullptr;
};

/// Why generation ended.
enum class FinishReason { end_of_generation, token_limit, context_full, interrupted };

std::string_view name_of(FinishReason reason);

struct GenerateParams {
  SamplingParams sampling = {};
  int64_t n_predict = -1;                   // -1: until the model ends or the context is full
  const std::atomic<bool>* stop = nullptr;  // looked at between layers
};

struct GenerateResult {
  FinishReason finish = FinishReason::end_of_generation;
  uint32_t n_prompt = 0;        // tokens run through the model before the first new one
  uint32_t n_reused = 0;        // tokens of the prompt that were in the cache already
  uint32_t n_generated = 0;     // without an end-of-generation token
  uint32_t n_decode_steps = 0;  // passes after the prompt's; the first token needs none
  double prefill_seconds = 0;
  double decode_seconds = 0;  // of those passes alone, sampling and output not counted
  LaneUse prefill_lanes = {}, decode_lanes = {};
};

class Engine {
 public:
  /// Opens the model and its tokenizer and checks them against each other. Throws Error.
  explicit Engine(const EngineOptions& options);

  /// Decides where everything goes, for sequences of at most n_ctx. To be called once, before the
  /// first of them and before prepare(), unless prepare_now did, with n_ctx(). Throws Error where
  /// it does not fit.
  void place(uint32_t n_ctx);
  void place() { place(n_ctx_); }

  /// Packs and prepares the weights as the options say. To be called once, unless prepare_now did.
  void prepare();

  const Model& model() const { return model_; }
  const Tokenizer& tokenizer() const { return tokenizer_; }
  const EngineOptions& options() const { return options_; }
  uint32_t n_ctx() const { return n_ctx_; }

  /// What a run with a context of n_ctx takes.
  RunPlan plan(uint32_t n_ctx) const;
  RunSettings settings(uint32_t n_ctx) const;
  /// The placement rules in force, in their order.
  const std::vector<PlacementRule>& rules() const { return rules_; }
  /// The devices beside the CPU, and what lies where; nothing where there are none.
  const std::optional<PlacementPlan>& placement() const { return placement_; }
  /// Why GPUs that were found are not used; or "".
  const std::string& device_note() const { return device_note_; }
  /// What of the model these leave in the mapped file.
  const TensorSet& kept() const { return kept_; }

  /// What may be taken in all, what is taken already among it: what is available, or the budget of
  /// the CPU where that is less.
  uint64_t usable_bytes() const;

  /// Throws Error with the figures where there is not enough memory for it and for the weights that
  /// are still to be prepared: what does not fit is known before minutes of loading.
  Sequence make_sequence(uint32_t n_ctx) const;
  Sequence make_sequence() const { return make_sequence(n_ctx_); }

  /// Throws Error where an id is not in the vocabulary.
  void check_tokens(std::span<const TokenId> tokens) const;

  /// Throws Error where a prompt is empty, longer than the context, or not of this vocabulary.
  void check_prompt(std::span<const TokenId> prompt) const;

  /// Continues a prompt. What of it the sequence already holds is not computed again; what the
  /// sequence holds beyond it is forgotten. Text goes to `on_text` as whole UTF-8 characters.
  /// Throws Error as check_prompt does.
  GenerateResult generate(Sequence& sequence, std::span<const TokenId> prompt,
                          const GenerateParams& params,
                          const std::function<void(std::string_view)>& on_text) const;

 private:
  /// Throws Error where a memory node has not enough left for its slice of the weights.
  void check_node_space() const;
  /// Runs what the sequence does not hold yet; logits of the last token. False where stopped.
  bool prefill(Sequence& sequence, std::span<const TokenId> prompt, const std::atomic<bool>* stop,
               float* logits, GenerateResult& result) const;
  /// Samples from `logits` and feeds the tokens back until there is a reason to finish.
  FinishReason decode(Sequence& sequence, const GenerateParams& params, std::vector<float>& logits,
                      Sampler& sampler, GenerateResult& result,
                      const std::function<void(TokenId)>& on_token) const;

  EngineOptions options_;
  Model model_;
  Tokenizer tokenizer_;
  PlanMachine machine_;
  std::vector<PlacementRule> rules_;
  TensorSet kept_;  // in the file
  std::optional<PlacementPlan> placement_;
  std::string device_note_;
  uint32_t n_ctx_;
};

}  // namespace hybrid
