#include "tensor/panel_f32.h"

#include <algorithm>
#include <cstring>

#include "base/error.h"
#include "tensor/aligned_floats.h"
#include "tensor/panel_f32_tiles.h"

namespace hybrid {
namespace {

std::byte* reserve_bytes(AlignedFloats& floats, uint64_t n) {
  return reinterpret_cast<std::byte*>(floats.reserve(n / sizeof(float)));
}

}  // namespace

void panel_matmul(const PanelArgs& args) {
  if (args.n_tokens == 0 || args.n_lanes == 0) return;
  const uint64_t n_row_lanes = std::min(args.n_lanes, args.c_panel_stride);
  HYBRID_CHECK(args.c != nullptr && args.c_panel_stride >= kPanelLanes);
  HYBRID_CHECK(args.n_tokens == 1 || args.c_stride >= std::min(n_row_lanes, kPanelLanes));
  HYBRID_CHECK(args.n_k == 0 || (args.a != nullptr && args.b != nullptr));
  HYBRID_CHECK(args.a_stride >= args.n_k && args.b_stride >= args.n_k * kPanelLanes);
#if defined(__x86_64__)
  if (simd_level() == SimdLevel::amx) {
    thread_local AlignedFloats a, b;
    const uint64_t a_bytes = args.a_is_prepared ? 0 : a_tiles_bytes(args.n_tokens, args.n_k);
    const uint64_t b_bytes = args.b_is_prepared ? 0 : b_tiles_bytes(args.n_k, args.n_lanes);
    return panel_matmul_tiles(args, reserve_bytes(a, a_bytes), reserve_bytes(b, b_bytes));
  }
#endif
  with_simd_level([&]<SimdLevel L>() { panel_matmul_at<L>(args); });
}

uint64_t panel_a_thread_bytes(uint64_t n_tokens, uint64_t n_k) {
  return simd_level() == SimdLevel::amx ? a_tiles_bytes(n_tokens, n_k) : 0;
}

uint64_t panel_b_thread_bytes(uint64_t n_k, uint64_t n_lanes) {
  return simd_level() == SimdLevel::amx ? b_tiles_bytes(n_k, n_lanes) : 0;
}

uint64_t prepare_thread_bytes(uint64_t n_k) {
  return simd_level() == SimdLevel::amx ? n_tile_groups(n_k) * kGroupBytes : 0;
}

void prepare_panels([[maybe_unused]] float* panels, uint64_t panel_stride,
                    [[maybe_unused]] uint64_t n_panels, uint64_t n_k) {
  HYBRID_CHECK(panel_stride >= prepared_cols(n_k) * kPanelLanes);
#if defined(__x86_64__)
  if (simd_level() != SimdLevel::amx) return;
  for (uint64_t p = 0; p < n_panels; ++p) prepare_panel_tiles(panels + p * panel_stride, n_k);
#endif
}

void prepare_rows([[maybe_unused]] float* rows, uint64_t row_stride,
                  [[maybe_unused]] uint64_t n_rows, uint64_t n_k) {
  HYBRID_CHECK(row_stride >= prepared_cols(n_k) && row_stride % 16 == 0);
#if defined(__x86_64__)
  if (simd_level() != SimdLevel::amx) return;
  thread_local AlignedFloats tile;
  prepare_row_tiles(rows, row_stride, n_rows, n_k,
                    reserve_bytes(tile, n_tile_groups(n_k) * kGroupBytes));
#endif
}

void pack_rows_as_lanes(const float* rows, uint64_t row_stride, uint64_t n_rows, uint64_t n_k,
                        float* panels, uint64_t panel_stride) {
  for (uint64_t first = 0; first < n_rows; first += kPanelLanes, panels += panel_stride) {
    const uint64_t n = std::min(kPanelLanes, n_rows - first);
    const float* from = rows + first * row_stride;
    if (n < kPanelLanes) std::fill_n(panels, n_k * kPanelLanes, 0.0f);
    for (uint64_t k = 0; k < n_k; ++k) {
      for (uint64_t lane = 0; lane < n; ++lane) {
        panels[k * kPanelLanes + lane] = from[lane * row_stride + k];
      }
    }
  }
}

void pack_columns_as_lanes(const float* rows, uint64_t row_stride, uint64_t n_k, uint64_t n_lanes,
                           float* panels, uint64_t panel_stride) {
  for (uint64_t first = 0; first < n_lanes; first += kPanelLanes, panels += panel_stride) {
    const uint64_t n = std::min(kPanelLanes, n_lanes - first);
    if (n < kPanelLanes) std::fill_n(panels, n_k * kPanelLanes, 0.0f);
    for (uint64_t k = 0; k < n_k; ++k) {
      std::memcpy(panels + k * kPanelLanes, rows + k * row_stride + first, n * sizeof(float));
    }
  }
}

}  // namespace hybrid
