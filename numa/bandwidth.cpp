#include "numa/bandwidth.h"

#include <sys/mman.h>

#include <algorithm>
#include <atomic>
#include <chrono>
#include <memory>

#include "base/error.h"
#include "base/units.h"
#include "numa/sum_words.h"

namespace hybrid {
namespace {

using Clock = std::chrono::steady_clock;

constexpr uint64_t kMiB = 1 << 20;
constexpr uint64_t kWordsPerTask = 4 * kMiB / sizeof(uint64_t);

double seconds_since(Clock::time_point start) {
  return std::chrono::duration<double>(Clock::now() - start).count();
}

struct Unmap {
  uint64_t n_bytes;
  void operator()(uint64_t* p) const { munmap(p, n_bytes); }
};
using Buffer = std::unique_ptr<uint64_t, Unmap>;

Buffer make_buffer(uint64_t n_bytes) {
  void* p = mmap(nullptr, n_bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
  if (p == MAP_FAILED) {
    fail("cannot take {} to measure the memory bandwidth", format_bytes(n_bytes));
  }
  madvise(p, n_bytes, MADV_HUGEPAGE);  // a wish: without it the pages are small
  return {static_cast<uint64_t*>(p), Unmap{n_bytes}};
}

uint64_t sum_in_parallel(const uint64_t* words, uint64_t n, Workers& workers) {
  std::atomic<uint64_t> total{0};
  workers.parallel_for(n, kWordsPerTask, [&](uint64_t begin, uint64_t end) {
    total += sum_words(words + begin, end - begin);
  });
  return total;
}

}  // namespace

uint64_t bandwidth_buffer_bytes(uint64_t available_bytes) {
  const uint64_t quarter = available_bytes / 4 / sizeof(uint64_t) * sizeof(uint64_t);
  return std::clamp(quarter, 64 * kMiB, 1024 * kMiB);
}

ReadBandwidth measure_read_bandwidth(Workers& workers, uint64_t buffer_bytes) {
  constexpr int kMinPasses = 3, kMaxPasses = 16;
  constexpr double kSeconds = 0.8;
  HYBRID_CHECK(buffer_bytes > 0 && buffer_bytes % sizeof(uint64_t) == 0);
  const uint64_t n = buffer_bytes / sizeof(uint64_t);
  const Buffer buffer = make_buffer(buffer_bytes);
  uint64_t* words = buffer.get();
  // Written first: pages that were never written are all one page of zeros.
  workers.parallel_for(n, kWordsPerTask, [&](uint64_t begin, uint64_t end) {
    for (uint64_t i = begin; i < end; ++i) words[i] = i;
  });

  ReadBandwidth result;
  result.buffer_bytes = buffer_bytes;
  const auto first = Clock::now();
  while (result.n_passes < kMinPasses ||
         (result.n_passes < kMaxPasses && seconds_since(first) < kSeconds)) {
    const auto start = Clock::now();
    const uint64_t sum = sum_in_parallel(words, n, workers);
    const double seconds = std::max(seconds_since(start), 1e-9);
    // Needing the sum, the compiler cannot leave the reads out.
    HYBRID_CHECK(sum == sum_below(n));
    result.gb_per_s = std::max(result.gb_per_s, static_cast<double>(buffer_bytes) / seconds * 1e-9);
    ++result.n_passes;
  }
  return result;
}

}  // namespace hybrid
