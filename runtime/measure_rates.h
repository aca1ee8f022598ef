#pragma once
// Measures the rates of the kernels that a model's step consists of, each alone, on random bytes in
// the shapes of the model's matrices: from these `plan` predicts. No step of the model is run.

#include <atomic>
#include <vector>

#include "numa/workers.h"
#include "placement/rates.h"
#include "runtime/sequence_plan.h"

namespace hybrid {

/// A product of the model, or its nets of one type.
struct RateKind {
  RateOp op = RateOp::product;
  DType type = DType::f32;
  uint64_t n_cols = 0;
  uint64_t n_rows = 0;  // of a net: of gate and up
};

struct RateRequest {
  std::vector<RateKind> kinds;
  uint32_t n_used = 1;     // experts of a token
  uint32_t n_experts = 1;  // of a layer
  uint32_t n_layers = 1;
  MlaShape attention = {};
  DType up_type = DType::f32;     // of the projections from latents
  DType cache_type = DType::f16;  // of cached rows
  bool packed = true;
};

/// Of each op and type of the model the largest matrix.
RateRequest rates_needed(const ModelConfig& config, const ModelWeights& weights, DType cache_type,
                         bool packed);

/// Takes a buffer of at most buffer_bytes (far beyond the caches is best) and some seconds, fewer
/// than 5 on the machine of docs/measurements.md. At the level in force, with all workers. Fewer
/// rates where `stop` ended it. Throws Error where the memory cannot be had.
std::vector<MeasuredRate> measure_rates(const RateRequest& request, uint64_t buffer_bytes,
                                        Workers& workers, const std::atomic<bool>* stop = nullptr);

}  // namespace hybrid
