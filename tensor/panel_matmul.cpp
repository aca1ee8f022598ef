#include "tensor/panel_matmul.h"

#include <algorithm>

#include "base/error.h"
#include "base/rounding.h"
#include "tensor/panel_float.h"
#include "tensor/panel_int16.h"
#include "tensor/panel_int8.h"

namespace hybrid {
namespace {

/// Calls body(panels, first panel) for [begin, end), in one piece where they are packed.
template <class Body>
void for_panels(const Weight& w, uint64_t begin, uint64_t end, const Body& body) {
  const uint64_t step = w.packed() ? end - begin : kPanelsOnTheSpot;
  for (uint64_t p = begin; p < end; p += step) {
    body(panels_of(w, p, std::min(end, p + step)), p);
  }
}

Int8Kernels int8_kernels(DType type) {
  return with_simd_level([&]<SimdLevel L>() -> Int8Kernels {
    if constexpr (L != SimdLevel::scalar) {
      if (const Int8Kernels k = int8_kernels_legacy<L>(type); k.one_token) return k;
      if (const Int8Kernels k = int8_kernels_k<L>(type); k.one_token) return k;
      if (const Int8Kernels k = int8_kernels_iq<L>(type); k.one_token) return k;
    }
    fail("internal: no integer kernel for {} at {}", name_of(type), name_of(simd_level()));
  });
}

/// How a product is cut so that the tokens' tiles stay in the L2 cache.
struct TileCut {
  uint64_t n_tiles;  // that go through the kernel together
  uint64_t n_cols;   // that are summed together
};

/// Columns are cut only where sums may be added to.
TileCut tile_cut(const TileRows& x, uint64_t n_cols, bool can_add) {
  constexpr uint64_t kCacheBytes = uint64_t{1} << 20;
  constexpr uint64_t kUnit = 512;  // columns, the longest unit of a panel
  const uint64_t most = std::min(Bf16Product::kMaxTiles, x.n_tiles);
  const uint64_t per_column = 2 * kTileTokens * (x.rest == nullptr ? 1 : 2);
  const uint64_t fit = kCacheBytes / per_column / (can_add ? most : 1);
  if (!can_add) return {std::clamp<uint64_t>(fit / n_cols, 1, most), n_cols};
  const uint64_t n_parts = divide_up(n_cols, fit);
  return {most, round_up(divide_up(n_cols, n_parts), kUnit)};
}

/// Pairs of panels that all runs of tokens meet before the next ones follow: where all tokens'
/// tiles leave room for some in the L2 cache, so many. Lite with 32 experts, Q8_0, 96 tokens: 182
/// instead of 195 ns for 32 columns of a pair.
uint64_t pairs_in_cache(const Weight& w, const TileRows& x, uint64_t n_runs) {
  constexpr uint64_t kCacheBytes = uint64_t{3} << 19;
  const uint64_t n_parts = x.rest == nullptr ? 1 : 2;
  const uint64_t tokens = n_parts * tiles_bytes(x.n_tiles * kTileTokens, w.n_cols());
  if (n_runs == 1 || tokens > kCacheBytes / 2) return UINT64_MAX;
  return std::max<uint64_t>(1, (kCacheBytes - tokens) / (2 * panel_bytes(w.type(), w.n_cols())));
}

}  // namespace

void multiply_panels(const PanelMatrix& w, const ByteRows& x, float* y, uint64_t y_stride) {
  constexpr uint64_t kTokens = 6;  // of avx512_vnni
  static_assert(kInt8Tokens % kTokens == 0 && kWordTokens % kTokens == 0);
  const Int8Kernels kernels = int8_kernels(w.type);
  HYBRID_CHECK(x.n_parts == 1 || x.words || x.n_tokens == 1);
  const uint64_t most = x.words ? kWordTokens : kInt8Tokens;
  uint64_t n_runs = divide_up(x.n_tokens, most);
  for (uint64_t t = 0, n = 0; t < x.n_tokens; t += n, --n_runs) {
    const uint64_t share = round_up(divide_up(x.n_tokens - t, n_runs), kTokens);
    n = std::min(share, x.n_tokens - t);
    const ByteRows some = x.part(t, n);
    const Int8Product product{w,       some.rows, some.n_parts, some.n_tokens, y + t * y_stride,
                              y_stride};
    (some.n_tokens == 1 && !some.words ? kernels.one_token : kernels.many_tokens)(product, 0,
                                                                                  w.n_panels());
  }
}

void multiply_panels(const PanelMatrix& w, const float* x, uint64_t n_tokens, float* y,
                     uint64_t y_stride) {
  const FloatProductFn kernel = with_simd_level([&]<SimdLevel L>() -> FloatProductFn {
    if constexpr (L != SimdLevel::scalar) return float_product_at<L>(w.type);
    return nullptr;
  });
  HYBRID_CHECK(kernel != nullptr);
  kernel({w, x, w.n_cols, n_tokens, y, y_stride}, 0, w.n_panels());
}

void multiply_bytes(const Weight& w, const ByteRows& x, float* y, uint64_t y_stride, uint64_t begin,
                    uint64_t end) {
  for_panels(w, begin, end, [&](const PanelMatrix& panels, uint64_t first) {
    multiply_panels(panels, x, y + (first - begin) * kPanelRows, y_stride);
  });
}

void multiply_bytes(const Weight& first, const Weight& second, const ByteRows& x, float* y_first,
                    float* y_second, uint64_t begin, uint64_t end) {
  HYBRID_CHECK(x.n_tokens == 1 && first.type() == second.type() &&
               first.n_cols() == second.n_cols() && first.n_rows() == second.n_rows());
  const Int8ProductFn kernel = int8_kernels(first.type()).one_token;
  const uint64_t step = first.packed() && second.packed() ? end - begin : 1;
  for (uint64_t p = begin; p < end; p += step) {
    const uint64_t next = std::min(end, p + step), at = (p - begin) * kPanelRows;
    const PanelMatrix a = panels_of(first, p, next, 0), b = panels_of(second, p, next, 1);
    kernel({a, x.rows, x.n_parts, 1, y_first + at, 0, b, y_second + at}, 0, next - p);
  }
}

void multiply_floats(const Weight& w, const float* x, uint64_t n_tokens, float* y,
                     uint64_t y_stride, uint64_t begin, uint64_t end) {
  for_panels(w, begin, end, [&](const PanelMatrix& panels, uint64_t first) {
    multiply_panels(panels, x, n_tokens, y + (first - begin) * kPanelRows, y_stride);
  });
}

void multiply_tiles(const Weight& first, const Weight& second, const TileRows& x,
                    uint64_t pair_begin, uint64_t pair_end,
                    FunctionRef<void(const Bf16Product::Sums&)> done) {
  const Bf16ProductFn kernel = bf16_product(first.type());
  HYBRID_CHECK(kernel != nullptr);
  if (x.n_tiles == 0) return;
  const bool two = !second.empty();
  const TileCut cut = tile_cut(x, first.n_cols(), !two);
  const uint64_t per_pair = two ? 1 : 2, n_panels = first.n_panels();
  const uint64_t all_runs = divide_up(x.n_tiles, cut.n_tiles);
  const bool in_panels = first.packed() && (!two || second.packed());
  const uint64_t step = in_panels ? pairs_in_cache(first, x, all_runs) : 1;
  for (uint64_t pair = pair_begin, next = 0; pair < pair_end; pair = next) {
    next = pair_end - pair <= step ? pair_end : pair + step;
    const uint64_t begin = pair * per_pair, end = std::min(n_panels, next * per_pair);
    const PanelMatrix a = panels_of(first, begin, end, 0);
    const PanelMatrix b = two ? panels_of(second, begin, end, 1) : PanelMatrix{};
    uint64_t n_runs = all_runs;
    for (uint64_t t = 0, n = 0; t < x.n_tiles; t += n, --n_runs) {
      n = divide_up(x.n_tiles - t, n_runs);
      const auto moved = [&](const Bf16Product::Sums& sums) {
        Bf16Product::Sums at = sums;
        at.pair += pair;
        at.tile += t;
        done(at);
      };
      const TileRows some = x.part(t, n, first.n_cols());
      for (uint64_t col = 0; col < first.n_cols(); col += cut.n_cols) {
        const uint64_t n_cols = std::min(cut.n_cols, first.n_cols() - col);
        kernel({a, b, some.tiles, some.rest, some.n_tiles, some.per_tile, moved, col, n_cols}, 0,
               next - pair);
      }
    }
  }
}

void multiply_int16(const Weight& w, const Int16Rows& x, float* y, uint64_t y_stride,
                    uint64_t begin, uint64_t end) {
  const Int16Kernels kernels = int16_kernels(w.type());
  HYBRID_CHECK(kernels.product != nullptr);
  constexpr uint64_t kPanelsAtOnce = 16;
  const uint64_t n_cols = w.n_cols(), n_tiles = n_token_tiles(x.n_tokens);
  const uint64_t step = w.packed() ? kPanelsAtOnce : kPanelsOnTheSpot;
  float row_scales[kPanelsAtOnce * kPanelRows];
  for (uint64_t p = begin; p < end; p += step) {
    const PanelMatrix panels = panels_of(w, p, std::min(end, p + step));
    kernels.row_scales(panels, row_scales);
    uint64_t n_runs = divide_up(n_tiles, Int16Product::kMaxTiles);
    for (uint64_t t = 0, n = 0; t < n_tiles; t += n, --n_runs) {
      n = divide_up(n_tiles - t, n_runs);
      kernels.product({panels, row_scales, x.part(t, n, n_cols),
                       y + t * kTileTokens * y_stride + (p - begin) * kPanelRows, y_stride});
    }
  }
}

}  // namespace hybrid
