#pragma once
// The body of panel_matmul at every level: tiles of sums held in registers. Compiled by
// panel_f32_<level>.cpp.

#include <cstring>

#include "tensor/panel_f32.h"
#include "tensor/simd_float-inl.h"

namespace hybrid::internal {
namespace {

/// Tokens and panels of a tile: as many sums as fit the level's registers beside one row of b.
template <SimdLevel L>
struct PanelTile;
template <>
struct PanelTile<SimdLevel::scalar> {
  static constexpr int kTokens = 2, kPanels = 1;
};
template <>
struct PanelTile<SimdLevel::avx2> {
  static constexpr int kTokens = 6, kPanels = 1;
};
template <>
struct PanelTile<SimdLevel::avx512_vnni> {
  static constexpr int kTokens = 8, kPanels = 2;
};

template <SimdLevel L>
constexpr int kPanelVectors = kPanelLanes * sizeof(float) / sizeof(typename SimdFloat<L>::Vector);

template <SimdLevel L>
constexpr int kPanelWidth = kPanelLanes / kPanelVectors<L>;

/// Writes the 16 sums of one token and panel, the first n of them.
template <SimdLevel L>
void store_lanes(const typename SimdFloat<L>::Vector* sums, uint64_t n, bool accumulate, float* c) {
  using Simd = SimdFloat<L>;
  float ragged[kPanelLanes];
  float* to = c;
  if (n < kPanelLanes) {
    std::memset(ragged, 0, sizeof(ragged));
    std::memcpy(ragged, c, n * sizeof(float));
    to = ragged;
  }
#pragma GCC unroll 4
  for (int v = 0; v < kPanelVectors<L>; ++v) {
    float* at = to + v * kPanelWidth<L>;
    Simd::store(at, accumulate ? Simd::load(at) + sums[v] : sums[v]);
  }
  if (n < kPanelLanes) std::memcpy(c, ragged, n * sizeof(float));
}

/// T tokens times P panels; n_lanes of the tile are written.
template <SimdLevel L, int T, int P>
void panel_tile(const PanelArgs& args, const float* a, const float* b, float* c, uint64_t n_lanes) {
  using Simd = SimdFloat<L>;
  constexpr int kVectors = kPanelVectors<L>, kWidth = kPanelWidth<L>;
  const uint64_t a_stride = args.a_stride, b_stride = args.b_stride;
  typename Simd::Vector sums[T][P * kVectors] = {};
  for (uint64_t k = 0; k < args.n_k; ++k) {
    typename Simd::Vector bs[P * kVectors];
#pragma GCC unroll 4
    for (int i = 0; i < P * kVectors; ++i) {
      bs[i] = Simd::load(b + i / kVectors * b_stride + k * kPanelLanes + i % kVectors * kWidth);
    }
#pragma GCC unroll 8
    for (int t = 0; t < T; ++t) {
      const auto as = Simd::broadcast(a[t * a_stride + k]);
#pragma GCC unroll 4
      for (int i = 0; i < P * kVectors; ++i) {
        sums[t][i] = Simd::multiply_add(as, bs[i], sums[t][i]);
      }
    }
  }
#pragma GCC unroll 8
  for (int t = 0; t < T; ++t) {
#pragma GCC unroll 2
    for (int p = 0; p < P; ++p) {
      const uint64_t left = n_lanes - p * kPanelLanes;
      store_lanes<L>(sums[t] + p * kVectors, left < kPanelLanes ? left : kPanelLanes,
                     args.accumulate, c + t * args.c_stride + p * args.c_panel_stride);
    }
  }
}

/// All tokens from t on times P panels, in tiles of T tokens and then of ever fewer.
template <SimdLevel L, int T, int P>
void tiles_of_tokens(const PanelArgs& args, uint64_t t, const float* b, float* c,
                     uint64_t n_lanes) {
  for (; t + T <= args.n_tokens; t += T) {
    panel_tile<L, T, P>(args, args.a + t * args.a_stride, b, c + t * args.c_stride, n_lanes);
  }
  if constexpr (T > 1) {
    if (t < args.n_tokens) tiles_of_tokens<L, T / 2, P>(args, t, b, c, n_lanes);
  }
}

/// Panels are the outer loop: those of a tile stay in the L1 cache while all tokens pass by.
template <SimdLevel L>
void panel_matmul_body(const PanelArgs& args) {
  using Tile = PanelTile<L>;
  const uint64_t n_panels = n_panels_of(args.n_lanes);
  for (uint64_t p = 0; p < n_panels;) {
    const float* b = args.b + p * args.b_stride;
    float* c = args.c + p * args.c_panel_stride;
    const uint64_t n_lanes = args.n_lanes - p * kPanelLanes;
    if (p + Tile::kPanels <= n_panels) {
      tiles_of_tokens<L, Tile::kTokens, Tile::kPanels>(args, 0, b, c, n_lanes);
      p += Tile::kPanels;
    } else {
      tiles_of_tokens<L, Tile::kTokens, 1>(args, 0, b, c, n_lanes);
      ++p;
    }
  }
}

}  // namespace
}  // namespace hybrid::internal
