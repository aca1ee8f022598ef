#include "numa/split_range.h"

#include <doctest/doctest.h>

using namespace hybrid;

TEST_CASE("parts follow each other, cover all, and keep to multiples") {
  for (const uint64_t n_parts : {1, 2, 3, 5, 8}) {
    for (const uint64_t n : {0, 1, 7, 63, 64, 65, 1000, 1024}) {
      for (const uint64_t multiple : {1, 16, 64}) {
        CAPTURE(n_parts);
        CAPTURE(n);
        CAPTURE(multiple);
        uint64_t end = 0, least = n, most = 0;
        for (uint64_t part = 0; part < n_parts; ++part) {
          const IndexRange range = split_range(n, multiple, part, n_parts);
          REQUIRE(range.begin == end);
          REQUIRE(range.end >= range.begin);
          REQUIRE((range.end % multiple == 0 || range.end == n));
          end = range.end;
          least = std::min(least, range.end - range.begin);
          most = std::max(most, range.end - range.begin);
        }
        REQUIRE(end == n);
        REQUIRE(most - least <= multiple);
      }
    }
  }
}

TEST_CASE("what is left over goes to the last parts") {
  CHECK(split_range(5, 1, 0, 3) == IndexRange{0, 1});
  CHECK(split_range(5, 1, 1, 3) == IndexRange{1, 3});
  CHECK(split_range(5, 1, 2, 3) == IndexRange{3, 5});
  // 65 are two units of 32 and one of a single item: it does not make a share of 64 against 1.
  CHECK(split_range(65, 32, 0, 2) == IndexRange{0, 32});
  CHECK(split_range(65, 32, 1, 2) == IndexRange{32, 65});
}
