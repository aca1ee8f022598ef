// A CudaDevice over the plugin, on a GPU: what cuda_device_test.cpp plays.

#include <doctest/doctest.h>

#include <cstring>
#include <vector>

#include "tensor/cuda_device.h"
#include "tensor/cuda_ops.h"
#include "tensor/cuda_plugin.h"
#include "tests/cuda_gpu/device_buffer.h"

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
