#include "experts/moe_ffn_cuda.cuh"

namespace hybrid {

using namespace cuda;

namespace {

/// Cuts a scratch into arrays; without memory it only counts.
class Cutter {
 public:
  explicit Cutter(std::byte* memory) : memory_(memory) {}
  template <class T>
  T* take(uint64_t n) {
    T* array = memory_ == nullptr ? nullptr : reinterpret_cast<T*>(memory_ + n_bytes_);
    n_bytes_ += (n * sizeof(T) + 255) / 256 * 256;
    return array;
  }
  uint64_t n_bytes() const { return n_bytes_; }

 private:
  std::byte* memory_;
  uint64_t n_bytes_ = 0;
};

uint64_t bf16_stride(uint64_t n) { return (n + 31) / 32 * 32; }

struct Scratch {
  bool uses_gemv;
  uint32_t n_slots;
  float *gate, *up, *out;       // [n_slots][n_ff] (gate: both where merged), [n_slots][n_embd]
  ActivationBlock *x, *hidden;  // decode: [n_tokens], [n_slots] rows
  bf16_t *x_bf16, *hidden_bf16;
  DeviceRoutes routes;
  uint64_t n_bytes;

  explicit Scratch(const MoeFfnCudaArgs& a) {
    const uint64_t n_ff = a.nets.n_ff(), n_embd = a.nets.n_embd();
    uses_gemv = a.n_tokens <= kMaxGemvTokens;
    n_slots = a.n_tokens * a.n_used;
    Cutter cut(a.scratch);
    gate = cut.take<float>(n_slots * n_ff * (a.nets.is_merged() ? 2 : 1));
    up = cut.take<float>(a.nets.is_merged() ? 0 : n_slots * n_ff);
    out = cut.take<float>(n_slots * n_embd);
    x = hidden = nullptr;
    x_bf16 = hidden_bf16 = nullptr;
    if (uses_gemv) {
      x = cut.take<ActivationBlock>(a.n_tokens * activation_row_blocks(n_embd));
      hidden = cut.take<ActivationBlock>(n_slots * activation_row_blocks(n_ff));
    } else {
      x_bf16 = cut.take<bf16_t>(a.n_tokens * bf16_stride(n_embd));
      hidden_bf16 = cut.take<bf16_t>(n_slots * bf16_stride(n_ff));
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

CudaStatus by_vectors(const MoeFfnCudaArgs& a, const Scratch& s, CudaStream stream) {
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

CudaStatus by_tiles(const MoeFfnCudaArgs& a, const Scratch& s, CudaStream stream) {
  const DeviceFfn& nets = a.nets;
  const uint64_t x_stride = bf16_stride(nets.n_embd()), hidden_stride = bf16_stride(nets.n_ff());
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

}  // namespace

uint64_t moe_ffn_scratch_bytes(const MoeFfnCudaArgs& args) {
  MoeFfnCudaArgs counted = args;
  counted.scratch = nullptr;
  return Scratch(counted).n_bytes;
}

CudaStatus moe_ffn_cuda(const MoeFfnCudaArgs& args, CudaStream stream) {
  if (args.n_tokens == 0) return 0;
  const Scratch scratch(args);
  const CudaStatus status =
      scratch.uses_gemv ? by_vectors(args, scratch, stream) : by_tiles(args, scratch, stream);
  if (status != 0) return status;
  CombineSlotsArgs combine;
  combine.out = scratch.out;
  combine.places = scratch.routes.places;
  combine.ids = args.ids;
  combine.local = args.local;
  combine.weights = args.weights;
  combine.n_tokens = args.n_tokens;
  combine.n_used = args.n_used;
  combine.n_embd = args.nets.n_embd();
  combine.y = args.y;
  return combine_slots_cuda(combine, stream);
}

CudaStatus combine_slots_cuda(const CombineSlotsArgs& args, CudaStream stream) {
  const Grid grid(args.n_tokens, (args.n_embd + kCombineThreads - 1) / kCombineThreads);
  return launch(combine_slots_kernel, grid, Grid(kCombineThreads), 0, stream, args);
}

}  // namespace hybrid
