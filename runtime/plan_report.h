#pragma once
// What a run would take and where its tensors would go, for `hybrid-run plan`: as text for people,
// as JSON for programs.

#include <nlohmann/json_fwd.hpp>
#include <string>

#include "runtime/placement_plan.h"

namespace hybrid {

/// An option that was given, and who gave it: "command line", "config FILE".
struct PlanSetting {
  std::string name, value, source;
};

/// What a report says beside the plan.
struct PlanContext {
  uint32_t largest_context = 0;  // see placement_plan.h
  std::vector<PlanSetting> settings = {};
};

/// What a person should know before running, a sentence each.
std::vector<std::string> plan_warnings(const ModelHeaders& model, const PlacementPlan& plan);

/// Lines, each ended: the model, the memory of each device, layers and rules, attention, the
/// tensors by kind, whether it fits.
std::string plan_text(const ModelHeaders& model, const PlacementPlan& plan,
                      const PlanContext& context);

/// Numbers in base units: bytes, tokens. What is not known is null, with the reason beside it.
///   model        {name, architecture, path, n_layers, n_params, file_bytes, n_ctx_train, notes}
///   machine      the name of a described machine, else null
///   context, n_batch, n_ubatch, n_threads, n_threads_batch, isa
///   largest_context: that fits, 0 for none
///   settings     [{name, value, source: "command line" or "config FILE"}], of options given
///   devices      [{name, kind, simulated, label, capacity_bytes: what can be taken now,
///                total_bytes, budget_bytes: what the plan may take, weights_bytes, kv_bytes,
///                activation_bytes, context_bytes: of a GPU's driver and libraries, with a margin,
///                staging_bytes, free_bytes}], and of the CPU
///                weights: {panels_bytes, decode_bytes, floats_bytes, mapped_bytes},
///                activations: {buffer_bytes, thread_bytes: of each at most, n_threads,
///                output_bytes}
///                free_bytes: of capacity_bytes, 0 where the rest needs more; mapped pages are in
///                weights_bytes, but need not fit. DISK is among them where rules leave something
///                there: it takes no memory, its capacity is what lies on it
///   attention    {mla, fa, amb_bytes: 0 for no limit, ctk, ctv, cache_row_bytes: of a position and
///                head, n_cache_heads, cache_bytes, transposed_bytes: of them, scratch_bytes,
///                scores_bytes, scores_{heads,tokens}_per_step and scores_steps of a whole
///                micro-batch at the end of the context (0 with fa), unabsorbed_bytes,
///                unabsorbed_heads_per_step, unabsorbed_block_positions, thread_bytes,
///                crossover: [{n_past, n_tokens: fewest that are un-absorbed there, or null}]}
///   fits, why_not: "" where it fits; warnings
///   predicted    {pp_tps: of a prompt of one micro-batch, tg_tps: behind an empty context,
///                contexts: [{n_past, pp_tps, tg_tps: the same behind so many tokens}], basis}
///   rules        [{pattern, device, experts: "0-31" or null, origin, matched: tensors, decided: of
///                them}]
///   tensors      [{name, type, shape, bytes, role, device, node, layout: panels | mapped | floats
///                | rows: on a simulated device | unused, rule: "PATTERN=DEVICE" or null}], and,
///                where experts of a tensor lie apart, parts: [{experts, device, node, layout,
///                rule}]
nlohmann::ordered_json plan_json(const ModelHeaders& model, const PlacementPlan& plan,
                                 const PlanContext& context);

}  // namespace hybrid
