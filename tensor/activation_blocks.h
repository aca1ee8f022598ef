#pragma once
// Activations as signed bytes with a scale for each 32 columns: what the integer kernels multiply
// packed weights (panel.h) with.
//
// One scale for 32 columns loses 0.5 % (relative RMS of an output, Gaussian activations) and 1.3 %
// where a few channels are 20 times larger; one for 256 would lose 0.7 and 3.5 %, one for a row 9
// %.

#include <cstddef>
#include <cstdint>

namespace hybrid {

///   0 q: 256 columns                      x = scale * q, |q| <= 127, rounded to nearest even
/// 256 scale: for each 32 columns; where no rest is kept, of several the one with the least error
/// 288 sum32: scale * (sum of q) of each 32 columns
/// 320 sum16: the same of each 16
///
/// A second block may hold what the rounding left: at 1/256 of the scale, so that 256 * q + rest.q
/// is one integer of 16 bits. Its sums are those of both blocks.
///
/// Or two blocks hold words (int16) in place of q, |word| <= kMaxActivationWord: the first block
/// those of columns 0 to 127, the second the others, each four in the order 0 2 1 3; scale[0] of
/// both is that of all 256 columns. The rest of both blocks means nothing.
struct alignas(64) ActivationBlock {
  static constexpr uint64_t kCols = 256;
  int8_t q[256];
  float scale[8];
  float sum32[8];
  float sum16[16];
};
static_assert(sizeof(ActivationBlock) == 384 && offsetof(ActivationBlock, scale) == 256 &&
              offsetof(ActivationBlock, sum32) == 288 && offsetof(ActivationBlock, sum16) == 320);

inline constexpr int kMaxActivationWord = 4095;

inline uint64_t n_activation_blocks(uint64_t n_cols) {
  return (n_cols + ActivationBlock::kCols - 1) / ActivationBlock::kCols;
}

/// One row of n_cols floats; columns past the end are zeros. dst: n_activation_blocks(n_cols).
/// Every level gives the same bits. A value that is not finite makes its 32 columns NaN.
void quantize_row(const float* x, uint64_t n_cols, ActivationBlock* dst);

/// The same, and what the rounding left into `rest`, within 1/256 of the scale.
void quantize_row(const float* x, uint64_t n_cols, ActivationBlock* dst, ActivationBlock* rest);

/// The same as words: within half of their scale, 1/8190 of the largest magnitude of 256 columns. A
/// value that is not finite makes these NaN.
void quantize_row_to_words(const float* x, uint64_t n_cols, ActivationBlock* first,
                           ActivationBlock* second);

/// Columns [32 * group, 32 * group + 32) of a block alone, from 32 floats; the rest of the rounding
/// into the same columns of `rest`, unless that is null.
void quantize_group(const float* x, ActivationBlock& block, ActivationBlock* rest, uint32_t group);

}  // namespace hybrid
