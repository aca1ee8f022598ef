#include "tensor/gguf_metadata.h"

#include <doctest/doctest.h>

#include <cmath>
#include <limits>

#include "tests/support/expect_error.h"

using namespace hybrid;
using hybrid::test::error_of;

namespace {

GgufMetadata sample() {
  GgufMetadata m("m.gguf");
  m.add("u8", {GgufType::u8, uint64_t{7}});
  m.add("i64", {GgufType::i64, int64_t{5000000000}});
  m.add("negative", {GgufType::i32, int64_t{-1}});
  m.add("u64", {GgufType::u64, std::numeric_limits<uint64_t>::max()});
  m.add("f32", {GgufType::f32, 0.5});
  m.add("f64", {GgufType::f64, 1e300});
  m.add("nan", {GgufType::f32, std::nan("")});
  m.add("flag", {GgufType::boolean, true});
  m.add("text", {GgufType::string, std::string("a\nb")});
  m.add("strings",
        {GgufType::array, GgufArray{GgufType::string, std::vector<std::string>{"x", "y"}}});
  m.add("ints", {GgufType::array, GgufArray{GgufType::i8, std::vector<int64_t>{-1, 2}}});
  m.add("counts", {GgufType::array, GgufArray{GgufType::u32, std::vector<uint64_t>{3, 4}}});
  m.add("huge",
        {GgufType::array, GgufArray{GgufType::u64, std::vector<uint64_t>{uint64_t{1} << 63}}});
  m.add("floats", {GgufType::array, GgufArray{GgufType::f32, std::vector<double>{1.5, -2}}});
  m.add("doubles", {GgufType::array, GgufArray{GgufType::f64, std::vector<double>{1e300}}});
  return m;
}

}  // namespace

TEST_CASE("keys stay in file order and are there once") {
  GgufMetadata m = sample();
  CHECK(m.entries().size() == 15);
  CHECK(m.entries()[0].first == "u8");
  CHECK(m.entries()[14].first == "doubles");
  CHECK(m.contains("flag"));
  CHECK(m.find("nothing") == nullptr);
  CHECK(m.source() == "m.gguf");
  CHECK(error_of([&] {
          m.add("flag", {GgufType::boolean, false});
        }) == "m.gguf: key 'flag': expected it once, found it twice");
  CHECK(m.entries().size() == 15);
}

TEST_CASE("integers of any type are accepted where they fit") {
  const GgufMetadata m = sample();
  CHECK(m.get_u32("u8") == 7);
  CHECK(m.find_u32("u8") == 7);
  CHECK(m.find_u64("i64") == 5000000000);
  CHECK(m.find_u64("u64") == std::numeric_limits<uint64_t>::max());
  CHECK_FALSE(m.find_u32("nothing").has_value());
  CHECK_FALSE(m.find_u64("nothing").has_value());
  CHECK(error_of([&] { m.find_u32("i64"); }) ==
        "m.gguf: key 'i64': expected a whole number from 0 to 4294967295, found i64 5000000000");
  CHECK(error_of([&] { m.find_u64("negative"); }) ==
        "m.gguf: key 'negative': expected a whole number from 0 to 18446744073709551615, found i32 "
        "-1");
  CHECK(error_of([&] { m.get_u32("text"); }).ends_with("found string 'a\\x0ab'"));
  CHECK(error_of([&] { m.get_u32("flag"); }).ends_with("found bool true"));
  CHECK(error_of([&] { m.get_u32("strings"); }).ends_with("found array of 2 string values"));
  CHECK(error_of([&] { m.get_u32("nothing"); }) ==
        "m.gguf: key 'nothing': expected a whole number, found no such key");
}

TEST_CASE("floats are f32 or f64") {
  const GgufMetadata m = sample();
  CHECK(m.get_f32("f32") == 0.5f);
  CHECK(m.find_f32("f32") == 0.5f);
  CHECK(std::isnan(m.get_f32("nan")));
  CHECK_FALSE(m.find_f32("nothing").has_value());
  CHECK(error_of([&] { m.get_f32("f64"); }) ==
        "m.gguf: key 'f64': expected an f32 or f64 that fits f32, found f64 1e+300");
  CHECK(error_of([&] { m.find_f32("u8"); }).ends_with("found u8 7"));
  CHECK(error_of([&] { m.get_f32("nothing"); }).ends_with("found no such key"));
}

TEST_CASE("strings and bools are what they are") {
  const GgufMetadata m = sample();
  CHECK(m.get_string("text") == "a\nb");
  CHECK(m.find_string("text") == &m.get_string("text"));
  CHECK(m.find_string("nothing") == nullptr);
  CHECK(m.find_bool("flag") == true);
  CHECK_FALSE(m.find_bool("nothing").has_value());
  CHECK(error_of([&] { m.get_string("u8"); }) == "m.gguf: key 'u8': expected a string, found u8 7");
  CHECK(
      error_of([&] { m.get_string("nothing"); }).ends_with("expected a string, found no such key"));
  CHECK(error_of([&] { m.find_bool("u8"); }) == "m.gguf: key 'u8': expected a bool, found u8 7");
}

TEST_CASE("arrays come back as the type asked for") {
  const GgufMetadata m = sample();
  REQUIRE(m.find_strings("strings") != nullptr);
  CHECK(*m.find_strings("strings") == std::vector<std::string>{"x", "y"});
  CHECK(m.find_strings("nothing") == nullptr);
  CHECK(m.find_ints("ints") == std::vector<int64_t>{-1, 2});
  CHECK(m.find_ints("counts") == std::vector<int64_t>{3, 4});
  CHECK_FALSE(m.find_ints("nothing").has_value());
  CHECK(m.find_floats("floats") == std::vector<float>{1.5f, -2.0f});
  CHECK_FALSE(m.find_floats("nothing").has_value());
  CHECK(error_of([&] { m.find_strings("ints"); }) ==
        "m.gguf: key 'ints': expected an array of strings, found array of 2 i8 values");
  CHECK(error_of([&] { m.find_strings("text"); }).ends_with("found string 'a\\x0ab'"));
  CHECK(error_of([&] { m.find_ints("huge"); }) ==
        "m.gguf: key 'huge': expected integers of at most 63 bits, found u64 9223372036854775808");
  CHECK(error_of([&] { m.find_ints("floats"); }).ends_with("found array of 2 f32 values"));
  CHECK(error_of([&] { m.find_ints("u8"); }).ends_with("an array of integers, found u8 7"));
  CHECK(error_of([&] { m.find_floats("doubles"); }).ends_with("fit f32, found f64 1e+300"));
  CHECK(error_of([&] { m.find_floats("ints"); }).ends_with("found array of 2 i8 values"));
}
