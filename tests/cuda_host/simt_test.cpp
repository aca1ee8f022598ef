// The harness itself: what it emulates does what CUDA does. (What it reports: planted_bugs.cpp.)

#include <doctest/doctest.h>

#include <cmath>
#include <string>
#include <vector>

#include "tensor/simt.cuh"
#include "tests/cuda_host/schedules.h"
#include "tests/support/random_weights.h"

using namespace hybrid;
using namespace hybrid::cuda;
using namespace hybrid::test;

namespace {

HYBRID_KERNEL(64) shuffles(int* y) {
  const int lane = static_cast<int>(threadIdx.x % 32);
  int* to = y + 4 * threadIdx.x;
  to[0] = __shfl_xor_sync(kAllLanes, lane, 5);
  to[1] = __shfl_sync(kAllLanes, lane, 3, 16);
  to[2] = __shfl_up_sync(kAllLanes, lane, 2, 8);
  // Halves of a warp go different ways.
  if (lane < 16) {
    to[3] = __shfl_xor_sync(0xffffu, lane, 1);
  } else {
    to[3] = static_cast<int>(__popc(__ballot_sync(0xffff0000u, lane % 4 == 0)));
  }
}

HYBRID_KERNEL(40) indices(int* y) {
  const unsigned thread = threadIdx.x + blockDim.x * (threadIdx.y + blockDim.y * threadIdx.z);
  const unsigned block = blockIdx.x + gridDim.x * (blockIdx.y + gridDim.y * blockIdx.z);
  const unsigned n_threads = blockDim.x * blockDim.y * blockDim.z;
  y[block * n_threads + thread] = static_cast<int>(block * n_threads + thread);
}

/// D = A B of 16 x 16 and 16 x 8, operands by ldmatrix from shared memory.
template <bool kHalf>
HYBRID_KERNEL(32)
product(const uint16_t* a, const uint16_t* b, float* d) {
  HYBRID_SHARED(tile_a, uint16_t[16][24]);  // rows of 48 bytes
  HYBRID_SHARED(tile_b, uint16_t[16][24]);
  for (unsigned i = threadIdx.x; i < 256; i += 32) tile_a[i / 16][i % 16] = a[i];
  // ldmatrix reads four matrices, of which b fills two.
  for (unsigned i = threadIdx.x; i < 256; i += 32) {
    tile_b[i / 16][i % 16] = i % 16 < 8 ? b[i / 16 * 8 + i % 16] : static_cast<uint16_t>(0);
  }
  __syncthreads();
  const unsigned lane = threadIdx.x;
  uint32_t fragment_a[4], both[4];
  ldmatrix(fragment_a, &tile_a[lane % 16][lane / 16 * 8]);
  ldmatrix_transposed(both, &tile_b[lane % 16][lane / 16 * 8]);
  const uint32_t fragment_b[2] = {both[0], both[1]};
  float sum[4] = {};
  if constexpr (kHalf) {
    mma_half(sum, fragment_a, fragment_b);
  } else {
    mma_bf16(sum, fragment_a, fragment_b);
  }
  for (unsigned i = 0; i < 4; ++i) {
    d[(lane / 4 + i / 2 * 8) * 8 + lane % 4 * 2 + i % 2] = sum[i];
  }
}

HYBRID_KERNEL(32) bytes(uint32_t* y) {
  y[0] = byte_perm(0x33221100, 0x77665544, 0x7043);
  y[1] = static_cast<uint32_t>(dot_unsigned(0xff010203, 0x80ff0102, 10));
  y[2] = static_cast<uint32_t>(dot_signed(0xff010203, 0x80ff0102, 10));
  y[3] = pack_bf16(1.0f, -2.0f);
}

template <bool kHalf>
void check_product() {
  const std::vector<float> values = random_floats(256 + 128, 3);
  std::vector<uint16_t> words(values.size());
  const auto value = [&](size_t i) { return kHalf ? f16_to_f32(words[i]) : bf16_to_f32(words[i]); };
  for (size_t i = 0; i < words.size(); ++i) {
    words[i] = kHalf ? f32_to_f16(values[i]) : f32_to_bf16(values[i]);
  }
  DeviceBuffer<uint16_t> a(std::vector<uint16_t>(words.begin(), words.begin() + 256));
  DeviceBuffer<uint16_t> b(std::vector<uint16_t>(words.begin() + 256, words.end()));
  DeviceBuffer<float> d(128);
  launch(product<kHalf>, Grid(1), Grid(32), 0, nullptr, a.data(), b.data(), d.data());
  const std::vector<float> found = written(d);
  for (size_t m = 0; m < 16; ++m) {
    for (size_t n = 0; n < 8; ++n) {
      double sum = 0;
      for (size_t k = 0; k < 16; ++k) sum += double{value(m * 16 + k)} * value(256 + k * 8 + n);
      CHECK(std::abs(found[m * 8 + n] - sum) < 1e-5);
    }
  }
}

}  // namespace

TEST_CASE("simt: shuffles and votes, also of parts of a warp") {
  const auto y = same_under_schedules([] {
    DeviceBuffer<int> out(256);
    launch(shuffles, Grid(1), Grid(64), 0, nullptr, out.data());
    return written(out);
  });
  for (int thread = 0; thread < 64; ++thread) {
    const int lane = thread % 32;
    const int* row = &y[static_cast<size_t>(4 * thread)];
    CHECK(row[0] == (lane ^ 5));
    CHECK(row[1] == lane / 16 * 16 + 3);
    CHECK(row[2] == (lane % 8 >= 2 ? lane - 2 : lane));
    CHECK(row[3] == (lane < 16 ? (lane ^ 1) : 4));
  }
}

TEST_CASE("simt: grids and blocks of three dimensions, each thread once") {
  const auto y = same_under_schedules([] {
    DeviceBuffer<int> out(5 * 4 * 2 * 3 * 2 * 2);
    launch(indices, Grid(3, 2, 2), Grid(5, 4, 2), 0, nullptr, out.data());
    return written(out);
  });
  for (size_t i = 0; i < y.size(); ++i) CHECK(y[i] == static_cast<int>(i));
}

TEST_CASE("simt: mma of fragments that ldmatrix loads is the product") {
  check_product<true>();
  check_product<false>();
}

TEST_CASE("simt: byte operations") {
  DeviceBuffer<uint32_t> y(4);
  launch(bytes, Grid(1), Grid(1), 0, nullptr, y.data());
  const auto found = written(y);
  CHECK(found[0] == 0x77004433);
  CHECK(static_cast<int32_t>(found[1]) == 10 + 3 * 2 + 2 * 1 + 1 * -1 + 255 * -128);
  CHECK(static_cast<int32_t>(found[2]) == 10 + 3 * 2 + 2 * 1 + 1 * -1 + -1 * -128);
  CHECK(found[3] == 0xc0003f80);
}
