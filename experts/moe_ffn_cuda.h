#pragma once
// moe_ffn() (moe_ffn.h) on a device, for the experts that live there; with a single net for all
// tokens the feed-forward net of dense layers and of shared experts.
//
//   hidden[t,k] = silu(gate_e x_t) * (up_e x_t)     e = ids[t,k]
//   y_t         = sum_k weights[t,k] * down_e hidden[t,k]      over the k whose expert is here
//
// Slots (t, k) are written apart and summed in the order of k. Up to kMaxGemvTokens tokens each
// slot is a product with a vector, from activations in two rounds of bytes; with more, slots are
// sorted by expert and multiplied in tiles, from bf16.

#include "experts/routes_cuda.h"
#include "tensor/panel_gemv_cuda.h"

namespace hybrid {

inline constexpr uint32_t kMaxGemvTokens = 8;

/// gate and up: either two matrices of n_ff rows, or gate holds both, gate's rows first, and up is
/// empty. Each may be a stack (of experts).
struct DeviceFfn {
  DevicePanels gate, up, down;

  bool is_merged() const { return up.data == nullptr; }
  uint32_t n_ff() const { return down.n_cols; }
  uint32_t n_embd() const { return down.n_rows; }
};

struct MoeFfnCudaArgs {
  DeviceFfn nets;
  uint32_t n_matrices = 1;  // of each stack
  const int32_t* local =
      nullptr;  // [n_experts]: an expert's matrix, below 0: elsewhere; null: its id
  uint32_t n_tokens = 0;
  uint32_t n_used = 1;
  uint32_t n_experts = 0;          // with slot_rows: of the layer, of which those here are
  uint32_t first_expert = 0;       // [first_expert, first_expert + n_matrices); instead of local
  const int32_t* ids = nullptr;    // [n_tokens][n_used]; null: matrix 0 for all tokens
  const float* weights = nullptr;  // [n_tokens][n_used]; null: 1
  DeviceRows<const float> x;       // rows of n_embd
  DeviceRows<float> y;             // rows of n_embd
  float* slot_rows = nullptr;      // instead of y: ExpertRows (routes.h) of the experts here
  std::byte* scratch = nullptr;    // moe_ffn_scratch_cuda.h, 256-byte aligned
};

CudaStatus moe_ffn_cuda(const MoeFfnCudaArgs& args, CudaStream stream);

/// local[e] = e - first where that is below n, -1 for the other experts.
CudaStatus number_experts_cuda(uint32_t first, uint32_t n, uint32_t n_experts, int32_t* local,
                               CudaStream stream);

/// The rows of slots whose expert is here, in the order of slots, without gaps. `rows`: [slots].
struct GatherSlotsArgs {
  const float* out = nullptr;       // [slots][n_embd]
  const int32_t* places = nullptr;  // as below
  const int32_t* ids = nullptr;
  const int32_t* local = nullptr;
  uint32_t n_slots = 0, n_embd = 0;
  float* rows = nullptr;
};
CudaStatus gather_slots_cuda(const GatherSlotsArgs& args, CudaStream stream);

/// y[t] = sum_k weights[t,k] * out[places[t,k]]; places null: slot t * n_used + k itself, or,
/// where `local` says that its expert is elsewhere, nothing.
struct CombineSlotsArgs {
  const float* out = nullptr;  // [slots][n_embd]
  const int32_t* places = nullptr;
  const int32_t* ids = nullptr;
  const int32_t* local = nullptr;
  const float* weights = nullptr;
  uint32_t n_tokens = 0, n_used = 1, n_embd = 0;
  DeviceRows<float> y;
};
CudaStatus combine_slots_cuda(const CombineSlotsArgs& args, CudaStream stream);

}  // namespace hybrid
