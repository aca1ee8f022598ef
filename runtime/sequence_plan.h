#pragma once
// What a sequence takes, from numbers alone: Sequence takes it by these, `plan` shows them.

#include <cstdint>
#include <memory>
#include <string>

#include "attention/mla_attention.h"
#include "placement/prompt_cut.h"
#include "runtime/host_ops.h"
#include "runtime/node_use.h"

namespace hybrid {

class Trace;

struct ExecutionOptions {
  uint32_t n_batch = 2048;
  uint32_t n_ubatch = 512;
  int n_threads = 1;        // for single tokens
  int n_threads_batch = 1;  // for more than one
  AttentionOptions attention = {};
  bool fused_moe = true;  // false: composed_ffn.h
  /// Micro-batches of a prompt that are begun and not ended: two keep a device busy while the host
  /// computes experts.
  uint32_t n_in_flight = 1;
  bool split_experts = false;  // some layer's routed experts may lie on several processors
  Trace* trace = nullptr;      // filled with what is done when
  /// The memory nodes that threads are at and weights are cut over; null: the system's choice.
  std::shared_ptr<const NodeUse> nodes = nullptr;
};

struct SequencePlan {
  uint32_t n_ctx = 0;
  uint32_t n_ubatch = 0;  // the largest micro-batch that there is
  KvCache::Shape cache;
  MlaPlan attention;
  bool fused_moe = true;
  uint32_t n_in_flight = 1;  // see ExecutionOptions; 1 where one holds the whole context
  uint32_t n_in_pass = 1;    // micro-batches that are run in one pass: those of -b, with devices
  bool split_experts = false;
  uint64_t cache_bytes = 0;
  uint64_t row_bytes = 0;     // between operations (Activations), of all micro-batches in flight
  uint64_t buffer_bytes = 0;  // of micro-batches on the CPU: these, and those of HostOps
  uint64_t thread_bytes = 0;  // that each thread keeps beside them, at most
  uint32_t n_threads = 0;     // that keep them

  PromptCut prompt_cut() const { return {n_ubatch, n_in_flight, n_in_pass}; }
  HostOps::Sizes host_sizes() const { return {n_ubatch, n_in_flight, fused_moe}; }
  uint64_t activation_bytes() const { return buffer_bytes + n_threads * thread_bytes; }
  uint64_t n_bytes() const { return cache_bytes + activation_bytes(); }
  /// "the cache of 4096 tokens needs 1 GiB, a micro-batch of 512 tokens 20.0 MiB"
  std::string needs() const;
};

/// The weights' types and shapes matter, not their bytes; what products with weights that were not
/// packed keep is not in it (on_the_spot_thread_bytes()). Throws Error where a number does not fit
/// 64 bits.
SequencePlan plan_sequence(const ModelConfig& config, const ModelWeights& weights, uint32_t n_ctx,
                           const ExecutionOptions& options);

}  // namespace hybrid
