// The calls that a CudaDevice makes, and what it says of those that fail, against a table of
// functions that plays a GPU.

#include "tensor/cuda_device.h"

#include <doctest/doctest.h>

#include <cstring>
#include <map>
#include <set>
#include <string>
#include <vector>

#include "base/error.h"
#include "experts/cuda_ops.h"
#include "tensor/cuda_ops.h"
#include "tensor/cuda_plugin.h"
#include "tests/support/expect_error.h"
#include "tests/support/temp_dir.h"

using namespace hybrid;
using namespace hybrid::test;
using namespace std::chrono_literals;

namespace {

constexpr int kNotReady = 600, kOutOfMemory = 2, kNoDriver = 35, kLaunchFailure = 719;

/// What the GPU that is played holds and is asked.
struct Played {
  int n_devices = 2;
  int count_status = 0;
  uint64_t total_bytes = 10000, used_bytes = 0;
  std::map<void*, uint64_t> allocations, pinned;
  std::set<void*> streams, events;
  std::vector<std::string> calls;  // that queue, and queries
  int fails_at = -1;               // which of them, from 0
  int n_not_ready = 0;             // queries that find work not done
};
Played* gpu = nullptr;  // the functions are plain ones

int take(std::map<void*, uint64_t>& from, uint64_t n_bytes, void** data) {
  *data = ::operator new(n_bytes);
  from[*data] = n_bytes;
  return 0;
}
int give(std::map<void*, uint64_t>& to, void* data) {
  REQUIRE(to.erase(data) == 1);
  ::operator delete(data);
  return 0;
}
int make(std::set<void*>& of, void** handle) {
  *handle = ::operator new(1);
  of.insert(*handle);
  return 0;
}
int destroy(std::set<void*>& of, void* handle) {
  REQUIRE(of.erase(handle) == 1);
  ::operator delete(handle);
  return 0;
}
int call(std::string what) {
  gpu->calls.push_back(std::move(what));
  return static_cast<int>(gpu->calls.size()) - 1 == gpu->fails_at ? kLaunchFailure : 0;
}
int query() {
  if (gpu->n_not_ready > 0) return --gpu->n_not_ready, kNotReady;
  return 0;
}
int copy(const char* name, void* to, const void* from, uint64_t n) {
  std::memcpy(to, from, n);
  return call(fmt::format("{} {}", name, n));
}

const CudaApi kPlayedApi{
    .version = kCudaApiVersion,
    .n_bytes = sizeof(CudaApi),
    .not_ready = kNotReady,
    .status_name = [](int s) -> const char* {
      return s == kOutOfMemory ? "cudaErrorMemoryAllocation"
             : s == kNoDriver  ? "cudaErrorInsufficientDriver"
                               : "cudaErrorLaunchFailure";
    },
    .status_text = [](int s) -> const char* {
      return s == kOutOfMemory ? "out of memory"
             : s == kNoDriver  ? "driver too old"
                               : "launch failure";
    },
    .count_devices =
        [](int* n) {
          if (gpu->count_status == 0) *n = gpu->n_devices;
          return gpu->count_status;
        },
    .device_info =
        [](int device, CudaDeviceInfo* info) {
          *info = {"Played GPU",
                   gpu->total_bytes,
                   gpu->total_bytes - gpu->used_bytes,
                   9,
                   0,
                   132,
                   device,
                   0};
          return 0;
        },
    .use = [](int device) { return call(fmt::format("use {}", device)); },
    .allocate =
        [](int, uint64_t n, void** data) {
          if (gpu->used_bytes + n > gpu->total_bytes) return kOutOfMemory;
          gpu->used_bytes += n;
          return take(gpu->allocations, n, data);
        },
    .free =
        [](int, void* data) {
          gpu->used_bytes -= gpu->allocations.at(data);
          return give(gpu->allocations, data);
        },
    .allocate_pinned =
        [](int, uint64_t n, void** data) {
          return n > 5000 ? kOutOfMemory : take(gpu->pinned, n, data);
        },
    .free_pinned = [](int, void* data) { return give(gpu->pinned, data); },
    .create_stream = [](int, void** stream) { return make(gpu->streams, stream); },
    .destroy_stream = [](int, void* stream) { return destroy(gpu->streams, stream); },
    .create_event = [](int, void** event) { return make(gpu->events, event); },
    .destroy_event = [](int, void* event) { return destroy(gpu->events, event); },
    .copy_to_device = [](int, void* to, const void* from, uint64_t n,
                         void*) { return copy("to device", to, from, n); },
    .copy_to_host = [](int, void* to, const void* from, uint64_t n,
                       void*) { return copy("to host", to, from, n); },
    .copy_on_device = [](int, void* to, const void* from, uint64_t n,
                         void*) { return copy("on device", to, from, n); },
    .record = [](int, void*, void*) { return call("record"); },
    .wait = [](int, void*, void*) { return call("wait"); },
    .query_event = [](int, void*) { return query(); },
    .query_stream = [](int, void*) { return query(); },
};

/// The GPU that is played, until the test ends; nothing may be left of it then.
struct PlayedScope {
  PlayedScope() { gpu = &played; }
  ~PlayedScope() {
    CHECK(played.allocations.empty());
    CHECK(played.pinned.empty());
    CHECK(played.streams.empty());
    CHECK(played.events.empty());
    gpu = nullptr;
  }
  Played played;
};

}  // namespace

TEST_CASE("a GPU that is not there is refused with the reason") {
  PlayedScope scope;
  CHECK(error_of([] { CudaDevice(kPlayedApi, 2, 100); }) ==
        "there is no CUDA2: GPUs here are CUDA0 to CUDA1");
  gpu->n_devices = 0;
  CHECK(error_of([] { CudaDevice(kPlayedApi, 0, 100); }) ==
        "there is no CUDA0: the driver finds no GPU");
  gpu->count_status = kNoDriver;
  std::string reason;
  CHECK(count_cuda_devices(kPlayedApi, reason) == 0);
  CHECK(reason == "driver too old (cudaErrorInsufficientDriver)");
}

TEST_CASE("a GPU's memory: the budget, then what there really is") {
  PlayedScope scope;
  CudaDevice device(kPlayedApi, 1, 20000);
  CHECK(device.name() == "CUDA1");
  CHECK(device.title() == "CUDA1 (Played GPU)");
  CHECK_FALSE(device.is_simulated());
  for (int i = 0; i < 100; ++i) {
    const DeviceMemory a = device.allocate(9000, "weights"), host = device.allocate_pinned(64, "x");
    CHECK(error_of([&] { device.allocate(11001, "the cache"); }) ==
          "CUDA1 (Played GPU) has no room for the cache: 10.7 KiB are needed, 10.7 KiB of 19.5 KiB "
          "are free");
    CHECK(error_of([&] { device.allocate(2000, "the cache"); }) ==
          "CUDA1 (Played GPU): cudaMalloc of 2.0 KiB for the cache failed: out of memory "
          "(cudaErrorMemoryAllocation); 1000 B of 9.8 KiB are free on it");
    CHECK(error_of([&] { device.allocate_pinned(6000, "copies"); }) ==
          "CUDA1 (Played GPU): cudaHostAlloc of 5.9 KiB for copies failed: out of memory "
          "(cudaErrorMemoryAllocation)");
    CHECK(device.used_bytes() == 9000);
    CHECK(device.pinned_bytes() == 64);
  }
  CHECK(device.used_bytes() == 0);
  CHECK(gpu->used_bytes == 0);
}

TEST_CASE("calls go to the GPU in order, waits poll until it is done") {
  PlayedScope scope;
  CudaDevice device(kPlayedApi, 0, 1000);
  const DeviceMemory memory = device.allocate(100, "x"), host = device.allocate_pinned(100, "x");
  const auto a = device.make_stream(), b = device.make_stream();
  const auto event = device.make_event();
  std::memset(host.data(), 7, 100);
  a->copy_to_device(memory.data(), host.data(), 50);
  a->copy_on_device(memory.data() + 50, memory.data(), 50);
  a->record(*event);
  b->wait(*event);
  b->copy_to_host(host.data(), memory.data() + 50, 50);
  b->copy_to_host(host.data(), memory.data(), 0);  // nothing
  gpu->n_not_ready = 5;
  b->synchronize(60000ms);
  CHECK(gpu->n_not_ready == 0);
  gpu->n_not_ready = 100;  // long enough to yield and to nap
  event->wait(60000ms);
  CHECK(gpu->n_not_ready == 0);
  CHECK(gpu->calls ==
        std::vector<std::string>{"to device 50", "on device 50", "record", "wait", "to host 50"});
}

TEST_CASE("what fails first is told by every wait, and nothing is called after it") {
  PlayedScope scope;
  CudaDevice device(kPlayedApi, 0, 1000);
  const DeviceMemory memory = device.allocate(100, "x"), host = device.allocate_pinned(100, "x");
  const auto stream = device.make_stream();
  const auto event = device.make_event();
  gpu->fails_at = 1;
  for (int i = 0; i < 3; ++i) stream->copy_to_device(memory.data(), host.data(), 100);
  stream->record(*event);
  stream->wait(*event);
  const std::string message =
      "CUDA0 (Played GPU): a copy to the device of 100 B failed: launch failure "
      "(cudaErrorLaunchFailure)";
  CHECK(error_of([&] { stream->synchronize(60000ms); }) == message);
  CHECK(error_of([&] { event->wait(60000ms); }) == message);
  CHECK(gpu->calls.size() == 2);
}

TEST_CASE("launches go to their GPU's queue, and a failure of one is told with its name") {
  PlayedScope scope;
  CudaDevice device(kPlayedApi, 1, 1000);
  const auto stream = device.make_stream();
  auto& queue = dynamic_cast<CudaQueue&>(*stream);
  CHECK(gpu->streams.contains(queue.handle()));
  int n_launched = 0;
  const auto launch = [&](int status) {
    queue.launch("add_rows", [&](CudaStream on) {
      CHECK(on == queue.handle());
      ++n_launched;
      return status;
    });
  };
  launch(0);
  stream->synchronize(60000ms);
  launch(kLaunchFailure);
  launch(0);
  CHECK(n_launched == 2);
  CHECK(gpu->calls == std::vector<std::string>{"use 1", "use 1"});
  CHECK(error_of([&] { stream->synchronize(60000ms); }) ==
        "CUDA1 (Played GPU): add_rows failed: launch failure (cudaErrorLaunchFailure)");
}

TEST_CASE("a GPU that does not answer fails instead of being waited for for ever") {
  PlayedScope scope;
  CudaDevice device(kPlayedApi, 0, 1000);
  const auto event = device.make_event();
  gpu->n_not_ready = 1 << 30;
  CHECK(error_of([&] { event->wait(20ms); }) ==
        "CUDA0 (Played GPU): no answer for 0.02 s while the host waited for an event");
  gpu->n_not_ready = 0;
  CHECK_THROWS_AS(event->wait(60000ms), Error);
}

TEST_CASE("a plugin that is missing, no library, or of another version is told apart") {
  const TempDir dir;
  std::string reason;
  CHECK(CudaPlugin::open({dir.path() / "libhybrid_cuda.so"}, reason) == nullptr);
  CHECK(reason.starts_with("this program was built without CUDA"));
  const std::filesystem::path broken = dir.write("libhybrid_cuda.so", "no library");
  CHECK(CudaPlugin::open({broken}, reason) == nullptr);
  CHECK(reason.find("libhybrid_cuda.so cannot be opened: ") != std::string::npos);
  CHECK(CudaPlugin::open({dir.path() / "none", HYBRID_TEST_OLD_PLUGIN}, reason) == nullptr);
  CHECK(reason.ends_with("is of another version of this program: build both together"));
}

TEST_CASE("a plugin's launch functions of another version, or missing ones, are refused") {
  std::string reason;
  const auto plugin = CudaPlugin::open({HYBRID_TEST_OLD_OPS_PLUGIN}, reason);
  REQUIRE_MESSAGE(plugin != nullptr, reason);
  CHECK(plugin->ops<TensorCudaOps>(reason) == nullptr);
  CHECK(reason.ends_with("is of another version of this program: build both together"));
  reason.clear();
  CHECK(plugin->ops<ExpertsCudaOps>(reason) == nullptr);
  CHECK(reason.ends_with("is of another version of this program: build both together"));
}
