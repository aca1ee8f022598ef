#include "tensor/simulated_device.h"

#include <doctest/doctest.h>

#include <atomic>
#include <cmath>
#include <functional>
#include <future>
#include <mutex>
#include <random>
#include <thread>
#include <vector>

#include "base/error.h"
#include "tests/support/expect_error.h"

using namespace hybrid;
using test::error_of;
using namespace std::chrono_literals;

namespace {

constexpr auto kLong = 60000ms;

SimulatedOptions options(uint64_t capacity_bytes = 1 << 20) {
  SimulatedOptions o;
  o.capacity_bytes = capacity_bytes;
  return o;
}

/// Work that lasts until it is let go, which it is at the end of its life at the latest.
class Gate {
 public:
  ~Gate() { open(); }
  void open() {
    if (!is_open_.exchange(true)) opened_.set_value();
  }
  std::function<void()> work() {
    return [future = opened_.get_future().share()] { future.wait(); };
  }

 private:
  std::promise<void> opened_;
  std::atomic<bool> is_open_ = false;
};

}  // namespace

TEST_CASE("a simulated device always says that it is one") {
  SimulatedOptions o = options();
  o.index = 3;
  const SimulatedDevice device(o);
  CHECK(device.name() == "SIM3");
  CHECK(device.title() == "SIM3 (simulated)");
  CHECK(device.is_simulated());
}

TEST_CASE("memory is given to the last byte and not beyond") {
  SimulatedDevice device(options(1000));
  {
    const DeviceMemory most = device.allocate(999, "weights");
    CHECK(device.used_bytes() == 999);
    CHECK(error_of([&] { device.allocate(2, "the cache"); }) ==
          "SIM0 (simulated) has no room for the cache: 2 B are needed, 1 B of 1000 B are free");
    const DeviceMemory last = device.allocate(1, "the cache");
    CHECK(device.used_bytes() == 1000);
    CHECK(device.allocate(0, "nothing").data() == nullptr);
    const DeviceMemory pinned = device.allocate_pinned(5000, "copies");  // the host's
    CHECK(device.pinned_bytes() == 5000);
    CHECK(device.used_bytes() == 1000);
  }
  CHECK(device.used_bytes() == 0);
  CHECK(device.pinned_bytes() == 0);
  for (int i = 0; i < 100; ++i) {
    DeviceMemory memory = device.allocate(700, "weights");
    DeviceMemory moved = std::move(memory);
    CHECK(device.used_bytes() == 700);
    moved = device.allocate(300, "others");  // beside the first, until that is given back
    CHECK(device.used_bytes() == 300);
    CHECK(reinterpret_cast<uintptr_t>(moved.data()) % 256 == 0);
  }
  CHECK(device.used_bytes() == 0);
}

TEST_CASE("copies and work happen in their order, beside the host") {
  SimulatedDevice device(options());
  const DeviceMemory host = device.allocate_pinned(2 * sizeof(float), "copies");
  const DeviceMemory memory = device.allocate(2 * sizeof(float), "floats");
  const auto stream = device.make_simulated_stream();
  auto* x = memory.as<float>();
  CHECK(std::isnan(x[0]));  // nobody has written it
  host.as<float>()[0] = 20;
  Gate gate;
  stream->enqueue({}, gate.work());
  stream->copy_to_device(memory.data(), host.data(), sizeof(float));
  stream->enqueue({}, [x] { x[0] += 1; });
  stream->copy_on_device(memory.data() + sizeof(float), memory.data(), sizeof(float));
  stream->enqueue({}, [x] { x[0] *= 2; });
  stream->copy_to_host(host.data(), memory.data(), 2 * sizeof(float));
  CHECK(host.as<float>()[0] == 20);  // all of it waits
  gate.open();
  stream->synchronize(kLong);
  CHECK(host.as<float>()[0] == 42);
  CHECK(host.as<float>()[1] == 21);
}

TEST_CASE("a copy must lie in one allocation, on the host in pinned memory") {
  SimulatedDevice device(options());
  const DeviceMemory host = device.allocate_pinned(64, "copies");
  const DeviceMemory memory = device.allocate(64, "floats");
  const auto stream = device.make_stream();
  std::vector<std::byte> pageable(64);
  CHECK_THROWS_AS(stream->copy_to_device(memory.data(), pageable.data(), 64), Error);
  CHECK_THROWS_AS(stream->copy_to_device(memory.data() + 1, host.data(), 64), Error);
  CHECK_THROWS_AS(stream->copy_to_device(host.data(), memory.data(), 64), Error);
  CHECK_THROWS_AS(stream->copy_to_host(host.data() + 64, memory.data(), 1), Error);
  CHECK_THROWS_AS(stream->copy_on_device(memory.data(), host.data(), 64), Error);
  CHECK_NOTHROW(stream->copy_to_host(host.data() + 64, memory.data(), 0));
  CHECK_NOTHROW(stream->copy_to_device(memory.data(), host.data(), 64));
  stream->synchronize(kLong);
}

TEST_CASE("a wait that is missing shows, one that is there holds") {
  for (const bool waits : {false, true}) {
    SimulatedDevice device(options());
    const DeviceMemory memory = device.allocate(2 * sizeof(float), "floats");
    auto* x = memory.as<float>();
    const auto first = device.make_simulated_stream(), second = device.make_simulated_stream();
    const auto event = device.make_event();
    Gate gate;
    first->enqueue({}, gate.work());
    first->enqueue({}, [x] { x[0] = 7; });
    first->record(*event);
    if (waits) second->wait(*event);
    second->enqueue({}, [x] { x[1] = x[0]; });
    if (!waits) second->synchronize(kLong);
    gate.open();
    first->synchronize(kLong);
    second->synchronize(kLong);
    CHECK(x[0] == 7);
    CHECK(std::isnan(x[1]) == !waits);
  }
}

TEST_CASE("random delays change neither results nor modelled times") {
  // Two queues that hand a number to and fro, one event for each direction, recorded every time.
  const auto run = [](uint32_t seed) {
    std::mutex mutex;
    std::mt19937 random(seed);
    SimulatedOptions o = options();
    o.rates = {.memory_bytes_per_s = 1e9, .multiply_adds_per_s = 1e12, .launch_s = 1e-6};
    o.before_work = [&] {
      uint32_t us = 0;
      {
        const std::lock_guard lock(mutex);
        us = random() % 60;
      }
      std::this_thread::sleep_for(std::chrono::microseconds(us));
    };
    SimulatedDevice device(o);
    const DeviceMemory memory = device.allocate(sizeof(uint64_t), "a number");
    auto* x = memory.as<uint64_t>();
    const auto a = device.make_simulated_stream(), b = device.make_simulated_stream();
    const auto to_b = device.make_event(), to_a = device.make_event();
    a->enqueue({}, [x] { *x = 1; });
    for (uint64_t i = 1; i <= 8; ++i) {
      a->enqueue({1000 * i, 0}, [x] { *x = *x * 3 + 1; });
      a->record(*to_b);
      a->enqueue({500, 0}, [] {});  // beside b
      b->wait(*to_b);
      b->enqueue({0, 3000000}, [x] { *x = *x * 5 + 2; });
      b->record(*to_a);
      a->wait(*to_a);
    }
    a->synchronize(kLong);
    b->synchronize(kLong);
    CHECK(a->busy_seconds() == doctest::Approx(17e-6 + 36e-6 + 8 * 0.5e-6));
    CHECK(b->busy_seconds() == doctest::Approx(8 * 4e-6));
    return std::tuple(*x, a->modelled_seconds(), b->modelled_seconds());
  };
  const auto expected = run(1);
  CHECK(std::get<1>(expected) == std::get<2>(expected));
  // The first piece, and of each round a's work and then b's; a's piece beside b is hidden.
  CHECK(std::get<1>(expected) == doctest::Approx(1e-6 + 8e-6 + 36e-6 + 8 * 4e-6));
  for (uint32_t seed = 2; seed < 30; ++seed) CHECK(run(seed) == expected);
}

TEST_CASE("work lasts as its bytes or its products, copies as the link") {
  SimulatedOptions o = options();
  o.rates = {1e9, 1e12, 1e8, 2e-6};
  SimulatedDevice device(o);
  const DeviceMemory host = device.allocate_pinned(1000, "copies");
  const DeviceMemory memory = device.allocate(2000, "floats");
  const auto stream = device.make_simulated_stream();
  const auto seconds = [&] {
    stream->synchronize(kLong);
    return stream->modelled_seconds();
  };
  CHECK(seconds() == 0);
  stream->enqueue({5000, 1000}, [] {});
  CHECK(seconds() == doctest::Approx(7e-6));
  stream->enqueue({5000, 9000000}, [] {});
  CHECK(seconds() == doctest::Approx(7e-6 + 11e-6));
  stream->copy_to_device(memory.data(), host.data(), 1000);
  CHECK(seconds() == doctest::Approx(18e-6 + 12e-6));
  stream->copy_on_device(memory.data() + 1000, memory.data(), 1000);  // read and written
  CHECK(seconds() == doctest::Approx(30e-6 + 4e-6));
}

TEST_CASE("what fails first is told by every wait, and nothing runs after it") {
  SimulatedDevice device(options());
  const auto a = device.make_simulated_stream(), b = device.make_simulated_stream();
  const auto event = device.make_event();
  std::atomic<bool> ran = false;
  Gate gate;
  a->enqueue({}, gate.work());
  a->enqueue({}, [] { fail("a kernel stumbled"); });
  a->enqueue({}, [&] { ran = true; });
  a->record(*event);
  b->wait(*event);
  b->enqueue({}, [&] { ran = true; });
  gate.open();
  const std::string message = "SIM0 (simulated) failed: a kernel stumbled";
  CHECK(error_of([&] { b->synchronize(kLong); }) == message);
  CHECK(error_of([&] { a->synchronize(kLong); }) == message);
  CHECK(error_of([&] { event->wait(kLong); }) == message);
  a->enqueue({}, [&] { ran = true; });
  CHECK(error_of([&] { a->synchronize(kLong); }) == message);
  CHECK(!ran);
}

TEST_CASE("a device that does not answer fails instead of being waited for for ever") {
  SimulatedDevice device(options());
  const auto stream = device.make_simulated_stream();
  const auto event = device.make_event();
  CHECK_NOTHROW(event->wait(1ms));  // never recorded
  Gate gate;
  std::atomic<bool> ran = false;
  stream->enqueue({}, gate.work());
  stream->enqueue({}, [&] { ran = true; });
  stream->record(*event);
  CHECK(error_of([&] { event->wait(20ms); }) ==
        "SIM0 (simulated) failed: no answer for 0.02 s while the host waited for an event");
  gate.open();
  CHECK_THROWS_AS(stream->synchronize(kLong), Error);
  CHECK(!ran);
}

TEST_CASE("events of another device are refused") {
  SimulatedDevice one(options()), other(options());
  const auto stream = one.make_stream();
  const auto event = other.make_event();
  CHECK_THROWS_AS(stream->record(*event), Error);
  CHECK_THROWS_AS(stream->wait(*event), Error);
}
