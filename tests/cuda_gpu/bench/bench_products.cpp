// Memory, and products of panels.

#include <cuda_runtime_api.h>
#include <fmt/format.h>

#include <algorithm>
#include <string>
#include <vector>

#include "experts/moe_ffn_scratch_cuda.h"
#include "tests/cuda_gpu/bench/bench_kernels.h"
#include "tests/cuda_gpu/bench/measure.h"
#include "tests/support/panels.h"

namespace hybrid::gpu {
namespace {

/// A stack of matrices of random weights: some panels, again and again.
class Panels {
 public:
  Panels(DType type, uint32_t n_cols, uint32_t n_rows, uint64_t n_matrices)
      : matrix_bytes_(panel_bytes(type, n_cols) * ((n_rows + 15) / 16)),
        memory_(matrix_bytes_ * n_matrices),
        view_{type, n_cols, n_rows, memory_.as<std::byte>(), nullptr} {
    const test::PackedMatrix some(type, n_cols, 64, 1);
    uint64_t done = std::min<uint64_t>(some.panels.size(), memory_.n_bytes());
    memory_.upload(some.panels.data(), done);
    while (done < memory_.n_bytes()) {
      const uint64_t n = std::min(done, memory_.n_bytes() - done);
      check(cudaMemcpyAsync(memory_.as<std::byte>() + done, memory_.as<std::byte>(), n,
                            cudaMemcpyDeviceToDevice, stream()),
            "a copy on the device", n);
      done += n;
    }
    synchronize();
  }
  uint64_t matrix_bytes() const { return matrix_bytes_; }
  DevicePanels from(uint64_t matrix) const {
    DevicePanels view = view_;
    view.data += matrix * matrix_bytes_;
    return view;
  }

 private:
  uint64_t matrix_bytes_;
  Memory memory_;
  DevicePanels view_;
};

template <class T>
void upload(Memory& to, const std::vector<T>& values) {
  to.upload(values.data(), values.size() * sizeof(T));
}

void bench_gemv(const Machine& on, DType type, uint32_t n_vectors) {
  constexpr uint32_t kCols = 7168, kRows = 16384;
  const std::string shape = fmt::format("{} x {}, {} of x", kRows, kCols, n_vectors);
  const std::string what = fmt::format("panel_gemv {}", name_of(type));
  print_or_say_why(what, shape, [&] {
    const uint64_t bytes = panel_bytes(type, kCols) * kRows / 16, n = n_sets(on, bytes);
    const Panels panels(type, kCols, kRows, n);
    const auto x = test::random_floats(uint64_t{kCols} * n_vectors, 2);
    Memory floats(x.size() * sizeof(float)), y(uint64_t{kRows} * n_vectors * sizeof(float));
    Memory blocks(n_vectors * activation_row_blocks(kCols) * sizeof(ActivationBlock));
    upload(floats, x);
    check(quantize_rows_cuda({floats.as<float>(), kCols}, kCols, n_vectors,
                             blocks.as<ActivationBlock>(), stream()),
          "quantize_rows_cuda");
    const double us = median_us([&](uint64_t i) {
      PanelGemvArgs args;
      args.w = panels.from(i % n);
      args.n_outputs = n_vectors;
      args.x = blocks.as<ActivationBlock>();
      args.y = {y.as<float>(), kRows};
      return panel_gemv_cuda(args, stream());
    });
    const double gbs = static_cast<double>(bytes) / us * 1e-3;
    return Row{
        what, shape, us, gbs, gbs / on.copy_gbs, 2.0 * kCols * kRows * n_vectors / us * 1e-6};
  });
}

/// One product a matrix: n_matrices, each with n_each rows of x.
void bench_gemm(const Machine& on, const std::string& of, DType type, uint32_t n_cols,
                uint32_t n_rows, uint32_t n_matrices, uint32_t n_each) {
  const std::string shape = n_matrices == 1
                                ? fmt::format("{}: {} x {}, {} tokens", of, n_rows, n_cols, n_each)
                                : fmt::format("{}: {} of {} x {}, {} tokens each", of, n_matrices,
                                              n_rows, n_cols, n_each);
  const std::string what = fmt::format("panel_gemm {}", name_of(type));
  print_or_say_why(what, shape, [&] {
    const uint64_t bytes = panel_bytes(type, n_cols) * n_rows / 16 * n_matrices;
    const uint64_t n = n_sets(on, bytes), n_outputs = uint64_t{n_matrices} * n_each;
    const Panels panels(type, n_cols, n_rows, n * n_matrices);
    Memory x(n_outputs * n_cols * sizeof(bf16_t)), y(n_outputs * n_rows * sizeof(float));
    check(launch_random_bf16(x.as<bf16_t>(), n_outputs * n_cols, stream()), "a launch");
    std::vector<GemmTile> tiles;
    for (uint32_t m = 0; m < n_matrices; ++m) {
      for (uint32_t first = 0; first < n_each; first += kTileOutputs) {
        tiles.push_back(
            {static_cast<int32_t>(m), m * n_each + first, std::min(kTileOutputs, n_each - first)});
      }
    }
    const std::vector<uint32_t> n_tiles{static_cast<uint32_t>(tiles.size())};
    Memory device_tiles(tiles.size() * sizeof(GemmTile)), device_n(sizeof(uint32_t));
    upload(device_tiles, tiles);
    upload(device_n, n_tiles);
    const double us = median_us([&](uint64_t i) {
      PanelGemmArgs args;
      args.w = panels.from(i % n * n_matrices);
      args.x = {x.as<bf16_t>(), n_cols};
      args.n_outputs = static_cast<uint32_t>(n_outputs);
      if (n_matrices > 1) {
        args.tiles = device_tiles.as<GemmTile>();
        args.n_tiles = device_n.as<uint32_t>();
        args.max_tiles = n_tiles[0];
      }
      args.y = {y.as<float>(), n_rows};
      return panel_gemm_cuda(args, stream());
    });
    const double gbs = static_cast<double>(bytes) / us * 1e-3;
    return Row{what,
               shape,
               us,
               gbs,
               gbs / on.copy_gbs,
               2.0 * n_cols * n_rows * static_cast<double>(n_outputs) / us * 1e-6};
  });
}

/// The routed experts of a layer for a few tokens, each with n_used of its own.
void bench_decode(const Machine& on, const std::string& of, uint32_t n_embd, uint32_t n_ff,
                  uint32_t n_used, uint32_t n_tokens) {
  const std::string shape =
      fmt::format("{}: {} x {}, {} experts each of {} tokens", of, n_embd, n_ff, n_used, n_tokens);
  const std::string what = "moe_ffn Q4_K";
  print_or_say_why(what, shape, [&] {
    const uint32_t n_slots = n_used * n_tokens;
    const uint64_t bytes = 3 * panel_bytes(DType::q4_k, n_embd) * n_ff / 16 * n_slots;
    const uint64_t n = n_sets(on, bytes);
    const Panels gate(DType::q4_k, n_embd, n_ff, n * n_slots);
    const Panels up(DType::q4_k, n_embd, n_ff, n * n_slots);
    // Rows of whole blocks of 256 alone: Lite's 1408 columns are Q8_0, as in its files.
    const DType down_type = n_ff % 256 == 0 ? DType::q4_k : DType::q8_0;
    const Panels down(down_type, n_ff, n_embd, n * n_slots);
    const uint64_t read = (gate.matrix_bytes() + up.matrix_bytes() + down.matrix_bytes()) * n_slots;
    Memory x(uint64_t{n_tokens} * n_embd * sizeof(float)), y(x.n_bytes());
    Memory ids(n_slots * sizeof(int32_t)), weights(n_slots * sizeof(float));
    upload(x, test::random_floats(uint64_t{n_tokens} * n_embd, 2));
    y.fill(0);
    std::vector<int32_t> each(n_slots);
    for (uint32_t s = 0; s < n_slots; ++s) each[s] = static_cast<int32_t>(s);
    upload(ids, each);
    upload(weights, std::vector<float>(n_slots, 1e-3f));
    MoeFfnCudaArgs args;
    args.n_matrices = n_slots;
    args.n_tokens = n_tokens;
    args.n_used = n_used;
    args.ids = ids.as<int32_t>();
    args.weights = weights.as<float>();
    args.x = {x.as<float>(), n_embd};
    args.y = {y.as<float>(), n_embd};
    args.nets = {gate.from(0), up.from(0), down.from(0)};
    const Memory scratch(moe_ffn_scratch_bytes(args));
    args.scratch = scratch.as<std::byte>();
    const double us = median_us([&](uint64_t i) {
      const uint64_t first = i % n * n_slots;
      args.nets = {gate.from(first), up.from(first), down.from(first)};
      return moe_ffn_cuda(args, stream());
    });
    const double gbs = static_cast<double>(read) / us * 1e-3;
    return Row{what, shape, us, gbs, gbs / on.copy_gbs, 6.0 * n_embd * n_ff * n_slots / us * 1e-6};
  });
}

constexpr uint64_t kCopyBytes = 1 << 30;

}  // namespace

double measure_copy(const Machine&) {
  const Memory from(kCopyBytes), to(kCopyBytes);
  const double us = median_us([&](uint64_t) -> CudaStatus {
    return cudaMemcpyAsync(to.as<std::byte>(), from.as<std::byte>(), kCopyBytes,
                           cudaMemcpyDeviceToDevice, stream());
  });
  return 2.0 * static_cast<double>(kCopyBytes) / us * 1e-3;
}

void bench_memory(const Machine& on) {
  print({"copy on the device", "1 GiB, read and written",
         2.0 * static_cast<double>(kCopyBytes) / on.copy_gbs * 1e-3, on.copy_gbs, 1});
  print_or_say_why("read", "1 GiB", [&] {
    Memory from(kCopyBytes), to(4);
    from.fill(1);
    const double us = median_us([&](uint64_t) {
      return launch_read(from.as<std::byte>(), kCopyBytes, 8 * on.n_multiprocessors,
                         to.as<uint32_t>(), stream());
    });
    const double gbs = static_cast<double>(kCopyBytes) / us * 1e-3;
    return Row{"read", "1 GiB", us, gbs, gbs / on.copy_gbs};
  });
}

void bench_products(const Machine& on) {
  for (const DType type : {DType::q4_k, DType::q8_0, DType::q6_k}) {
    for (const uint32_t n : {1u, 2u, 4u, 8u}) bench_gemv(on, type, n);
  }
  for (const DType type : {DType::q4_k, DType::q8_0}) {
    for (const uint32_t n : {512u, 2048u}) bench_gemm(on, "dense", type, 7168, 16384, 1, n);
  }
}

void bench_experts(const Machine& on) {
  for (const uint32_t n : {4u, 16u, 64u}) {
    bench_gemm(on, "R1's gates", DType::q4_k, 7168, 2048, 32, n);
    bench_gemm(on, "R1's downs", DType::q4_k, 2048, 7168, 32, n);
    bench_gemm(on, "Lite's gates", DType::q4_k, 2048, 1408, 64, n);
    bench_gemm(on, "Lite's downs", DType::q8_0, 1408, 2048, 64, n);
  }
  for (const uint32_t n : {1u, 8u}) {
    bench_decode(on, "R1", 7168, 2048, 8, n);
    bench_decode(on, "Lite (downs Q8_0)", 2048, 1408, 6, n);
  }
}

}  // namespace hybrid::gpu
