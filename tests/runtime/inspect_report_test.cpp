#include "runtime/inspect_report.h"

#include <doctest/doctest.h>

#include <cmath>
#include <limits>
#include <nlohmann/json.hpp>

#include "base/utf8.h"
#include "tests/support/gguf_builder.h"
#include "tests/support/golden.h"
#include "tests/support/temp_dir.h"
#include "tests/support/text.h"

using namespace hybrid;
using namespace hybrid::test;
using Json = nlohmann::ordered_json;

namespace {

GgufFile open_headers(const std::filesystem::path& path) {
  return GgufFile::open(path, {.data_required = false});
}

std::vector<std::string> keys_of(const Json& object) {
  std::vector<std::string> keys;
  for (const auto& item : object.items()) keys.push_back(item.key());
  return keys;
}

}  // namespace

TEST_CASE("JSON holds files, metadata and tensors with numbers in base units") {
  const TempDir dir;
  const std::string bytes = sample_gguf().bytes();
  const auto path = dir.write("sample.gguf", bytes);
  const Json json = inspect_json(open_headers(path));
  CHECK(keys_of(json) == std::vector<std::string>{"files", "version", "metadata", "tensors",
                                                  "n_params", "total_bytes"});
  CHECK(json["files"] == Json::array({{{"path", path.string()}, {"bytes", bytes.size()}}}));
  CHECK(json["version"] == 3);
  CHECK(json["total_bytes"] == bytes.size());
  CHECK(json["n_params"] == 8 + 3 + 256 * 6 + 64);
  REQUIRE(json["tensors"].size() == 4);
  const Json& tensor = json["tensors"][2];
  CHECK(keys_of(tensor) ==
        std::vector<std::string>{"name", "type", "shape", "bytes", "offset", "part"});
  CHECK(tensor["name"] == "blk.0.ffn_up_exps.weight");
  CHECK(tensor["type"] == "Q4_K");
  CHECK(tensor["shape"] == Json::array({256, 2, 3}));
  CHECK(tensor["bytes"] == 864);
  CHECK(tensor["part"] == 0);
  CHECK(bytes.at(tensor["offset"].get<size_t>()) == '\2');
}

TEST_CASE("JSON keeps each value as it is") {
  const TempDir dir;
  GgufBuilder gguf = sample_gguf();
  gguf.add("t.nan", std::nanf("")).add("t.inf", -std::numeric_limits<double>::infinity());
  gguf.add("t.template", "line\nline").add_array("a.seventeen", std::vector<int32_t>(17, -1));
  const Json json = inspect_json(open_headers(dir.write("sample.gguf", gguf.bytes())));
  const Json& m = json["metadata"];
  CHECK(m["general.architecture"] == "deepseek2");
  CHECK(m["t.u8"] == 255);
  CHECK(m["t.u64"] == std::numeric_limits<uint64_t>::max());
  CHECK(m["t.i64"] == std::numeric_limits<int64_t>::min());
  CHECK(m["t.f32"].dump() == "1e-06");
  CHECK(m["t.f64"] == 2.5e300);
  CHECK(m["t.bool"] == true);
  CHECK(m["t.nan"] == "nan");
  CHECK(m["t.inf"] == "-inf");
  CHECK(m["t.template"] == "line\nline");
  CHECK(m["t.bytes"] == std::string("\\xff\0\n", 6));
  CHECK(m["a.bool"] == Json::array({true, false, true}));
  CHECK(m["a.string"] == Json::array({"", "\xc4\xa0the", "\\xfe"}));
  CHECK(m["a.empty"] == Json::array());
  CHECK(m["a.nested"] == Json::array({Json::array({1, 2, 3}), Json::array({"x"})}));
  CHECK(m["a.seventeen"]["type"] == "i32");
  CHECK(m["a.seventeen"]["count"] == 17);
  CHECK(m["a.seventeen"]["first"] == Json(std::vector<int>(16, -1)));
  CHECK(Json::parse(json.dump()) == json);
}

TEST_CASE("full JSON has all elements of all arrays") {
  const TempDir dir;
  GgufBuilder gguf;
  gguf.add_array("seventeen", std::vector<int32_t>(17, 4));
  const GgufFile file = open_headers(dir.write("a.gguf", gguf.bytes()));
  CHECK(inspect_json(file, true)["metadata"]["seventeen"] == Json(std::vector<int>(17, 4)));
  CHECK(inspect_json(file)["metadata"]["seventeen"]["count"] == 17);
}

TEST_CASE("the text shows every key and tensor on a line of its own") {
  const TempDir dir;
  GgufBuilder gguf = sample_gguf();
  gguf.add("t.template", "line\nline\x1b[31m").add_array("a.many", std::vector<int32_t>(9, -1));
  gguf.add("t.long", std::string(500, 'x'));
  const std::string text = inspect_text(open_headers(dir.write("sample.gguf", gguf.bytes())));
  CHECK(text.starts_with("GGUF version 3, 1 file(s), "));
  CHECK(contains(text, "sample.gguf"));
  CHECK(contains(text, "\n31 metadata keys\n"));
  CHECK(contains(text, "\"line\\x0aline\\x1b[31m\"\n"));
  CHECK(contains(text, " i32[]    9 values: [-1, -1, -1, -1, -1, -1, -1, -1, ...]\n"));
  CHECK(contains(text, "2 values: [3 values: [1, 2, 3], 1 value: [\"x\"]]\n"));
  CHECK(contains(text, "\"" + std::string(80, 'x') + "...\"\n"));
  CHECK(contains(text, " f32      1e-06\n"));
  CHECK(contains(text, "\n4 tensors "));
  CHECK(contains(text, "blk.0.ffn_up_exps.weight Q4_K 256 x 2 x 3"));
  CHECK(contains(text, " 864    0\n"));
  CHECK(find_invalid_utf8(text) == std::string::npos);
  CHECK(text.find('\x1b') == std::string::npos);
}

TEST_CASE("totals add up by type") {
  const TempDir dir;
  GgufBuilder gguf;
  gguf.add_tensor("a", DType::f32, {256}).add_tensor("b", DType::f32, {256});
  gguf.add_tensor("c", DType::f16, {1024});
  const std::string text = inspect_text(open_headers(dir.write("a.gguf", gguf.bytes())));
  CHECK(contains(text,
                 "\ntotals\n"
                 "  type tensors parameters    size   share\n"
                 "  F32        2        512 2.0 KiB  50.0 %\n"
                 "  F16        1       1024 2.0 KiB  50.0 %\n"
                 "  all        3       1536 4.0 KiB 100.0 %\n"));
}

TEST_CASE("a file without tensors has reports, too") {
  const TempDir dir;
  const GgufFile file = open_headers(dir.write("a.gguf", GgufBuilder().bytes()));
  CHECK(contains(inspect_text(file), "\n0 tensors"));
  CHECK(inspect_json(file)["tensors"] == Json::array());
  CHECK(inspect_json(file)["metadata"] == Json::object());
  CHECK(inspect_json(file)["n_params"] == 0);
}

TEST_CASE("golden files: the report of a split model covers all its parts") {
  HYBRID_NEEDS_GOLDEN();
  const GgufFile file = open_headers(golden("models/lite-q3_k-00002-of-00003.gguf"));
  const Json json = inspect_json(file);
  CHECK(json["files"].size() == 3);
  CHECK(json["tensors"].size() == 41);
  CHECK(json["tensors"][40]["part"] == 2);
  CHECK(json["total_bytes"] == 952352 + 1617280 + 1616192);
  CHECK(json["metadata"]["tokenizer.ggml.tokens"]["count"] == 384);
  CHECK(contains(inspect_text(file), "lite-q3_k-00003-of-00003.gguf"));
}
