// --numa as a user meets it, on the machine that the tests run on; several real nodes are in the
// guests of scripts/numa_vm_check.sh.

#include <doctest/doctest.h>
#include <stdlib.h>

#include <fstream>
#include <map>
#include <nlohmann/json.hpp>

#include "numa/cpu_set.h"
#include "tests/support/run_program.h"
#include "tests/support/temp_dir.h"

using namespace hybrid::test;
using Json = nlohmann::json;

namespace {

const std::string kDemo = std::string(HYBRID_TEST_SOURCE_DIR) + "/models/demo/hybrid-run-demo.gguf";

/// Variables of the environment, for the programs that this test runs.
struct Variables {
  std::vector<std::string> names;
  explicit Variables(const std::map<std::string, std::string>& values) {
    for (const auto& [name, value] : values) {
      names.push_back(name);
      setenv(name.c_str(), value.c_str(), 1);
    }
  }
  Variables(const Variables&) = delete;
  Variables& operator=(const Variables&) = delete;
  ~Variables() {
    for (const std::string& name : names) unsetenv(name.c_str());
  }
};

/// hwloc describes two nodes, with processors that are really there.
const std::map<std::string, std::string> kTwoNodes = {{"HWLOC_SYNTHETIC", "node:2 core:1 pu:1"},
                                                      {"HWLOC_THISSYSTEM", "1"}};

std::string read_file(const std::string& path) {
  std::ifstream file(path, std::ios::binary);
  return {std::istreambuf_iterator<char>(file), {}};
}

struct Evaluated {
  std::string logits, err;
};
Evaluated eval(std::vector<std::string> words) {
  const TempDir dir;
  const std::string file = (dir.path() / "logits").string();
  words.insert(words.begin(), {"eval", "-m", kDemo, "--tokens", "5,17,300,42,8,9,100,7,77,3",
                               "--logits-out", file});
  const ProgramResult result = run_program(words);
  INFO(result.err);
  REQUIRE(result.exit_code == 0);
  return {read_file(file), result.err};
}

bool says(const std::string& text, const std::string& part) {
  return text.find(part) != std::string::npos;
}

}  // namespace

TEST_CASE("--numa changes where things are, and no logit") {
  const Evaluated off = eval({"--numa", "off"});
  REQUIRE(!off.logits.empty());
  for (const char* mode : {"distribute", "isolate"}) {
    const Evaluated other = eval({"--numa", mode});
    CHECK(other.logits == off.logits);
    CHECK(says(other.err, std::string("--numa ") + mode + ": "));
  }
  CHECK(says(off.err, "--numa off: weights are where the system puts them"));
}

TEST_CASE("a second node that is described, and that the kernel has not: what there is is used") {
  if (hybrid::thread_affinity() != hybrid::CpuList{0, 1}) {
    MESSAGE("skipped: the processors are not 0 and 1");
    return;
  }
  const Evaluated off = eval({"--numa", "off", "-t", "1"});
  const Variables nodes(kTwoNodes);
  const Evaluated both = eval({});
  CHECK(both.logits == off.logits);
  CHECK(
      says(both.err, "--numa distribute (by default): weights are bound to node 0; launched with"));
  CHECK(says(both.err, "processors 1 may not use the memory at them and read that of node 0"));
  CHECK(says(both.err, "the packed weights: "));
  const ProgramResult refused = run_program({"run", "-m", kDemo, "-p", "x", "--numa", "numactl"});
  CHECK(refused.exit_code == 1);
  CHECK(is_one_error_line(refused.err));
  CHECK(says(refused.err, "--numa numactl: the process was launched with all processors"));
}

TEST_CASE("a machine that hwloc was made to describe is refused by the variable's name") {
  const Variables phantom(std::map<std::string, std::string>{{"HWLOC_SYNTHETIC", "node:2 pu:1"}});
  const ProgramResult result = run_program({"run", "-m", kDemo, "-p", "x", "-n", "1"});
  CHECK(result.exit_code == 1);
  CHECK(is_one_error_line(result.err));
  CHECK(says(result.err, "HWLOC_SYNTHETIC"));
}

TEST_CASE("threads beyond the processors: said, and as many as there are processors work") {
  const ProgramResult run = run_program(
      {"run", "-m", kDemo, "-p", "x", "-n", "1", "-t", "999", "-tb", "998", "--numa", "off"});
  INFO(run.err);
  CHECK(run.exit_code == 0);
  CHECK(says(run.err, "-t 999: "));
  CHECK(says(run.err, "-tb 998: "));
  const ProgramResult plan = run_program({"plan", "-m", kDemo, "-t", "999"});
  CHECK(plan.exit_code == 0);
  CHECK(says(plan.out, "-t 999: "));
  const ProgramResult bench = run_program(
      {"bench", "-m", kDemo, "-p", "8", "-n", "0", "-r", "1", "-t", "1,999", "-o", "jsonl"});
  INFO(bench.err);
  REQUIRE(bench.exit_code == 0);
  const Json last = Json::parse(bench.out.substr(bench.out.find('\n') + 1));
  CHECK(last["n_threads"] == 999);
  CHECK(last["n_threads_used"] < 999);
  CHECK(says(bench.err, "-t 999: "));
}
