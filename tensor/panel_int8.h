#pragma once
// Products of packed weights with activations as bytes: exact integer sums over 32 (or 16) columns,
// scaled and added in float in the order of the columns. Or with activations as words, and then
// weights are rounded to words, too, whose scale is for 256 columns: 2^-12 of the largest of them.

#include "tensor/activation_blocks.h"
#include "tensor/panel.h"
#include "tensor/simd_level.h"

namespace hybrid {

/// Tokens that a kernel takes at most. As bytes: their sums and one block of their columns fit the
/// L1 cache. As words it is what shares out the work of unpacking that counts.
inline constexpr uint64_t kInt8Tokens = 48;
inline constexpr uint64_t kWordTokens = 96;

/// rows[t * n_parts + part]: n_activation_blocks(n_cols) blocks; of two parts the second is the
/// rest of the first for one token, and both hold words for many (ActivationBlock).
/// y[t * y_stride + r] for the matrix rows r of panels [begin, end); rows past n_rows are skipped.
/// For one token there may be a second matrix, of the same type and shape, which is read side by
/// side with the first: y_second[r].
struct Int8Product {
  PanelMatrix weight;
  const ActivationBlock* const* rows = nullptr;
  int n_parts = 1;        // 1 or 2, see Precision
  uint64_t n_tokens = 0;  // at most kInt8Tokens, of words kWordTokens
  float* y = nullptr;
  uint64_t y_stride = 0;
  PanelMatrix second = {};
  float* y_second = nullptr;
};

using Int8ProductFn = void (*)(const Int8Product& args, uint64_t panel_begin, uint64_t panel_end);

struct Int8Kernels {
  Int8ProductFn one_token = nullptr;    // straight from the panel to the dot product
  Int8ProductFn many_tokens = nullptr;  // blocks are unpacked to bytes first, for all tokens
};

/// Of the quantised types; null functions for F32, F16 and BF16. One, two, three: the type
/// families.
template <SimdLevel L>
Int8Kernels int8_kernels_legacy(DType type);
template <SimdLevel L>
Int8Kernels int8_kernels_k(DType type);
template <SimdLevel L>
Int8Kernels int8_kernels_iq(DType type);

}  // namespace hybrid
