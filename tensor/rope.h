#pragma once
// Rotary position embedding on adjacent pairs (2i, 2i+1), with YaRN's blend of frequencies. The
// rotation has magnitude 1: what YaRN adds to the magnitude belongs to the attention scale.

#include <cstdint>
#include <vector>

namespace hybrid {

struct RopeConfig {
  uint32_t n_dims = 64;  // even
  float freq_base = 10000;
  float freq_scale = 1;  // 1 / rope.scaling.factor
  bool yarn = false;     // false: every pair is interpolated by freq_scale
  uint32_t n_ctx_original = 4096;
  float beta_fast = 32;
  float beta_slow = 1;
};

/// The angle per position of each pair, [n_dims / 2].
/// theta_i = base^(-2i/n_dims) * (freq_scale * (1 - mix_i) + mix_i); without YaRN mix is 0. With it
/// mix_i = 1 - clamp((i - low) / max(0.001, high - low), 0, 1), low = floor(dim(beta_fast)),
/// high = ceil(dim(beta_slow)), dim(b) = n_dims * ln(n_ctx_original / (2 pi b)) / (2 ln base).
std::vector<double> rope_frequencies(const RopeConfig& config);

/// Rotates one row of n_dims floats to a position. Angles are taken in double: at position 100,000
/// a float angle would be wrong in the third digit.
class Rope {
 public:
  explicit Rope(const RopeConfig& config);

  uint32_t n_dims() const { return static_cast<uint32_t>(2 * frequencies_.size()); }

  /// cos and sin of each pair at a position, interleaved: table[2i], table[2i+1]; n_dims floats.
  void fill_table(uint64_t position, float* table) const;

 private:
  std::vector<double> frequencies_;
};

/// (x[2i], x[2i+1]) rotated by the table's angle i; n floats, in place.
void rotate_pairs(float* x, const float* table, uint32_t n);

}  // namespace hybrid
