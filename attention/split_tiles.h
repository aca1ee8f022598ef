#pragma once
// A chunk of split_attention on the matrix unit (AMX), where values are the first elements of keys
// and several queries share them: absorbed latent attention.
//
// Products of floats as in tensor/panel_f32_tiles.h: every number is the sum of two bf16 numbers,
// three of the four products are taken. Halves and bytes from the cache are exact that way, floats
// are cut off at 2^-16.

#include <cstddef>
#include <cstdint>

#include "tensor/aligned_floats.h"

namespace hybrid {

inline constexpr uint32_t kTilePositions = 256;  // of a call at most
inline constexpr uint32_t kTileQueries = 64;     // of a call at most

struct TileChunkArgs {
  const std::byte* rows = nullptr;      // of n_positions cached keys
  uint64_t row_bytes = 0;               // from row to row
  bool is_f16 = true;                   // else floats
  uint32_t n_positions = 0;             // in [1, kTilePositions]
  uint32_t key_dim = 0;                 // a multiple of 32
  uint32_t value_dim = 0;               // a multiple of 32, at most key_dim
  uint32_t n_queries = 0;               // in [1, kTileQueries]
  const uint32_t* n_visible = nullptr;  // [n_queries]: how many of the positions each sees
};

/// The running softmax and sums of up to kTileQueries queries, and what products need beside them.
class TileAttention {
 public:
  /// q: [n_queries][key_dim], scaled. Forgets what was before.
  void begin(const float* q, uint32_t n_queries, uint32_t key_dim, uint32_t value_dim);

  /// Adds a chunk's share.
  void add(const TileChunkArgs& args);

  float max(uint32_t query) const { return softmax_.data()[query]; }
  float sum(uint32_t query) const { return softmax_.data()[kTileQueries + query]; }
  /// [n_queries][value_dim]: of exp(score - max) * value
  const float* sums() const { return sums_.data(); }

 private:
  uint32_t key_dim_ = 0, value_dim_ = 0, n_tiles_ = 0;
  AlignedFloats softmax_;  // [2][kTileQueries]: maxima, sums
  AlignedFloats sums_;     // [n_tiles * 16][value_dim]
  AlignedFloats q_;        // tiles [n_tiles][key_dim / 32][part]
  AlignedFloats scores_;   // [n_tiles][kTilePositions][16 queries]
  AlignedFloats weights_;  // tiles [n_tiles][kTilePositions / 32][part]
  AlignedFloats columns_;  // tiles [kTilePositions / 32][2][part]: 32 columns of values
  AlignedFloats panel_;    // tiles [2 ring][2][part]: 32 rows and columns of keys
};

}  // namespace hybrid
