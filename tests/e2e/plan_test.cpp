// `plan` as a user meets it: it needs headers alone, always prints, and says what `run` will do.

#include <doctest/doctest.h>

#include <filesystem>
#include <fstream>
#include <nlohmann/json.hpp>

#include "tests/support/run_program.h"
#include "tests/support/temp_dir.h"
#include "tests/support/tiny_model.h"

using namespace hybrid::test;
using Json = nlohmann::json;

namespace {

struct Files {
  TempDir dir;
  std::string bytes = tiny_model({.quantised = true}).bytes();
  std::string model = dir.write("tiny.gguf", bytes).string();
};

Json plan_of(std::vector<std::string> words) {
  words.insert(words.begin(), {"plan", "--json"});
  const ProgramResult result = run_program(words);
  INFO(result.err);
  REQUIRE(result.exit_code == 0);
  CHECK(result.err.empty());
  return Json::parse(result.out);
}

}  // namespace

TEST_CASE("plan prints for people and for programs") {
  const Files f;
  const ProgramResult text = run_program({"plan", "-m", f.model});
  CHECK(text.exit_code == 0);
  CHECK(text.err.empty());
  for (const char* part : {"memory (CPU)", "KV cache", "blk.*.attn_output.weight", "fits: true",
                           "no rates are stored"}) {
    CAPTURE(part);
    CHECK(text.out.find(part) != std::string::npos);
  }
  const Json json =
      plan_of({"-m",  f.model, "-c",   "50",  "-b", "40", "-ub", "30", "-mla", "1",
               "-fa", "0",     "-ctk", "f32", "-t", "3",  "-tb", "2",  "-amb", "0.5"});
  CHECK(json["context"] == 50);
  CHECK(json["n_ubatch"] == 30);
  CHECK(json["n_threads"] == 3);
  CHECK(json["n_threads_batch"] == 2);
  CHECK(json["attention"]["amb_bytes"] == 1 << 19);
  CHECK(json["attention"]["ctk"] == "f32");
  CHECK(json["attention"]["transposed_bytes"] == 3 * 16 * 64 * 4);
  CHECK(json["attention"]["scores_steps"] == 1);
}

TEST_CASE("plan reads headers alone, and says what is missing of the rest") {
  const Files f;
  const std::string sparse = f.dir.write("sparse.gguf", f.bytes).string();
  // What lies behind the headers becomes a hole, or is not there at all.
  const Json whole = plan_of({"-m", f.model});
  const size_t headers = f.bytes.size() - 20000;
  std::filesystem::resize_file(sparse, headers);
  const Json cut = plan_of({"-m", sparse});
  CHECK(cut["devices"][0]["weights_bytes"] == whole["devices"][0]["weights_bytes"]);
  CHECK(cut["warnings"].size() == 1);
  std::filesystem::resize_file(sparse, f.bytes.size());
  const Json hole = plan_of({"-m", sparse});
  CHECK(hole["warnings"].empty());
  CHECK(hole["tensors"] == whole["tensors"]);
}

TEST_CASE("plan of what does not fit exits 0 and says why; run exits 1 with the same words") {
  const Files f;
  const std::vector<std::string> huge{"-m", f.model,      "-c",  "1073741824",
                                      "-b", "1073741824", "-ub", "1073741824"};
  const Json json = plan_of(huge);
  CHECK(json["fits"] == false);
  CHECK(json["devices"][0]["free_bytes"] == 0);
  const std::string why_not = json["why_not"];
  CHECK(why_not.find("the cache of 1073741824 tokens needs") != std::string::npos);
  const Json narrow = plan_of({"-m", f.model, "-fa", "0", "-amb", "0.00001"});
  CHECK(narrow["fits"] == false);
  const ProgramResult refused =
      run_program({"run", "-m", f.model, "-p", "x", "-fa", "0", "-amb", "0.00001"});
  CHECK(refused.exit_code == 1);
  CHECK(refused.err == "hybrid-run: " + narrow["why_not"].get<std::string>() + "\n");
}

TEST_CASE("plan: what is wrong is one line") {
  const Files f;
  const auto check = [](const std::vector<std::string>& words, int code, const char* message) {
    const ProgramResult result = run_program(words);
    CAPTURE(result.err);
    CHECK(result.exit_code == code);
    CHECK(is_one_error_line(result.err));
    CHECK(result.err.find(message) != std::string::npos);
    CHECK(result.out.empty());
  };
  check({"plan"}, 2, "`plan` needs -m");
  check({"plan", "-m", "/none.gguf"}, 1, "/none.gguf");
  check({"plan", "-m", f.dir.write("x.gguf", "no model").string()}, 1, "expected a GGUF file");
  check({"plan", "-m", f.model, "-ub", "4096"}, 2, "-ub 4096 is more than -b 2048");
  check({"plan", "-m", f.model, "-ctv", "q8_0"}, 2, "-ctv q8_0");
  check({"plan", "-m", f.model, "--save", "x"}, 2, "not in this version yet");
  check({"plan", "-m", f.model, "--machine", "x"}, 2, "not in this version yet");
  check({"plan", "-m", f.model, "-n", "5"}, 2, "-n");
}
