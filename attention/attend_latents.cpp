#include "attention/attend_latents.h"

#include <algorithm>
#include <vector>

#include "tensor/softmax.h"

namespace hybrid {
namespace {

/// Cache rows that are converted together: they stay in the L2 cache while all heads use them.
constexpr uint32_t kRowsPerBlock = 32;

/// Calls body(position, row) for all n_kv cache rows in order, a block at a time for each head.
template <class Body>
void for_cache_rows(const KvCache& cache, uint32_t layer, uint32_t n_kv, uint32_t n_heads,
                    const Body& body) {
  thread_local std::vector<float> buffer;
  const uint32_t row_dim = cache.shape().row_dim;
  buffer.resize(uint64_t{kRowsPerBlock} * row_dim);
  for (uint32_t first = 0; first < n_kv; first += kRowsPerBlock) {
    const uint32_t n = std::min(kRowsPerBlock, n_kv - first);
    const float* rows = load_cache_rows(cache, layer, first, n, buffer.data());
    for (uint32_t h = 0; h < n_heads; ++h) {
      for (uint32_t p = 0; p < n; ++p) body(h, first + p, rows + uint64_t{p} * row_dim);
    }
  }
}

}  // namespace

void attend_latents(const MlaAttentionArgs& args, const KvCache& cache, const VectorOps& ops,
                    uint32_t token, uint32_t head, uint32_t n_heads) {
  const MlaShape& s = args.shape;
  const uint64_t n_kv = args.first_position + token + 1;
  thread_local std::vector<float> scores;
  scores.resize(n_heads * n_kv);
  float* queries = args.latent + (uint64_t{token} * s.n_heads + head) * s.cache_row();
  const auto query = [&](uint32_t h) { return queries + uint64_t{h} * s.cache_row(); };
  for_cache_rows(cache, args.layer, static_cast<uint32_t>(n_kv), n_heads,
                 [&](uint32_t h, uint32_t p, const float* row) {
                   scores[h * n_kv + p] = args.kq_scale * ops.dot(query(h), row, s.cache_row());
                 });
  for (uint32_t h = 0; h < n_heads; ++h) {
    softmax(scores.data() + h * n_kv, n_kv);
    std::fill_n(query(h), s.kv_lora, 0.0f);
  }
  for_cache_rows(cache, args.layer, static_cast<uint32_t>(n_kv), n_heads,
                 [&](uint32_t h, uint32_t p, const float* row) {
                   ops.axpy(scores[h * n_kv + p], row, query(h), s.kv_lora);
                 });
}

}  // namespace hybrid
