#include "tensor/gguf_file.h"

#include <doctest/doctest.h>
#include <sys/stat.h>

#include <map>

#include "tensor/gguf_split.h"
#include "tests/support/expect_error.h"
#include "tests/support/gguf_builder.h"
#include "tests/support/golden.h"
#include "tests/support/temp_dir.h"
#include "tests/support/text.h"

using namespace hybrid;
using namespace hybrid::test;

namespace {

std::string error_in(const std::filesystem::path& path) {
  return error_of([&] { GgufFile::open(path); });
}

/// Part `part` of a model in three parts: two tensors in the first, one in each other.
GgufBuilder part_of_three(uint16_t part) {
  GgufBuilder gguf;
  if (part == 0) gguf.add("general.architecture", "deepseek2");
  gguf.add_split_keys(part, 3, 4);
  const std::string data(32, static_cast<char>('a' + part));
  if (part == 0) gguf.add_tensor("extra", DType::f32, {4});
  return gguf.add_tensor("t" + std::to_string(part), DType::f32, {8}, data);
}

std::string part_name(uint32_t part) { return format_split_name({"m", part, 3}); }

/// Writes all three parts, `changed` instead of part `which`.
void write_parts(const TempDir& dir, uint16_t which, const GgufBuilder& changed) {
  for (uint16_t i = 0; i < 3; ++i) {
    dir.write(part_name(i), (i == which ? changed : part_of_three(i)).bytes());
  }
}

std::string error_with_part(uint16_t which, const GgufBuilder& changed) {
  const TempDir dir;
  write_parts(dir, which, changed);
  return error_in(dir / part_name(0));
}

}  // namespace

TEST_CASE("one file: metadata, tensors and their bytes") {
  const TempDir dir;
  const std::string bytes = sample_gguf().bytes();
  const auto path = dir.write("sample.gguf", bytes);
  GgufFile opened = GgufFile::open(path);
  const GgufFile file = std::move(opened);  // what is found stays valid in a moved file
  CHECK(file.version() == 3);
  CHECK(file.metadata().get_string("general.architecture") == "deepseek2");
  CHECK(file.metadata().source() == path.string());
  REQUIRE(file.tensors().size() == 4);
  CHECK(file.total_bytes() == bytes.size());
  REQUIRE(file.parts().size() == 1);
  CHECK(file.parts()[0].path == path);
  CHECK(file.find("nothing") == nullptr);
  const GgufTensor* tensor = file.find("blk.0.ffn_up_exps.weight");
  REQUIRE(tensor == &file.tensors()[2]);
  const TensorView view = file.view(*tensor);
  CHECK(view.type == DType::q4_k);
  CHECK(view.ne == std::array<uint64_t, 4>{256, 2, 3, 1});
  CHECK(view.data.size() == 864);
  CHECK(view.data.front() == std::byte{2});
  CHECK(view.data.back() == std::byte{2});
}

TEST_CASE("files that cannot be opened say why") {
  const TempDir dir;
  CHECK(error_in(dir / "none.gguf") ==
        (dir / "none.gguf").string() + ": cannot open the file: No such file or directory");
  CHECK(contains(error_in(dir.path()), "expected a file, found a directory"));
  CHECK(contains(error_in(dir.write("empty.gguf", "")), "the magic 'GGUF' at offset 0, found 0"));
  REQUIRE(mkfifo((dir / "pipe.gguf").c_str(), 0600) == 0);
  CHECK(contains(error_in(dir / "pipe.gguf"), "expected a regular file, found a pipe or device"));
  CHECK(contains(error_in(dir.write("a\nb.gguf", "no")), "a\\x0ab.gguf: expected 4 bytes"));
}

TEST_CASE("a file of headers alone opens where no data is asked for") {
  const TempDir dir;
  const std::string bytes = sample_gguf().bytes();
  const auto path = dir.write("sample.gguf", bytes.substr(0, bytes.size() - 256));
  CHECK(contains(error_in(path), "the file is incomplete"));
  const GgufFile file = GgufFile::open(path, {.data_required = false});
  CHECK(file.tensors().size() == 4);
  CHECK(file.view(file.tensors()[0]).data.size() == 32);
  const std::string message = error_of([&] { file.view(file.tensors()[3]); });
  CHECK(contains(message, "tensor 'blk.0.wide': expected its data at bytes"));
}

TEST_CASE("names of parts are taken apart and put together") {
  const auto name = parse_split_name("DeepSeek-R1-Q4_K-00002-of-00010.gguf");
  REQUIRE(name.has_value());
  CHECK(name->prefix == "DeepSeek-R1-Q4_K");
  CHECK(name->part == 1);
  CHECK(name->n_parts == 10);
  CHECK(format_split_name(*name) == "DeepSeek-R1-Q4_K-00002-of-00010.gguf");
  CHECK(parse_split_name("-00001-of-00001.gguf").has_value());
  for (const char* other :
       {"m.gguf", "m-00001-of-00002.bin", "m-0001-of-0002.gguf", "m-00000-of-00002.gguf",
        "m-00003-of-00002.gguf", "m-00001-off-00002.gguf", "00001-of-00002.gguf", ".gguf", "",
        "m-0000a-of-00002.gguf", "m-00001-of-0000x.gguf", "-of-00001.gguf"}) {
    CAPTURE(other);
    CHECK_FALSE(parse_split_name(other).has_value());
  }
}

TEST_CASE("a split model opens by any of its parts") {
  const TempDir dir;
  write_parts(dir, 0, part_of_three(0));
  for (uint32_t asked_for = 0; asked_for < 3; ++asked_for) {
    const GgufFile file = GgufFile::open(dir / part_name(asked_for));
    CHECK(file.metadata().get_string("general.architecture") == "deepseek2");
    REQUIRE(file.parts().size() == 3);
    REQUIRE(file.tensors().size() == 4);
    CHECK(file.tensors()[0].info.name == "extra");
    for (uint32_t i = 0; i < 3; ++i) {
      CHECK(file.parts()[i].path == dir / part_name(i));
      const GgufTensor* tensor = file.find("t" + std::to_string(i));
      REQUIRE(tensor != nullptr);
      CHECK(tensor->part == i);
      CHECK(file.view(*tensor).data[31] == static_cast<std::byte>('a' + i));
    }
    CHECK(file.total_bytes() ==
          file.parts()[0].n_bytes + file.parts()[1].n_bytes + file.parts()[2].n_bytes);
  }
}

TEST_CASE("a part that is missing is named") {
  const TempDir dir;
  write_parts(dir, 0, part_of_three(0));
  std::filesystem::remove(dir / part_name(1));
  for (const uint32_t asked_for : {0u, 2u}) {
    const auto path = dir / part_name(asked_for);
    CHECK(error_in(path) == (dir / part_name(1)).string() +
                                ": expected part 2 of 3 of the model that " + path.string() +
                                " belongs to, found no such file");
  }
}

TEST_CASE("names and keys of parts must agree") {
  const TempDir dir;
  const auto renamed = dir.write("other.gguf", part_of_three(1).bytes());
  CHECK(contains(error_in(renamed), "expected a file name that ends in -00002-of-00003.gguf"));
  const auto wrong = dir.write("m-00001-of-00003.gguf", part_of_three(1).bytes());
  CHECK(contains(error_in(wrong), "ends in -00002-of-00003.gguf, as its keys say"));
  const auto other_count = dir.write("m-00002-of-00004.gguf", part_of_three(1).bytes());
  CHECK(contains(error_in(other_count), "ends in -00002-of-00003.gguf, as its keys say"));
  const auto whole = dir.write("m-00002-of-00005.gguf", sample_gguf().bytes());
  CHECK(contains(error_in(whole), "of part 2 of 5, as the name says, found those of a whole file"));
  const auto lone = dir.write("m-00001-of-00001.gguf", sample_gguf().bytes());
  CHECK(error_in(lone).empty());
  const auto beyond = dir.write("b.gguf", GgufBuilder().add_split_keys(3, 3, 0).bytes());
  CHECK(contains(error_in(beyond), "key 'split.no': expected a part from 0 to 2"));
  const auto merged = dir.write("c.gguf", GgufBuilder().add_split_keys(0, 0, 0).bytes());
  CHECK(error_in(merged).empty());
}

TEST_CASE("parts must belong together") {
  CHECK(error_with_part(1, part_of_three(1)).empty());
  CHECK(contains(error_with_part(2, part_of_three(1)),
                 "expected part 3 of 3, as the name says, found keys that say part 2 of 3"));
  CHECK(contains(error_with_part(1, GgufBuilder().add_tensor("t1", DType::f32, {8})),
                 "expected part 2 of 3, as the name says, found keys that say part 1 of 1"));
  CHECK(
      contains(error_with_part(1, part_of_three(1).add_tensor("more", DType::f32, {1})),
               "expected 4 tensors in all parts together, as 'split.tensors.count' says, found 5"));
  CHECK(contains(error_with_part(1, GgufBuilder().add_split_keys(1, 3, 4)), "says, found 3"));
  const auto negative = GgufBuilder().add_split_keys(1, 3, -1).add_tensor("t1", DType::f32, {1});
  CHECK(contains(error_with_part(1, negative), "key 'split.tensors.count': expected a whole"));
  const auto twice = GgufBuilder().add_split_keys(1, 3, 4).add_tensor("t0", DType::f32, {8});
  const std::string message = error_with_part(1, twice);
  CHECK(contains(message, "m-00002-of-00003.gguf: tensor 't0': expected it in one part, found it"));
  CHECK(contains(message, "m-00001-of-00003.gguf too"));
}

TEST_CASE("a damaged part is an error that names it") {
  const TempDir dir;
  write_parts(dir, 0, part_of_three(0));
  const std::string bytes = part_of_three(2).bytes();
  dir.write(part_name(2), bytes.substr(0, bytes.size() - 32));
  CHECK(error_in(dir / part_name(0)).starts_with((dir / part_name(2)).string() + ": tensor 't2'"));
  const GgufFile file = GgufFile::open(dir / part_name(0), {.data_required = false});
  CHECK(file.tensors().size() == 4);
}

TEST_CASE("golden files open with all their tensors") {
  HYBRID_NEEDS_GOLDEN();
  const std::map<std::string, size_t> n_tensors = {
      {"models/heads16-q4_k.gguf", 32},
      {"models/lite-f16.gguf", 41},
      {"models/lite-iq4_xs.gguf", 41},
      {"models/lite-q2_k.gguf", 41},
      {"models/lite-q3_k-00001-of-00003.gguf", 41},
      {"models/lite-q3_k-00002-of-00003.gguf", 41},
      {"models/lite-q3_k-00003-of-00003.gguf", 41},
      {"models/lite-q4_k.gguf", 41},
      {"models/lite-q8_0.gguf", 41},
      {"models/r1-q4_k-split-kv.gguf", 52},
      {"models/r1-q4_k.gguf", 49},
      {"models/v2-q4_k.gguf", 47},
      {"tokenizer/ggml-vocab-deepseek-coder.gguf", 0},
      {"tokenizer/ggml-vocab-deepseek-llm.gguf", 0},
      {"tokenizer/ggml-vocab-gpt-2.gguf", 0},
      {"tokenizer/ggml-vocab-starcoder.gguf", 0},
  };
  for (const auto& [name, n] : n_tensors) {
    CAPTURE(name);
    const GgufFile file = GgufFile::open(golden(name));
    CHECK(file.tensors().size() == n);
    CHECK(file.version() == 3);
    CHECK(file.metadata().find_strings("tokenizer.ggml.tokens")->size() > 300);
    for (const GgufTensor& tensor : file.tensors()) {
      CHECK(file.view(tensor).n_elements() > 0);
      CHECK(file.view(tensor).data.size() == tensor.info.n_bytes);
    }
  }
}

TEST_CASE("the parts of the golden split model hold what they should") {
  HYBRID_NEEDS_GOLDEN();
  const GgufFile file = GgufFile::open(golden("models/lite-q3_k-00002-of-00003.gguf"));
  CHECK(file.metadata().get_string("general.architecture") == "deepseek2");
  CHECK(file.metadata().get_u32("deepseek2.block_count") == 3);
  size_t n_in_part[3] = {};
  for (const GgufTensor& tensor : file.tensors()) ++n_in_part[tensor.part];
  CHECK(n_in_part[0] == 14);
  CHECK(n_in_part[1] == 14);
  CHECK(n_in_part[2] == 13);
  CHECK(file.total_bytes() == 952352 + 1617280 + 1616192);
  const GgufTensor* norm = file.find("output_norm.weight");
  REQUIRE(norm != nullptr);
  const TensorView view = file.view(*norm);
  float first = 0;
  __builtin_memcpy(&first, view.data.data(), sizeof(first));
  CHECK(first == 1.0f);
}
