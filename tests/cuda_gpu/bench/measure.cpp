#include "tests/cuda_gpu/bench/measure.h"

#include <cuda_runtime_api.h>
#include <fmt/format.h>

#include <algorithm>
#include <chrono>
#include <cstdio>
#include <vector>

#include "base/error.h"
#include "tests/cuda_gpu/bench/bench_kernels.h"

namespace hybrid::gpu {
namespace {

constexpr int kSeries = 7;
constexpr double kSeriesUs = 2000;   // about how long a series takes
constexpr uint64_t kMostCalls = 60;  // the queue of launches holds about a thousand

int n_missing = 0;

double median(std::vector<double> values) {
  std::sort(values.begin(), values.end());
  return values[values.size() / 2];
}

class Event {
 public:
  Event() { check(cudaEventCreate(&event_), "cudaEventCreate"); }
  ~Event() { static_cast<void>(cudaEventDestroy(event_)); }
  Event(const Event&) = delete;
  Event& operator=(const Event&) = delete;
  void record() { check(cudaEventRecord(event_, stream()), "cudaEventRecord"); }
  double us_since(const Event& before) const {
    float ms = 0;
    check(cudaEventElapsedTime(&ms, before.event_, event_), "cudaEventElapsedTime");
    return 1e3 * static_cast<double>(ms);
  }

 private:
  cudaEvent_t event_ = nullptr;
};

std::string figure(double x, const char* unit) {
  return x == 0 ? "" : fmt::format("{:.3g}{}", x, unit);
}

}  // namespace

Machine machine() {
  cudaDeviceProp p{};
  check(cudaGetDeviceProperties(&p, 0), "cudaGetDeviceProperties");
  return {static_cast<uint64_t>(p.l2CacheSize), static_cast<uint32_t>(p.multiProcessorCount)};
}

double median_us(const std::function<CudaStatus(uint64_t i)>& launch) {
  Event begin, end;
  uint64_t i = 0;
  const auto series_us = [&](uint64_t n) {
    check(launch_hold(50000 + n * 40000, stream()), "a launch");
    begin.record();
    for (uint64_t k = 0; k < n; ++k) check(launch(i++), "a launch");
    end.record();
    synchronize();
    return end.us_since(begin) / static_cast<double>(n);
  };
  series_us(1);  // loads the kernels
  const double once = std::max(series_us(2), 1.0);
  const auto n =
      static_cast<uint64_t>(std::clamp(kSeriesUs / once, 1.0, static_cast<double>(kMostCalls)));
  std::vector<double> times;
  for (int s = 0; s < kSeries; ++s) times.push_back(series_us(n));
  return median(times);
}

double median_host_us(int n, const std::function<void()>& body) {
  std::vector<double> times;
  for (int i = 0; i < n; ++i) {
    const auto begin = std::chrono::steady_clock::now();
    body();
    times.push_back(
        std::chrono::duration<double, std::micro>(std::chrono::steady_clock::now() - begin)
            .count());
  }
  return median(times);
}

uint64_t n_sets(const Machine& on, uint64_t n_bytes) { return 4 * on.l2_bytes / n_bytes + 2; }

void print_head() {
  std::printf("| what | shape | time, us | GB/s | of copy | TFLOP/s |\n");
  std::printf("|---|---|---|---|---|---|\n");
}

void print(const Row& row) {
  std::printf("| %s | %s | %s | %s | %s | %s |\n", row.what.c_str(), row.shape.c_str(),
              figure(row.us, "").c_str(), figure(row.gbs, "").c_str(),
              figure(100 * row.copy_fraction, " %").c_str(), figure(row.tflops, "").c_str());
  std::fflush(stdout);
}

void say_why(const std::string& what, const std::string& shape, const std::exception& error) {
  // A lack of memory leaves CUDA's last error behind; one that broke the GPU is told again by every
  // row that follows.
  static_cast<void>(cudaGetLastError());
  print(
      {what, fmt::format("{}{}not measured: {}", shape, shape.empty() ? "" : ": ", error.what())});
  ++n_missing;
}

void print_or_say_why(const std::string& what, const std::string& shape,
                      const std::function<Row()>& body) {
  try {
    print(body());
  } catch (const Error& error) {
    say_why(what, shape, error);
  }
}

int n_not_measured() { return n_missing; }

}  // namespace hybrid::gpu
