#pragma once
// Attention of queries over cached rows, as all its forms take it. With g(h) = h * n_kv_heads /
// n_heads the head of keys that query head h uses, for query t at position s = first_position + t:
//
//   score_p    = scale * q[t][h] . key_g(h)[p]          for p = 0 .. s
//   out[t][h]  = sum_p softmax(score)_p * value_g(h)[p]
//
// One head of keys for all queries is what absorbed latent attention is; as many as query heads is
// standard attention.

#include <cstdint>

namespace hybrid {

struct AttentionDims {
  uint32_t n_heads = 0;
  uint32_t n_kv_heads = 0;  // divides n_heads
  uint32_t key_dim = 0;
  uint32_t value_dim = 0;

  uint32_t group() const { return n_heads / n_kv_heads; }
};

struct AttentionArgs {
  AttentionDims dims;
  float scale = 0;
  uint32_t layer = 0;           // of the cache
  uint32_t first_position = 0;  // of query 0; query t stands at first_position + t
  uint32_t n_tokens = 0;        // queries; their cache rows have been stored already
  const float* q = nullptr;     // [n_tokens][n_heads][key_dim]
  float* out = nullptr;         // [n_tokens][n_heads][value_dim]

  uint32_t n_kv() const { return first_position + n_tokens; }
};

}  // namespace hybrid
