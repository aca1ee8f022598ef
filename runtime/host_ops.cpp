#include "runtime/host_ops.h"

#include <algorithm>

#include "base/error.h"
#include "experts/router.h"
#include "tensor/dequantize.h"
#include "tensor/parallel_matmul.h"
#include "tensor/rms_norm.h"
#include "tensor/row_ops.h"
#include "tensor/simd_level.h"

namespace hybrid {
namespace {

/// Calls body(row) for all rows, in parallel where they are many.
template <class Body>
void for_rows(Workers& workers, uint64_t n_rows, const Body& body) {
  constexpr uint64_t kRowsPerTask = 8;
  workers.parallel_for(n_rows, kRowsPerTask, [&](uint64_t begin, uint64_t end) {
    for (uint64_t r = begin; r < end; ++r) body(r);
  });
}

/// Calls body(segment, index of its first token) for all segments.
template <class Body>
void for_segments(std::span<const CacheSegment> segments, const Body& body) {
  uint64_t first = 0;
  for (const CacheSegment& segment : segments) {
    body(segment, first);
    first += segment.n_tokens;
  }
}

/// The longest rows that products take, and the widest dense net.
uint64_t max_input_cols(const ModelConfig& c) {
  return std::max<uint64_t>({c.n_embd, c.mla.q_lora, uint64_t{c.mla.n_heads} * c.mla.v_dim});
}
uint64_t max_dense_ff(const ModelConfig& c) {
  return std::max<uint64_t>(c.n_ff_dense, uint64_t{c.moe.n_shared} * c.moe.ff_dim);
}

}  // namespace

HostOps::HostOps(const ModelConfig& c, const MlaPlan& attention, const Sizes& sizes)
    : config_(c),
      rope_(c.rope),
      fused_moe_(sizes.fused_moe),
      slots_(sizes.n_in_flight),
      attention_(attention) {
  const uint64_t n = sizes.max_tokens;
  for (Slot& slot : slots_) slot.rope_table.reserve(n * c.mla.qk_rope);
  input_.reserve(n, max_input_cols(c));
  ffn_.reserve(c.n_embd, max_dense_ff(c), n, 1);
  moe_.reserve(c.moe, c.n_embd, n, fused_moe_);
}

uint64_t HostOps::n_bytes(const ModelConfig& c, const MlaPlan& attention, const Sizes& sizes) {
  const uint64_t n = sizes.max_tokens;
  return sizes.n_in_flight * n * c.mla.qk_rope * sizeof(float) + attention.n_bytes() +
         MatmulInput::n_bytes(n, max_input_cols(c)) +
         FfnScratch::n_bytes(c.n_embd, max_dense_ff(c), n, 1) +
         MoeFfnScratch::n_bytes(c.moe, c.n_embd, n, sizes.fused_moe);
}

uint64_t HostOps::held_bytes() const {
  uint64_t n =
      input_.held_bytes() + ffn_.held_bytes() + moe_.held_bytes() + attention_.held_bytes();
  for (const Slot& slot : slots_) n += slot.rope_table.n_bytes();
  return n;
}

void HostOps::begin(uint32_t index, const MicroBatch& batch) {
  select(index);
  Slot& slot = *now_;
  HYBRID_CHECK(uint64_t{batch.n_tokens} * rope_.n_dims() <= slot.rope_table.size());
  slot.batch = batch;
  slot.segments.assign(batch.segments.begin(), batch.segments.end());
  slot.batch.segments = slot.segments;
  float* row = slot.rope_table.data();
  for (const CacheSegment& segment : slot.segments) {
    for (uint32_t t = 0; t < segment.n_tokens; ++t, row += rope_.n_dims()) {
      rope_.fill_table(segment.first_position + t, row);
    }
  }
}

void HostOps::select(uint32_t index) { now_ = &slots_[index]; }

void HostOps::embed(const TensorView& w, std::span<const int32_t> ids, float* to) {
  for (const int32_t id : ids) {
    HYBRID_CHECK(id >= 0 && static_cast<uint64_t>(id) < w.n_rows());
    dequantize(w.type, w.row(static_cast<uint64_t>(id)), to, w.n_cols());
    to += w.n_cols();
  }
}

void HostOps::norm(const float* x, uint32_t n_rows, std::span<const float> weight, float* y) {
  const uint64_t n = weight.size();
  for_rows(*workers_, n_rows,
           [&](uint64_t r) { rms_norm(x + r * n, weight, config_.rms_epsilon, y + r * n); });
}

void HostOps::add(const float* x, float* y) {
  const RowOps ops = row_ops();
  workers_->parallel_for(
      uint64_t{now_->batch.n_tokens} * config_.n_embd, 1 << 15,
      [&](uint64_t begin, uint64_t end) { ops.add(x + begin, y + begin, end - begin); });
}

void HostOps::gather(const float* x, std::span<const uint32_t> rows, float* to) {
  const uint64_t n = config_.n_embd;
  for (size_t i = 0; i < rows.size(); ++i) {
    HYBRID_CHECK(rows[i] < now_->batch.n_tokens && rows[i] >= i);
    std::copy_n(x + rows[i] * n, n, to + i * n);
  }
}

void HostOps::set_input(const float* x, uint32_t n_rows, uint64_t n_cols, Precision precision) {
  input_.set(x, n_rows, n_cols, precision);
}

void HostOps::product(const Weight& w, float* y) { matmul(w, input_, y, *workers_); }

void HostOps::rotate_queries(float* q) {
  const MlaShape& mla = config_.mla;
  for_rows(*workers_, now_->batch.n_tokens, [&](uint64_t t) {
    for (uint64_t i = t * mla.n_heads; i < (t + 1) * mla.n_heads; ++i) {
      rotate_pairs(q + i * mla.qk_dim() + mla.qk_nope, now_->rope_table.data() + t * mla.qk_rope,
                   mla.qk_rope);
    }
  });
}

void HostOps::store_latents(const LayerWeights& w, uint32_t cache_layer, float* kv) {
  const MlaShape& mla = config_.mla;
  for_rows(*workers_, now_->batch.n_tokens, [&](uint64_t t) {
    float* row = kv + t * mla.cache_row();
    rms_norm(row, w.kv_a_norm, config_.rms_epsilon, row);
    rotate_pairs(row + mla.kv_lora, now_->rope_table.data() + t * mla.qk_rope, mla.qk_rope);
  });
  for_segments(now_->segments, [&](const CacheSegment& segment, uint64_t first) {
    attention_.store(w.kv_up, kv + first * mla.cache_row(), segment.n_tokens, *segment.cache,
                     cache_layer, segment.first_position, *workers_);
  });
}

void HostOps::attend(const LayerWeights& w, uint32_t cache_layer, const float* q, float* out) {
  const MlaShape& mla = config_.mla;
  // The scalar level is the reference: it takes the file's own blocks.
  const MlaDecodeWeights decode = simd_level() == SimdLevel::scalar ? MlaDecodeWeights{} : w.decode;
  for_segments(now_->segments, [&](const CacheSegment& segment, uint64_t first) {
    MlaArgs args;
    args.kq_scale = config_.kq_scale;
    args.layer = cache_layer;
    args.first_position = segment.first_position;
    args.n_tokens = segment.n_tokens;
    args.q = q + first * mla.n_heads * mla.qk_dim();
    args.out = out + first * mla.n_heads * mla.v_dim;
    attention_.attend(args, w.kv_up, decode, *segment.cache, *workers_);
  });
}

void HostOps::gated_ffn(const FfnWeights& w, float* y) {
  const FfnJob job{w.gate, w.up, w.down, 0, now_->batch.n_tokens};
  run_ffn_jobs({input_, {&job, 1}, {}, y}, ffn_, *workers_);
}

void HostOps::route(const LayerWeights& w, uint32_t moe_layer, const float* logits, int32_t* ids,
                    float* weights) {
  const MoeShape& moe = config_.moe;
  for_rows(*workers_, now_->batch.n_tokens, [&](uint64_t t) {
    const std::span row(logits + t * moe.n_experts, moe.n_experts);
    const std::span row_ids(ids + t * moe.n_used, moe.n_used);
    const std::span row_weights(weights + t * moe.n_used, moe.n_used);
    const uint32_t token = now_->batch.choice_offset + static_cast<uint32_t>(t);
    if (now_->batch.replay != nullptr) {
      std::ranges::copy(now_->batch.replay->token(moe_layer, token), row_ids.begin());
      weigh_choice(moe, row, row_ids, row_weights);
    } else {
      route_token(moe, row, w.host_router_bias, row_ids, row_weights);
    }
    if (now_->batch.record != nullptr) {
      std::ranges::copy(row_ids, now_->batch.record->token(moe_layer, token).begin());
    }
  });
}

void HostOps::routed_experts(const RoutedExperts& experts, const int32_t* ids, const float* weights,
                             float* y) {
  const uint64_t n_slots = uint64_t{now_->batch.n_tokens} * config_.moe.n_used;
  const MoeFfnArgs args{input_,
                        y,
                        std::span(ids, n_slots),
                        std::span(weights, n_slots),
                        fused_moe_,
                        experts.elsewhere,
                        experts.arrive};
  moe_ffn(args, config_.moe, experts.parts, moe_, *workers_);
}

void HostOps::expert_rows(const ExpertPart& part, const int32_t* ids, float* rows) {
  const MoeFfnArgs args{input_,
                        nullptr,
                        std::span(ids, uint64_t{now_->batch.n_tokens} * config_.moe.n_used),
                        {},
                        fused_moe_};
  moe_rows(args, config_.moe, part, rows, moe_, *workers_);
}

}  // namespace hybrid
