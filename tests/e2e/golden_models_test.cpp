// The program against float64 logits of every model shape, as a user would call it.

#include <doctest/doctest.h>

#include <cmath>
#include <vector>

#include "tests/support/golden.h"
#include "tests/support/run_program.h"
#include "tests/support/temp_dir.h"

using namespace hybrid::test;

namespace {

struct Model {
  std::string name;  // of the reference files
  std::string file;  // of the GGUF
};

const Model kModels[] = {
    {"lite-f16", "lite-f16"},
    {"lite-q8_0", "lite-q8_0"},
    {"lite-q4_k", "lite-q4_k"},
    {"lite-q2_k", "lite-q2_k"},
    {"lite-iq4_xs", "lite-iq4_xs"},
    {"r1-q4_k", "r1-q4_k"},
    {"v2-q4_k", "v2-q4_k"},
    {"r1-q4_k-split-kv", "r1-q4_k-split-kv"},
    {"heads16-q4_k", "heads16-q4_k"},
    {"lite-q3_k", "lite-q3_k-00001-of-00003"},
    {"lite-q3_k", "lite-q3_k-00002-of-00003"},
    {"lite-q3_k", "lite-q3_k-00003-of-00003"},
};

std::string tokens() {
  std::string text = read_text(golden("models/tokens.txt"));
  text.erase(text.find_last_not_of(" \n") + 1);
  return text;
}

struct Evaluation {
  std::vector<float> logits;
  std::vector<int32_t> experts;
};

Evaluation evaluate(const std::string& file, std::vector<std::string> options) {
  const TempDir dir;
  const std::string logits = (dir / "logits").string(), experts = (dir / "experts").string();
  std::vector<std::string> words{"eval",
                                 "-m",
                                 golden("models/" + file + ".gguf").string(),
                                 "--tokens",
                                 tokens(),
                                 "--logits-out",
                                 logits,
                                 "--experts-out",
                                 experts,
                                 "--isa",
                                 "scalar"};
  words.insert(words.end(), options.begin(), options.end());
  const ProgramResult result = run_program(words);
  INFO(result.err);
  REQUIRE(result.exit_code == 0);
  return {read_array<float>(logits), read_array<int32_t>(experts)};
}

double relative_error(const std::vector<float>& found, const std::vector<float>& expected) {
  REQUIRE(found.size() == expected.size());
  double difference = 0, norm = 0;
  for (size_t i = 0; i < found.size(); ++i) {
    difference += std::pow(double{found[i]} - expected[i], 2);
    norm += std::pow(double{expected[i]}, 2);
  }
  return std::sqrt(difference / norm);
}

void check_exact(const Model& model, const std::string& suffix,
                 const std::vector<std::string>& options) {
  const std::string reference = "models/" + model.name + suffix;
  std::vector<std::string> words = options;
  words.insert(words.end(), {"-ctk", "f32"});
  const Evaluation found = evaluate(model.file, words);
  CHECK(relative_error(found.logits, read_array<float>(golden(reference + ".logits.f32"))) < 1e-5);
  CHECK(found.experts == read_array<int32_t>(golden(reference + ".experts.i32")));
}

}  // namespace

TEST_CASE("f32 cache: logits within 1e-5, the same experts, in both MLA modes") {
  HYBRID_NEEDS_GOLDEN();
  for (const Model& model : kModels) {
    for (const std::string mla : {"2", "3"}) {
      CAPTURE(model.file);
      CAPTURE(mla);
      check_exact(model, "", {"-mla", mla});
    }
  }
}

TEST_CASE("groups switched off: the ungrouped references") {
  HYBRID_NEEDS_GOLDEN();
  for (const std::string name : {"r1-q4_k", "r1-q4_k-split-kv"}) {
    for (const std::string mla : {"2", "3"}) {
      check_exact({name, name}, ".ungrouped", {"--expert-groups", "off", "-mla", mla});
    }
  }
}

TEST_CASE("f16 cache with the reference's experts: logits within 1e-3") {
  HYBRID_NEEDS_GOLDEN();
  for (const Model& model : kModels) {
    CAPTURE(model.file);
    const std::string reference = "models/" + model.name;
    const auto expected = read_array<float>(golden(reference + ".logits.f32"));
    for (const std::string mla : {"2", "3"}) {
      const Evaluation found = evaluate(model.file, {"-ctk", "f16", "-mla", mla, "--experts-in",
                                                     golden(reference + ".experts.i32").string()});
      CHECK(relative_error(found.logits, expected) < 1e-3);
    }
  }
}

TEST_CASE("micro-batch, batch and threads do not matter") {
  HYBRID_NEEDS_GOLDEN();
  const Evaluation base = evaluate("r1-q4_k", {"-ctk", "f32"});
  const std::vector<std::vector<std::string>> variants = {{"-ub", "1", "-t", "1"},
                                                          {"-ub", "7", "-t", "3"},
                                                          {"-b", "10", "-tb", "2"},
                                                          {"-ub", "20", "-tb", "3"},
                                                          {"-ub", "20", "-mla", "2"}};
  for (const auto& variant : variants) {
    std::vector<std::string> options{"-ctk", "f32"};
    options.insert(options.end(), variant.begin(), variant.end());
    const Evaluation other = evaluate("r1-q4_k", options);
    CHECK(relative_error(other.logits, base.logits) < 1e-5);
    CHECK(other.experts == base.experts);
  }
}
