#pragma once
// Products of packed weights with many tokens on the matrix units (AMX): weights are unpacked to
// bf16 a little ahead of their use, activations are bf16 tiles, sums are float. Needs the amx
// level.

#include <cstdint>

#include "base/function_ref.h"
#include "tensor/bf16_tiles.h"
#include "tensor/panel.h"

namespace hybrid {

/// Two panels are multiplied at a time: panels 2 i and 2 i + 1 of `first` where `second` is empty,
/// else panel i of both (gate and up; same type and shape). The pair is then `i`.
struct Bf16Product {
  static constexpr uint64_t kMaxTiles = 3;

  /// The sums of a pair and n_tiles tiles of tokens, from tile `tile` on (0 from the kernel):
  /// sums[(p * n_tiles + j) * 256 + 16 * t + r] for panel p, tile j, its token t, row r, to be
  /// multiplied with factor[p]. n_panels is 1 where a matrix ends with an odd panel.
  struct Sums {
    uint64_t pair;
    uint64_t tile;
    uint64_t n_tiles;
    uint64_t per_tile;  // tokens
    int n_panels;
    const float* sums;
    float factor[2];
    bool adds;  // to what columns before first_col gave
  };

  PanelMatrix first;
  PanelMatrix second;
  const std::byte* tiles = nullptr;  // 64-byte aligned, tiles_bytes(16 * n_tiles, n_cols)
  const std::byte* rest = nullptr;   // null, or as many tiles that are added to those (Precision)
  uint64_t n_tiles = 0;              // 1 to kMaxTiles
  uint64_t per_tile = kTileTokens;   // rows of each that hold tokens; the others are not read
  FunctionRef<void(const Sums&)> done;
  uint64_t first_col = 0;  // only columns from here on, a multiple of 256
  uint64_t n_cols = 0;     // and so many, a multiple of 256 unless they are the last; 0: all

  uint64_t end_col() const { return n_cols == 0 ? first.n_cols : first_col + n_cols; }
};

inline uint64_t n_panel_pairs(const Bf16Product& p) {
  return p.second.empty() ? (p.first.n_panels() + 1) / 2 : p.first.n_panels();
}

using Bf16ProductFn = void (*)(const Bf16Product& args, uint64_t pair_begin, uint64_t pair_end);

/// Null for a type of another family.
Bf16ProductFn bf16_product_legacy(DType type);
Bf16ProductFn bf16_product_k(DType type);
Bf16ProductFn bf16_product_iq(DType type);

/// That of a type; null for F32.
Bf16ProductFn bf16_product(DType type);

}  // namespace hybrid
