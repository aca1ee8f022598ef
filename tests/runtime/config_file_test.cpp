// Config files and machine files that are wrong, one folder of them, each with its message.

#include <doctest/doctest.h>

#include <filesystem>
#include <map>
#include <sstream>

#include "placement/machine.h"
#include "runtime/options.h"
#include "tests/support/expect_error.h"
#include "tests/support/golden.h"
#include "tests/support/temp_dir.h"

using namespace hybrid;
using namespace hybrid::test;

namespace {

const std::filesystem::path kBadConfigs = HYBRID_TEST_SOURCE_DIR "/tests/placement/bad_configs";

/// Lines "FILE: MESSAGE" of messages.txt.
std::map<std::string, std::string> expected_messages() {
  std::map<std::string, std::string> messages;
  std::istringstream lines(read_text(kBadConfigs / "messages.txt"));
  for (std::string line; std::getline(lines, line);) {
    const size_t colon = line.find(": ");
    messages[line.substr(0, colon)] = line.substr(colon + 2);
  }
  return messages;
}

/// The error of a file, without the folder.
std::string message_of(const std::filesystem::path& file) {
  const bool is_machine = file.filename().string().starts_with("machine_");
  const std::string message = error_of([&] {
    if (is_machine) {
      read_machine(file.string());
    } else {
      Options options("run");
      apply_config_file(file.string(), options);
    }
  });
  const std::string folder = printable(file.string()) + ": ";
  return message.starts_with(folder) ? message.substr(folder.size()) : message;
}

Options options_of(const std::string& command, const std::string& config) {
  const TempDir dir;
  Options options(command);
  apply_config_file(dir.write("c.json", config).string(), options);
  return options;
}

}  // namespace

TEST_CASE("every bad config has its message") {
  std::map<std::string, std::string> expected = expected_messages();
  CHECK(expected.size() >= 50);
  for (const auto& entry : std::filesystem::directory_iterator(kBadConfigs)) {
    if (entry.path().extension() != ".json") continue;
    const std::string name = entry.path().filename().string();
    CAPTURE(name);
    const std::string message = message_of(entry.path());
    CHECK(message == expected[name]);
    CHECK(message == printable(message, message.size() + 1));
    CHECK(message.size() < 400);
    expected.erase(name);
  }
  for (const auto& [name, message] : expected) FAIL_CHECK(name << " is not there");
}

TEST_CASE("a config's rules and budgets reach the options") {
  const Options options = options_of("inspect", R"({
    "$schema": "schema.json", "rules": ["exps=CPU"], "devices": [{"name": "CUDA0", "budget_gib": 1}]
  })");
  const PlacementConfig placement = options.placement();
  REQUIRE(placement.rules.size() == 1);
  CHECK(placement.rules[0].pattern == "exps");
  CHECK(placement.rules[0].origin.starts_with("rules[0] of "));
  REQUIRE(placement.devices.size() == 1);
  CHECK(placement.devices[0].budget_bytes == 1 << 30);
}

TEST_CASE("the sample files are read") {
  const std::filesystem::path configs = HYBRID_TEST_SOURCE_DIR "/configs";
  Options options("inspect");
  apply_config_file((configs / "deepseek-r1-1x24gb.json").string(), options);
  CHECK(options.placement().rules.size() == 4);
  CHECK(options.placement().devices.size() == 2);
  for (const auto& entry : std::filesystem::directory_iterator(configs / "machines")) {
    CHECK_FALSE(read_machine(entry.path().string()).name.empty());
  }
}

TEST_CASE("rules of the command line stand before the file's") {
  const OptionSpec& rule = *find_option("override-tensor");
  Options options("run");
  options.set(rule, "a=CUDA0,b=CPU", "-ot");
  options.set(rule, "c=DISK", "-ot");
  options.set_config("x.json", {.rules = {{"d", {}, {}, "rules[0] of x.json"}}, .devices = {}});
  std::string text;
  for (const PlacementRule& r : options.placement().rules)
    text += r.pattern + " " + r.origin + "; ";
  CHECK(text == "a -ot; b -ot; c -ot; d rules[0] of x.json; ");
}

TEST_CASE("the options tell where a value came from") {
  const TempDir dir;
  const std::string path = dir.write("c.json", R"({"threads": 3, "mla": 2, "ids": true})").string();
  const Options options = parse_command_line({"run", "-p", "x", "-mla", "1", "--config", path});
  CHECK(options.source("mla") == ValueSource::command_line);
  CHECK(options.source("threads") == ValueSource::config_file);
  CHECK(options.source("seed") == ValueSource::default_value);
  CHECK(options.source_text("mla") == "command line");
  CHECK(options.source_text("threads") == "config " + path);
  CHECK(options.source_text("seed") == "default");
  CHECK(options.with("threads", "1").source("threads") == ValueSource::config_file);
}
