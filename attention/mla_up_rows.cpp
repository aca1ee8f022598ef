#include "attention/mla_up_rows.h"

#include <algorithm>

#include "tensor/aligned_floats.h"
#include "tensor/dequantize.h"
#include "tensor/panel_f32.h"

namespace hybrid {
namespace {

/// n rows from `first` of a matrix, [n][n_cols].
const float* decode_rows(const TensorView& matrix, uint64_t first, uint64_t n) {
  thread_local AlignedFloats buffer;
  const TensorView rows = matrix.rows(first, n);
  float* to = buffer.reserve(n * rows.n_cols());
  dequantize(rows.type, rows.data.data(), to, n * rows.n_cols());
  return to;
}

/// W_h^T as the split layout has it, [kv_lora][qk_nope].
const float* transposed_rows(const MlaShape& s, const MlaUpProjection& up, uint32_t head) {
  return decode_rows(up.k_b, uint64_t{head} * s.kv_lora, s.kv_lora);
}

/// W_h as the merged layout has it, [qk_nope][kv_lora].
const float* merged_rows(const MlaShape& s, const MlaUpProjection& up, uint32_t head) {
  return decode_rows(up.kv_b, uint64_t{head} * (s.qk_nope + s.v_dim), s.qk_nope);
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

float* panel_buffer(uint64_t n_lanes, uint64_t n_k) {
  thread_local AlignedFloats panels;
  return panels.reserve(n_panels_of(n_lanes) * n_k * kPanelLanes);
}

/// Panels whose lanes are rows of a matrix [n_rows][n_cols], or its columns.
const float* rows_as_lanes(const float* rows, uint64_t n_rows, uint64_t n_cols) {
  float* to = panel_buffer(n_rows, n_cols);
  pack_rows_as_lanes(rows, n_cols, n_rows, n_cols, to, n_cols * kPanelLanes);
  return to;
}
const float* columns_as_lanes(const float* rows, uint64_t n_rows, uint64_t n_cols) {
  float* to = panel_buffer(n_cols, n_rows);
  pack_columns_as_lanes(rows, n_cols, n_rows, n_cols, to, n_rows * kPanelLanes);
  return to;
}

}  // namespace

uint64_t up_rows_thread_bytes(const MlaShape& s) {
  const uint64_t lora = s.kv_lora, nope = s.qk_nope, v = s.v_dim;
  const auto panels = [](uint64_t n_lanes, uint64_t n_k) {
    return n_panels_of(n_lanes) * kPanelLanes * n_k;
  };
  const uint64_t rows = std::max(nope, v) * lora;
  const uint64_t lanes = std::max({panels(lora, nope), panels(nope, lora), panels(v, lora)});
  return (rows + lanes + nope * lora) * sizeof(float);
}

const float* nope_rows(const MlaShape& s, const MlaUpProjection& up, uint32_t head) {
  if (!up.is_split()) return merged_rows(s, up, head);
  thread_local AlignedFloats buffer;
  float* rows = buffer.reserve(uint64_t{s.qk_nope} * s.kv_lora);
  transpose(transposed_rows(s, up, head), s.kv_lora, s.qk_nope, rows);
  return rows;
}

const float* absorb_panels(const MlaShape& s, const MlaUpProjection& up, uint32_t head) {
  return up.is_split() ? rows_as_lanes(transposed_rows(s, up, head), s.kv_lora, s.qk_nope)
                       : columns_as_lanes(merged_rows(s, up, head), s.qk_nope, s.kv_lora);
}

const float* nope_row_panels(const MlaShape& s, const MlaUpProjection& up, uint32_t head) {
  return up.is_split() ? columns_as_lanes(transposed_rows(s, up, head), s.kv_lora, s.qk_nope)
                       : rows_as_lanes(merged_rows(s, up, head), s.qk_nope, s.kv_lora);
}

const float* value_row_panels(const MlaShape& s, const MlaUpProjection& up, uint32_t head) {
  const uint64_t first =
      up.is_split() ? uint64_t{head} * s.v_dim : uint64_t{head} * (s.qk_nope + s.v_dim) + s.qk_nope;
  return rows_as_lanes(decode_rows(up.is_split() ? up.v_b : up.kv_b, first, s.v_dim), s.v_dim,
                       s.kv_lora);
}

}  // namespace hybrid
