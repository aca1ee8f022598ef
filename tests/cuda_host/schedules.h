#pragma once
// The same launches under different schedules.

#include <doctest/doctest.h>

#include <utility>
#include <vector>

#include "tests/simt/device_buffer.h"
#include "tests/simt/engine.h"

namespace hybrid::test {

using simt::DeviceBuffer;

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

/// The outputs of a kernel, none of which was left out.
template <class T>
std::vector<T> written(const DeviceBuffer<T>& buffer) {
  for (size_t i = 0; i < buffer.size(); ++i) {
    if (!buffer.is_written(i)) FAIL("element " << i << " was not written");
  }
  return buffer.download();
}

}  // namespace hybrid::test
