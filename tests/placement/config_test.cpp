#include "placement/config.h"

#include <doctest/doctest.h>

#include <nlohmann/json.hpp>

#include "placement/json_file.h"
#include "tests/support/expect_error.h"
#include "tests/support/temp_dir.h"

using namespace hybrid;
using namespace hybrid::test;

namespace {

PlacementConfig read(const TempDir& dir, const std::string& text) {
  const JsonFile file(dir.write("c.json", text).string(), "the config file");
  return read_placement_config(file.root());
}

PlacementConfig read(const std::string& text) { return read(TempDir(), text); }

std::string error(const std::string& text) {
  const std::string message = error_of([&] { read(text); });
  return message.empty() ? "" : message.substr(message.find("c.json") + 8);
}

}  // namespace

TEST_CASE("rules are strings or objects, and know where they come from") {
  const TempDir dir;
  const PlacementConfig config = read(dir, R"({
    "rules": [
      "\\.ffn_.*_exps\\.=CPU",
      {"pattern": "^blk\\.[3-5]\\.", "device": "CUDA0", "experts": "0-31"},
      "(a,b)=(c)=DISK"
    ]})");
  REQUIRE(config.rules.size() == 3);
  CHECK(config.rules[0].pattern == R"(\.ffn_.*_exps\.)");
  CHECK(config.rules[0].device == DeviceName{DeviceKind::cpu, 0});
  CHECK(config.rules[0].origin == "rules[0] of " + (dir / "c.json").string());
  CHECK(config.rules[1].experts == ExpertRange{0, 31});
  CHECK(config.rules[1].device == DeviceName{DeviceKind::cuda, 0});
  CHECK(config.rules[2].pattern == "(a,b)=(c)");
  CHECK(config.devices.empty());
}

TEST_CASE("budgets are bytes or GiB") {
  const PlacementConfig config = read(R"({"devices": [
      {"name": "CUDA0", "budget_gib": 22.5}, {"name": "CPU", "budget_bytes": 1000000007}]})");
  REQUIRE(config.devices.size() == 2);
  CHECK(config.devices[0] == DeviceBudget{{DeviceKind::cuda, 0}, 24159191040});
  CHECK(config.devices[1] == DeviceBudget{{DeviceKind::cpu, 0}, 1000000007});
}

TEST_CASE("a config without placement, or with nothing in it") {
  CHECK(read("{}") == PlacementConfig{});
  CHECK(read(R"({"threads": 4, "rules": [], "devices": []})") == PlacementConfig{});
}

TEST_CASE("what is wrong is told with the place of the value") {
  CHECK(error("{\"rules\": [\"a=CPU\",\n  \"ffn_(=CPU\"]}") ==
        "line 2, column 3: key \"rules[1]\": rule ffn_(=CPU: not a regular expression: missing "
        "closing parenthesis, at character 6");
  CHECK(error(R"({"rules": [{"pattern": "a", "device": "cuda:1"}]})") ==
        "line 1, column 39: key \"rules[0].device\": unknown device 'cuda:1' (did you mean "
        "CUDA1?); devices are CPU, CUDA0.., SIM0.., DISK");
  CHECK(error(R"({"rules": [{"pattern": "[", "device": "CPU"}]})")
            .starts_with("line 1, column 24: key \"rules[0].pattern\": rule [=CPU: not a regular"));
  CHECK(error(R"({"rules": ["a=CPU,b=DISK"]})") ==
        "line 1, column 12: key \"rules[0]\": expected one rule, found 2; make each an element of "
        "\"rules\"");
  CHECK(
      error(R"({"devices": [{"name": "CPU", "budget_gib": 1}, {"name": "CPU", "budget_gib": 1}]})")
          .ends_with("key \"devices[1].name\": CPU stands in devices[0] already; leave one out"));
}

TEST_CASE("a config that was written reads back equal") {
  const TempDir dir;
  const PlacementConfig config = read(dir, R"({
    "rules": ["é\\d{1,2}=CPU", {"pattern": "a=CPU,b", "device": "SIM1", "experts": "7"},
              {"pattern": "\"\u0000\\\\", "device": "NODE1"}],
    "devices": [{"name": "SIM0", "budget_gib": 0.1}, {"name": "CPU", "budget_gib": 1048576}]})");
  REQUIRE(config.rules.size() == 3);
  CHECK(read(dir, config_json(config).dump()) == config);
  CHECK(read(dir, config_json(config).dump(2)) == config);
  CHECK(config_json(config).at("rules").at(1).dump() ==
        R"({"pattern":"a=CPU,b","device":"SIM1","experts":"7"})");
  CHECK(read(dir, config_json({}).dump()) == PlacementConfig{});
}

TEST_CASE("a pattern that no config can hold") {
  const PlacementConfig config{.rules = parse_rules("a\xff=CPU", "-ot"), .devices = {}};
  CHECK(error_of([&] { config_json(config); }) ==
        "-ot: expected a pattern in UTF-8, which a config can hold, found 'a\\xff'");
}
