#include "attention/split_vectors.h"

#include <algorithm>

#include "base/error.h"
#include "base/rounding.h"

namespace hybrid {
namespace {

constexpr uint32_t kKeysAtOnce = 4;  // multiplied at a time

}  // namespace

void VectorAttention::begin(const float* q, uint32_t n_queries, uint32_t key_dim,
                            uint32_t value_dim) {
  HYBRID_CHECK(n_queries <= kMaxQueries);
  q_ = q;
  n_queries_ = n_queries;
  key_dim_ = key_dim;
  value_dim_ = value_dim;
  scores_.reserve(uint64_t{kMaxQueries} * kPositions);
  std::fill_n(softmax_, n_queries, RunningSoftmax{});
  std::fill_n(sums_.reserve(uint64_t{kMaxQueries} * value_dim), uint64_t{n_queries} * value_dim,
              0.0f);
}

/// The next rows go into the L2 cache a few at a time beside the products of as many: converting
/// them would wait for memory otherwise (13 of 92 ms of a step behind 4,096 tokens).
void VectorAttention::add_scores(const VectorChunkArgs& args) {
  const RowProducts products = row_products();
  const uint64_t n_ahead = args.next == nullptr ? 0 : args.next_bytes;
  const uint64_t step = divide_up(args.next_bytes, uint64_t{kPositions / kKeysAtOnce});
  for (uint32_t k = 0; k < args.n_positions; k += kKeysAtOnce) {
    const uint64_t begin = k / kKeysAtOnce * step, end = std::min(n_ahead, begin + step);
    for (uint64_t i = begin; i < end; i += 64) __builtin_prefetch(args.next + i, 0, 2);
    products.dots({args.keys.data + k * args.keys.stride, args.keys.stride},
                  std::min(kKeysAtOnce, args.n_positions - k), {q_, key_dim_}, n_queries_, key_dim_,
                  scores_.data() + k, kPositions);
  }
}

void VectorAttention::add(const VectorChunkArgs& args) {
  HYBRID_CHECK(args.n_positions <= kPositions);
  add_scores(args);
  const RowOps ops = row_ops();
  for (uint32_t i = 0; i < n_queries_; ++i) {
    softmax_[i].weigh(ops, scores_.data() + uint64_t{i} * kPositions, args.n_visible[i],
                      args.n_positions, sums_.data() + uint64_t{i} * value_dim_, value_dim_);
  }
  row_products().add_weighted({scores_.data(), kPositions}, n_queries_, args.values,
                              args.n_positions, value_dim_, sums_.data(), value_dim_);
}

void VectorAttention::copy_sums(uint32_t query, float* to) const {
  std::copy_n(sums_.data() + uint64_t{query} * value_dim_, value_dim_, to);
}

}  // namespace hybrid
