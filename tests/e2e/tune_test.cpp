// `tune` as a user meets it: a table, a file that later runs name and use, a config, a plot.

#include <doctest/doctest.h>

#include <filesystem>
#include <fstream>
#include <nlohmann/json.hpp>

#include "tests/support/environment_variable.h"
#include "tests/support/golden.h"
#include "tests/support/run_program.h"
#include "tests/support/temp_dir.h"
#include "tests/support/text.h"
#include "tests/support/tiny_model.h"

using namespace hybrid::test;
using Json = nlohmann::json;

namespace {

void write_text(const std::filesystem::path& path, const std::string& text) {
  std::ofstream(path) << text;
}

Json json_file(const std::filesystem::path& path) { return Json::parse(read_text(path)); }

}  // namespace

TEST_CASE("what tune finds is used by later runs, which say so") {
  const TempDir dir;
  const EnvironmentVariable cache("XDG_CACHE_HOME", (dir / "cache").string());
  const std::string model = dir.write("m.gguf", tiny_model().bytes()).string();
  const std::string plot = (dir / "p.svg").string(), config = (dir / "c.json").string();
  const ProgramResult tuned = run_program({"tune", "-m", model, "--seconds", "1", "-t", "1", "-ub",
                                           "16,512", "--plot", plot, "--save", config});
  INFO(tuned.err);
  REQUIRE(tuned.exit_code == 0);
  CHECK(contains(tuned.out, "decode, threads"));
  CHECK(contains(tuned.out, "chosen: -t 1 -tb 1 -ub "));
  CHECK(contains(tuned.err, "kept for later runs of this model in"));
  CHECK(read_text(plot).starts_with("<svg "));

  // A micro-batch that no default is, to be seen again.
  const std::filesystem::path folder = dir / "cache" / "hybrid-run";
  std::filesystem::path file;
  for (const auto& entry : std::filesystem::directory_iterator(folder)) {
    if (entry.path().filename().string().starts_with("tuned-")) file = entry.path();
  }
  REQUIRE_FALSE(file.empty());
  Json json = json_file(file);
  CHECK(json["threads"] == 1);
  CHECK(json["decode_tps"] > 0);
  CHECK(json["prefill_tps"] > 0);
  json["ubatch-size"] = 77;
  write_text(file, json.dump());

  const std::vector<std::string> run{"run", "-m", model, "-p", "a", "-n", "1", "--temp", "0"};
  const auto with = [&](std::vector<std::string> words, const std::vector<std::string>& more) {
    words.insert(words.end(), more.begin(), more.end());
    return run_program(words);
  };
  const ProgramResult plain = run_program(run);
  INFO(plain.err);
  CHECK(plain.exit_code == 0);
  CHECK(contains(plain.err, "tuned -t 1 -tb 1 -ub 77 (" + file.string()));
  // What a user gives wins.
  CHECK(contains(with(run, {"-ub", "64"}).err, "tuned -t 1 -tb 1 (" + file.string()));
  CHECK(contains(with(run, {"-t", "1"}).err, "tuned -ub 77 ("));
  CHECK_FALSE(contains(with(run, {"-t", "1", "-ub", "64"}).err, "tuned"));
  CHECK(contains(with(run, {"-b", "32"}).err, "tuned -t 1 -tb 1 ("));  // no -ub larger than it
  // What is compared with other runs keeps its micro-batch.
  CHECK(contains(run_program({"eval", "-m", model, "--tokens", "1,2"}).err, "tuned -t 1 -tb 1 ("));
  const ProgramResult plan = run_program({"plan", "-m", model, "--json"});
  CHECK(contains(plan.out, "tuned ("));
  CHECK(plan.err.empty());
  const ProgramResult bench =
      run_program({"bench", "-m", model, "-p", "8", "-n", "2", "-r", "1", "-o", "jsonl"});
  CHECK(contains(bench.err, "tuned -t 1 -tb 1 -ub 77"));
  CHECK(contains(bench.out, "\"n_ubatch\":77"));

  // For another number of processors it is not taken, and damaged neither.
  json["processors"] = 4000;
  write_text(file, json.dump());
  const ProgramResult other = run_program(run);
  CHECK(other.exit_code == 0);
  CHECK(contains(other.err, "is not used: it was tuned for"));
  write_text(file, "{");
  const ProgramResult damaged = run_program(run);
  CHECK(damaged.exit_code == 0);
  CHECK(contains(damaged.err, "`tune` writes it anew"));

  // The config is one.
  const ProgramResult from_config =
      run_program({"run", "--config", config, "-p", "a", "-n", "1", "--temp", "0"});
  INFO(from_config.err);
  CHECK(from_config.exit_code == 0);
  CHECK(from_config.out == plain.out);
  CHECK(json_file(config)["threads-batch"] == 1);
}

TEST_CASE("tune refuses what it cannot do, in a line") {
  const TempDir dir;
  const EnvironmentVariable cache("XDG_CACHE_HOME", (dir / "cache").string());
  CHECK(run_program({"tune"}).exit_code == 2);
  CHECK(run_program({"tune", "-m", (dir / "none.gguf").string()}).exit_code == 1);
  const std::string model = dir.write("m.gguf", tiny_model().bytes()).string();
  const ProgramResult same = run_program({"tune", "-m", model, "--save", model});
  CHECK(same.exit_code == 1);
  CHECK(contains(same.err, "this run already uses that file"));
  CHECK(run_program({"tune", "-m", model, "--seconds", "0"}).exit_code == 2);
}
