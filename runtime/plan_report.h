#pragma once
// What a run would take and where its tensors would go, for `hybrid-run plan`: as text for people,
// as JSON for programs.

#include <nlohmann/json.hpp>
#include <string>

#include "runtime/run_plan.h"

namespace hybrid {

/// The memory that a plan is held against.
struct MachineMemory {
  uint64_t total_bytes = 0;
  uint64_t available_bytes = 0;  // what this process can still take: `run` checks against it
};

/// What a person should know before running, a sentence each.
std::vector<std::string> plan_warnings(const ModelHeaders& model, const RunPlan& plan,
                                       const MachineMemory& memory);

/// Lines, each ended: the model, the memory, attention, the tensors by kind, whether it fits.
std::string plan_text(const ModelHeaders& model, const RunPlan& plan, const MachineMemory& memory);

/// Numbers in base units: bytes, tokens. What is not known is null, with the reason beside it.
///   model        {name, architecture, path, n_layers, n_params, file_bytes, n_ctx_train, notes}
///   context, n_batch, n_ubatch, n_threads, n_threads_batch, isa
///   devices      [{name, kind, simulated, capacity_bytes: what can be taken now, total_bytes,
///                weights_bytes, kv_bytes, activation_bytes, staging_bytes, free_bytes,
///                weights: {panels_bytes, decode_bytes, floats_bytes, mapped_bytes},
///                activations: {buffer_bytes, thread_bytes: of each at most, n_threads,
///                output_bytes}}]
///                free_bytes: of capacity_bytes, 0 where the rest needs more; mapped pages are in
///                weights_bytes, but need not fit
///   attention    {mla, fa, amb_bytes: 0 for no limit, ctk, ctv, cache_row_bytes: of a position and
///                head, n_cache_heads, cache_bytes, transposed_bytes: of them, scratch_bytes,
///                scores_bytes, scores_{heads,tokens}_per_step and scores_steps of a whole
///                micro-batch at the end of the context (0 with fa), unabsorbed_bytes,
///                unabsorbed_heads_per_step, unabsorbed_block_positions, thread_bytes,
///                crossover: [{n_past, n_tokens: fewest that are un-absorbed there, or null}]}
///   fits, why_not: "" where it fits; warnings
///   predicted    {pp_tps, tg_tps, basis}
///   rules        []
///   tensors      [{name, type, shape, bytes, device, node, layout: panels | mapped | floats |
///                unused, rule}]
nlohmann::ordered_json plan_json(const ModelHeaders& model, const RunPlan& plan,
                                 const MachineMemory& memory);

}  // namespace hybrid
