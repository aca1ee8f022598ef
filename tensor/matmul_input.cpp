#include "tensor/matmul_input.h"

#include <algorithm>

#include "base/error.h"
#include "tensor/panel_int16.h"
#include "tensor/simd_level.h"

namespace hybrid {
namespace {

constexpr uint64_t kMaxParts = 2;

/// Bytes of both forms of tiles, of which there is one at a time.
uint64_t all_tiles_bytes(uint64_t n_tokens, uint64_t n_cols) {
  return std::max(kMaxParts * tiles_bytes(n_tokens, n_cols),
                  Int16Layout{n_tokens, n_cols}.n_bytes());
}

uint64_t blocks_bytes(uint64_t n_tokens, uint64_t n_cols) {
  return n_tokens * kMaxParts * block_row_bytes(n_cols);
}

}  // namespace

InputForm input_form(DType weight_type, uint64_t n_tokens, Precision precision) {
  const SimdLevel level = simd_level();
  if (level == SimdLevel::scalar || weight_type == DType::f32) return InputForm::floats;
  if (level == SimdLevel::amx && n_tokens > 1) {
    const bool fixed = precision == Precision::exact && int16_kernels(weight_type).product;
    return fixed ? InputForm::int16 : InputForm::tiles;
  }
  if (is_float(weight_type)) return InputForm::floats;
  return n_tokens > 1 && n_parts(precision) > 1 ? InputForm::words : InputForm::bytes;
}

uint64_t block_row_bytes(uint64_t n_cols) {
  const uint64_t n_lines = n_activation_blocks(n_cols) * sizeof(ActivationBlock) / 64;
  return (n_lines | 1) * 64;
}

uint64_t MatmulInput::n_bytes(uint64_t n_tokens, uint64_t n_cols) {
  if (simd_level() == SimdLevel::scalar) return 0;
  const uint64_t pointers = n_tokens * kMaxParts * sizeof(ActivationBlock*);
  if (simd_level() != SimdLevel::amx) return blocks_bytes(n_tokens, n_cols) + pointers;
  return blocks_bytes(1, n_cols) + pointers + all_tiles_bytes(n_tokens, n_cols);
}

void MatmulInput::reserve(uint64_t n_tokens, uint64_t n_cols) {
  if (simd_level() == SimdLevel::scalar) return;
  const bool amx = simd_level() == SimdLevel::amx;
  blocks_ = HugeBuffer(blocks_bytes(amx ? 1 : n_tokens, n_cols));
  if (amx) tiles_ = HugeBuffer(all_tiles_bytes(n_tokens, n_cols));
  block_rows_.resize(n_tokens * kMaxParts);
}

void MatmulInput::set(const float* x, uint64_t n_tokens, uint64_t n_cols, Precision precision) {
  x_ = x;
  n_tokens_ = n_tokens;
  n_cols_ = n_cols;
  precision_ = precision;
  have_blocks_ = have_tiles_ = have_int16_ = false;
}

TileRows MatmulInput::tile_rows() const {
  const TokenTiles tiles(n_tokens_);
  const std::byte* rest = tiles_.data() + tiles_bytes(n_tokens_, n_cols_);
  return {tiles_.data(), precision_ == Precision::normal ? nullptr : rest, tiles.n_tiles(),
          tiles.per_tile()};
}

Int16Rows MatmulInput::int16_rows() const { return {tiles_.data(), {n_tokens_, n_cols_}}; }

void MatmulInput::prepare(InputForm form, Workers& workers) {
  if (is_in_blocks(form) && !have_blocks_) make_blocks(workers, form == InputForm::words);
  if (form == InputForm::tiles && !have_tiles_) make_tiles(workers);
  if (form == InputForm::int16 && !have_int16_) make_int16(workers);
}

void MatmulInput::make_blocks(Workers& workers, bool in_words) {
  const uint64_t stride = block_row_bytes(n_cols_), n = static_cast<uint64_t>(n_parts(precision_));
  if (blocks_.n_bytes() < n * n_tokens_ * stride) blocks_ = HugeBuffer(n * n_tokens_ * stride);
  if (block_rows_.size() < n * n_tokens_) block_rows_.resize(n * n_tokens_);
  workers.parallel_for(n_tokens_, 4, [&](uint64_t begin, uint64_t end) {
    for (uint64_t t = begin; t < end; ++t) {
      ActivationBlock* rows[kMaxParts] = {};
      for (uint64_t part = 0; part < n; ++part) {
        rows[part] = reinterpret_cast<ActivationBlock*>(blocks_.data() + (t * n + part) * stride);
        block_rows_[t * n + part] = rows[part];
      }
      if (in_words) {
        quantize_row_to_words(x_ + t * n_cols_, n_cols_, rows[0], rows[1]);
      } else {
        quantize_row(x_ + t * n_cols_, n_cols_, rows[0], rows[1]);
      }
    }
  });
  have_blocks_ = true;
  in_words_ = in_words;
}

void MatmulInput::make_tiles(Workers& workers) {
  const uint64_t n_bytes = tiles_bytes(n_tokens_, n_cols_);
  const bool fine = precision_ != Precision::normal;
  if (tiles_.n_bytes() < (fine ? 2 : 1) * n_bytes) tiles_ = HugeBuffer((fine ? 2 : 1) * n_bytes);
  const TokenTiles places(n_tokens_);
  std::byte* rest = tiles_.data() + n_bytes;
  workers.parallel_for(places.n_places(), 4, [&](uint64_t begin, uint64_t end) {
    for (uint64_t t = begin; t < end; ++t) {
      const uint64_t row = places.row(t);
      if (t < n_tokens_) {
#if defined(__x86_64__)
        store_tile_row(x_ + t * n_cols_, n_cols_, tiles_.data(), row);
        if (fine) store_tile_rest(x_ + t * n_cols_, n_cols_, rest, row);
#endif
      } else {
        clear_tile_row(n_cols_, tiles_.data(), row);
        if (fine) clear_tile_row(n_cols_, rest, row);
      }
    }
  });
  have_tiles_ = true;
  have_int16_ = false;
}

void MatmulInput::make_int16(Workers& workers) {
  const Int16Layout layout{n_tokens_, n_cols_};
  if (tiles_.n_bytes() < layout.n_bytes()) tiles_ = HugeBuffer(layout.n_bytes());
  workers.parallel_for(layout.n_tiles(), 1, [&](uint64_t begin, uint64_t end) {
#if defined(__x86_64__)
    for (uint64_t t = begin; t < end; ++t) store_int16_tile(x_, layout, t, tiles_.data());
#endif
  });
  have_int16_ = true;
  have_tiles_ = false;
}

}  // namespace hybrid
