// cuBLAS, through the plugin, beside our own kernels: a dense layer's product, and attention with
// scores in memory (-fa 0) of the shape that bench_attention() measures in one pass.

#include <fmt/format.h>

#include <memory>
#include <string>

#include "attention/mla_prefill_cuda.h"
#include "attention/score_softmax_cuda.h"
#include "base/error.h"
#include "tensor/cuda_blas.h"
#include "tensor/cuda_plugin.h"
#include "tests/cuda_gpu/bench/bench_kernels.h"
#include "tests/cuda_gpu/bench/measure.h"

namespace hybrid::gpu {
namespace {

class Blas {
 public:
  explicit Blas(const BlasCudaOps& ops) : ops_(ops), workspace_(kCudaBlasWorkspaceBytes) {
    check(ops.open(stream(), workspace_.as<std::byte>(), workspace_.n_bytes(), &handle_),
          "cublasCreate");
  }
  ~Blas() { ops_.close(handle_); }
  Blas(const Blas&) = delete;
  Blas& operator=(const Blas&) = delete;

  CudaStatus multiply(const RowGemm& product) const { return ops_.gemm(handle_, to_blas(product)); }

 private:
  const BlasCudaOps& ops_;
  Memory workspace_;
  CudaBlas* handle_ = nullptr;
};

struct RandomBf16 : Memory {
  explicit RandomBf16(uint64_t n) : Memory(n * sizeof(bf16_t)) {
    check(launch_random_bf16(as<bf16_t>(), n, stream()), "a launch");
  }
};

/// Beside panel_gemm's "dense" rows. Weights are bf16 already: four times the bytes of Q4_K.
void bench_dense(const Machine& on, const Blas& blas, uint32_t n_tokens) {
  constexpr uint32_t kCols = 7168, kRows = 16384;
  const std::string what = "cuBLAS bf16";
  const std::string shape = fmt::format("dense: {} x {}, {} tokens", kRows, kCols, n_tokens);
  print_or_say_why(what, shape, [&] {
    const uint64_t of_matrix = uint64_t{kCols} * kRows, bytes = of_matrix * sizeof(bf16_t);
    const uint64_t n = n_sets(on, bytes);
    const RandomBf16 w(n * of_matrix), x(uint64_t{n_tokens} * kCols);
    const Memory y(uint64_t{n_tokens} * kRows * sizeof(float));
    const double us = median_us([&](uint64_t i) {
      return blas.multiply({.n_rows = n_tokens,
                            .n_cols = kRows,
                            .n_inner = kCols,
                            .a = {x.as<bf16_t>(), kCols},
                            .w = {w.as<bf16_t>() + i % n * of_matrix, kCols},
                            .is_w_transposed = true,
                            .c = {y.as<float>(), kRows}});
    });
    const double gbs = static_cast<double>(bytes) / us * 1e-3;
    return Row{what, shape, us, gbs, gbs / on.copy_gbs, 2.0 * kCols * kRows * n_tokens / us * 1e-6};
  });
}

/// Some heads of a prompt with all scores of a step in memory: FLOP of what each query sees, as
/// mla_prefill's are counted, though products make the others, too.
void bench_scored(const Blas& blas, uint32_t n_heads, uint32_t n_at_once, uint32_t n_tokens) {
  const std::string what = "scored attention";
  const std::string shape =
      fmt::format("{} heads, {} at a time, {} tokens", n_heads, n_at_once, n_tokens);
  print_or_say_why(what, shape, [&] {
    const uint64_t of_head = uint64_t{n_tokens} * n_tokens,
                   q_stride = uint64_t{n_heads} * kQueryDim;
    const uint64_t out_stride = uint64_t{n_heads} * kValueDim;
    const RandomBf16 q(n_tokens * q_stride);
    const RandomBf16 keys(uint64_t{n_tokens} * n_heads * kNopeDim);
    const RandomBf16 values(uint64_t{n_tokens} * n_heads * kValueDim);
    const RandomBf16 rope(uint64_t{n_tokens} * kKeyRopeDim);
    const Memory scores(n_at_once * of_head * sizeof(float));
    const Memory weights(n_at_once * of_head * sizeof(bf16_t));
    const Memory out(n_tokens * out_stride * sizeof(float));
    const double us = median_us([&](uint64_t) -> CudaStatus {
      for (uint32_t head = 0; head < n_heads; head += n_at_once) {
        const bf16_t* const of_q = q.as<bf16_t>() + uint64_t{head} * kQueryDim;
        RowGemm product{.n_rows = n_tokens,
                        .n_cols = n_tokens,
                        .n_inner = kNopeDim,
                        .n_batch = n_at_once,
                        .a = {of_q, q_stride, kQueryDim},
                        .w = {keys.as<bf16_t>() + uint64_t{head} * kNopeDim,
                              uint64_t{n_heads} * kNopeDim, kNopeDim},
                        .is_w_transposed = true,
                        .c = {scores.as<float>(), n_tokens, of_head}};
        CudaStatus status = blas.multiply(product);
        if (status != 0) return status;
        product.n_inner = kKeyRopeDim;
        product.a.data = of_q + kNopeDim;
        product.w = {rope.as<bf16_t>(), kKeyRopeDim, 0};
        product.adds = true;
        status = blas.multiply(product);
        if (status != 0) return status;
        status = score_softmax_cuda(
            {n_at_once, n_tokens, 0, 0.1f, n_tokens, scores.as<float>(), weights.as<bf16_t>()},
            stream());
        if (status != 0) return status;
        status = blas.multiply(
            {.n_rows = n_tokens,
             .n_cols = kValueDim,
             .n_inner = n_tokens,
             .n_batch = n_at_once,
             .a = {weights.as<bf16_t>(), n_tokens, of_head},
             .w = {values.as<bf16_t>() + uint64_t{head} * kValueDim, out_stride, kValueDim},
             .c = {out.as<float>() + uint64_t{head} * kValueDim, out_stride, kValueDim}});
        if (status != 0) return status;
      }
      return 0;
    });
    const double pairs = 0.5 * n_tokens * (n_tokens + 1.0) * n_heads;
    return Row{what, shape, us, 0, 0, 2.0 * (kQueryDim + kValueDim) * pairs / us * 1e-6};
  });
}

}  // namespace

void bench_blas(const Machine& on) {
  std::string reason;
  const auto plugin = CudaPlugin::open(cuda_plugin_paths(), reason);
  const BlasCudaOps* const ops = plugin == nullptr ? nullptr : plugin->ops<BlasCudaOps>(reason);
  const char* const missing = ops == nullptr ? reason.c_str() : ops->why_missing();
  if (missing != nullptr) {
    // What this machine does not have is no row that is missing.
    return print({"cuBLAS", fmt::format("left out: {}", missing)});
  }
  try {
    const Blas blas(*ops);
    for (const uint32_t n : {512u, 2048u}) bench_dense(on, blas, n);
    // 4 heads: 402 MB of scores and weights, within the default -amb of 512 MiB.
    for (const uint32_t n_heads : {16u, 128u}) bench_scored(blas, n_heads, 4, 4096);
  } catch (const Error& error) {
    say_why("cuBLAS", "", error);
  }
}

}  // namespace hybrid::gpu
