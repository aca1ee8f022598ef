#include "runtime/cuda_layer_ops.h"

#include <algorithm>
#include <cstring>
#include <utility>

#include "base/error.h"
#include "tensor/rope.h"

namespace hybrid {

static_assert(kCudaVectorTokens == kMaxGemvTokens);

CudaLayerOps::CudaLayerOps(CudaDevice& device, const CudaTables& tables, CudaQueue& queue,
                           const ModelConfig& config, const SequencePlan& plan)
    : tables_(tables),
      queue_(queue),
      config_(config),
      attention_(plan.attention),
      n_multiprocessors_(
          std::min(static_cast<uint32_t>(device.info().n_multiprocessors), kCudaMostSplitBlocks)),
      memory_(device.allocate(n_bytes(config, plan), "operations on a micro-batch")),
      scratch_(memory_.data(), config, plan),
      copies_(device, queue, uint64_t{2} * plan.n_ubatch) {
  for (const CudaScratch::Slot& slot : scratch_.slots) slots_.push_back({0, {}, slot});
  if (makes_cuda_scores(plan)) {
    scored_ = std::make_unique<CudaScoredAttention>(tables_, queue_, scratch_, config_);
  }
  upload_constants(device);
}

uint64_t CudaLayerOps::n_bytes(const ModelConfig& config, const SequencePlan& plan) {
  return CudaScratch(nullptr, config, plan).n_bytes;
}

void CudaLayerOps::upload_constants(CudaDevice& device) {
  const std::vector<double> frequencies = rope_frequencies(config_.rope);
  const uint64_t n_bytes = frequencies.size() * sizeof(double);
  const DeviceMemory pinned = device.allocate_pinned(sizeof(GridTables) + n_bytes, "tables");
  fill_grid_tables(*pinned.as<GridTables>());
  std::memcpy(pinned.data() + sizeof(GridTables), frequencies.data(), n_bytes);
  queue_.copy_to_device(reinterpret_cast<std::byte*>(scratch_.grids), pinned.data(),
                        sizeof(GridTables));
  queue_.copy_to_device(reinterpret_cast<std::byte*>(scratch_.frequencies),
                        pinned.data() + sizeof(GridTables), n_bytes);
  queue_.synchronize(kDeviceTimeout);
}

DevicePanels CudaLayerOps::panels(const Weight& w) const {
  HYBRID_CHECK(w.packed());
  return {w.type(), static_cast<uint32_t>(w.n_cols()), static_cast<uint32_t>(w.n_rows()), w.panels,
          scratch_.grids};
}

DevicePanels CudaLayerOps::panels(const PanelMatrix& w) const {
  return {w.type, static_cast<uint32_t>(w.n_cols), static_cast<uint32_t>(w.n_rows), w.data,
          scratch_.grids};
}

void CudaLayerOps::begin(uint32_t slot, const MicroBatch& batch) {
  select(slot);
  const uint32_t n = batch.n_tokens;
  now_->n_tokens = n;
  now_->segments.assign(batch.segments.begin(), batch.segments.end());
  std::vector<int32_t> numbers(2 * n);  // positions, and how many each sees
  uint32_t token = 0;
  for (const CacheSegment& segment : now_->segments) {
    for (uint32_t t = 0; t < segment.n_tokens; ++t, ++token) {
      numbers[token] = static_cast<int32_t>(segment.first_position + t);
      numbers[n + token] = numbers[token] + 1;
    }
  }
  const CudaScratch::Slot& to = now_->of_tokens;
  copies_.copy(numbers, to.positions);
  queue_.launch("fill_rope_table", [&](CudaStream stream) {
    return tables_.tensor.fill_rope_table(scratch_.frequencies, config_.mla.qk_rope, to.positions,
                                          n, to.rope_table, stream);
  });
}

void CudaLayerOps::select(uint32_t slot) {
  now_ = &slots_[slot];
  input_ = {};
}

void CudaLayerOps::embed(const TensorView& w, std::span<const int32_t> ids, float* to) {
  copies_.copy(ids, now_->of_tokens.token_ids);
  const DevicePanels rows{w.type, static_cast<uint32_t>(w.n_cols()),
                          static_cast<uint32_t>(w.n_rows()), w.data.data(), scratch_.grids};
  queue_.launch("panel_rows", [&](CudaStream stream) {
    return tables_.tensor.panel_rows(rows, now_->of_tokens.token_ids,
                                     static_cast<uint32_t>(ids.size()), {to, w.n_cols()}, stream);
  });
}

void CudaLayerOps::norm(const float* x, uint32_t n_rows, std::span<const float> weight, float* y) {
  const auto n = static_cast<uint32_t>(weight.size());
  queue_.launch("rms_norm", [&](CudaStream stream) {
    return tables_.tensor.rms_norm({x, n}, weight.data(), n, n_rows, config_.rms_epsilon, {y, n},
                                   stream);
  });
}

void CudaLayerOps::add(const float* x, float* y) {
  const uint32_t n = config_.n_embd;
  queue_.launch("add_rows", [&](CudaStream stream) {
    return tables_.tensor.add_rows({x, n}, {y, n}, n, now_->n_tokens, stream);
  });
}

void CudaLayerOps::gather(const float* x, std::span<const uint32_t> rows, float* to) {
  const uint64_t n = config_.n_embd;
  for (size_t i = 0; i < rows.size();) {
    HYBRID_CHECK(rows[i] < now_->n_tokens && rows[i] >= i);
    // Rows side by side go in one copy, unless it would run over itself.
    size_t end = i + 1;
    while (x != to && end < rows.size() && rows[end] == rows[end - 1] + 1) ++end;
    if (x + rows[i] * n != to + i * n) {
      queue_.copy_on_device(reinterpret_cast<std::byte*>(to + i * n),
                            reinterpret_cast<const std::byte*>(x + rows[i] * n),
                            (end - i) * n * sizeof(float));
    }
    i = end;
  }
}

void CudaLayerOps::set_input(const float* x, uint32_t n_rows, uint64_t n_cols, Precision) {
  input_ = {.x = x, .n_rows = n_rows, .n_cols = static_cast<uint32_t>(n_cols)};
}

void CudaLayerOps::product(const Weight& w, float* y) {
  const TensorCudaOps& ops = tables_.tensor;
  Input& in = input_;
  HYBRID_CHECK(w.n_cols() == in.n_cols);
  if (in.n_rows > kCudaVectorTokens && w.type() != DType::f32) {
    const uint64_t stride = bf16_row_stride(in.n_cols);
    if (!std::exchange(in.has_bf16, true)) {
      queue_.launch("to_bf16", [&](CudaStream stream) {
        return ops.to_bf16({in.x, in.n_cols}, in.n_cols, in.n_rows, {scratch_.input_bf16, stride},
                           stream);
      });
    }
    PanelGemmArgs args;
    args.w = panels(w);
    args.x = {scratch_.input_bf16, stride};
    args.n_outputs = in.n_rows;
    args.y = {y, w.n_rows()};
    return queue_.launch("panel_gemm",
                         [&](CudaStream stream) { return ops.panel_gemm(args, stream); });
  }
  if (!is_float(w.type()) && !std::exchange(in.has_blocks, true)) {
    queue_.launch("quantize_rows", [&](CudaStream stream) {
      return ops.quantize_rows({in.x, in.n_cols}, in.n_cols, in.n_rows, scratch_.input_blocks,
                               stream);
    });
  }
  PanelGemvArgs args;
  args.w = panels(w);
  args.n_outputs = in.n_rows;
  args.x = scratch_.input_blocks;
  args.x_floats = {in.x, in.n_cols};
  args.y = {y, w.n_rows()};
  queue_.launch("panel_gemv", [&](CudaStream stream) { return ops.panel_gemv(args, stream); });
}

void CudaLayerOps::rotate_queries(float* q) {
  const MlaShape& mla = config_.mla;
  queue_.launch("rotate_pairs", [&](CudaStream stream) {
    return tables_.tensor.rotate_pairs({q + mla.qk_nope, uint64_t{mla.n_heads} * mla.qk_dim()},
                                       mla.n_heads, mla.qk_dim(), now_->of_tokens.rope_table,
                                       mla.qk_rope, now_->n_tokens, stream);
  });
}

void CudaLayerOps::store_latents(const LayerWeights& w, uint32_t cache_layer, float* kv) {
  const MlaShape& mla = config_.mla;
  const uint32_t row = mla.cache_row();
  queue_.launch("rms_norm", [&](CudaStream stream) {
    return tables_.tensor.rms_norm({kv, row}, w.kv_a_norm.data(), mla.kv_lora, now_->n_tokens,
                                   config_.rms_epsilon, {kv, row}, stream);
  });
  queue_.launch("rotate_pairs", [&](CudaStream stream) {
    return tables_.tensor.rotate_pairs({kv + mla.kv_lora, row}, 1, mla.qk_rope,
                                       now_->of_tokens.rope_table, mla.qk_rope, now_->n_tokens,
                                       stream);
  });
  uint32_t token = 0;
  for (const CacheSegment& segment : now_->segments) {
    HYBRID_CHECK(segment.first_position + segment.n_tokens <= segment.cache->shape().n_ctx);
    // A device's address, which the kernel follows.
    auto* cache = const_cast<std::byte*>(segment.cache->key_rows(cache_layer, 0, 0));
    queue_.launch("store_cache_rows", [&](CudaStream stream) {
      return tables_.attention.store_cache_rows(
          segment.cache->shape().key, {kv + uint64_t{token} * row, row},
          now_->of_tokens.positions + token, segment.n_tokens, cache, stream);
    });
    token += segment.n_tokens;
  }
}

void CudaLayerOps::attend(const LayerWeights& w, uint32_t cache_layer, const float* q, float* out) {
  const MlaShape& mla = config_.mla;
  CudaAttendArgs args;
  for (const CacheSegment& segment : now_->segments) {
    args.row = segment.cache->shape().key;
    args.cache = segment.cache->key_rows(cache_layer, 0, 0);
    args.first_position = segment.first_position;
    args.n_tokens = segment.n_tokens;
    args.q = q + uint64_t{args.first_token} * mla.n_heads * mla.qk_dim();
    args.out = out + uint64_t{args.first_token} * mla.n_heads * mla.v_dim;
    const bool makes_keys = segment.n_tokens > kCudaVectorTokens && has_room_for_keys(args) &&
                            attention_.is_unabsorbed(segment.first_position, segment.n_tokens);
    if (makes_keys) {
      attend_with_keys(w, args);
    } else {
      attend_absorbed(w, args);
    }
    args.first_token += segment.n_tokens;
  }
}

void CudaLayerOps::multiply_heads(const PanelMatrix& w, uint32_t n_tokens,
                                  DeviceRows<const float> x, ActivationBlock* blocks, float* y) {
  const uint32_t n_heads = config_.mla.n_heads;
  if (!is_float(w.type)) {
    queue_.launch("quantize_rows", [&](CudaStream stream) {
      return tables_.tensor.quantize_rows(x, static_cast<uint32_t>(w.n_cols), n_tokens * n_heads,
                                          blocks, stream);
    });
  }
  PanelGemvArgs product;
  product.w = panels(w);
  product.n_outputs = n_tokens;
  product.rows_per_input = static_cast<uint32_t>(w.n_rows / n_heads);
  product.x = blocks;
  product.x_floats = x;
  product.y = {y, w.n_rows};
  queue_.launch("panel_gemv",
                [&](CudaStream stream) { return tables_.tensor.panel_gemv(product, stream); });
}

bool CudaLayerOps::has_room_for_keys(const CudaAttendArgs& a) const {
  return scored_ ? scored_->has_room_for_keys(a) : scratch_.prefill_heads > 0;
}

void CudaLayerOps::attend_in_one_pass(const CudaAttendArgs& a, uint32_t t, uint32_t n) {
  const MlaShape& mla = config_.mla;
  const uint64_t q_stride = uint64_t{mla.n_heads} * mla.qk_dim();
  MlaAbsorbedArgs args;
  args.row = a.row;
  args.cache = a.cache;
  args.n_visible = now_->of_tokens.positions + now_->n_tokens + a.first_token + t;
  args.n_tokens = n;
  args.n_heads = mla.n_heads;
  args.kq_scale = config_.kq_scale;
  args.q_latent = {scratch_.absorbed_queries, uint64_t{mla.n_heads} * mla.kv_lora};
  args.q_rope = {a.q + t * q_stride + mla.qk_nope, q_stride};
  args.q_rope_head_stride = mla.qk_dim();
  args.out = scratch_.absorbed_latents;
  args.n_splits = mla_absorbed_splits(mla.n_heads, n, a.first_position + t + n, n_multiprocessors_);
  args.scratch = scratch_.absorbed_parts;
  queue_.launch("mla_absorbed",
                [&](CudaStream stream) { return tables_.attention.mla_absorbed(args, stream); });
}

void CudaLayerOps::attend_absorbed(const LayerWeights& w, const CudaAttendArgs& a) {
  const MlaShape& mla = config_.mla;
  const uint64_t q_stride = uint64_t{mla.n_heads} * mla.qk_dim();
  HYBRID_CHECK(!w.decode.empty());
  const bool has_scores = scored_ && a.n_tokens > kCudaVectorTokens;
  if (has_scores) scored_->load_latents(a);
  for (uint32_t t = 0; t < a.n_tokens; t += scratch_.absorbed_tokens) {
    const uint32_t n = std::min(scratch_.absorbed_tokens, a.n_tokens - t);
    const float* const q = a.q + t * q_stride;
    multiply_heads(w.decode.absorbed_keys, n, {q, mla.qk_dim()}, nullptr,
                   scratch_.absorbed_queries);
    if (has_scores) {
      scored_->attend_on_latents(a, t, n, scratch_.absorbed_queries, scratch_.absorbed_latents);
    } else {
      attend_in_one_pass(a, t, n);
    }
    multiply_heads(w.decode.values, n, {scratch_.absorbed_latents, mla.kv_lora},
                   scratch_.latent_blocks, a.out + uint64_t{t} * mla.n_heads * mla.v_dim);
  }
}

void CudaLayerOps::make_heads(const LayerWeights& w, const HeadRange& heads) {
  HYBRID_CHECK(!w.prefill_keys.empty() && !w.decode.empty());
  const auto make = [&](const PanelMatrix& matrix, bf16_t* to) {
    const uint64_t n_rows = matrix.n_rows / config_.mla.n_heads;  // of a head
    PanelGemmArgs product;
    product.w = panels(matrix);
    product.w.n_rows = static_cast<uint32_t>(heads.n * n_rows);
    product.w.data = matrix.panel(heads.first * n_rows / kPanelRows);
    product.x = {heads.latents, config_.mla.kv_lora};
    product.n_outputs = heads.n_positions;
    product.y_bf16 = {to, heads.n * n_rows};
    queue_.launch("panel_gemm",
                  [&](CudaStream stream) { return tables_.tensor.panel_gemm(product, stream); });
  };
  make(w.prefill_keys, heads.keys);
  make(w.decode.values, heads.values);
}

void CudaLayerOps::attend_with_keys(const LayerWeights& w, const CudaAttendArgs& a) {
  const MlaShape& mla = config_.mla;
  if (scored_) {
    return scored_->attend_with_keys(a, [&](const HeadRange& heads) { make_heads(w, heads); });
  }
  queue_.launch("load_cache_rows", [&](CudaStream stream) {
    return tables_.attention.load_cache_rows(a.row, a.cache, a.n_positions(), scratch_.latents,
                                             scratch_.rope_keys, stream);
  });
  for (uint32_t head = 0; head < mla.n_heads; head += scratch_.prefill_heads) {
    const uint32_t n = std::min(scratch_.prefill_heads, mla.n_heads - head);
    make_heads(w, {head, n, a.n_positions(), scratch_.latents, scratch_.keys, scratch_.values});
    MlaPrefillArgs args;
    args.n_heads = n;
    args.first_position = a.first_position;
    args.n_tokens = a.n_tokens;
    args.kq_scale = config_.kq_scale;
    args.q = {a.q + uint64_t{head} * mla.qk_dim(), uint64_t{mla.n_heads} * mla.qk_dim()};
    args.k = {scratch_.keys, uint64_t{n} * mla.qk_nope};
    args.v = {scratch_.values, uint64_t{n} * mla.v_dim};
    args.k_head_stride = mla.qk_nope;
    args.v_head_stride = mla.v_dim;
    args.rope = scratch_.rope_keys;
    args.out = {a.out + uint64_t{head} * mla.v_dim, uint64_t{mla.n_heads} * mla.v_dim};
    queue_.launch("mla_prefill",
                  [&](CudaStream stream) { return tables_.attention.mla_prefill(args, stream); });
  }
}

void CudaLayerOps::run_ffn(MoeFfnCudaArgs& args, float* y) {
  args.n_tokens = now_->n_tokens;
  args.x = {input_.x, config_.n_embd};
  args.y = {y, config_.n_embd};
  args.scratch = scratch_.ffn;
  queue_.launch("moe_ffn",
                [&](CudaStream stream) { return tables_.experts.moe_ffn(args, stream); });
}

void CudaLayerOps::gated_ffn(const FfnWeights& w, float* y) {
  MoeFfnCudaArgs args;
  args.nets = {panels(w.gate), panels(w.up), panels(w.down)};
  run_ffn(args, y);
}

void CudaLayerOps::route(const LayerWeights& w, uint32_t, const float* logits, int32_t* ids,
                         float* weights) {
  queue_.launch("route_tokens", [&](CudaStream stream) {
    return tables_.experts.route_tokens(config_.moe, {logits, config_.moe.n_experts},
                                        w.router_bias.empty() ? nullptr : w.router_bias.data(),
                                        now_->n_tokens, ids, weights, stream);
  });
}

MoeFfnCudaArgs CudaLayerOps::experts_args(const ExpertPart& part, const int32_t* ids) const {
  MoeFfnCudaArgs args;
  const ExpertWeights& w = part.w;
  args.nets = {panels(w.is_merged() ? w.gate_up : w.gate), {}, panels(w.down)};
  if (!w.is_merged()) args.nets.up = panels(w.up);
  args.n_matrices = part.n;
  args.n_used = config_.moe.n_used;
  args.ids = ids;
  return args;
}

void CudaLayerOps::routed_experts(const RoutedExperts& experts, const int32_t* ids,
                                  const float* weights, float* y) {
  HYBRID_CHECK(experts.parts.size() == 1 && experts.elsewhere.empty());
  MoeFfnCudaArgs args = experts_args(experts.parts[0], ids);
  args.weights = weights;
  run_ffn(args, y);
}

void CudaLayerOps::expert_rows(const ExpertPart& part, const int32_t* ids, float* rows) {
  MoeFfnCudaArgs args = experts_args(part, ids);
  args.n_experts = config_.moe.n_experts;
  args.first_expert = part.first;
  args.slot_rows = rows;
  run_ffn(args, nullptr);
}

}  // namespace hybrid
