#include "runtime/engine.h"

#include <algorithm>
#include <chrono>

#include "base/error.h"
#include "numa/memory_info.h"
#include "runtime/devices.h"
#include "runtime/tensor_parts.h"

namespace hybrid {
namespace {

using Clock = std::chrono::steady_clock;

double seconds_since(Clock::time_point start) {
  return std::chrono::duration<double>(Clock::now() - start).count();
}

/// How many leading tokens of the prompt the sequence already holds. The last one is always run
/// again: its logits are needed.
size_t reusable_prefix(const Sequence& sequence, std::span<const TokenId> prompt) {
  const auto& held = sequence.tokens();
  const auto [a, b] = std::mismatch(held.begin(), held.end(), prompt.begin(), prompt.end());
  return std::min<size_t>(a - held.begin(), prompt.size() - 1);
}

/// Why a run does better without the devices that were found; or "".
}  // namespace

std::string_view name_of(FinishReason reason) {
  switch (reason) {
    case FinishReason::end_of_generation:
      return "end of generation";
    case FinishReason::token_limit:
      return "token limit (-n)";
    case FinishReason::context_full:
      return "context full (-c)";
    default:
      return "interrupted";
  }
}

Engine::Engine(const EngineOptions& options)
    : options_(options),
      model_(options.model, options.expert_groups),
      tokenizer_(model_.file().metadata()) {
  const ModelConfig& config = model_.config();
  if (static_cast<uint32_t>(tokenizer_.n_vocab()) != config.n_vocab) {
    fail(
        "{}: tensor 'token_embd.weight': expected {} rows, as many as tokenizer.ggml.tokens has "
        "entries, found {}",
        model_.file().metadata().source(), tokenizer_.n_vocab(), config.n_vocab);
  }
  n_ctx_ = options.n_ctx > 0 ? options.n_ctx : default_context(config);
  machine_ = with_budgets(this_machine(options.placement.devices), options.placement);
  rules_ = options.placement.all_rules(config.n_layers, machine_);
  kept_ = tensors_on_disk(model_.file(), rules_);
  options_.execution.split_experts = splits_experts(rules_, machine_);
  model_.set_nodes(options_.execution.nodes);
  if (!options.prepare_now) return;
  place();
  prepare();
}

RunPlan Engine::plan(uint32_t n_ctx) const {
  return plan_run(model_.file(), model_.config(), model_.weights(), settings(n_ctx));
}

RunSettings Engine::settings(uint32_t n_ctx) const {
  return {n_ctx, options_.execution, options_.pack, options_.prepare_decode, kept_};
}

void Engine::place(uint32_t n_ctx) {
  if (!machine_.has_accelerators()) return;
  const ModelView view{model_.file(), model_.config(), model_.weights()};
  placement_ = plan_placement(view, settings(n_ctx), rules_, machine_);
  const PlacementPlan& plan = *placement_;
  // Nobody expects the CPU to compute instead.
  if (!plan.missing.empty()) throw Error(plan.missing);
  if (options_.placement.devices_are_found && rules_.empty()) {
    device_note_ = why_not_used(plan);
    if (!device_note_.empty()) {
      machine_ = with_budgets(this_machine(), options_.placement);
      placement_.reset();
      options_.execution.n_in_flight = 1;
      options_.execution.split_experts = false;
      return;
    }
  }
  if (!plan.fits()) throw Error(hybrid::why_not(view, plan));
  model_.place(plan.where, open_devices(machine_));
}

uint64_t Engine::usable_bytes() const {
  // What has been prepared already is no longer among what is available.
  const uint64_t is_there = model_.packed_bytes() + model_.decode_bytes();
  uint64_t n = std::min(available_memory_bytes(), UINT64_MAX - is_there) + is_there;
  for (const DeviceBudget& budget : options_.placement.budgets) {
    if (budget.device.kind == DeviceKind::cpu) n = std::min(n, budget.budget_bytes);
  }
  return n;
}

Sequence Engine::make_sequence(uint32_t n_ctx) const {
  if (!placement_) {
    const std::string reason = plan(n_ctx).why_not(usable_bytes());
    if (!reason.empty()) throw Error(reason);
  }
  check_node_space();
  return {model_, n_ctx, options_.execution};
}

void Engine::check_node_space() const {
  const NodeUse* nodes = options_.execution.nodes.get();
  if (nodes == nullptr || !options_.pack || model_.is_packed()) return;
  const std::vector<const Weight*> weights = model_.weights_to_pack(kept_);
  hybrid::check_node_space(node_shares(nodes->plan, packed_slice_bytes(weights, &nodes->plan)),
                           read_node_memory(), kPackedWeightsName);
}

void Engine::prepare() {
  if (!options_.pack && !options_.prepare_decode && !placement_) return;
  const ExecutionOptions& execution = options_.execution;
  const std::unique_ptr<Workers> made =
      make_workers(execution.nodes.get(), std::max(execution.n_threads, execution.n_threads_batch));
  Workers& workers = *made;
  const ScopedPin pin = workers.pin_caller();
  model_.load_devices(options_.pack, options_.prepare_decode, kept_, workers, options_.on_load);
  if (options_.prepare_decode) model_.prepare_decode(workers);
  if (options_.pack) {
    model_.load_packed(workers, options_.on_load, kept_);
  }
}

void Engine::check_tokens(std::span<const TokenId> tokens) const {
  for (const TokenId id : tokens) {
    if (id < 0 || static_cast<uint32_t>(id) >= model_.config().n_vocab) {
      fail("token id {} is out of range: the vocabulary has ids 0 to {}", id,
           model_.config().n_vocab - 1);
    }
  }
}

void Engine::check_prompt(std::span<const TokenId> prompt) const {
  if (prompt.empty()) fail("the prompt is empty and the model has no BOS token to begin with");
  if (prompt.size() > n_ctx_) {
    fail("the prompt has {} tokens, the context {}; raise -c or shorten the prompt", prompt.size(),
         n_ctx_);
  }
  check_tokens(prompt);
}

GenerateResult Engine::generate(Sequence& sequence, std::span<const TokenId> prompt,
                                const GenerateParams& params,
                                const std::function<void(std::string_view)>& on_text) const {
  check_prompt(prompt);
  GenerateResult result;
  std::vector<float> logits(model_.config().n_vocab);

  const LaneUse use_before = sequence.lane_use();
  const auto prefill_start = Clock::now();
  const bool complete = prefill(sequence, prompt, params.stop, logits.data(), result);
  result.prefill_seconds = seconds_since(prefill_start);
  const LaneUse use_between = sequence.lane_use();
  result.prefill_lanes = use_between.since(use_before);
  if (!complete) {
    result.finish = FinishReason::interrupted;
    return result;
  }
  Sampler sampler(params.sampling);
  for (const TokenId id : prompt) sampler.accept(id);
  Utf8Stream stream;
  result.finish = decode(sequence, params, logits, sampler, result, [&](TokenId token) {
    const std::string text = stream.push(tokenizer_.piece(token));
    if (!text.empty()) on_text(text);
  });
  result.decode_lanes = sequence.lane_use().since(use_between);
  if (const std::string rest = stream.finish(); !rest.empty()) on_text(rest);
  return result;
}

bool Engine::prefill(Sequence& sequence, std::span<const TokenId> prompt,
                     const std::atomic<bool>* stop, float* logits, GenerateResult& result) const {
  result.n_reused = static_cast<uint32_t>(reusable_prefix(sequence, prompt));
  result.n_prompt = static_cast<uint32_t>(prompt.size()) - result.n_reused;
  sequence.truncate(result.n_reused);
  Sequence::AppendArgs args;
  args.tokens = prompt.subspan(result.n_reused);
  args.n_logit_rows = 1;
  args.logits = logits;
  args.stop = stop;
  return sequence.append(args);
}

FinishReason Engine::decode(Sequence& sequence, const GenerateParams& params,
                            std::vector<float>& logits, Sampler& sampler, GenerateResult& result,
                            const std::function<void(TokenId)>& on_token) const {
  while (params.n_predict < 0 || result.n_generated < params.n_predict) {
    const TokenId token = sampler.sample(logits);
    if (tokenizer_.is_end_of_generation(token)) return FinishReason::end_of_generation;
    ++result.n_generated;
    on_token(token);
    if (result.n_generated == params.n_predict) break;  // its logits would not be used
    if (sequence.n_free() == 0) return FinishReason::context_full;
    Sequence::AppendArgs args;
    args.tokens = std::span(&token, 1);
    args.n_logit_rows = 1;
    args.logits = logits.data();
    args.stop = params.stop;
    const auto start = Clock::now();
    if (!sequence.append(args)) return FinishReason::interrupted;
    result.decode_seconds += seconds_since(start);
    ++result.n_decode_steps;
  }
  return FinishReason::token_limit;
}

}  // namespace hybrid
