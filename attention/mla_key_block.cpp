#include "attention/mla_key_block.h"

#include <algorithm>

#include "base/error.h"
#include "tensor/dequantize.h"

namespace hybrid {
namespace {

/// Decodes n rows from `first` of a matrix into [n][n_cols].
void decode_rows(const TensorView& matrix, uint64_t first, uint64_t n, float* to) {
  const TensorView rows = matrix.rows(first, n);
  dequantize(rows.type, rows.data.data(), to, n * rows.n_cols());
}

/// to[c][r] = from[r][c], 16 rows at a time: they are read along and written a cache line each.
void transpose(const float* from, uint64_t n_rows, uint64_t n_cols, float* to) {
  for (uint64_t first = 0; first < n_rows; first += kPanelLanes) {
    const uint64_t end = std::min(n_rows, first + kPanelLanes);
    for (uint64_t c = 0; c < n_cols; ++c) {
      for (uint64_t r = first; r < end; ++r) to[c * n_rows + r] = from[r * n_cols + c];
    }
  }
}

/// W_h as floats, [qk_nope][kv_lora], in a buffer each thread keeps.
const float* nope_rows(const MlaShape& s, const MlaUpProjection& up, uint32_t head) {
  thread_local AlignedFloats buffer, as_in_file;
  const uint64_t n = uint64_t{s.qk_nope} * s.kv_lora;
  float* rows = buffer.reserve(n);
  if (up.is_split()) {
    decode_rows(up.k_b, uint64_t{head} * s.kv_lora, s.kv_lora, as_in_file.reserve(n));
    transpose(as_in_file.data(), s.kv_lora, s.qk_nope, rows);
  } else {
    decode_rows(up.kv_b, uint64_t{head} * (s.qk_nope + s.v_dim), s.qk_nope, rows);
  }
  return rows;
}

/// V_h as panels whose lanes are its rows, [panels of v_dim][kv_lora][16].
const float* value_row_panels(const MlaShape& s, const MlaUpProjection& up, uint32_t head) {
  thread_local AlignedFloats buffer, panels;
  float* rows = buffer.reserve(uint64_t{s.v_dim} * s.kv_lora);
  if (up.is_split()) {
    decode_rows(up.v_b, uint64_t{head} * s.v_dim, s.v_dim, rows);
  } else {
    decode_rows(up.kv_b, uint64_t{head} * (s.qk_nope + s.v_dim) + s.qk_nope, s.v_dim, rows);
  }
  const uint64_t stride = s.kv_lora * kPanelLanes;
  float* to = panels.reserve(n_panels_of(s.v_dim) * stride);
  pack_rows_as_lanes(rows, s.kv_lora, s.v_dim, s.kv_lora, to, stride);
  return to;
}

uint64_t latents_floats(const MlaShape& s) {
  return MlaKeyBlock::kPositions * prepared_cols(s.kv_lora);
}
uint64_t rope_floats(const MlaShape& s) {
  return MlaKeyBlock::kPositions * prepared_cols(s.qk_rope);
}

}  // namespace

uint64_t MlaKeyBlock::n_bytes(const MlaShape& s) {
  // The latents stand twice: as rows and as panels.
  return (2 * latents_floats(s) + rope_floats(s) +
          s.n_heads * (keys_per_head(s) + values_per_head(s))) *
         sizeof(float);
}

MlaKeyBlock::MlaKeyBlock(const MlaShape& shape) : shape_(shape) {
  rows_.reserve(latents_floats(shape));
  latents_.reserve(latents_floats(shape));
  rope_.reserve(rope_floats(shape));
  keys_.reserve(shape.n_heads * keys_per_head(shape));
  values_.reserve(shape.n_heads * values_per_head(shape));
}

void MlaKeyBlock::load_latents(const KvCache& cache, uint32_t layer, uint64_t panel) {
  thread_local AlignedFloats buffer;
  const auto offset = static_cast<uint32_t>(panel * kPanelLanes);
  const uint32_t n = std::min<uint32_t>(kPanelLanes, n_ - offset);
  const uint64_t row_dim = shape_.cache_row(), n_latent = shape_.kv_lora;
  const float* from =
      load_cache_rows(cache, layer, first_ + offset, n, buffer.reserve(kPanelLanes * row_dim));
  const uint64_t row_stride = prepared_cols(n_latent), stride = row_stride * kPanelLanes;
  float* rows = rows_.data() + panel * stride;
  for (uint32_t i = 0; i < n; ++i) std::copy_n(from + i * row_dim, n_latent, rows + i * row_stride);
  prepare_rows(rows, row_stride, n, n_latent);
  float* latents = latents_.data() + panel * stride;
  pack_rows_as_lanes(from, row_dim, n, n_latent, latents, stride);
  prepare_panels(latents, stride, 1, n_latent);
  float* rope = rope_.data() + panel * rope_stride();
  pack_rows_as_lanes(from + n_latent, row_dim, n, shape_.qk_rope, rope, rope_stride());
  prepare_panels(rope, rope_stride(), 1, shape_.qk_rope);
}

void MlaKeyBlock::fill_head(const MlaUpProjection& up, uint32_t head, uint64_t first_panel,
                            uint64_t n_panels) {
  const uint64_t latent_stride = prepared_cols(shape_.kv_lora) * kPanelLanes;
  const uint64_t offset = first_panel * kPanelLanes;
  float* to = keys_.data() + (head * kPanels + first_panel) * key_stride();
  PanelArgs keys;
  keys.a = nope_rows(shape_, up, head);
  keys.a_stride = shape_.kv_lora;
  keys.b = latents_.data() + first_panel * latent_stride;
  keys.b_stride = latent_stride;
  keys.b_is_prepared = true;
  keys.c = to;
  keys.c_stride = kPanelLanes;
  keys.c_panel_stride = key_stride();
  keys.n_tokens = shape_.qk_nope;
  keys.n_k = shape_.kv_lora;
  keys.n_lanes = n_panels * kPanelLanes;
  panel_matmul(keys);
  prepare_panels(to, key_stride(), n_panels, shape_.qk_nope);

  to = values_.data() + head * values_per_head(shape_) + offset * kPanelLanes;
  PanelArgs values;
  values.a = rows_.data() + first_panel * latent_stride;
  values.a_stride = prepared_cols(shape_.kv_lora);
  values.a_is_prepared = true;
  values.b = value_row_panels(shape_, up, head);
  values.b_stride = shape_.kv_lora * kPanelLanes;
  values.c = to;
  values.c_stride = kPanelLanes;
  values.c_panel_stride = value_stride();
  values.n_tokens = std::min<uint64_t>(n_panels * kPanelLanes, n_ - offset);
  values.n_k = shape_.kv_lora;
  values.n_lanes = n_panels_of(shape_.v_dim) * kPanelLanes;
  panel_matmul(values);
  prepare_panels(to, value_stride(), n_panels_of(shape_.v_dim), values.n_tokens);
}

void MlaKeyBlock::fill(const MlaUpProjection& up, const KvCache& cache, uint32_t layer,
                       uint32_t first, uint32_t n, Workers& workers) {
  HYBRID_CHECK(n > 0 && n <= kPositions);
  first_ = first;
  n_ = n;
  const uint64_t n_panels = n_panels_of(n);
  workers.parallel_for(n_panels, 2, [&](uint64_t begin, uint64_t end) {
    for (uint64_t panel = begin; panel < end; ++panel) load_latents(cache, layer, panel);
  });
  // Each task decodes its head's rows: whole heads, unless there are too few for the threads.
  const uint64_t n_wanted = 4 * static_cast<uint64_t>(workers.n_threads());
  const uint64_t n_parts = std::clamp<uint64_t>(n_wanted / shape_.n_heads, 1, n_panels);
  constexpr uint64_t kWhole = kPreparedCols / kPanelLanes;  // panels that are prepared together
  const uint64_t part = ((n_panels + n_parts - 1) / n_parts + kWhole - 1) / kWhole * kWhole;
  workers.parallel_for(shape_.n_heads * n_parts, 1, [&](uint64_t begin, uint64_t end) {
    for (uint64_t i = begin; i < end; ++i) {
      const uint64_t first_panel = i % n_parts * part;
      if (first_panel >= n_panels) continue;
      fill_head(up, static_cast<uint32_t>(i / n_parts), first_panel,
                std::min(part, n_panels - first_panel));
    }
  });
}

}  // namespace hybrid
