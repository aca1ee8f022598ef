// The link to the host: copies, launches, flags, reads of the host's memory.

#include <cuda_runtime_api.h>
#include <fmt/format.h>

#include <atomic>
#include <chrono>
#include <cstdlib>
#include <cstring>
#include <memory>

#include "base/error.h"
#include "base/units.h"
#include "tests/cuda_gpu/bench/bench_kernels.h"
#include "tests/cuda_gpu/bench/measure.h"

namespace hybrid::gpu {
namespace {

/// Pinned memory that the GPU can read and write, by the same address.
class Mapped {
 public:
  explicit Mapped(uint64_t n_bytes) {
    check(cudaHostAlloc(&data_, n_bytes, cudaHostAllocMapped | cudaHostAllocPortable),
          "cudaHostAlloc", n_bytes);
    std::memset(data_, 0, n_bytes);
  }
  ~Mapped() { static_cast<void>(cudaFreeHost(data_)); }
  Mapped(const Mapped&) = delete;
  Mapped& operator=(const Mapped&) = delete;
  template <class T = std::byte>
  T* as() const {
    return static_cast<T*>(data_);
  }

 private:
  void* data_ = nullptr;
};

void bench_copies() {
  constexpr uint64_t kMost = 256 << 20;
  const Memory device(kMost);
  const Mapped pinned(kMost);
  const std::unique_ptr<void, decltype(&std::free)> pageable(std::aligned_alloc(4096, kMost),
                                                             std::free);
  const std::unique_ptr<void, decltype(&std::free)> registered(std::aligned_alloc(4096, kMost),
                                                               std::free);
  HYBRID_CHECK(pageable != nullptr && registered != nullptr);
  std::memset(pageable.get(), 1, kMost);
  std::memset(registered.get(), 1, kMost);
  const auto row = [&](const char* kind, const void* from, uint64_t n_bytes) {
    const auto copy = [&] {
      check(
          cudaMemcpyAsync(device.as<std::byte>(), from, n_bytes, cudaMemcpyHostToDevice, stream()),
          "a copy to the device", n_bytes);
      synchronize();
    };
    copy();
    const double us = median_host_us(n_bytes < (16u << 20) ? 101 : 11, copy);
    print({fmt::format("copy to the device, {}", kind), format_bytes(n_bytes) + ", with the wait",
           us, static_cast<double>(n_bytes) / us * 1e-3});
  };
  const uint64_t sizes[] = {4096, 64 << 10, 1 << 20, 8 << 20, 64 << 20, kMost};
  for (const uint64_t n : sizes) row("pinned", pinned.as<std::byte>(), n);
  for (const uint64_t n : sizes) row("pageable", pageable.get(), n);
  check(cudaHostRegister(registered.get(), kMost, cudaHostRegisterDefault), "cudaHostRegister",
        kMost);
  try {
    for (const uint64_t n : sizes) row("registered", registered.get(), n);
  } catch (...) {
    static_cast<void>(cudaHostUnregister(registered.get()));
    throw;
  }
  check(cudaHostUnregister(registered.get()), "cudaHostUnregister", kMost);
}

void bench_launches() {
  constexpr int kLaunches = 500;  // fewer than the queue holds
  const double queued = median_host_us(11, [] {
    for (int i = 0; i < kLaunches; ++i) check(launch_nothing(stream()), "a launch");
  });
  synchronize();
  print({"launch", fmt::format("the host's time of one of {}, an empty kernel", kLaunches),
         queued / kLaunches});
  print({"launch", "the GPU's time from one empty kernel to the next",
         median_us([](uint64_t) { return launch_nothing(stream()); })});
  const double waited = median_host_us(201, [] {
    check(launch_nothing(stream()), "a launch");
    synchronize();
  });
  print({"launch", "an empty kernel and the wait for the stream", waited});
}

/// One thread of the GPU and one of the host answer each other by words in the host's memory.
void bench_flags() {
  using namespace std::chrono;
  constexpr uint32_t kTrips = 2000;
  constexpr uint64_t kLimitNs = 2'000'000'000;
  const Mapped words(256);  // two lines of the cache
  std::atomic_ref<uint32_t> asked(words.as<uint32_t>()[0]), answered(words.as<uint32_t>()[32]);
  const double us = median_host_us(7, [&] {
    asked.store(0);
    answered.store(0);
    check(
        launch_answers(words.as<uint32_t>(), words.as<uint32_t>() + 32, kTrips, kLimitNs, stream()),
        "a launch");
    const auto until = steady_clock::now() + nanoseconds(2 * kLimitNs);
    for (uint32_t i = 1; i <= kTrips; ++i) {
      asked.store(i, std::memory_order_release);
      while (answered.load(std::memory_order_acquire) < i) {
        if (steady_clock::now() > until) {
          throw Error(fmt::format("{}: no answer to flag {} of {} for {} s", title(), i, kTrips,
                                  2 * kLimitNs / 1'000'000'000));
        }
      }
    }
    synchronize();
  });
  print({"flag round trip", "host, spinning kernel, host; words in pinned memory", us / kTrips});
}

/// What one token's activations take to get to a kernel that reads them where they are.
void bench_zero_copy() {
  constexpr uint64_t kBytes = 28 << 10;  // 7168 floats
  const Mapped host(kBytes);
  Memory device(kBytes), to(4);
  device.fill(0);
  for (const uint32_t n_blocks : {1u, 7u, 28u}) {
    const auto row = [&](const char* where, const void* from) {
      const double us = median_us([&](uint64_t) {
        return launch_read(from, kBytes, n_blocks, to.as<uint32_t>(), stream());
      });
      print({fmt::format("a kernel reads {}", where),
             fmt::format("28 KiB, {} blocks of 256, with its launch", n_blocks), us,
             static_cast<double>(kBytes) / us * 1e-3});
    };
    row("pinned memory of the host", host.as<std::byte>());
    row("its own memory (in L2)", device.as<std::byte>());
  }
}

/// A part that fails says so, and the others go on.
void run(const char* what, void (*part)()) {
  try {
    part();
  } catch (const Error& error) {
    say_why(what, "", error);
  }
}

}  // namespace

void bench_host_link(const Machine&) {
  run("copy to the device", bench_copies);
  run("launch", bench_launches);
  run("flag round trip", bench_flags);
  run("a kernel reads pinned memory", bench_zero_copy);
}

}  // namespace hybrid::gpu
