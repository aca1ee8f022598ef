#include "attention/mla_key_filler.h"

#include <algorithm>

#include "attention/mla_up_rows.h"
#include "base/error.h"
#include "base/rounding.h"

namespace hybrid {

MlaKeyFiller::MlaKeyFiller(const MlaShape& shape, uint32_t n_positions) : shape_(shape) {
  rows_.reserve(n_positions * latent_cols());
  latents_.reserve(n_positions * latent_cols());
}

uint64_t MlaKeyFiller::n_bytes(const MlaShape& shape, uint32_t n_positions) {
  return 2 * n_positions * prepared_cols(shape.kv_lora) * sizeof(float);
}

uint64_t MlaKeyFiller::thread_bytes(const MlaShape& shape) {
  return kPanelLanes * shape.cache_row() * sizeof(float);
}

void MlaKeyFiller::load_latents(KeyBlock& block, BlockParts parts, const KvCache& cache,
                                uint32_t layer, uint64_t panel) {
  thread_local AlignedFloats buffer;
  const auto offset = static_cast<uint32_t>(panel * kPanelLanes);
  const uint32_t n = std::min<uint32_t>(kPanelLanes, block.n_positions() - offset);
  const uint64_t row_dim = shape_.cache_row(), n_latent = shape_.kv_lora;
  const uint64_t row_stride = latent_cols(), stride = row_stride * kPanelLanes;
  const float* from =
      cache.load_keys(layer, 0, block.first() + offset, n, buffer.reserve(kPanelLanes * row_dim));
  if (parts.values) {
    float* rows = rows_.data() + panel * stride;
    for (uint32_t i = 0; i < n; ++i) {
      std::copy_n(from + i * row_dim, n_latent, rows + i * row_stride);
    }
    prepare_rows(rows, row_stride, n, n_latent);
  }
  if (!parts.keys) return;
  float* latents = latents_.data() + panel * stride;
  pack_rows_as_lanes(from, row_dim, n, n_latent, latents, stride);
  prepare_panels(latents, stride, 1, n_latent);
  const uint64_t shared_stride = block.shape().shared_stride();
  float* rope = block.shared_panels(panel);
  pack_rows_as_lanes(from + n_latent, row_dim, n, shape_.qk_rope, rope, shared_stride);
  prepare_panels(rope, shared_stride, 1, shape_.qk_rope);
}

void MlaKeyFiller::fill_keys(KeyBlock& block, const MlaUpProjection& up, uint32_t head,
                             uint64_t first_panel, uint64_t n_panels) const {
  const uint64_t latent_stride = latent_cols() * kPanelLanes, stride = block.shape().key_stride();
  PanelArgs args;
  args.a = nope_rows(shape_, up, head);
  args.a_stride = shape_.kv_lora;
  args.b = latents_.data() + first_panel * latent_stride;
  args.b_stride = latent_stride;
  args.b_is_prepared = true;
  args.c = block.key_panels(head, first_panel);
  args.c_stride = kPanelLanes;
  args.c_panel_stride = stride;
  args.n_tokens = shape_.qk_nope;
  args.n_k = shape_.kv_lora;
  args.n_lanes = n_panels * kPanelLanes;
  panel_matmul(args);
  prepare_panels(args.c, stride, n_panels, shape_.qk_nope);
}

void MlaKeyFiller::fill_values(KeyBlock& block, const MlaUpProjection& up, uint32_t head,
                               uint64_t first_panel, uint64_t n_panels) const {
  const uint64_t offset = first_panel * kPanelLanes, stride = block.shape().value_stride();
  PanelArgs args;
  args.a = rows_.data() + offset * latent_cols();
  args.a_stride = latent_cols();
  args.a_is_prepared = true;
  args.b = value_row_panels(shape_, up, head);
  args.b_stride = shape_.kv_lora * kPanelLanes;
  args.c = block.value_panels(head, offset);
  args.c_stride = kPanelLanes;
  args.c_panel_stride = stride;
  args.n_tokens = std::min<uint64_t>(n_panels * kPanelLanes, block.n_positions() - offset);
  args.n_k = shape_.kv_lora;
  args.n_lanes = n_panels_of(shape_.v_dim) * kPanelLanes;
  panel_matmul(args);
  prepare_panels(args.c, stride, n_panels_of(shape_.v_dim), args.n_tokens);
}

void MlaKeyFiller::fill(KeyBlock& block, BlockParts parts, const MlaUpProjection& up,
                        const KvCache& cache, uint32_t layer, uint32_t head, uint32_t n_heads,
                        uint32_t first, uint32_t n, Workers& workers) {
  HYBRID_CHECK(n_heads <= block.shape().n_heads);
  block.begin(head, first, n);
  const uint64_t n_panels = n_panels_of(n);
  workers.parallel_for(n_panels, 2, [&](uint64_t begin, uint64_t end) {
    for (uint64_t panel = begin; panel < end; ++panel) {
      load_latents(block, parts, cache, layer, panel);
    }
  });
  // Each task decodes its head's rows: whole heads, unless there are too few for the threads.
  const uint64_t n_wanted = 4 * static_cast<uint64_t>(workers.n_threads());
  const uint64_t n_parts = std::clamp<uint64_t>(n_wanted / n_heads, 1, n_panels);
  constexpr uint64_t kWhole = kPreparedCols / kPanelLanes;  // panels that are prepared together
  const uint64_t part = round_up(divide_up(n_panels, n_parts), kWhole);
  workers.parallel_for(n_heads * n_parts, 1, [&](uint64_t begin, uint64_t end) {
    for (uint64_t i = begin; i < end; ++i) {
      const uint64_t first_panel = i % n_parts * part;
      if (first_panel >= n_panels) continue;
      const auto h = head + static_cast<uint32_t>(i / n_parts);
      const uint64_t n_here = std::min(part, n_panels - first_panel);
      if (parts.keys) fill_keys(block, up, h, first_panel, n_here);
      if (parts.values) fill_values(block, up, h, first_panel, n_here);
    }
  });
}

}  // namespace hybrid
