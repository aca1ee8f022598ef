// A CudaDevice over the plugin, on a GPU: what cuda_device_test.cpp plays.

#include <doctest/doctest.h>

#include <algorithm>
#include <cstring>
#include <vector>

#include "tensor/cuda_blas.h"
#include "tensor/cuda_device.h"
#include "tensor/cuda_ops.h"
#include "tensor/cuda_plugin.h"
#include "tests/cuda_gpu/device_buffer.h"
#include "tests/support/accuracy.h"
#include "tests/support/random_weights.h"
#include "tests/support/reference_blas.h"

using namespace hybrid;
using namespace std::chrono_literals;

TEST_CASE("gpu: the plugin's device copies in order, between queues by events") {
  std::string reason;
  const auto plugin = CudaPlugin::open(cuda_plugin_paths(), reason);
  REQUIRE_MESSAGE(plugin != nullptr, reason);
  REQUIRE_MESSAGE(count_cuda_devices(plugin->api(), reason) > 0, reason);
  constexpr uint64_t kBytes = 64 << 20, kHalf = kBytes / 2;
  CudaDevice device(plugin->api(), 0, 2 * kBytes);
  CHECK(device.info().major >= 8);
  CHECK(device.info().n_multiprocessors > 0);
  CHECK(device.info().free_bytes <= device.info().total_bytes);
  const DeviceMemory memory = device.allocate(kBytes, "a test");
  const DeviceMemory host = device.allocate_pinned(kBytes, "a test");
  CHECK(reinterpret_cast<uintptr_t>(memory.data()) % 256 == 0);
  const auto copies = device.make_stream(), others = device.make_stream();
  const auto there = device.make_event();
  for (uint64_t i = 0; i < kBytes; ++i)
    host.data()[i] = static_cast<std::byte>(i * 2654435761 >> 24);
  const std::vector<std::byte> expected(host.data(), host.data() + kHalf);
  for (int repeat = 0; repeat < 5; ++repeat) {
    copies->copy_to_device(memory.data(), host.data(), kHalf);
    copies->copy_on_device(memory.data() + kHalf, memory.data(), kHalf);
    copies->record(*there);
    others->wait(*there);
    others->copy_to_host(host.data() + kHalf, memory.data() + kHalf, kHalf);
    others->synchronize(30000ms);
    CHECK(std::memcmp(host.data() + kHalf, expected.data(), kHalf) == 0);
    std::memset(host.data() + kHalf, 0, kHalf);
    there->wait(30000ms);
  }
}

TEST_CASE("gpu: the plugin's launch functions launch") {
  std::string reason;
  const auto plugin = CudaPlugin::open(cuda_plugin_paths(), reason);
  REQUIRE_MESSAGE(plugin != nullptr, reason);
  const auto* ops = plugin->ops<TensorCudaOps>(reason);
  REQUIRE_MESSAGE(ops != nullptr, reason);
  const std::vector<float> values{1, 2, 3, 4};
  gpu::DeviceBuffer<float> x(values), y(values);
  // The plugin has a runtime of its own; both are on the same device and see its memory and
  // streams.
  REQUIRE(ops->add_rows({x.data(), 4}, {y.data(), 4}, 4, 1, gpu::stream()) == 0);
  CHECK(y.download() == std::vector<float>{2, 4, 6, 8});
}

TEST_CASE("gpu: cuBLAS multiplies as BLAS is defined, the same bits each time") {
  std::string reason;
  const auto plugin = CudaPlugin::open(cuda_plugin_paths(), reason);
  REQUIRE_MESSAGE(plugin != nullptr, reason);
  const auto* blas = plugin->ops<BlasCudaOps>(reason);
  REQUIRE_MESSAGE(blas != nullptr, reason);
  if (const char* const missing = blas->why_missing(); missing != nullptr) {
    MESSAGE("not tested: " << std::string(missing));
    return;
  }
  gpu::DeviceBuffer<std::byte> workspace(kCudaBlasWorkspaceBytes);
  CudaBlas* handle = nullptr;
  REQUIRE(blas->open(gpu::stream(), workspace.data(), workspace.size(), &handle) == 0);
  // Scores and sums of 3 heads, 40 tokens, 90 positions, as attention asks for them.
  RowGemm scores{.n_rows = 40, .n_cols = 90, .n_inner = 128, .n_batch = 3};
  scores.a = {nullptr, 3 * 192, 192};
  scores.w = {nullptr, 3 * 128, 128};
  scores.is_w_transposed = true;
  scores.c = {nullptr, 128, 40 * 128};
  RowGemm rope = scores;  // one matrix for all, added
  rope.n_inner = 64;
  rope.w = {nullptr, 64, 0};
  rope.adds = true;
  RowGemm sums{.n_rows = 40, .n_cols = 128, .n_inner = 90, .n_batch = 3};
  sums.a = {nullptr, 128, 40 * 128};
  sums.w = {nullptr, 3 * 128, 128};
  sums.c = {nullptr, 3 * 128, 128};
  for (RowGemm g : {scores, rope, sums}) {
    CAPTURE(g.n_inner);
    const auto random_bf16 = [](uint64_t n, uint32_t seed) {
      std::vector<bf16_t> bits(n);
      std::ranges::transform(test::random_floats(n, seed), bits.begin(), f32_to_bf16);
      return bits;
    };
    const auto a = random_bf16(40 * 3 * 192, 1), w = random_bf16(90 * 3 * 128, 2);
    const std::vector<float> before = test::random_floats(3 * 40 * 128, 3);
    gpu::DeviceBuffer<bf16_t> device_a(a), device_w(w);
    gpu::DeviceBuffer<float> c(before);
    g.a.data = device_a.data();
    g.w.data = device_w.data();
    g.c.data = c.data();
    REQUIRE(blas->gemm(handle, to_blas(g)) == 0);
    const std::vector<float> found = c.download();
    for (int repeat = 0; repeat < 3; ++repeat) {
      c.upload(before.data());
      REQUIRE(blas->gemm(handle, to_blas(g)) == 0);
      CHECK(c.download() == found);
    }
    std::vector<float> expected = before;
    g.a.data = a.data();
    g.w.data = w.data();
    g.c.data = expected.data();
    test::reference_blas(to_blas(g));
    // The same sums of the same products, in floats and in another order; no TF32, no halves.
    CHECK(test::relative_error(found, expected) < 2e-6);
  }
  blas->close(handle);
}

TEST_CASE("gpu: what nobody wrote of a buffer is seen") {
  if (!gpu::fills_buffers()) {
    MESSAGE("not tested: HYBRID_CUDA_TEST_UNFILLED leaves nothing to see");
    return;
  }
  gpu::DeviceBuffer<float> some(3);
  CHECK(some.first_unwritten() == 0);
  std::vector<float> values = some.download();
  values[0] = values[1] = 0;
  some.upload(values.data());
  CHECK(some.first_unwritten() == 2);
  values[2] = 1;
  some.upload(values.data());
  CHECK(some.first_unwritten() == 3);
}
