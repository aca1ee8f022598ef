// The model that ships with the project, against logits of its decoded weights from another program
// (PyTorch, float32), and its perplexity at every level. The bound at the fast levels is for their
// rounding of activations; golden_models_test.cpp has the finer one.

#include <doctest/doctest.h>

#include <string>
#include <vector>

#include "tests/support/accuracy.h"
#include "tests/support/golden.h"
#include "tests/support/run_program.h"
#include "tests/support/simd_levels.h"
#include "tests/support/temp_dir.h"

using namespace hybrid::test;

namespace {

const std::string kDemo = HYBRID_TEST_SOURCE_DIR "/models/demo/hybrid-run-demo.gguf";
const std::string kTokens =
    "4092,3134,220,16,18,198,198,1066,2961,542,363,426,268,735,11,309,11,267,324,972,11,267,361,"
    "297,"
    "309,478,11,267,3709,339,333,11";

/// A logit of the reference: the best few of three positions.
struct Reference {
  int position;
  int id;
  float logit;
};
constexpr Reference kReference[] = {
    {0, 258, 3.52856183f},  {0, 11, 3.46385860f},   {0, 268, 2.81629610f},  {15, 391, 6.28949976f},
    {15, 371, 6.14894056f}, {15, 726, 5.96150017f}, {31, 267, 6.73972273f}, {31, 309, 4.19158220f},
};

std::vector<std::string> levels() {
  std::vector<std::string> names;
  for (const auto level : simd_levels()) names.emplace_back(name_of(level));
  return names;
}

ProgramResult run_well(const std::vector<std::string>& words) {
  ProgramResult result = run_program(words);
  INFO(result.err);
  REQUIRE(result.exit_code == 0);
  return result;
}

}  // namespace

TEST_CASE("the demo's logits are those of its decoded weights") {
  for (const std::string& level : levels()) {
    CAPTURE(level);
    const TempDir dir;
    const std::string out = (dir / "logits").string();
    run_well({"eval", "-m", kDemo, "--tokens", kTokens, "--logits-out", out, "-ctk", "f32", "--isa",
              level});
    const auto logits = read_array<float>(out);
    REQUIRE(logits.size() == 32 * 4096);
    RelativeRms rms;
    for (const Reference& r : kReference) rms.add(logits[r.position * 4096 + r.id], r.logit);
    CHECK(rms.value() < (level == "scalar" ? 1e-5 : 0.015));
    print_accuracy("demo logits {}: {:.3f} %", level, 100 * rms.value());
  }
}

TEST_CASE("the demo's perplexity is the same at every level") {
  const TempDir dir;
  const std::string heldout = read_text(HYBRID_TEST_SOURCE_DIR "/models/demo/heldout.txt");
  const std::string text = dir.write("text", heldout.substr(0, 6000)).string();
  for (const std::string& level : levels()) {
    CAPTURE(level);
    const std::string out =
        run_well({"perplexity", "-m", kDemo, "-f", text, "--ctx", "256", "--isa", level}).out;
    const double perplexity = std::stod(out.substr(out.find("perplexity") + 10));
    // Fast levels were within 0.06 % over this text, and within 0.06 % at avx2, 0.01 % at amx over
    // ten times as much.
    CHECK(perplexity == doctest::Approx(21.2861).epsilon(level == "scalar" ? 1e-5 : 0.001));
  }
}

TEST_CASE("--demo finds its model and writes words") {
  const ProgramResult result =
      run_well({"run", "--demo", "-p", "And the LORD said unto", "-n", "8", "--temp", "0"});
  CHECK(result.out.starts_with(" "));
  CHECK(result.out.size() > 20);
  CHECK(result.err.find("generated 8 tokens") != std::string::npos);
}
