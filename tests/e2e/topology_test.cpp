// `topology` as a user meets it, on the machine that the tests run on.

#include <doctest/doctest.h>

#include <nlohmann/json.hpp>

#include "tests/support/environment_variable.h"
#include "tests/support/run_program.h"
#include "tests/support/temp_dir.h"
#include "tests/support/tiny_model.h"

using namespace hybrid::test;
using Json = nlohmann::json;

namespace {

Json topology_json(std::vector<std::string> words = {}) {
  words.insert(words.begin(), {"topology", "--json"});
  const ProgramResult result = run_program(words);
  INFO(result.err);
  REQUIRE(result.exit_code == 0);
  return Json::parse(result.out);
}

/// What each key must hold: "number", "string", "boolean", "array", "object", "null" or several.
struct Expected {
  const char* key;
  const char* types;
};

void check_types(const Json& object, const std::vector<Expected>& expected) {
  REQUIRE(object.is_object());
  CHECK(object.size() == expected.size());
  for (const Expected& e : expected) {
    CAPTURE(e.key);
    REQUIRE(object.contains(e.key));
    CHECK(std::string(e.types).find(object[e.key].type_name()) != std::string::npos);
  }
}

}  // namespace

TEST_CASE("topology --json has every key with its type, and holds together") {
  const Json json = topology_json();
  check_types(json, {{"cpu", "object"},
                     {"nodes", "array"},
                     {"caches", "array"},
                     {"l3_groups", "array"},
                     {"gpus", "array"},
                     {"huge_pages", "object"},
                     {"launch", "object"},
                     {"numa_balancing", "boolean null"},
                     {"bandwidth", "null object"},
                     {"bandwidth_source", "string"},
                     {"notices", "array"}});
  check_types(json["cpu"], {{"model", "string"},
                            {"n_packages", "number"},
                            {"n_cores", "number"},
                            {"n_cpus", "number"},
                            {"smt", "number"},
                            {"n_performance_cores", "number"},
                            {"n_efficiency_cores", "number"},
                            {"isa", "string"},
                            {"isa_reason", "string"}});
  check_types(json["launch"], {{"cpus", "array"},
                               {"cpuset_cpus", "array"},
                               {"memory_nodes", "array"},
                               {"policy", "string"},
                               {"policy_nodes", "array"},
                               {"usable_nodes", "array"},
                               {"cpu_quota", "number null"},
                               {"text", "string"}});
  check_types(json["huge_pages"], {{"mode", "string"},
                                   {"defrag", "string"},
                                   {"page_bytes", "number"},
                                   {"obtainable", "boolean"},
                                   {"asked_bytes", "number"},
                                   {"obtained_bytes", "number"}});
  REQUIRE(!json["nodes"].empty());
  uint64_t n_cores = 0;
  for (const Json& node : json["nodes"]) {
    check_types(node, {{"node", "number"},
                       {"package", "number null"},
                       {"cpus", "array"},
                       {"n_cores", "number"},
                       {"memory_bytes", "number"},
                       {"free_bytes", "number null"},
                       {"available_bytes", "number null"},
                       {"huge_pages_total", "number null"},
                       {"huge_pages_free", "number null"},
                       {"usable", "boolean"},
                       {"distances", "array null"},
                       {"bound", "boolean null"},
                       {"local_bytes_per_s", "number null"}});
    n_cores += node["n_cores"].get<uint64_t>();
  }
  if (json["nodes"].size() == 1) CHECK(json["cpu"]["n_cores"] == n_cores);
  CHECK(json["launch"]["cpus"].size() <= json["cpu"]["n_cpus"].get<size_t>());
}

TEST_CASE("topology --measure keeps its rates: topology shows them, plan predicts by them") {
  const CacheFolder cache;
  CHECK(topology_json()["bandwidth"].is_null());
  const ProgramResult measured = run_program({"topology", "--measure"});
  REQUIRE(measured.exit_code == 0);
  CHECK(measured.out.find("bandwidth: measured now") != std::string::npos);
  CHECK(measured.err.find("rate for `plan` kept in ") != std::string::npos);
  const Json json = topology_json();
  if (measured.err.find("bandwidth of the nodes kept in ") != std::string::npos) {
    CHECK(json["bandwidth_source"].get<std::string>().find("kept in ") != std::string::npos);
    CHECK(json["bandwidth"]["all_local_bytes_per_s"].get<double>() > 1e8);
    CHECK(json["nodes"][0]["local_bytes_per_s"].get<double>() > 1e8);
  } else {
    CHECK(measured.err.find("not kept: it is not of the whole machine") != std::string::npos);
  }
  const TempDir dir;
  const std::string model = dir.write("tiny.gguf", tiny_model().bytes()).string();
  const ProgramResult plan = run_program({"plan", "-m", model});
  REQUIRE(plan.exit_code == 0);
  CHECK(plan.out.find("rates measured on this machine at ") != std::string::npos);
}

TEST_CASE("a machine inherited through the environment is one line that names the variable") {
  const EnvironmentVariable phantom("HWLOC_SYNTHETIC", "node:2 core:2 pu:1");
  const TempDir dir;
  const std::string model = dir.write("tiny.gguf", tiny_model().bytes()).string();
  for (const std::vector<std::string>& words :
       {std::vector<std::string>{"topology"}, {"run", "-m", model, "-p", "x", "-n", "1"}}) {
    const ProgramResult result = run_program(words);
    CHECK(result.exit_code == 1);
    CHECK(is_one_error_line(result.err));
    CHECK(result.err.find("unset HWLOC_SYNTHETIC to run here") != std::string::npos);
  }
}

TEST_CASE("topology takes its own options alone") {
  CHECK(run_program({"topology", "-m", "x.gguf"}).exit_code == 2);
  CHECK(run_program({"topology", "--measure", "--json", "-v"}).exit_code == 0);
}
