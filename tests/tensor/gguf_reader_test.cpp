#include "tensor/gguf_reader.h"

#include <doctest/doctest.h>

#include <limits>
#include <random>

#include "tests/support/expect_error.h"
#include "tests/support/gguf_builder.h"
#include "tests/support/golden.h"
#include "tests/support/text.h"

using namespace hybrid;
using namespace hybrid::test;

namespace {

GgufHeader read(const std::string& bytes, bool data_required = true) {
  return read_gguf_header(std::as_bytes(std::span(bytes)), {"m.gguf", bytes.size(), data_required});
}

std::string error_reading(const std::string& bytes) {
  return error_of([&] { read(bytes); });
}
std::string error_reading(const GgufBuilder& gguf) { return error_reading(gguf.bytes()); }

/// One line that starts with the file's name.
void check_is_good_message(const std::string& message) {
  CHECK(message.starts_with("m.gguf: "));
  CHECK(message.find('\n') == std::string::npos);
}

template <class T>
const T& values(const GgufHeader& header, std::string_view key) {
  const GgufValue* value = header.metadata.find(key);
  REQUIRE(value != nullptr);
  return std::get<T>(std::get<GgufArray>(value->value).values);
}

template <class T>
T scalar(const GgufHeader& header, std::string_view key) {
  const GgufValue* value = header.metadata.find(key);
  REQUIRE(value != nullptr);
  return std::get<T>(value->value);
}

}  // namespace

TEST_CASE("every scalar type is read exactly") {
  const GgufHeader h = read(sample_gguf().bytes());
  CHECK(scalar<uint64_t>(h, "t.u8") == 255);
  CHECK(scalar<int64_t>(h, "t.i8") == -128);
  CHECK(scalar<uint64_t>(h, "t.u16") == 65535);
  CHECK(scalar<int64_t>(h, "t.i16") == -32768);
  CHECK(scalar<uint64_t>(h, "t.u32") == 4294967295);
  CHECK(scalar<int64_t>(h, "t.i32") == -2147483648);
  CHECK(scalar<uint64_t>(h, "t.u64") == std::numeric_limits<uint64_t>::max());
  CHECK(scalar<int64_t>(h, "t.i64") == std::numeric_limits<int64_t>::min());
  CHECK(scalar<double>(h, "t.f32") == double{1e-6f});
  CHECK(scalar<double>(h, "t.f64") == 2.5e300);
  CHECK(scalar<bool>(h, "t.bool"));
  CHECK(scalar<std::string>(h, "t.bytes") == std::string("\xff\0\n", 3));
  CHECK(h.metadata.find("t.i16")->type == GgufType::i16);
  CHECK(h.metadata.get_string("general.architecture") == "deepseek2");
}

TEST_CASE("arrays of every type are read exactly") {
  const GgufHeader h = read(sample_gguf().bytes());
  CHECK(values<std::vector<uint64_t>>(h, "a.u8") == std::vector<uint64_t>{0, 255});
  CHECK(values<std::vector<int64_t>>(h, "a.i8") == std::vector<int64_t>{-1});
  CHECK(values<std::vector<uint64_t>>(h, "a.u16") == std::vector<uint64_t>{65535});
  CHECK(values<std::vector<int64_t>>(h, "a.i16") == std::vector<int64_t>{-32768, 1});
  CHECK(values<std::vector<uint64_t>>(h, "a.u32") == std::vector<uint64_t>{1, 4294967295});
  CHECK(values<std::vector<int64_t>>(h, "a.i32") == std::vector<int64_t>{-5, 6});
  CHECK(values<std::vector<uint64_t>>(h, "a.u64")[0] == std::numeric_limits<uint64_t>::max());
  CHECK(values<std::vector<int64_t>>(h, "a.i64")[0] == std::numeric_limits<int64_t>::min());
  CHECK(values<std::vector<double>>(h, "a.f32") == std::vector<double>{0.5, -2});
  CHECK(values<std::vector<double>>(h, "a.f64") == std::vector<double>{1e-300});
  CHECK(values<std::vector<bool>>(h, "a.bool") == std::vector<bool>{true, false, true});
  CHECK(values<std::vector<std::string>>(h, "a.string") ==
        std::vector<std::string>{"", "\xc4\xa0the", "\xfe"});
  CHECK(h.metadata.find_strings("a.empty")->empty());
  const auto& nested = values<std::vector<GgufArray>>(h, "a.nested");
  REQUIRE(nested.size() == 2);
  CHECK(std::get<std::vector<uint64_t>>(nested[0].values) == std::vector<uint64_t>{1, 2, 3});
  CHECK(std::get<std::vector<std::string>>(nested[1].values) == std::vector<std::string>{"x"});
}

TEST_CASE("tensors get their shape, place and size") {
  const std::string bytes = sample_gguf().bytes();
  const GgufHeader h = read(bytes);
  CHECK(h.version == 3);
  CHECK(h.alignment == 64);
  CHECK(h.data_offset % 64 == 0);
  REQUIRE(h.tensors.size() == 4);
  CHECK(h.tensors[0].name == "token_embd.weight");
  CHECK(h.tensors[0].type == DType::f32);
  CHECK(h.tensors[0].n_dims == 2);
  CHECK(h.tensors[0].ne == std::array<uint64_t, 4>{4, 2, 1, 1});
  CHECK(h.tensors[0].offset == h.data_offset);
  CHECK(h.tensors[0].n_bytes == 32);
  CHECK(h.tensors[1].offset == h.data_offset + 64);
  CHECK(h.tensors[2].n_bytes == 2 * 3 * 144);
  CHECK(bytes[h.tensors[2].offset] == '\2');
  CHECK(bytes[h.tensors[2].offset + h.tensors[2].n_bytes - 1] == '\2');
  CHECK(h.tensors[3].ne == std::array<uint64_t, 4>{32, 1, 1, 2});
  CHECK(h.tensors[3].n_dims == 4);
  CHECK(h.tensors[3].n_bytes == 68);
}

TEST_CASE("version 2 reads like version 3, a file without tensors or keys is fine") {
  const GgufHeader h = read(sample_gguf().version(2).bytes());
  CHECK(h.version == 2);
  CHECK(h.tensors.size() == 4);
  const std::string empty = GgufBuilder().bytes().substr(0, 24);  // no padding either
  CHECK(read(empty).tensors.empty());
  CHECK(read(empty).metadata.entries().empty());
  CHECK(read(empty).alignment == 32);
}

TEST_CASE("data may stand in any order and with gaps") {
  GgufBuilder gguf;
  gguf.add_tensor("a", DType::f32, {8}).add_tensor("b", DType::f32, {8});
  gguf.add_tensor("c", DType::f32, {8}).add_tensor("d", DType::f32, {8});
  gguf.tensor(0).offset = 96;
  gguf.tensor(1).offset = 0;
  gguf.tensor(2).offset = 64;
  gguf.tensor(3).offset = 512;
  const std::string bytes = gguf.bytes() + std::string(512, '\0');
  const GgufHeader h = read(bytes);
  CHECK(h.tensors[0].offset == h.data_offset + 96);
  CHECK(h.tensors[3].offset == h.data_offset + 512);
}

TEST_CASE("the beginning of a file is enough where the caller knows its size") {
  const std::string bytes = sample_gguf().bytes();
  const GgufHeader whole = read(bytes);
  const auto head = std::as_bytes(std::span(bytes)).first(whole.data_offset);
  CHECK(read_gguf_header(head, {"m.gguf", bytes.size(), true}).tensors.size() == 4);
  CHECK(read_gguf_header(head, {"m.gguf", head.size(), false}).tensors.size() == 4);
  const std::string message = error_of([&] {
    read_gguf_header(head, {"m.gguf", head.size(), true});
  });
  CHECK(contains(message, "tensor 'blk.0.wide': expected its data at bytes"));
  CHECK(contains(message,
                 fmt::format("found a file of {} bytes; the file is incomplete", head.size())));
}

TEST_CASE("what is no GGUF of version 2 or 3 is told apart") {
  const auto with_version = [](uint32_t version) { return sample_gguf().version(version); };
  CHECK(
      error_reading(std::string()) ==
      "m.gguf: expected 4 bytes for the magic 'GGUF' at offset 0, found 0; the file is incomplete "
      "or damaged");
  CHECK(contains(error_reading("PK\3\4 and more"), "begins with 'GGUF', found 'PK\\x03\\x04'"));
  CHECK(contains(error_reading("version https://git-lfs.github.com/spec/v1"), "a Git LFS pointer"));
  CHECK(contains(error_reading("tjgg\1\0\0\0"), "of the time before GGUF"));
  CHECK(contains(error_reading("FUGG"), "all its bytes swapped"));
  CHECK(contains(error_reading(with_version(1)), "expected GGUF version 2 or 3, found version 1"));
  CHECK(contains(error_reading(with_version(0x03000000)), "found a big-endian one (version 3)"));
  CHECK(contains(error_reading(with_version(4)), "expected GGUF version 2 or 3, found 4"));
  CHECK(contains(error_reading(with_version(0)), "expected GGUF version 2 or 3, found 0"));
}

TEST_CASE("counts are compared with the bytes there are") {
  constexpr uint64_t kHuge = std::numeric_limits<uint64_t>::max();
  CHECK(contains(error_reading(sample_gguf().claim_tensors(kHuge)),
                 "found a count of 18446744073709551615"));
  CHECK(contains(error_reading(sample_gguf().claim_entries(kHuge)), "metadata entries in the"));
  CHECK(
      contains(error_reading(sample_gguf().claim_entries(1'000'000)), "found a count of 1000000"));
  CHECK(
      error_reading(GgufBuilder().claim_entries(1)) ==
      "m.gguf: expected at most 0 metadata entries in the 8 bytes that are left, found a count of "
      "1");
}

TEST_CASE("keys are checked") {
  CHECK(contains(error_reading(GgufBuilder().add("", 1)),
                 "expected a metadata key of 1 to 65535 bytes at offset 24, found a length of 0"));
  CHECK(
      contains(error_reading(GgufBuilder().add(std::string(65536, 'k'), 1)), "a length of 65536"));
  CHECK(error_reading(GgufBuilder().add(std::string(65535, 'k'), 1)).empty());
  CHECK(error_reading(GgufBuilder().add("a\xff", 1)) ==
        "m.gguf: expected a metadata key in UTF-8 at offset 24, found 'a\\xff', invalid at byte 1");
  CHECK(error_reading(GgufBuilder().add("a.b", 1).add("a.b", 2)) ==
        "m.gguf: key 'a.b': expected it once, found it twice");
}

TEST_CASE("values are checked") {
  const auto with = [](uint32_t type, const std::string& value) {
    return error_reading(GgufBuilder().add_raw("k", type, value));
  };
  const uint64_t huge = uint64_t{1} << 62;
  CHECK(with(13, "12345678") ==
        "m.gguf: the value of key 'k': expected a metadata type from 0 to 12, found 13");
  CHECK(contains(with(7, "\2"), "expected 0 or 1 for a bool, found 2"));
  CHECK(contains(with(8, gguf_bytes(huge)), "expected 4611686018427387904 bytes for the value of"));
  CHECK(contains(with(9, GgufBuilder::array_head(GgufType{13}, 1)), "from 0 to 12, found 13"));
  CHECK(contains(with(9, GgufBuilder::array_head(GgufType::u8, huge)),
                 "expected an array that fits the file, found 4611686018427387904 u8 values"));
  CHECK(contains(with(9, GgufBuilder::array_head(GgufType::string, huge)), "string values where"));
  CHECK(contains(with(9, GgufBuilder::array_head(GgufType::array, huge)), "array values where"));
  CHECK(contains(with(9, GgufBuilder::array_head(GgufType::boolean, 1) + "\3"), "found 3"));
  CHECK(contains(with(9, GgufBuilder::array_head(GgufType::string, 1) + gguf_bytes(huge)),
                 "for the value of key 'k'"));
}

TEST_CASE("arrays nest four deep and no deeper") {
  const auto nested = [](int depth) {
    std::string value;
    for (int i = 1; i < depth; ++i) value += GgufBuilder::array_head(GgufType::array, 1);
    return error_reading(
        GgufBuilder().add_raw("k", 9, value + GgufBuilder::array_head(GgufType::u8, 0)));
  };
  CHECK(nested(4) == "");
  CHECK(contains(nested(5), "expected arrays nested at most 4 deep, found more"));
  CHECK(contains(nested(100'000), "expected arrays nested at most 4 deep, found more"));
}

TEST_CASE("general.alignment is a sane power of two") {
  for (const uint32_t good : {8u, 16u, 4096u, 1u << 20}) {
    CHECK(read(GgufBuilder().alignment(good).add_tensor("t", DType::f32, {3}).bytes()).alignment ==
          good);
  }
  for (const uint32_t bad : {0u, 1u, 4u, 24u, 1u << 21, 0x80000001u}) {
    CHECK(contains(error_reading(GgufBuilder().add("general.alignment", bad)),
                   fmt::format("expected a power of two from 8 to 1048576, found {}", bad)));
  }
  CHECK(contains(error_reading(GgufBuilder().add("general.alignment", "32")), "found string '32'"));
}

TEST_CASE("names of tensors are checked") {
  const auto named = [](const std::string& name) {
    return error_reading(GgufBuilder().add_tensor(name, DType::f32, {1}));
  };
  CHECK(named(std::string(127, 'n')).empty());
  CHECK(contains(named(std::string(128, 'n')), "a tensor name of 1 to 127 bytes at offset 24"));
  CHECK(contains(named(""), "found a length of 0"));
  CHECK(
      contains(named("a\xc0\x80"), "expected a tensor name in UTF-8 at offset 24, found 'a\\xc0"));
  CHECK(error_reading(
            GgufBuilder().add_tensor("t", DType::f32, {1}).add_tensor("t", DType::f16, {2})) ==
        "m.gguf: tensor 't': expected it once, found it twice");
}

TEST_CASE("shapes are checked") {
  const auto shaped = [](DType type, std::vector<uint64_t> dims) {
    return error_reading(GgufBuilder().add_tensor(
        {"t", static_cast<uint32_t>(type), std::move(dims), "", std::nullopt}));
  };
  const uint64_t big = uint64_t{1} << 32;
  CHECK(shaped(DType::f32, {}).starts_with("m.gguf: "));
  CHECK(contains(error_reading(GgufBuilder()
                                   .add_tensor({"t", 0, {}, "", std::nullopt})
                                   .add_tensor("u", DType::f32, {1})),
                 "tensor 't': expected 1 to 4 dimensions, found 0"));
  CHECK(contains(shaped(DType::f32, {1, 1, 1, 1, 1}), "expected 1 to 4 dimensions, found 5"));
  CHECK(contains(shaped(DType::f32, {4, 0}), "found one (dimension 1)"));
  CHECK(contains(shaped(DType::f32, {big, big}), "at most 2^60 elements, found more (dimension 1"));
  CHECK(contains(shaped(DType::f32, {big, big, big, big}), "at most 2^60 elements"));
  CHECK(contains(shaped(DType::f32, {~uint64_t{0}}), "at most 2^60 elements"));
  CHECK(contains(shaped(DType::f32, {uint64_t{1} << 59}), "at most 2^60 bytes"));
  CHECK(shaped(DType::q4_k, {255, 2}) ==
        "m.gguf: tensor 't': expected rows of whole blocks (a multiple of 256 elements of Q4_K), "
        "found 255 elements");
}

TEST_CASE("types that are not read are named") {
  const auto typed = [](uint32_t type) {
    return error_reading(GgufBuilder().add_tensor({"t", type, {256}, "", std::nullopt}));
  };
  CHECK(contains(typed(100), "tensor 't': expected a type we read (F32, F16, Q4_0, "));
  CHECK(contains(typed(100), "found type 100, which we do not know"));
  CHECK(contains(typed(4), "found type 4, Q4_2 (removed from llama.cpp)"));
  CHECK(contains(typed(26), "found type 26, I32"));
  CHECK(contains(typed(9), "found type 9, Q8_1 (llama.cpp)"));
  CHECK(contains(typed(399), "found type 399, Q8_K_R8 (ik_llama.cpp)"));
  CHECK(contains(typed(400), "which we do not know"));
}

TEST_CASE("offsets are aligned, inside the file, and do not overlap") {
  GgufBuilder gguf;
  gguf.add_tensor("a", DType::f32, {16}).add_tensor("b", DType::f32, {16});
  CHECK(error_reading(gguf).empty());
  gguf.tensor(1).offset = 16;
  CHECK(error_reading(gguf) ==
        "m.gguf: tensor 'b': expected an offset that is a multiple of 32, found 16");
  gguf.tensor(1).offset = 32;
  CHECK(contains(error_reading(gguf),
                 "tensor 'b': expected its data after that of 'a', which ends at"));
  CHECK(contains(error_reading(gguf), "; the two overlap"));
  gguf.tensor(1).offset = 0;
  CHECK(contains(error_reading(gguf), "; the two overlap"));
  gguf.tensor(1).offset = 96;
  CHECK(contains(error_reading(gguf), "tensor 'b': expected its data at bytes"));
  CHECK(read(gguf.bytes(), false).tensors.size() == 2);
  gguf.tensor(1).offset = ~uint64_t{31};
  CHECK(contains(error_reading(gguf), "expected an offset up to 2^60, found 18446744073709551584"));
  CHECK(contains(error_of([&] { read(gguf.bytes(), false); }), "an offset up to 2^60"));
}

TEST_CASE("a file cut anywhere is an error, never a crash") {
  const std::string bytes = sample_gguf().bytes();
  const GgufHeader whole = read(bytes);
  const uint64_t end = whole.tensors[3].offset + whole.tensors[3].n_bytes;
  for (uint64_t n = 0; n < bytes.size(); ++n) {
    // A copy of its own, so that AddressSanitizer sees a read past the end.
    const std::vector<char> cut(bytes.begin(), bytes.begin() + static_cast<ptrdiff_t>(n));
    const auto read_cut = [&] {
      read_gguf_header(std::as_bytes(std::span(cut)), {"m.gguf", n, true});
    };
    const std::string message = error_of(read_cut);
    CAPTURE(n);
    if (n < end)
      check_is_good_message(message);
    else
      CHECK(message.empty());
  }
}

TEST_CASE("golden files cut at each sixteenth are errors") {
  HYBRID_NEEDS_GOLDEN();
  for (const char* name : {"models/lite-q2_k.gguf", "models/lite-q3_k-00001-of-00003.gguf"}) {
    const std::string bytes = read_text(golden(name));
    CHECK_FALSE(read(bytes).tensors.empty());
    for (size_t i = 0; i < 16; ++i) {
      CAPTURE(i);
      check_is_good_message(error_reading(bytes.substr(0, bytes.size() * i / 16)));
    }
  }
}

TEST_CASE("flipped bytes give a good file or an error") {
  const std::string good = sample_gguf().bytes();
  const uint64_t n_header = read(good).data_offset;
  std::mt19937 random(20240517);
  int n_errors = 0;
  for (int i = 0; i < 10'000; ++i) {
    std::string bytes = good;
    for (uint32_t n = random() % 3 + 1; n > 0; --n) {
      bytes[random() % n_header] = static_cast<char>(random());
    }
    const std::string message = error_reading(bytes);  // anything but an Error ends the test
    if (message.empty()) continue;
    ++n_errors;
    REQUIRE(message.starts_with("m.gguf: "));
    REQUIRE(message.find('\n') == std::string::npos);
  }
  CHECK(n_errors > 2'000);  // most bytes of the sample's header matter
  CHECK(n_errors < 10'000);
}
