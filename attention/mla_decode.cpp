#include "attention/mla_decode.h"

#include <algorithm>
#include <vector>

#include "base/half.h"
#include "tensor/dequantize.h"
#include "tensor/panel_matmul.h"

namespace hybrid {
namespace {

bool is_possible(const MlaShape& s, const MlaUpProjection& up) {
  const DType type = up.is_split() ? up.v_b.type : up.kv_b.type;
  return type != DType::f32 && s.kv_lora % kPanelRows == 0 && s.v_dim % kPanelRows == 0;
}

DType value_type(const MlaUpProjection& up) { return up.is_split() ? up.v_b.type : up.kv_b.type; }

uint64_t keys_bytes(const MlaShape& s) {
  return s.n_heads * (s.kv_lora / kPanelRows) * panel_bytes(DType::f16, s.qk_nope);
}

uint64_t values_bytes(const MlaShape& s, const MlaUpProjection& up) {
  return s.n_heads * (s.v_dim / kPanelRows) * panel_bytes(value_type(up), s.kv_lora);
}

/// W_h^T, [kv_lora][qk_nope], in half floats.
std::vector<f16_t> transposed_keys(const MlaShape& s, const MlaUpProjection& up, uint32_t head) {
  const uint64_t n = uint64_t{s.kv_lora} * s.qk_nope;
  std::vector<float> floats(n);
  std::vector<f16_t> out(n);
  if (up.is_split()) {
    const TensorView rows = up.k_b.rows(uint64_t{head} * s.kv_lora, s.kv_lora);
    dequantize(rows.type, rows.data.data(), floats.data(), n);
    std::transform(floats.begin(), floats.end(), out.begin(), f32_to_f16);
    return out;
  }
  const TensorView rows = up.kv_b.rows(uint64_t{head} * (s.qk_nope + s.v_dim), s.qk_nope);
  dequantize(rows.type, rows.data.data(), floats.data(), n);
  for (uint64_t i = 0; i < s.qk_nope; ++i) {
    for (uint64_t j = 0; j < s.kv_lora; ++j) {
      out[j * s.qk_nope + i] = f32_to_f16(floats[i * s.kv_lora + j]);
    }
  }
  return out;
}

/// Packs n_rows (whole panels) as panels [first, ...) of a matrix.
void pack_rows(const PanelMatrix& m, uint64_t first, const std::byte* rows, uint64_t n_rows) {
  const uint64_t size = m.panel_bytes(), row = row_bytes(m.type, m.n_cols);
  for (uint64_t r = 0; r < n_rows; r += kPanelRows) {
    const uint64_t panel = first + r / kPanelRows;
    // Memory of the caller, who handed it over to be filled.
    const_cast<int8_t*>(m.exponents)[panel] =
        pack_panel(m.type, rows + r * row, kPanelRows, m.n_cols,
                   const_cast<std::byte*>(m.data) + panel * size);
  }
}

/// Panels of one head.
PanelMatrix head_of(const PanelMatrix& m, uint64_t head, uint64_t n_rows) {
  const uint64_t first = head * n_rows / kPanelRows;
  return {m.type, m.n_cols, n_rows, m.panel(first), m.exponents + first};
}

/// out = V_h latent
void project_head(const PanelMatrix& v, const float* latent, float* out) {
  if (is_float(v.type)) {
    return multiply_panels(v, latent, 1, out, v.n_rows);
  }
  thread_local std::vector<ActivationBlock> blocks;
  const uint64_t n = n_activation_blocks(v.n_cols);
  blocks.resize(2 * n);
  quantize_row(latent, v.n_cols, blocks.data(), blocks.data() + n);
  const ActivationBlock* parts[] = {blocks.data(), blocks.data() + n};
  multiply_panels(v, {parts, 2, 1}, out, v.n_rows);
}

}  // namespace

uint64_t mla_decode_bytes(const MlaShape& s, const MlaUpProjection& up) {
  return is_possible(s, up) ? keys_bytes(s) + values_bytes(s, up) : 0;
}

uint64_t mla_decode_panels(const MlaShape& s, const MlaUpProjection& up) {
  return is_possible(s, up) ? uint64_t{s.n_heads} * (s.kv_lora + s.v_dim) / kPanelRows : 0;
}

MlaDecodeWeights place_mla_decode(const MlaShape& s, const MlaUpProjection& up, std::byte* panels,
                                  int8_t* exponents) {
  const uint64_t n_key_rows = uint64_t{s.n_heads} * s.kv_lora;
  MlaDecodeWeights w;
  w.absorbed_keys = {DType::f16, s.qk_nope, n_key_rows, panels, exponents};
  w.values = {value_type(up), s.kv_lora, uint64_t{s.n_heads} * s.v_dim, panels + keys_bytes(s),
              exponents + n_key_rows / kPanelRows};
  return w;
}

void make_mla_decode_head(const MlaShape& s, const MlaUpProjection& up, uint32_t head,
                          const MlaDecodeWeights& w) {
  const std::vector<f16_t> keys = transposed_keys(s, up, head);
  pack_rows(w.absorbed_keys, uint64_t{head} * s.kv_lora / kPanelRows,
            reinterpret_cast<const std::byte*>(keys.data()), s.kv_lora);
  const TensorView& source = up.is_split() ? up.v_b : up.kv_b;
  const uint64_t first =
      up.is_split() ? uint64_t{head} * s.v_dim : uint64_t{head} * (s.qk_nope + s.v_dim) + s.qk_nope;
  pack_rows(w.values, uint64_t{head} * s.v_dim / kPanelRows, source.row(first), s.v_dim);
}

namespace {

DType key_type(const MlaUpProjection& up) { return up.is_split() ? DType::f16 : up.kv_b.type; }

/// W_h, [qk_nope][kv_lora], of the transpose that the file has.
std::vector<f16_t> keys_of_transposed(const MlaShape& s, const TensorView& k_b, uint32_t head) {
  const TensorView rows = k_b.rows(uint64_t{head} * s.kv_lora, s.kv_lora);
  std::vector<float> floats(uint64_t{s.kv_lora} * s.qk_nope);
  dequantize(rows.type, rows.data.data(), floats.data(), floats.size());
  std::vector<f16_t> out(floats.size());
  for (uint64_t j = 0; j < s.kv_lora; ++j) {
    for (uint64_t i = 0; i < s.qk_nope; ++i) {
      out[i * s.kv_lora + j] = f32_to_f16(floats[j * s.qk_nope + i]);
    }
  }
  return out;
}

}  // namespace

uint64_t mla_key_bytes(const MlaShape& s, const MlaUpProjection& up) {
  if (!is_possible(s, up) || s.qk_nope % kPanelRows != 0) return 0;
  return s.n_heads * (s.qk_nope / kPanelRows) * panel_bytes(key_type(up), s.kv_lora);
}

PanelMatrix place_mla_keys(const MlaShape& s, const MlaUpProjection& up, std::byte* panels) {
  if (mla_key_bytes(s, up) == 0) return {};
  return {key_type(up), s.kv_lora, uint64_t{s.n_heads} * s.qk_nope, panels, nullptr};
}

void make_mla_key_head(const MlaShape& s, const MlaUpProjection& up, uint32_t head,
                       const PanelMatrix& keys) {
  std::vector<f16_t> made;
  const std::byte* rows = nullptr;
  if (up.is_split()) {
    made = keys_of_transposed(s, up.k_b, head);
    rows = reinterpret_cast<const std::byte*>(made.data());
  } else {
    rows = up.kv_b.row(uint64_t{head} * (s.qk_nope + s.v_dim));
  }
  const uint64_t row = row_bytes(keys.type, s.kv_lora);
  for (uint64_t r = 0; r < s.qk_nope; r += kPanelRows) {
    const uint64_t panel = (uint64_t{head} * s.qk_nope + r) / kPanelRows;
    pack_panel(keys.type, rows + r * row, kPanelRows, s.kv_lora,
               const_cast<std::byte*>(keys.panel(panel)));
  }
}

uint64_t mla_decode_thread_bytes(const MlaShape& s) {
  return 2 * n_activation_blocks(s.kv_lora) * sizeof(ActivationBlock);
}

void absorb_query(const MlaShape& s, const MlaDecodeWeights& w, const float* q, float* to,
                  Workers& workers) {
  workers.parallel_ranges(s.n_heads, 1, [&](uint64_t begin, uint64_t end, int) {
    for (uint64_t h = begin; h < end; ++h) {
      const float* from = q + h * s.qk_dim();
      float* at = to + h * s.cache_row();
      multiply_panels(head_of(w.absorbed_keys, h, s.kv_lora), from, 1, at, s.kv_lora);
      std::copy_n(from + s.qk_nope, s.qk_rope, at + s.kv_lora);
    }
  });
}

void project_values(const MlaShape& s, const MlaDecodeWeights& w, const float* latents, float* to,
                    Workers& workers) {
  workers.parallel_ranges(s.n_heads, 1, [&](uint64_t begin, uint64_t end, int) {
    for (uint64_t h = begin; h < end; ++h) {
      project_head(head_of(w.values, h, s.v_dim), latents + h * s.kv_lora, to + h * s.v_dim);
    }
  });
}

}  // namespace hybrid
