// Products of floats on the matrix unit. Every float is taken as the sum of two bf16 numbers, each
// rounded to nearest, which leaves at most 2^-17 of it; of the four products of two such sums the
// smallest is left out. That is three products of 16 cycles for 16 tokens, 16 lanes and 32 k, where
// vectors take 256 cycles.

#include <immintrin.h>

#include <algorithm>
#include <cstring>

#include "tensor/bf16_parts-inl.h"
#include "tensor/panel_f32_tiles.h"
#include "tensor/tile_ops-inl.h"

namespace hybrid {
namespace {

using internal::bf16_pairs, internal::rounded_to_bf16;
using internal::tile_load, internal::tile_multiply, internal::tile_store, internal::tile_zero;

/// A group of 32 k of one panel, of which n_k are there.
void make_b_group(const float* b, uint64_t n_k, std::byte* to) {
  for (uint64_t k = 0; k < kTileCols; k += 2, to += 64) {
    const __m512 zero = _mm512_setzero_ps();
    const __m512 x = k < n_k ? _mm512_loadu_ps(b + k * kPanelLanes) : zero;
    const __m512 y = k + 1 < n_k ? _mm512_loadu_ps(b + (k + 1) * kPanelLanes) : zero;
    const __m512 x0 = rounded_to_bf16(x), y0 = rounded_to_bf16(y);
    _mm512_store_si512(to, bf16_pairs(x0, y0));
    const __m512 x1 = rounded_to_bf16(_mm512_sub_ps(x, x0)),
                 y1 = rounded_to_bf16(_mm512_sub_ps(y, y0));
    _mm512_store_si512(to + kTileBytes, bf16_pairs(x1, y1));
  }
}

/// All k of one panel.
void make_b_panel(const float* panel, uint64_t n_k, std::byte* to) {
  for (uint64_t k = 0; k < n_k; k += kTileCols, to += kGroupBytes) {
    make_b_group(panel + k * kPanelLanes, n_k - k, to);
  }
}

/// The 32 k of one token, as a row of both parts' tiles.
void make_a_row(const float* a, uint64_t n_k, std::byte* to) {
  const auto n = static_cast<uint32_t>(std::min<uint64_t>(n_k, 32));
  for (uint32_t half = 0; half < 2; ++half) {
    const uint32_t n_here = std::min(16u, n - std::min(n, 16 * half));
    const auto mask = static_cast<__mmask16>((1u << n_here) - 1);
    const __m512 x = _mm512_maskz_loadu_ps(mask, a + 16 * half);
    const __m512 x0 = rounded_to_bf16(x), x1 = rounded_to_bf16(_mm512_sub_ps(x, x0));
    const auto words = [](__m512 v) {
      return _mm512_cvtepi32_epi16(_mm512_srli_epi32(_mm512_castps_si512(v), 16));
    };
    _mm256_store_si256(reinterpret_cast<__m256i*>(to + 32 * half), words(x0));
    _mm256_store_si256(reinterpret_cast<__m256i*>(to + kTileBytes + 32 * half), words(x1));
  }
}

/// Up to 16 tokens and all k.
void make_a_tile(const float* rows, uint64_t row_stride, uint64_t n_rows, uint64_t n_k,
                 std::byte* to) {
  const uint64_t n = std::min(kTileTokens, n_rows);
  for (uint64_t k = 0; k < n_k; k += kTileCols, to += kGroupBytes) {
    for (uint64_t t = 0; t < n; ++t) {
      make_a_row(rows + t * row_stride + k, n_k - k, to + 64 * t);
    }
    std::fill(to + 64 * n, to + kTileBytes, std::byte{0});
    std::fill(to + kTileBytes + 64 * n, to + 2 * kTileBytes, std::byte{0});
  }
}

/// All tiles of one side; the next panel or 16 tokens are `stride` bytes away.
struct Tiles {
  const std::byte* at;
  uint64_t stride;

  Tiles from(uint64_t i) const { return {at + i * stride, stride}; }
};

/// kTiles tiles of tokens times kPanels panels, 1 or 2 each: sums[panel * kTiles + tile].
template <int kTiles, int kPanels>
void multiply(Tiles a, Tiles b, uint64_t n_groups, float (*sums)[256]) {
  tile_zero<0>(), tile_zero<1>(), tile_zero<2>(), tile_zero<3>();
  const auto load_a = [&](uint64_t part) {
    tile_load<4>(a.at + part * kTileBytes);
    if constexpr (kTiles == 2) tile_load<5>(a.at + a.stride + part * kTileBytes);
  };
  const auto load_b = [&](uint64_t part) {
    tile_load<6>(b.at + part * kTileBytes);
    if constexpr (kPanels == 2) tile_load<7>(b.at + b.stride + part * kTileBytes);
  };
  const auto add = [] {
    tile_multiply<0, 4, 6>();
    if constexpr (kTiles == 2) tile_multiply<1, 5, 6>();
    if constexpr (kPanels == 2) tile_multiply<2, 4, 7>();
    if constexpr (kTiles == 2 && kPanels == 2) tile_multiply<3, 5, 7>();
  };
  for (uint64_t g = 0; g < n_groups; ++g, a.at += kGroupBytes, b.at += kGroupBytes) {
    load_b(0), load_a(1), add();
    load_a(0), add();
    load_b(1), add();
  }
  tile_store<0>(sums[0]);
  if constexpr (kTiles == 2) tile_store<1>(sums[1]);
  if constexpr (kPanels == 2) tile_store<2>(sums[kTiles]);
  if constexpr (kTiles == 2 && kPanels == 2) tile_store<3>(sums[3]);
}

/// Sums of a tile of tokens and a panel to their place in c.
void write(const PanelArgs& args, uint64_t first_token, uint64_t panel, const float* sums) {
  const uint64_t n = std::min(kTileTokens, args.n_tokens - first_token);
  const uint64_t n_lanes = std::min(kPanelLanes, args.n_lanes - panel * kPanelLanes);
  const auto mask = static_cast<__mmask16>((1u << n_lanes) - 1);
  float* to = args.c + first_token * args.c_stride + panel * args.c_panel_stride;
  for (uint64_t t = 0; t < n; ++t, to += args.c_stride) {
    __m512 sum = _mm512_load_ps(sums + 16 * t);
    if (args.accumulate) sum = _mm512_add_ps(_mm512_maskz_loadu_ps(mask, to), sum);
    _mm512_mask_storeu_ps(to, mask, sum);
  }
}

}  // namespace

void prepare_panel_tiles(float* panel, uint64_t n_k) {
  alignas(64) std::byte group[kGroupBytes];
  for (uint64_t k = 0; k < n_k; k += kTileCols) {
    float* at = panel + k * kPanelLanes;
    make_b_group(at, n_k - k, group);
    std::memcpy(at, group, kGroupBytes);
  }
}

void prepare_row_tiles(float* rows, uint64_t row_stride, uint64_t n_rows, uint64_t n_k,
                       std::byte* tile) {
  const uint64_t n_bytes = n_tile_groups(n_k) * kGroupBytes;
  for (uint64_t r = 0; r < n_rows; r += kTileTokens) {
    make_a_tile(rows + r * row_stride, row_stride, n_rows - r, n_k, tile);
    std::memcpy(rows + r * row_stride, tile, n_bytes);
  }
}

void panel_matmul_tiles(const PanelArgs& args, std::byte* a, std::byte* b) {
  const uint64_t n_groups = n_tile_groups(args.n_k), n_bytes = n_groups * kGroupBytes;
  const uint64_t n_panels = n_panels_of(args.n_lanes);
  const uint64_t n_tiles = n_token_tiles(args.n_tokens);
  const auto prepared = [](const float* from, uint64_t stride) {
    return Tiles{reinterpret_cast<const std::byte*>(from), stride * sizeof(float)};
  };
  alignas(64) float sums[4][256];
  const internal::TileScope tiles;

  for (uint64_t panel = 0; panel < n_panels; panel += kPanelsOfBlock) {
    const uint64_t n_block_panels = std::min(kPanelsOfBlock, n_panels - panel);
    Tiles b_tiles{b, n_bytes};
    if (args.b_is_prepared) {
      b_tiles = prepared(args.b, args.b_stride).from(panel);
    } else {
      for (uint64_t p = 0; p < n_block_panels; ++p) {
        make_b_panel(args.b + (panel + p) * args.b_stride, args.n_k, b + p * n_bytes);
      }
    }
    for (uint64_t tile = 0; tile < n_tiles; tile += kTilesOfBlock) {
      const uint64_t n_block_tiles = std::min(kTilesOfBlock, n_tiles - tile);
      Tiles a_tiles{a, n_bytes};
      if (args.a_is_prepared) {
        a_tiles = prepared(args.a, kTileTokens * args.a_stride).from(tile);
      } else if (panel == 0 || n_tiles > kTilesOfBlock) {  // else from the block before
        for (uint64_t t = 0; t < n_block_tiles; ++t) {
          const uint64_t token = (tile + t) * kTileTokens;
          make_a_tile(args.a + token * args.a_stride, args.a_stride, args.n_tokens - token,
                      args.n_k, a + t * n_bytes);
        }
      }
      for (uint64_t p = 0; p < n_block_panels; p += 2) {
        const uint64_t n_p = std::min<uint64_t>(2, n_block_panels - p);
        for (uint64_t t = 0; t < n_block_tiles; t += 2) {
          const uint64_t n_t = std::min<uint64_t>(2, n_block_tiles - t);
          const auto product = n_t == 2 ? (n_p == 2 ? multiply<2, 2> : multiply<2, 1>)
                                        : (n_p == 2 ? multiply<1, 2> : multiply<1, 1>);
          product(a_tiles.from(t), b_tiles.from(p), n_groups, sums);
          for (uint64_t i = 0; i < n_t * n_p; ++i) {
            write(args, (tile + t + i % n_t) * kTileTokens, panel + p + i / n_t, sums[i]);
          }
        }
      }
    }
  }
}

}  // namespace hybrid
