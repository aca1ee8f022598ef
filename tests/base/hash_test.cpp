#include "base/hash.h"

#include <doctest/doctest.h>

#include <set>
#include <vector>

using namespace hybrid;

namespace {

std::vector<std::byte> counted(size_t n) {
  std::vector<std::byte> bytes(n);
  for (size_t i = 0; i < n; ++i) bytes[i] = static_cast<std::byte>(i * 7 + 1);
  return bytes;
}

}  // namespace

TEST_CASE("the hash is the one that files hold") {
  CHECK(hash_bytes({}, 0) == 0x9c0f9c6151c6bde8);
  CHECK(hash_bytes(counted(200), 0) == 0xa247c0c44a6ab16b);
  CHECK(hash_bytes(counted(200), 5) == 0x1c390215102009b3);
}

TEST_CASE("every flipped bit, every length and every seed gives another hash") {
  std::vector<std::byte> bytes = counted(200);
  std::set<uint64_t> seen{hash_bytes(bytes, 0)};
  for (std::byte& byte : bytes) {
    for (int bit = 0; bit < 8; ++bit) {
      byte ^= static_cast<std::byte>(1 << bit);
      CHECK(seen.insert(hash_bytes(bytes, 0)).second);
      byte ^= static_cast<std::byte>(1 << bit);
    }
  }
  const std::vector<std::byte> zeros(200);
  for (size_t n = 0; n <= 200; ++n) {
    CHECK(seen.insert(hash_bytes(std::span(zeros).first(n), 0)).second);
  }
  for (uint64_t seed = 1; seed < 200; ++seed) CHECK(seen.insert(hash_bytes(bytes, seed)).second);
}
