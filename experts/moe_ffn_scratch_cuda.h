#pragma once
// The memory of a moe_ffn_cuda() call: the launch cuts its scratch by this, plans count with it, on
// machines without CUDA, too.

#include "base/memory_cutter.h"
#include "experts/moe_ffn_cuda.h"

namespace hybrid {

struct MoeFfnCudaScratch {
  bool uses_gemv;
  uint32_t n_slots;
  float *gate, *up, *out;       // [n_slots][n_ff] (gate: both where merged), [n_slots][n_embd]
  ActivationBlock *x, *hidden;  // decode: [n_tokens], [n_slots] rows
  bf16_t *x_bf16, *hidden_bf16;
  DeviceRoutes routes;
  int32_t* local;  // [n_experts]
  uint64_t n_bytes;

  explicit MoeFfnCudaScratch(const MoeFfnCudaArgs& a) {
    const uint64_t n_ff = a.nets.n_ff(), n_embd = a.nets.n_embd();
    uses_gemv = a.n_tokens <= kMaxGemvTokens;
    n_slots = a.n_tokens * a.n_used;
    MemoryCutter cut(a.scratch);
    gate = cut.take<float>(n_slots * n_ff * (a.nets.is_merged() ? 2 : 1));
    up = cut.take<float>(a.nets.is_merged() ? 0 : n_slots * n_ff);
    out = cut.take<float>(n_slots * n_embd);
    local = cut.take<int32_t>(a.n_experts);
    x = hidden = nullptr;
    x_bf16 = hidden_bf16 = nullptr;
    if (uses_gemv) {
      x = cut.take<ActivationBlock>(a.n_tokens * activation_row_blocks(n_embd));
      hidden = cut.take<ActivationBlock>(n_slots * activation_row_blocks(n_ff));
    } else {
      x_bf16 = cut.take<bf16_t>(a.n_tokens * bf16_row_stride(n_embd));
      hidden_bf16 = cut.take<bf16_t>(n_slots * bf16_row_stride(n_ff));
      if (a.ids != nullptr) {
        routes.tokens = cut.take<uint32_t>(n_slots);
        routes.places = cut.take<int32_t>(n_slots);
        routes.offsets = cut.take<uint32_t>(a.n_matrices + 1);
        routes.tiles = cut.take<GemmTile>(DeviceRoutes::max_tiles(n_slots, a.n_matrices));
        routes.n_tiles = cut.take<uint32_t>(1);
      }
    }
    n_bytes = cut.n_bytes();
  }

  /// The outcome of gate and up: two arrays, or the halves of one's rows.
  DeviceRows<float> gate_rows(const DeviceFfn& nets) const { return {gate, nets.gate.n_rows}; }
  DeviceRows<const float> up_rows(const DeviceFfn& nets) const {
    if (nets.is_merged()) return {gate + nets.n_ff(), nets.gate.n_rows};
    return {up, nets.n_ff()};
  }
};

/// What a call takes: a function of n_tokens, n_used, n_matrices, n_experts, of whether it has ids,
/// and of the nets' shapes.
inline uint64_t moe_ffn_scratch_bytes(const MoeFfnCudaArgs& args) {
  MoeFfnCudaArgs counted = args;
  counted.scratch = nullptr;
  return MoeFfnCudaScratch(counted).n_bytes;
}

}  // namespace hybrid
