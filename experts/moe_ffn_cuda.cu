#include "experts/moe_ffn_cuda.cuh"
#include "experts/moe_ffn_scratch_cuda.h"

namespace hybrid {

using namespace cuda;

namespace {

/// Stops at the first launch that fails.
class Launches {
 public:
  template <class Launch>
  Launches& then(const Launch& launch) {
    if (status == 0) status = launch();
    return *this;
  }
  CudaStatus status = 0;
};

CudaStatus by_vectors(const MoeFfnCudaArgs& a, const MoeFfnCudaScratch& s, CudaStream stream) {
  const DeviceFfn& nets = a.nets;
  PanelGemvArgs product;
  product.matrices = a.ids;
  product.local = a.local;
  product.n_outputs = s.n_slots;
  const auto from_x = [&](const DevicePanels& w, float* y) {
    product.w = w;
    product.outputs_per_input = a.n_used;
    product.x = s.x;
    product.x_floats = a.x;
    product.y = {y, w.n_rows};
    return panel_gemv_cuda(product, stream);
  };
  Launches launches;
  launches.then([&] { return quantize_rows_cuda(a.x, nets.n_embd(), a.n_tokens, s.x, stream); })
      .then([&] { return from_x(nets.gate, s.gate); })
      .then([&] { return nets.is_merged() ? 0 : from_x(nets.up, s.up); })
      .then([&] {
        if (is_float(nets.down.type)) {
          return silu_mul_cuda(s.gate_rows(nets), s.up_rows(nets), nets.n_ff(), s.n_slots, {},
                               {a.ids, a.local}, stream);
        }
        const DeviceRows<float> gate = s.gate_rows(nets);
        return silu_mul_quantize_cuda({gate.data, gate.stride}, s.up_rows(nets), nets.n_ff(),
                                      s.n_slots, s.hidden, {a.ids, a.local}, stream);
      })
      .then([&] {
        product.w = nets.down;
        product.outputs_per_input = 1;
        product.x = s.hidden;
        product.x_floats = {s.gate, s.gate_rows(nets).stride};
        product.y = {s.out, nets.n_embd()};
        return panel_gemv_cuda(product, stream);
      });
  return launches.status;
}

CudaStatus by_tiles(const MoeFfnCudaArgs& a, const MoeFfnCudaScratch& s, CudaStream stream) {
  const DeviceFfn& nets = a.nets;
  const uint64_t x_stride = bf16_row_stride(nets.n_embd()),
                 hidden_stride = bf16_row_stride(nets.n_ff());
  PanelGemmArgs product;
  RowFilter routed;  // slots whose expert is elsewhere are not among the sorted ones
  if (a.ids != nullptr) routed.n_rows = s.routes.offsets + a.n_matrices;
  product.n_outputs = s.n_slots;
  if (a.ids != nullptr) {
    product.tiles = s.routes.tiles;
    product.n_tiles = s.routes.n_tiles;
    product.max_tiles = DeviceRoutes::max_tiles(s.n_slots, a.n_matrices);
  }
  const auto from_x = [&](const DevicePanels& w, float* y) {
    product.w = w;
    product.x = {s.x_bf16, x_stride};
    product.x_rows = s.routes.tokens;
    product.y = {y, w.n_rows};
    return panel_gemm_cuda(product, stream);
  };
  Launches launches;
  launches
      .then([&] {
        if (a.ids == nullptr) return CudaStatus{0};
        return sort_by_expert_cuda(a.ids, a.local, s.n_slots, a.n_used, a.n_matrices, s.routes,
                                   stream);
      })
      .then([&] {
        return to_bf16_cuda(a.x, nets.n_embd(), a.n_tokens, {s.x_bf16, x_stride}, stream);
      })
      .then([&] { return from_x(nets.gate, s.gate); })
      .then([&] { return nets.is_merged() ? 0 : from_x(nets.up, s.up); })
      .then([&] {
        return silu_mul_cuda(s.gate_rows(nets), s.up_rows(nets), nets.n_ff(), s.n_slots,
                             {s.hidden_bf16, hidden_stride}, routed, stream);
      })
      .then([&] {
        product.w = nets.down;
        product.x = {s.hidden_bf16, hidden_stride};
        product.x_rows = nullptr;
        product.y = {s.out, nets.n_embd()};
        return panel_gemm_cuda(product, stream);
      });
  return launches.status;
}

CudaStatus combine(const MoeFfnCudaArgs& a, const MoeFfnCudaScratch& s, CudaStream stream) {
  CombineSlotsArgs combine;
  combine.out = s.out;
  combine.places = s.routes.places;
  combine.ids = a.ids;
  combine.local = a.local;
  combine.weights = a.weights;
  combine.n_tokens = a.n_tokens;
  combine.n_used = a.n_used;
  combine.n_embd = a.nets.n_embd();
  combine.y = a.y;
  return combine_slots_cuda(combine, stream);
}

CudaStatus gather(const MoeFfnCudaArgs& a, const MoeFfnCudaScratch& s, CudaStream stream) {
  GatherSlotsArgs gather;
  gather.out = s.out;
  gather.places = s.routes.places;
  gather.ids = a.ids;
  gather.local = a.local;
  gather.n_slots = s.n_slots;
  gather.n_embd = a.nets.n_embd();
  gather.rows = a.slot_rows;
  return gather_slots_cuda(gather, stream);
}

}  // namespace

CudaStatus moe_ffn_cuda(const MoeFfnCudaArgs& all_args, CudaStream stream) {
  MoeFfnCudaArgs args = all_args;
  if (args.n_tokens == 0) return 0;
  const MoeFfnCudaScratch scratch(args);
  Launches launches;
  if (args.slot_rows != nullptr) {
    args.local = scratch.local;
    launches.then([&] {
      return number_experts_cuda(args.first_expert, args.n_matrices, args.n_experts, scratch.local,
                                 stream);
    });
  }
  launches
      .then([&] {
        return scratch.uses_gemv ? by_vectors(args, scratch, stream)
                                 : by_tiles(args, scratch, stream);
      })
      .then([&] {
        return args.slot_rows != nullptr ? gather(args, scratch, stream)
                                         : combine(args, scratch, stream);
      });
  return launches.status;
}

CudaStatus number_experts_cuda(uint32_t first, uint32_t n, uint32_t n_experts, int32_t* local,
                               CudaStream stream) {
  const Grid grid((n_experts + kGatherThreads - 1) / kGatherThreads);
  return launch(number_experts_kernel, grid, Grid(kGatherThreads), 0, stream, first, n, n_experts,
                local);
}

CudaStatus gather_slots_cuda(const GatherSlotsArgs& args, CudaStream stream) {
  return launch(gather_slots_kernel, Grid(args.n_slots), Grid(kGatherThreads), 0, stream, args);
}

CudaStatus combine_slots_cuda(const CombineSlotsArgs& args, CudaStream stream) {
  const Grid grid(args.n_tokens, (args.n_embd + kCombineThreads - 1) / kCombineThreads);
  return launch(combine_slots_kernel, grid, Grid(kCombineThreads), 0, stream, args);
}

}  // namespace hybrid
