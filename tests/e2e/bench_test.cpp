// `bench` as a user meets it. Nothing here depends on how fast it is.

#include <doctest/doctest.h>

#include <stdlib.h>

#include <cmath>
#include <filesystem>
#include <nlohmann/json.hpp>
#include <set>

#include "base/text.h"
#include "tensor/simd_level.h"
#include "tests/support/run_program.h"
#include "tests/support/temp_dir.h"
#include "tests/support/tiny_model.h"

using namespace hybrid::test;
using nlohmann::json;

namespace {

const std::string kDemo = HYBRID_TEST_SOURCE_DIR "/models/demo/hybrid-run-demo.gguf";

ProgramResult bench(std::vector<std::string> more, const ProgramInput& input = {}) {
  std::vector<std::string> words{"bench", "-m", kDemo};
  words.insert(words.end(), more.begin(), more.end());
  return run_program(words, input);
}

std::string rows(std::vector<std::string> more) {
  const ProgramResult result = bench(std::move(more));
  INFO(result.err);
  REQUIRE(result.exit_code == 0);
  return result.out;
}

std::vector<json> json_rows(std::vector<std::string> more) {
  more.insert(more.end(), {"-o", "jsonl"});
  std::vector<json> parsed;
  for (const std::string& line : hybrid::split(rows(std::move(more)), '\n')) {
    if (!line.empty()) parsed.push_back(json::parse(line));
  }
  return parsed;
}

void check_refused(const std::vector<std::string>& more, const std::string& message,
                   int exit_code = 2) {
  const ProgramResult result = bench(more);
  CAPTURE(result.err);
  CHECK(result.exit_code == exit_code);
  CHECK(is_one_error_line(result.err));
  CHECK(result.err.find(message) != std::string::npos);
  CHECK(result.out.empty());
}

}  // namespace

TEST_CASE("bench -o jsonl: a row for each test, with every key") {
  const auto found = json_rows({"-p", "6", "-n", "3", "-gp", "5,2", "-gp", "2,4", "-r", "2"});
  REQUIRE(found.size() == 4);
  const char* names[] = {"pp6", "tg3", "tg2@pp5", "tg4@pp2"};
  const int counts[][3] = {{6, 0, 0}, {0, 3, 0}, {0, 2, 5}, {0, 4, 2}};  // prompt, gen, depth
  for (size_t i = 0; i < found.size(); ++i) {
    const json& row = found[i];
    CAPTURE(row.dump());
    CHECK(row.at("test") == names[i]);
    CHECK(row.at("n_prompt") == counts[i][0]);
    CHECK(row.at("n_gen") == counts[i][1]);
    CHECK(row.at("n_depth") == counts[i][2]);
    for (const char* key : {"model", "device", "isa", "ctk", "test"}) {
      CHECK(row.at(key).is_string());
    }
    for (const char* key : {"size_bytes", "n_params", "n_threads", "n_batch", "n_ubatch", "mla"}) {
      CHECK(row.at(key).is_number_unsigned());
    }
    for (const char* key : {"fa", "rtr", "fmoe"}) CHECK((row.at(key) == 0 || row.at(key) == 1));
    CHECK(row.at("amb").is_number());
    CHECK(row.at("device") == "cpu");
    CHECK(row.at("isa") == name_of(hybrid::best_simd_level()));
    CHECK(row.at("n_batch") == 2048);
    CHECK(row.at("n_ubatch") == 512);
    CHECK(row.at("ctk") == "f16");
    REQUIRE(row.at("tps_samples").size() == 2);
    const double a = row.at("tps_samples")[0], b = row.at("tps_samples")[1];
    CHECK(a > 0);
    CHECK(row.at("tps_mean") == doctest::Approx((a + b) / 2));
    CHECK(row.at("tps_stddev") == doctest::Approx(std::abs(a - b) / std::sqrt(2.0)).epsilon(1e-6));
    CHECK(row.at("predicted_tps") > 0);
    const double gbps = row.at("gbps"), peak = row.at("peak_gbps");
    CHECK(gbps > 0);
    CHECK(row.at("pct_of_peak_bandwidth") == doctest::Approx(100 * gbps / peak));
  }
}

TEST_CASE("bench: the model is what `inspect` says of it") {
  const json inspected = json::parse(run_program({"inspect", "-m", kDemo, "--json"}).out);
  const auto found = json_rows({"-p", "2", "-n", "0", "-r", "1"});
  REQUIRE(found.size() == 1);
  CHECK(found[0].at("n_params") == inspected.at("n_params"));
  CHECK(found[0].at("model") == inspected.at("metadata").at("general.name"));
  uint64_t n_bytes = 0;
  for (const json& tensor : inspected.at("tensors")) n_bytes += tensor.at("bytes").get<uint64_t>();
  CHECK(found[0].at("size_bytes") == n_bytes);
}

TEST_CASE("bench: lists give every combination once") {
  const auto found = json_rows({"-p", "4,6", "-p", "8", "-n", "0,2", "-r", "1", "-t", "1,2", "-ub",
                                "4,8", "-ctk", "f16,f32", "-fa", "0", "-fmoe"});
  CHECK(found.size() == 2 * 2 * 2 * 4);
  std::set<std::string> settings;
  for (const json& row : found) {
    json key;
    for (const char* name : {"n_threads", "n_ubatch", "ctk", "test"}) key.push_back(row.at(name));
    CHECK(settings.insert(key.dump()).second);
  }
  CHECK(settings.contains(R"([1,4,"f16","pp8"])"));
  CHECK(settings.contains(R"([2,8,"f32","tg2"])"));
}

TEST_CASE("bench: a level is what runs and what the row says") {
  const auto found = json_rows({"-p", "0", "-n", "1", "-r", "1", "--isa", "scalar"});
  REQUIRE(found.size() == 1);
  CHECK(found[0].at("isa") == "scalar");
}

TEST_CASE("bench: a micro-batch is never more than the batch") {
  const auto found = json_rows({"-p", "8", "-n", "0", "-r", "1", "-b", "3"});
  REQUIRE(found.size() == 1);
  CHECK(found[0].at("n_batch") == 3);
  CHECK(found[0].at("n_ubatch") == 3);
}

TEST_CASE("bench -o csv and the table: rows alone on standard output") {
  const auto csv = hybrid::split(rows({"-p", "4", "-n", "2", "-r", "2", "-o", "csv"}), '\n');
  REQUIRE(csv.size() == 4);  // the header, two rows, and what follows the last newline
  const size_t n_columns = hybrid::split(csv[0], ',').size();
  CHECK(n_columns >= 23);
  CHECK(hybrid::split(csv[1], ',').size() == n_columns);
  CHECK(hybrid::split(csv[2], ',').size() == n_columns);
  CHECK(csv[3].empty());

  const auto table = hybrid::split(rows({"-p", "4", "-n", "2", "-r", "1", "-b", "64"}), '\n');
  REQUIRE(table.size() == 5);
  for (size_t i = 0; i < 4; ++i) {
    CHECK(table[i].starts_with("| "));
    CHECK(hybrid::split(table[i], '|').size() == 13);
  }
  CHECK(table[0].find("n_batch") != std::string::npos);
  CHECK(table[2].find(" pp4 ") != std::string::npos);
  CHECK(table[3].find(" tg2 ") != std::string::npos);
}

TEST_CASE("bench keeps rates of models of some size, and plan reads them") {
  const TempDir dir;
  const std::string cache = getenv("XDG_CACHE_HOME");
  setenv("XDG_CACHE_HOME", (dir / "user").c_str(), 1);
  const auto folder = dir / "user" / "hybrid-run";
  const ProgramResult small = bench({"-p", "2", "-n", "0", "-r", "1", "-t", "2"});
  CHECK(small.err.find("they are not kept for `plan`") != std::string::npos);
  CHECK_FALSE(std::filesystem::exists(folder));

  // Large by a tensor that nothing reads: a hole in the file.
  GgufBuilder gguf = tiny_model({.quantised = true});
  gguf.add_tensor({"left.over", 0, {1 << 20, 64}, std::string(32, '\0'), {}});
  const std::string bytes = gguf.bytes();
  const std::string model = dir.write("m.gguf", bytes).string();
  std::filesystem::resize_file(model, bytes.size() + (uint64_t{256} << 20));
  const auto bench_large = [&] {
    return run_program({"bench", "-m", model, "-p", "2", "-n", "0", "-r", "1", "-t", "2"});
  };
  const auto plan_large = [&] {
    return json::parse(run_program({"plan", "-m", model, "-t", "2", "--json"}).out);
  };
  CHECK(plan_large()["predicted"]["pp_tps"].is_null());
  const ProgramResult large = bench_large();
  INFO(large.err);
  REQUIRE(large.exit_code == 0);
  CHECK(large.err.find("kept for `plan` in " + folder.string()) != std::string::npos);
  const json plan = plan_large();
  CHECK(plan["predicted"]["pp_tps"] > 0);
  CHECK(plan["predicted"]["tg_tps"] > 0);
  const std::string basis = plan["predicted"]["basis"];
  CHECK(basis.find("The basis: rates measured on this machine at 20") == 0);
  CHECK(plan["warnings"].empty());

  // Where they cannot be kept the run goes on, and a plan says what is wrong with a file.
  std::filesystem::remove_all(dir / "user");
  dir.write("user", "a file");
  const ProgramResult unwritable = bench_large();
  CHECK(unwritable.exit_code == 0);
  CHECK(unwritable.err.find("rates: not kept for `plan`: ") != std::string::npos);
  setenv("XDG_CACHE_HOME", cache.c_str(), 1);
}

TEST_CASE("bench refuses what it cannot measure, before anything is printed") {
  check_refused({"-o", "xml"}, "-o: expected md, csv, jsonl, found 'xml'");
  check_refused({"-p", "12,x"}, "-p: expected a whole number from 0 to 1073741824, found 'x'");
  check_refused({"-n", "-1"}, "-n: expected a whole number from 0");
  check_refused({"-t", "1,,2"}, "-t: expected a whole number from 1 to 4096, found ''");
  check_refused({"-t", "2,0"}, "found '0'");
  check_refused({"-fa", "0,2"}, "-fa: expected 0, 1, on or off, found '2'");
  check_refused({"-ctk", "f16,q5"}, "-ctk: expected f32, f16, q8_0, found 'q5'");
  check_refused({"--isa", "scalar,sse"}, "found 'sse'");
  check_refused({"-b", "16", "-ub", "8,32"}, "-ub 32 is more than -b 16");
  for (const std::string pair : {"4096", "4096,0", "0,64", "1,2,3", "4096,x", ""}) {
    check_refused({"-gp", pair}, "-gp: expected two numbers");
  }
  check_refused({"-p", "0", "-n", "0"}, "nothing to measure");
  check_refused({"-r", "0"}, "-r: expected a whole number from 1");
  check_refused({"-c", "512"}, "-c has no meaning for `bench`");
  check_refused({"-pg", "512,128"}, "use -p P -n G, or -gp P,G");
  check_refused({"-p", "1000000000", "-r", "1"}, "not enough memory", 1);
  const ProgramResult no_model = run_program({"bench", "-p", "1"});
  CHECK(no_model.exit_code == 2);
  CHECK(no_model.err.find("`bench` needs -m") != std::string::npos);
}

TEST_CASE("bench: Ctrl-C ends with 130 and leaves whole rows") {
  const ProgramResult result =
      bench({"-p", "4", "-n", "100000", "-r", "100", "-o", "jsonl"}, {.interrupt_after_ms = 1500});
  CHECK(result.exit_code == 130);
  CHECK((result.out.empty() || result.out.ends_with("}\n")));
}
