// Kernels with one bug each, to prove that it is found. CMake runs `planted_bugs NAME` for each of
// them under the sanitizers of the build and looks for the report; without a sanitizer it is the
// recorder's. `planted_bugs NAME fixed` runs the same kernel without its bug, which must pass.

#include <cstdio>
#include <cstring>
#include <exception>
#include <vector>

#include "tensor/simt.cuh"
#include "tests/simt/device_buffer.h"

namespace {

using namespace hybrid::cuda;
using simt::DeviceBuffer;

constexpr int kThreads = 64;

template <bool kBug>
HYBRID_KERNEL(kThreads)
missing_barrier(const float* x, float* y) {
  HYBRID_SHARED(tile, float[kThreads]);
  tile[threadIdx.x] = x[threadIdx.x];
  if constexpr (!kBug) __syncthreads();
  y[threadIdx.x] = tile[kThreads - 1 - threadIdx.x];
}

template <bool kBug>
HYBRID_KERNEL(kThreads)
missing_warp_barrier(const float* x, float* y) {
  HYBRID_SHARED(tile, float[kThreads]);
  tile[threadIdx.x] = warp_sum(x[threadIdx.x]);
  if constexpr (!kBug) __syncwarp();
  y[threadIdx.x] = tile[threadIdx.x ^ 1];
}

/// A tile is filled again while others may still read it.
template <bool kBug>
HYBRID_KERNEL(kThreads)
missing_second_barrier(const float* x, float* y) {
  HYBRID_SHARED(tile, float[kThreads]);
  float sum = 0;
  for (int step = 0; step < 3; ++step) {
    tile[threadIdx.x] = x[threadIdx.x] + static_cast<float>(step);
    __syncthreads();
    sum += tile[kThreads - 1 - threadIdx.x];
    if constexpr (!kBug) __syncthreads();
  }
  y[threadIdx.x] = sum;
}

template <bool kBug>
HYBRID_KERNEL(kThreads)
race_between_blocks(const float* x, float* y) {
  const unsigned at = kBug ? threadIdx.x : threadIdx.x + kThreads * blockIdx.x;
  y[at] = x[threadIdx.x] + static_cast<float>(blockIdx.x);
}

template <bool kBug>
HYBRID_KERNEL(kThreads)
overrun_of_shared(const float* x, float* y) {
  HYBRID_SHARED(tile, float[kThreads]);
  HYBRID_SHARED(other, float[kThreads]);
  tile[threadIdx.x] = x[threadIdx.x];
  other[threadIdx.x] = 1;
  __syncthreads();
  // The index comes from memory: no compiler sees it.
  const int last = kThreads - 1 + static_cast<int>(kBug ? x[0] : 0);
  y[threadIdx.x] = tile[last] + other[threadIdx.x];
}

template <bool kBug>
HYBRID_KERNEL(kThreads)
short_dynamic_shared(const float* x, float* y) {
  HYBRID_DYNAMIC_SHARED(raw);
  auto* tile = reinterpret_cast<float*>(raw);
  tile[threadIdx.x] = x[threadIdx.x];
  __syncthreads();
  y[threadIdx.x] = tile[kThreads - 1 - threadIdx.x];
}

template <bool kBug>
HYBRID_KERNEL(kThreads)
overrun_of_global(const float* x, float* y) {
  y[threadIdx.x] = x[threadIdx.x + (kBug ? 1 : 0)];
}

/// A block of 34 bytes read by words, as on a CPU: a GPU stops there.
template <bool kBug>
HYBRID_KERNEL(kThreads)
misaligned_block(const float* x, float* y) {
  const auto* bytes = reinterpret_cast<const unsigned char*>(x) + (kBug ? 34 : 36);
  y[threadIdx.x] = static_cast<float>(*reinterpret_cast<const uint32_t*>(bytes));
}

template <bool kBug>
HYBRID_KERNEL(kThreads)
missing_copy_wait(const float* x, float* y) {
  HYBRID_SHARED(tile, float[2][kThreads]);
  for (int i = 0; i < 2; ++i) {
    if (threadIdx.x < kThreads / 4)
      copy_async_16(&tile[i][4 * threadIdx.x], x + 4 * threadIdx.x, true);
    commit_copies();
  }
  wait_copies<kBug ? 1 : 0>();
  __syncthreads();
  y[threadIdx.x] = tile[1][kThreads - 1 - threadIdx.x];
  if constexpr (kBug) wait_copies<0>();
}

template <bool kBug>
HYBRID_KERNEL(kThreads)
uninitialised_shared(const float* x, float* y) {
  HYBRID_SHARED(tile, float[kThreads]);
  if (threadIdx.x > 0 || !kBug) tile[threadIdx.x] = x[threadIdx.x];
  __syncthreads();
  y[threadIdx.x] = tile[kThreads - 1 - threadIdx.x];
}

template <bool kBug>
HYBRID_KERNEL(kThreads)
uninitialised_global(const float* x, float* y) {
  const float before = kBug ? y[threadIdx.x] : 0;
  y[threadIdx.x] = x[threadIdx.x] + before;
}

template <bool kBug>
HYBRID_KERNEL(kThreads)
divergent_barrier(const float* x, float* y) {
  if (threadIdx.x < (kBug ? kThreads / 2 : kThreads)) __syncthreads();
  y[threadIdx.x] = x[threadIdx.x];
}

template <bool kBug>
HYBRID_KERNEL(kThreads)
exited_lane(const float* x, float* y) {
  if (kBug && threadIdx.x % 32 == 31) return;
  y[threadIdx.x] = warp_sum(x[threadIdx.x]);
}

template <bool kBug>
HYBRID_KERNEL(kThreads)
different_operations(const float* x, float* y) {
  if (kBug && threadIdx.x % 2 == 0) {
    y[threadIdx.x] = __ballot_sync(kAllLanes, 1) != 0;
  } else {
    y[threadIdx.x] = __shfl_sync(kAllLanes, x[threadIdx.x], 0);
  }
}

using Kernel = void (*)(const float*, float*);
struct Bug {
  const char* name;
  Kernel bug, fixed;
};
#define BUG(name) \
  { #name, name < true>, name < false> }
const Bug kBugs[] = {
    BUG(missing_barrier),      BUG(missing_warp_barrier), BUG(missing_second_barrier),
    BUG(race_between_blocks),  BUG(overrun_of_shared),    BUG(short_dynamic_shared),
    BUG(overrun_of_global),    BUG(misaligned_block),     BUG(missing_copy_wait),
    BUG(uninitialised_shared), BUG(uninitialised_global), BUG(divergent_barrier),
    BUG(exited_lane),          BUG(different_operations),
};

std::vector<float> run(const Bug& bug, bool is_fixed) {
  const bool is_race = std::strcmp(bug.name, "race_between_blocks") == 0;
  const bool is_short = std::strcmp(bug.name, "short_dynamic_shared") == 0 && !is_fixed;
  std::vector<float> values(kThreads);
  for (int i = 0; i < kThreads; ++i) values[i] = static_cast<float>(i + 1);
  DeviceBuffer<float> x(values), y(2 * kThreads);
  launch(is_fixed ? bug.fixed : bug.bug, Grid(is_race ? 2 : 1), Grid(kThreads),
         kThreads * sizeof(float) - (is_short ? 4 : 0), nullptr, x.data(), y.data());
  std::vector<float> result = y.download();
  result.resize(kThreads);
  return result;
}

}  // namespace

int main(int argc, char** argv) {
  if (argc < 2) return 2;
  const bool is_fixed = argc > 2 && std::strcmp(argv[2], "fixed") == 0;
  for (const Bug& bug : kBugs) {
    if (std::strcmp(bug.name, argv[1]) != 0) continue;
    for (const simt::Landing landing : {simt::Landing::early, simt::Landing::late}) {
      simt::options.landing = landing;
      try {
        const std::vector<float> expected = run(bug, true);
        for (int seed = 1; seed <= 4; ++seed) {
          simt::options.seed = seed;
          if (run(bug, is_fixed) == expected) continue;
          std::printf("wrong result\n");
          return 1;
        }
      } catch (const std::exception& error) {
        std::printf("%s\n", error.what());
        return 1;
      }
    }
    std::printf("no bug was seen\n");
    return 0;
  }
  return 2;
}
