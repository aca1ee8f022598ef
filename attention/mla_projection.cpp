#include "attention/mla_projection.h"

#include <algorithm>

#include "attention/mla_up_rows.h"
#include "tensor/aligned_floats.h"
#include "tensor/panel_f32.h"

namespace hybrid {
namespace {

template <class Body>
void for_heads(uint32_t n_heads, Workers& workers, const Body& body) {
  workers.parallel_for(n_heads, 1, [&](uint64_t begin, uint64_t end) {
    for (uint64_t h = begin; h < end; ++h) body(static_cast<uint32_t>(h));
  });
}

/// c[t] = panels of b times a[t]
void multiply(const float* a, uint64_t a_stride, const float* b, float* c, uint64_t c_stride,
              uint64_t n_tokens, uint64_t n_k, uint64_t n_lanes) {
  PanelArgs args;
  args.a = a;
  args.a_stride = a_stride;
  args.b = b;
  args.b_stride = n_k * kPanelLanes;
  args.c = c;
  args.c_stride = c_stride;
  args.n_tokens = n_tokens;
  args.n_k = n_k;
  args.n_lanes = n_lanes;
  panel_matmul(args);
}

}  // namespace

uint64_t projection_thread_bytes(const MlaShape& s, uint32_t n_tokens) {
  return up_rows_thread_bytes(s) + panel_a_thread_bytes(n_tokens, std::max(s.qk_nope, s.kv_lora)) +
         std::max(panel_b_thread_bytes(s.qk_nope, s.kv_lora),
                  panel_b_thread_bytes(s.kv_lora, s.v_dim));
}

uint64_t store_thread_bytes(const MlaShape& s, uint32_t n_tokens) {
  return up_rows_thread_bytes(s) + n_tokens * uint64_t{s.qk_dim() + s.v_dim} * sizeof(float) +
         panel_a_thread_bytes(n_tokens, s.kv_lora) +
         panel_b_thread_bytes(s.kv_lora, std::max(s.qk_nope, s.v_dim));
}

void absorb_queries(const MlaShape& s, const MlaUpProjection& up, const float* q, uint32_t n_tokens,
                    float* to, Workers& workers) {
  const uint64_t q_stride = uint64_t{s.n_heads} * s.qk_dim();
  const uint64_t to_stride = uint64_t{s.n_heads} * s.cache_row();
  for_heads(s.n_heads, workers, [&](uint32_t h) {
    const float* from = q + uint64_t{h} * s.qk_dim();
    float* at = to + uint64_t{h} * s.cache_row();
    multiply(from, q_stride, absorb_panels(s, up, h), at, to_stride, n_tokens, s.qk_nope,
             s.kv_lora);
    for (uint64_t t = 0; t < n_tokens; ++t) {
      std::copy_n(from + t * q_stride + s.qk_nope, s.qk_rope, at + t * to_stride + s.kv_lora);
    }
  });
}

void project_values(const MlaShape& s, const MlaUpProjection& up, const float* latents,
                    uint32_t n_tokens, float* to, Workers& workers) {
  for_heads(s.n_heads, workers, [&](uint32_t h) {
    multiply(latents + uint64_t{h} * s.kv_lora, uint64_t{s.n_heads} * s.kv_lora,
             value_row_panels(s, up, h), to + uint64_t{h} * s.v_dim, uint64_t{s.n_heads} * s.v_dim,
             n_tokens, s.kv_lora, s.v_dim);
  });
}

void store_heads(const MlaShape& s, const MlaUpProjection& up, const float* rows, uint32_t n_tokens,
                 KvCache& cache, uint32_t layer, uint32_t first, Workers& workers) {
  for_heads(s.n_heads, workers, [&](uint32_t h) {
    thread_local AlignedFloats key_buffer, value_buffer;
    float* keys = key_buffer.reserve(uint64_t{n_tokens} * s.qk_dim());
    float* values = value_buffer.reserve(uint64_t{n_tokens} * s.v_dim);
    multiply(rows, s.cache_row(), nope_row_panels(s, up, h), keys, s.qk_dim(), n_tokens, s.kv_lora,
             s.qk_nope);
    multiply(rows, s.cache_row(), value_row_panels(s, up, h), values, s.v_dim, n_tokens, s.kv_lora,
             s.v_dim);
    for (uint64_t t = 0; t < n_tokens; ++t) {
      float* key = keys + t * s.qk_dim();
      std::copy_n(rows + t * s.cache_row() + s.kv_lora, s.qk_rope, key + s.qk_nope);
      cache.store(layer, h, first + static_cast<uint32_t>(t), key, values + t * s.v_dim);
    }
  });
}

}  // namespace hybrid
