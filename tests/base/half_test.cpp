#include "base/half.h"

#include <doctest/doctest.h>

#include <bit>
#include <cmath>

using namespace hybrid;

TEST_CASE("every f16 survives the way to f32 and back") {
  for (uint32_t bits = 0; bits <= 0xffff; ++bits) {
    const auto h = static_cast<f16_t>(bits);
    const float f = f16_to_f32(h);
    if (std::isnan(f)) {
      CHECK(std::isnan(f16_to_f32(f32_to_f16(f))));
    } else {
      REQUIRE(f32_to_f16(f) == h);
    }
  }
}

TEST_CASE("f32 to f16 rounds to the nearest, ties to even") {
  // The midpoint between each pair of neighbours, and the floats just beside it.
  for (uint32_t bits = 0; bits < 0x7bff; ++bits) {
    const float low = f16_to_f32(static_cast<f16_t>(bits));
    const float high = f16_to_f32(static_cast<f16_t>(bits + 1));
    const float middle = low + (high - low) / 2;
    const auto even = static_cast<f16_t>(bits % 2 == 0 ? bits : bits + 1);
    REQUIRE(f32_to_f16(middle) == even);
    REQUIRE(f32_to_f16(std::nextafter(middle, low)) == bits);
    REQUIRE(f32_to_f16(std::nextafter(middle, high)) == bits + 1);
    REQUIRE(f32_to_f16(-middle) == (even | 0x8000));
  }
  CHECK(f32_to_f16(65519.996f) == 0x7bff);
  CHECK(f32_to_f16(65520.0f) == 0x7c00);
  CHECK(f32_to_f16(1e-10f) == 0);
  CHECK(f32_to_f16(INFINITY) == 0x7c00);
}

TEST_CASE("bf16 rounds to the nearest, ties to even") {
  CHECK(bf16_to_f32(0x3f80) == 1.0f);
  CHECK(f32_to_bf16(std::bit_cast<float>(0x3f808000u)) == 0x3f80);
  CHECK(f32_to_bf16(std::bit_cast<float>(0x3f818000u)) == 0x3f82);
  CHECK(f32_to_bf16(std::bit_cast<float>(0x3f808001u)) == 0x3f81);
  CHECK(std::isnan(bf16_to_f32(f32_to_bf16(std::nanf("")))));
}
