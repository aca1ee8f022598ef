#pragma once
// Measures the rates of the kernels that a model's step consists of, each alone, on random bytes in
// the shapes of the model's matrices: from these `plan` predicts. No step of the model is run.

#include <atomic>
#include <vector>

#include "numa/workers.h"
#include "placement/rates.h"
#include "runtime/sequence_plan.h"

namespace hybrid {

struct MatrixSize {
  uint64_t n_cols = 0, n_rows = 0;
  bool same_input = false;  // takes the tokens that the matrix before it takes
};

/// A layer's products with matrices of a type, or its nets of one type.
struct RateKind {
  RateOp op = RateOp::product;
  DType type = DType::f32;
  bool packed = true;                  // at load; else on the spot
  std::vector<MatrixSize> sizes = {};  // of nets one: of gate and up
};

struct RateRequest {
  std::vector<RateKind> kinds;
  uint64_t n_embd = 0;
  uint32_t n_layers = 1;
  MoeShape moe = {};
  MlaShape attention = {};
  DType up_type = DType::f32;     // of the projections from latents
  DType cache_type = DType::f16;  // of cached rows
};

/// What the model's last layer and its output are made of, and types that only other layers have.
/// pack, kept: as in RunSettings.
RateRequest rates_needed(const ModelConfig& config, const ModelWeights& weights, DType cache_type,
                         bool pack, const TensorSet& kept);

/// What a measurement may take.
struct RateEffort {
  uint64_t buffer_bytes = 0;       // far beyond the caches is best; more where a call needs more
  double seconds_of_each = 0.035;  // a rate; more where a call takes longer
};

/// One round at the level in force, with all workers. None where `stop` ended it. Throws Error
/// where the memory cannot be had.
std::vector<MeasuredRate> measure_rates(const RateRequest& request, const RateEffort& effort,
                                        Workers& workers, const std::atomic<bool>* stop = nullptr);

/// The medians of rounds that were measured alike, best with other work between them: neighbours on
/// the same processor disturb one for seconds. Of an even number the faster of the middle ones.
std::vector<MeasuredRate> typical_rates(const std::vector<std::vector<MeasuredRate>>& rounds);

}  // namespace hybrid
