#pragma once
// What a layer's operations read, write and multiply, from shapes alone: the modelled time of
// simulated devices, and of a host beside them.

#include <vector>

#include "runtime/layer_ops.h"
#include "runtime/sequence_plan.h"
#include "tensor/simulated_device.h"

namespace hybrid {

class OpWork {
 public:
  /// The config outlives it.
  OpWork(const ModelConfig& config, const SequencePlan& plan)
      : config_(config), attention_(plan.attention.options()), slots_(plan.n_in_flight) {}

  void begin(uint32_t slot, const MicroBatch& batch);
  void select(uint32_t slot) { now_ = &slots_[slot]; }
  void set_input(uint32_t n_rows) { n_input_rows_ = n_rows; }
  uint32_t n_tokens() const { return now_->n_tokens; }

  /// Rows of floats that are read or written.
  static DeviceWork rows(uint64_t n_floats) { return {n_floats * sizeof(float), 0}; }
  DeviceWork add() const { return rows(uint64_t{3} * n_tokens() * config_.n_embd); }
  DeviceWork product(const Weight& w) const;
  DeviceWork rotate_queries() const;
  DeviceWork store_latents() const;
  DeviceWork attend(const LayerWeights& w) const;
  DeviceWork gated_ffn(const FfnWeights& w) const;
  DeviceWork route() const { return rows(uint64_t{n_tokens()} * config_.moe.n_experts); }
  /// Of a part's share of the micro-batch's slots.
  DeviceWork experts(const ExpertPart& part) const;

 private:
  struct Slot {
    uint32_t n_tokens = 0;
    DeviceWork attention;  // of a layer in this step
  };
  const ModelConfig& config_;
  const AttentionOptions attention_;
  std::vector<Slot> slots_;
  Slot* now_ = nullptr;
  uint32_t n_input_rows_ = 0;
};

}  // namespace hybrid
