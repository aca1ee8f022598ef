#include "placement/json_file.h"

#include <doctest/doctest.h>
#include <sys/stat.h>
#include <unistd.h>

#include "tests/support/expect_error.h"
#include "tests/support/temp_dir.h"

using namespace hybrid;
using namespace hybrid::test;

namespace {

/// A file with this text; `check` gets its root. Returns the error without the file's name.
template <class Check>
std::string error_in(const std::string& text, Check&& check) {
  const TempDir dir;
  const std::string path = dir.write("f.json", text).string();
  const std::string message = error_of([&] {
    const JsonFile file(path, "the config file");
    check(file.root());
  });
  return message.empty() ? "" : message.substr(message.find("f.json") + 8);
}

std::string read_error(const std::string& text) {
  return error_in(text, [](const JsonNode&) {});
}

/// Where the member `key` and its value stand: "line 2, column 3; line 2, column 10".
std::string places(const std::string& text, const std::string& key) {
  std::string out;
  error_in(text, [&](const JsonNode& root) {
    const JsonNode& node = root.member(key);
    const size_t path = node.path().size() + 2;
    out = node.key_where().substr(path) + "; " + node.where().substr(path);
  });
  return out.substr(0, out.find(": key"));
}

}  // namespace

TEST_CASE("every key and value has its line and column") {
  CHECK(places("{\"a\": 1}", "a") == "line 1, column 2; line 1, column 7");
  CHECK(places("{\n  \"a\":\n\t[1]}", "a") == "line 2, column 3; line 3, column 2");
  CHECK(places("{ // \"x\": 1\n /* { \n [ */ \"a\" : \"b\"}", "a") ==
        "line 3, column 7; line 3, column 13");
  CHECK(places("\xef\xbb\xbf{\"a\": 1}", "a") ==
        "line 1, column 2; line 1, column 7");  // a byte order mark
  CHECK(places("{\r\n\"b\": \"\\\"\",\r\n\"a\": 1}\r\n", "a") ==
        "line 3, column 1; line 3, column 6");  // CRLF, \"
  CHECK(places("{\"é→\": 1, \"a\": 1}", "a") ==
        "line 1, column 11; line 1, column 16");  // columns count characters
  CHECK(places("{\"b\":[{\"c\":{}},[],true,-1e5],\"a\":null}", "a") ==
        "line 1, column 30; line 1, column 34");
}

TEST_CASE("values are named by their way from the root") {
  const std::string text = R"({"rules": [1, {"a": {"b": [true]}}]})";
  CHECK(error_in(text, [](const JsonNode& root) {
          const JsonNode& element = *root.member("rules").elements()[1];
          element.member("a").member("b").elements()[0]->fail_expected("nothing");
        }) == R"(line 1, column 28: key "rules[1].a.b[0]": expected nothing, found true)");
  CHECK(error_in("[]", [](const JsonNode& root) { root.expect_object(); }) ==
        "line 1, column 1: expected an object, found an array");
}

TEST_CASE("values of another type say what they are, as it is written") {
  const auto error = [](const std::string& value, auto check) {
    return error_in("{\"k\": " + value + "}",
                    [&](const JsonNode& root) { check(root.member("k")); });
  };
  const auto string = [](const JsonNode& n) { n.string(); };
  CHECK(error("3", string) == R"(line 1, column 7: key "k": expected a string, found 3)");
  CHECK(error("{}", string).ends_with("expected a string, found an object"));
  CHECK(error("1.50e0", string).ends_with("found 1.50e0"));
  CHECK(error("null", string).ends_with("found null"));
  const auto number = [](const JsonNode& n) { n.whole_number(1, 9); };
  CHECK(error("9", number) == "");
  for (const char* value : {"0", "10", "-1", "1.0", "true", "18446744073709551616", "\"1\""}) {
    CHECK(
        error(value, number).ends_with(std::string("a whole number from 1 to 9, found ") + value));
  }
  const auto positive = [](const JsonNode& n) { n.positive_number(9); };
  CHECK(error("0.5", positive) == "");
  CHECK(error("0", positive).ends_with("expected a number above 0 and at most 9, found 0"));
  CHECK(error("1e300", positive).ends_with("found 1e300"));
  CHECK(error("\"\\u001b[2J\"", number).find('\x1b') == std::string::npos);
}

TEST_CASE("a size is bytes or GiB") {
  const auto size = [](const std::string& text) {
    uint64_t bytes = 0;
    const std::string error =
        error_in(text, [&](const JsonNode& root) { bytes = root.size_bytes("memory"); });
    return error.empty() ? std::to_string(bytes) : error;
  };
  CHECK(size(R"({"memory_bytes": 5})") == "5");
  CHECK(size(R"({"memory_gib": 0.5})") == "536870912");
  CHECK(size(R"({"memory_gib": 1048576})") == "1125899906842624");
  CHECK(size("{}") ==
        "line 1, column 1: expected either \"memory_gib\" or \"memory_bytes\", found neither");
  CHECK(size(R"({"memory_bytes": 5, "memory_gib": 1})").ends_with("found both"));
  CHECK(
      size(R"({"memory_gib": 1e-12})").ends_with("expected at least a byte, in GiB, found 1e-12"));
  CHECK(size(R"({"memory_gib": 25769803776})")
            .ends_with("expected a number above 0 and at most 1048576, found 25769803776"));
}

TEST_CASE("unknown keys name the nearest") {
  constexpr std::string_view kKeys[] = {"pattern", "device"};
  const auto error = [&](const std::string& text) {
    return error_in(text, [&](const JsonNode& root) { root.expect_object(kKeys); });
  };
  CHECK(error(R"({"$schema": "x", "device": 1, "pattern": 2})") == "");
  CHECK(error("{\n    \"pattren\": 1}") ==
        R"(line 2, column 5: unknown key "pattren"; did you mean "pattern"?)");
  CHECK(error(R"({"zzz": 1})") ==
        R"(line 1, column 2: unknown key "zzz"; the keys are "pattern", "device")");
  CHECK(error(R"({"": 1})").find(R"(unknown key "";)") != std::string::npos);
}

TEST_CASE("a key that stands twice is refused at every depth") {
  CHECK(read_error("{\"a\": 1,\n \"a\": 2}") ==
        R"(line 2, column 2: key "a" stands twice, first in line 1; leave one out)");
  CHECK(read_error(R"({"a": [{"b": {"c": 1, "\u0063": 2}}]})")
            .starts_with(R"(line 1, column 23: key "a[0].b.c" stands twice)"));
  CHECK(read_error(R"({"a": {"b": 1}, "b": {"b": 1}})") == "");
}

TEST_CASE("what is not JSON is told with its place") {
  CHECK(read_error("{\n  \"temp\": ,\n}") ==
        "line 2, column 11: not valid JSON: unexpected ','; expected a value");
  CHECK(read_error("{\"a\": truth}") ==
        "line 1, column 7: not valid JSON: invalid literal, found truth");
  CHECK(read_error("{a: 1}") ==
        "line 1, column 2: not valid JSON: invalid literal; expected a key in double quotes, found "
        "a");
  CHECK(read_error("{\"a\": 1} x").starts_with("line 1, column 10: not valid JSON"));
  CHECK(read_error("{\"a\": [1").starts_with("line 1, column 9: not valid JSON: unexpected end"));
  CHECK(read_error("{\"a\": \"b\n\"}").starts_with("line 1, column 7: not valid JSON"));
  CHECK(read_error("{\"a\": \"\xff\"}").find("ill-formed UTF-8") != std::string::npos);
  CHECK(read_error("{\"a\": 1e999}") ==
        "line 1, column 7: expected a number of at most 1.8e308, found 1e999");
  CHECK(read_error("/* open").find("missing closing '*/'") != std::string::npos);
}

TEST_CASE("files that hold no JSON at all") {
  CHECK(read_error("") == "the config file is empty; the least that it can be is {}");
  CHECK(read_error(" \r\n\t").starts_with("the config file is empty"));
  CHECK(read_error("// nothing").find("unexpected end of input") != std::string::npos);
  CHECK(read_error(std::string("GGUF\3\0\0\0", 8)) ==
        "line 1, column 6: expected JSON text in UTF-8, found a zero byte");
  CHECK(read_error(std::string("{}\0{", 4)).ends_with("found a zero byte"));
  CHECK(read_error("\xff\xfe{").find("not valid JSON") != std::string::npos);
  CHECK(read_error(std::string(JsonFile::kMaxBytes, ' ') + "{}") ==
        "expected at most 1.0 MiB for the config file, found more");
  const auto error = [](const char* path) {
    return error_of([&] { JsonFile(path, "the config file"); });
  };
  CHECK(error("/nonexistent.json") ==
        "/nonexistent.json: cannot read the config file: No such file or directory");
  CHECK(error("/tmp") == "/tmp: cannot read the config file: Is a directory");
  if (access("/dev/zero", R_OK) == 0)
    CHECK(error("/dev/zero").find("found more") != std::string::npos);
}

TEST_CASE("a file that may not be read") {
  const TempDir dir;
  const std::string path = dir.write("f.json", "{}").string();
  chmod(path.c_str(), 0);
  if (access(path.c_str(), R_OK) == 0) return;  // root may read all
  CHECK(error_of([&] { JsonFile(path, "the config file"); }).ends_with("Permission denied"));
}

TEST_CASE("depth has a limit, well below that of the stack") {
  const auto nested = [](size_t n) { return std::string(n, '[') + std::string(n, ']'); };
  CHECK(read_error(nested(JsonFile::kMaxDepth)) == "");
  const std::string expected =
      "line 1, column 65: expected at most 64 arrays and objects in one another, found more";
  CHECK(read_error(nested(JsonFile::kMaxDepth + 1)) == expected);
  CHECK(read_error(nested(100000)) == expected);
  CHECK(read_error(std::string(100000, '[')) == expected);
  std::string objects;
  for (int i = 0; i < 100000; ++i) objects += "{\"a\":";
  CHECK(read_error(objects).ends_with("in one another, found more"));
}

TEST_CASE("any cut and any changed byte is an error or a value, never a crash") {
  const std::string text =
      "\xef\xbb\xbf{ // c\n \"a\": [1, -2.5e3, \"x\\u00e9\\\"\", true, null], /* d */ \"b\": "
      "{\"c\": "
      "{}}}";
  for (size_t i = 0; i < text.size(); ++i) {
    read_error(text.substr(0, i));
    for (const char c : {'"', '\\', '/', '*', '{', ']', ',', '\n', '\xff', '9'}) {
      std::string changed = text;
      changed[i] = c;
      read_error(changed);
    }
  }
  CHECK(read_error(text) == "");
}
