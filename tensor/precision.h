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
};

inline constexpr int n_parts(Precision p) { return p == Precision::fine ? 2 : 1; }

}  // namespace hybrid
