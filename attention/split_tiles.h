#pragma once
// A chunk of split_attention on the matrix unit (AMX), where values are the first elements of keys
// and several queries share them: absorbed latent attention.
//
// Scores are products of floats as in tensor/panel_f32_tiles.h: every number is the sum of two bf16
// numbers, three of the four products are taken (2^-17). Weights and values are single bf16
// numbers: 2^-9 of each, which sums of many of them lose again.

#include <cstddef>
#include <cstdint>

#include "tensor/aligned_floats.h"

namespace hybrid {

struct TileChunkArgs {
  const std::byte* rows = nullptr;      // of n_positions cached keys
  uint64_t row_bytes = 0;               // from row to row
  bool is_f16 = true;                   // else floats
  uint32_t n_positions = 0;             // in [1, TileAttention::kPositions]
  const uint32_t* n_visible = nullptr;  // [n_queries]: how many of the positions each sees
};

/// The running softmax and sums of up to kMaxQueries queries, and what products need beside them.
class TileAttention {
 public:
  static constexpr uint32_t kMaxQueries = 64;
  static constexpr uint32_t kPositions = 128;  // of a call of add() at most

  /// Forgets what was before. q: [n_queries][key_dim], scaled; both dimensions multiples of 32,
  /// value_dim <= key_dim.
  void begin(const float* q, uint32_t n_queries, uint32_t key_dim, uint32_t value_dim);

  /// Adds the share of some positions.
  void add(const TileChunkArgs& args);

  /// What begin() takes.
  static uint64_t n_bytes(uint64_t key_dim, uint64_t value_dim) {
    constexpr uint64_t kTile = 1024, kTiles = kMaxQueries / 16, kSteps = kPositions / 32;
    const uint64_t n_tiles = (2 * kTiles + 2 * kSteps + 2) * (key_dim / 32) + kTiles * kSteps;
    const uint64_t n_floats = uint64_t{kMaxQueries} * (kPositions + value_dim + 2);
    return n_tiles * kTile + n_floats * sizeof(float);
  }

  float max(uint32_t query) const { return softmax_.data()[query]; }
  float sum(uint32_t query) const { return softmax_.data()[kMaxQueries + query]; }
  /// [value_dim]: the sum of exp(score - max) * value
  void copy_sums(uint32_t query, float* to) const;

 private:
  void add_scores(const TileChunkArgs& args);
  void weigh(const TileChunkArgs& args);
  void add_values(uint32_t n_positions);

  uint32_t n_queries_ = 0, key_dim_ = 0, value_dim_ = 0;
  AlignedFloats softmax_;  // [2][kMaxQueries]: maxima, sums
  AlignedFloats sums_;     // [queries, up to a multiple of 16][value_dim], see kSumsOrder
  AlignedFloats q_;        // tiles [16 queries][key_dim / 32][part]
  AlignedFloats keys_;     // tiles [16 positions][key_dim / 32]
  AlignedFloats rests_;    // tiles [key_dim / 32][2 x 16 positions]: what rounding left of keys
  AlignedFloats scores_;   // [16 queries][kPositions][query]
  AlignedFloats weights_;  // tiles [16 queries][kPositions / 32]
};

}  // namespace hybrid
