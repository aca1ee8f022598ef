#pragma once
// The activations of a matrix product in the forms that kernels want, each made once and used by
// all products with the same activations.

#include <cstdint>
#include <vector>

#include "numa/huge_buffer.h"
#include "numa/workers.h"
#include "tensor/activation_blocks.h"
#include "tensor/bf16_tiles.h"
#include "tensor/dtype.h"
#include "tensor/int16_tiles.h"
#include "tensor/panel_matmul.h"
#include "tensor/precision.h"

namespace hybrid {

enum class InputForm {
  floats,  // as they are
  bytes,   // ActivationBlocks
  words,   // the same, two that hold words
  tiles,   // bf16 tiles
  int16,   // tiles of bytes, two for numbers of 16 bits
};
inline bool is_in_blocks(InputForm form) {
  return form == InputForm::bytes || form == InputForm::words;
}

/// What products of n_tokens tokens with a weight of this type take at the level in force:
///   floats   at scalar; F32 at every level; F16 and BF16 but for tiles
///   bytes    quantised types: at avx2, at avx512_vnni, and of a single token at amx
///   words    instead of bytes in two parts where there is more than one token
///   tiles    more than one token at amx
///   int16    instead of tiles for exact products, where the type has kernels for it
InputForm input_form(DType weight_type, uint64_t n_tokens, Precision precision);

class MatmulInput {
 public:
  /// Bytes that the forms of n_tokens rows take at most, at the level in force.
  static uint64_t n_bytes(uint64_t n_tokens, uint64_t n_cols);
  /// Takes them.
  void reserve(uint64_t n_tokens, uint64_t n_cols);
  /// What has really been taken.
  uint64_t held_bytes() const {
    return blocks_.n_bytes() + tiles_.n_bytes() + block_rows_.capacity() * sizeof(block_rows_[0]);
  }

  /// From now on n_tokens rows of n_cols floats without gaps, which must stay as they are for as
  /// long as products use them, and how finely other forms round them.
  void set(const float* x, uint64_t n_tokens, uint64_t n_cols,
           Precision precision = Precision::normal);

  /// Makes a form, unless it was made since set(). Parallel over tokens.
  void prepare(InputForm form, Workers& workers);

  const float* x() const { return x_; }
  uint64_t n_tokens() const { return n_tokens_; }
  uint64_t n_cols() const { return n_cols_; }

  Precision precision() const { return precision_; }

  // By form, once prepared:
  ByteRows byte_rows() const {
    return {block_rows_.data(), n_parts(precision_), n_tokens_, in_words_};
  }
  TileRows tile_rows() const;
  Int16Rows int16_rows() const;

 private:
  void make_blocks(Workers& workers, bool in_words);
  void make_tiles(Workers& workers);
  void make_int16(Workers& workers);

  const float* x_ = nullptr;
  uint64_t n_tokens_ = 0, n_cols_ = 0;
  Precision precision_ = Precision::normal;
  bool have_blocks_ = false, in_words_ = false;
  bool have_tiles_ = false, have_int16_ = false;    // in the same buffer, one or the other
  HugeBuffer blocks_, tiles_;                       // of both parts, the second ones last
  std::vector<const ActivationBlock*> block_rows_;  // [token][part]
};

/// Distance between the blocks of two rows: an odd number of cache lines, so that the rows of many
/// tokens spread over the L1 cache.
uint64_t block_row_bytes(uint64_t n_cols);

}  // namespace hybrid
