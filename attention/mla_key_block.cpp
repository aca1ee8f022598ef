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

uint64_t rows_floats(const MlaShape& s) {
  return uint64_t{MlaKeyBlock::kPositions} * s.cache_row();
}

uint64_t keys_floats(const MlaShape& s) {
  return uint64_t{s.n_heads} * MlaKeyBlock::kPositions * s.qk_nope;
}

}  // namespace

uint64_t MlaKeyBlock::n_bytes(const MlaShape& s) {
  // The rows stand twice: as they are, and as panels.
  return (2 * rows_floats(s) + keys_floats(s) + s.n_heads * values_per_head(s)) * sizeof(float);
}

MlaKeyBlock::MlaKeyBlock(const MlaShape& shape) : shape_(shape) {
  rows_.reserve(rows_floats(shape));
  latents_.reserve(uint64_t{kPositions} * shape.kv_lora);
  rope_.reserve(uint64_t{kPositions} * shape.qk_rope);
  keys_.reserve(keys_floats(shape));
  values_.reserve(shape.n_heads * values_per_head(shape));
}

void MlaKeyBlock::load_latents(const KvCache& cache, uint32_t layer, uint64_t panel) {
  const auto offset = static_cast<uint32_t>(panel * kPanelLanes);
  const uint32_t n = std::min<uint32_t>(kPanelLanes, n_ - offset);
  const uint64_t row_dim = shape_.cache_row();
  float* to = rows_.data() + offset * row_dim;
  const float* rows = load_cache_rows(cache, layer, first_ + offset, n, to);
  if (rows != to) std::copy_n(rows, n * row_dim, to);
  const uint64_t latent_stride = shape_.kv_lora * kPanelLanes;
  pack_rows_as_lanes(rows, row_dim, n, shape_.kv_lora, latents_.data() + panel * latent_stride,
                     latent_stride);
  pack_rows_as_lanes(rows + shape_.kv_lora, row_dim, n, shape_.qk_rope,
                     rope_.data() + panel * rope_stride(), rope_stride());
}

void MlaKeyBlock::fill_head(const MlaUpProjection& up, uint32_t head, uint64_t first_panel,
                            uint64_t n_panels) {
  const uint64_t latent_stride = shape_.kv_lora * kPanelLanes;
  const uint64_t offset = first_panel * kPanelLanes;
  PanelArgs keys;
  keys.a = nope_rows(shape_, up, head);
  keys.a_stride = shape_.kv_lora;
  keys.b = latents_.data() + first_panel * latent_stride;
  keys.b_stride = latent_stride;
  keys.c = keys_.data() + (head * kPanels + first_panel) * key_stride();
  keys.c_stride = kPanelLanes;
  keys.c_panel_stride = key_stride();
  keys.n_tokens = shape_.qk_nope;
  keys.n_k = shape_.kv_lora;
  keys.n_lanes = n_panels * kPanelLanes;
  panel_matmul(keys);

  PanelArgs values;
  values.a = rows_.data() + offset * shape_.cache_row();
  values.a_stride = shape_.cache_row();
  values.b = value_row_panels(shape_, up, head);
  values.b_stride = latent_stride;
  values.c = values_.data() + head * values_per_head(shape_) + offset * kPanelLanes;
  values.c_stride = kPanelLanes;
  values.c_panel_stride = value_stride();
  values.n_tokens = std::min<uint64_t>(n_panels * kPanelLanes, n_ - offset);
  values.n_k = shape_.kv_lora;
  values.n_lanes = n_panels_of(shape_.v_dim) * kPanelLanes;
  panel_matmul(values);
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
  const uint64_t part = (n_panels + n_parts - 1) / n_parts;
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
