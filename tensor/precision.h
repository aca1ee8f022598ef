#pragma once
// How finely activations are rounded for products with packed weights.

namespace hybrid {

enum class Precision {
  /// Once: to bytes with a scale for 32 columns (0.5 % of a result, relative RMS), or to bf16.
  normal,
  /// What the first rounding left is rounded the same way and multiplied, too: the error is that of
  /// bytes squared (3e-5), or half of bf16's (the weights' half stays). Costs a second set of
  /// multiplications; with one token, which waits for memory, hardly anything.
  fine,
  /// On the matrix units weights, too, are exact to 2^-12: they and activations are 16-bit fixed
  /// point numbers (panel_int16.h). Elsewhere, and for BF16 and codebook types, the same as fine.
  exact,
};

inline constexpr int n_parts(Precision p) { return p == Precision::normal ? 1 : 2; }

}  // namespace hybrid
