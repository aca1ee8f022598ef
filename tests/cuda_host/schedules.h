#pragma once
// The same launches under different schedules; on a GPU (HYBRID_TEST_ON_GPU), which has its own,
// the same launches again.

#include <doctest/doctest.h>

#include <utility>
#include <vector>

#ifdef HYBRID_TEST_ON_GPU
#include "tests/cuda_gpu/device_buffer.h"
#else
#include "tensor/cuda_stream.h"
#include "tests/simt/device_buffer.h"
#include "tests/simt/engine.h"
#endif

namespace hybrid::test {

#ifdef HYBRID_TEST_ON_GPU

using gpu::DeviceBuffer;

/// What tests launch on.
inline CudaStream stream() { return gpu::stream(); }

template <class Run>
auto same_under_schedules(const Run& run) {
  const auto first = run();
  for (int i = 0; i < 3; ++i) CHECK_MESSAGE(run() == first, "another run, another result");
  return first;
}

#else

using simt::DeviceBuffer;

inline CudaStream stream() { return nullptr; }

/// run() under different orders of threads and blocks, fillings of shared memory and landings of
/// copies. It returns what a kernel computed, which must be the same bit for bit.
template <class Run>
auto same_under_schedules(const Run& run) {
  const simt::Options before = simt::options;
  simt::options = {};
  const auto first = run();
  const auto again = [&](simt::Order order, uint64_t seed, uint8_t poison, simt::Landing landing) {
    simt::options.order = order;
    simt::options.seed = seed;
    simt::options.poison = poison;
    simt::options.landing = landing;
    CHECK_MESSAGE(run() == first, "another schedule, another result");
  };
  again(simt::Order::forward, 1, 0xff, simt::Landing::late);
  again(simt::Order::reverse, 1, 0x7f, simt::Landing::early);
  again(simt::Order::random, 7, 0xff, simt::Landing::coin_toss);
  simt::options = before;
  return first;
}

#endif

/// The outputs of a kernel, none of which was left out.
template <class T>
std::vector<T> written(const DeviceBuffer<T>& buffer) {
  const size_t i = buffer.first_unwritten();
  if (i < buffer.size()) FAIL("element " << i << " was not written");
  return buffer.download();
}

}  // namespace hybrid::test
