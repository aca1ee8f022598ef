#include "numa/huge_buffer.h"

#include <doctest/doctest.h>

#include <algorithm>
#include <string>
#include <utility>

#include "base/units.h"
#include "tests/support/expect_error.h"

using namespace hybrid;

TEST_CASE("memory begins on 2 MB, is zeros, and can be written to its last byte") {
  for (const uint64_t n :
       {uint64_t{1}, uint64_t{4096}, uint64_t{2} << 20, (uint64_t{5} << 20) + 3}) {
    CAPTURE(n);
    HugeBuffer buffer(n);
    REQUIRE(buffer.data() != nullptr);
    CHECK(buffer.n_bytes() == n);
    CHECK(reinterpret_cast<uintptr_t>(buffer.data()) % (uint64_t{2} << 20) == 0);
    const auto zero = [](std::byte b) { return b == std::byte{0}; };
    CHECK(std::all_of(buffer.data(), buffer.data() + n, zero));
    std::fill_n(buffer.data(), n, std::byte{7});
    CHECK(buffer.data()[n - 1] == std::byte{7});
  }
}

TEST_CASE("no bytes are no memory") {
  const HugeBuffer none, zero(0);
  for (const HugeBuffer* buffer : {&none, &zero}) {
    CHECK(buffer->data() == nullptr);
    CHECK(buffer->n_bytes() == 0);
  }
}

TEST_CASE("moving hands the memory on, and takes nothing twice") {
  HugeBuffer a(100);
  a.data()[99] = std::byte{5};
  const std::byte* place = a.data();
  HugeBuffer b(std::move(a));
  CHECK(b.data() == place);
  CHECK(b.n_bytes() == 100);
  CHECK(a.data() == nullptr);  // NOLINT(bugprone-use-after-move): that is what is tested
  CHECK(a.n_bytes() == 0);
  HugeBuffer c(200);
  c = std::move(b);
  CHECK(c.data() == place);
  CHECK(c.data()[99] == std::byte{5});
  CHECK(c.n_bytes() == 100);
  c = HugeBuffer(0);
  CHECK(c.data() == nullptr);
  c = HugeBuffer(10);  // an empty one can be filled again
  c.data()[9] = std::byte{1};
  CHECK(c.n_bytes() == 10);
}

TEST_CASE("memory that cannot be had is an Error that says how much") {
  for (const uint64_t n : {uint64_t{1} << 60, UINT64_MAX - 5, UINT64_MAX}) {
    const std::string error = test::error_of([&] { HugeBuffer buffer(n); });
    CHECK(error == "cannot take " + format_bytes(n) + " of memory");
  }
}
