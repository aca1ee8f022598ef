// The program against float64 logits of every model shape, as a user would call it: the scalar
// level to float's own precision, the fast levels against it.

#include <doctest/doctest.h>

#include <cmath>
#include <set>
#include <vector>

#include "tensor/simd_level.h"
#include "tests/support/accuracy.h"
#include "tests/support/golden_models.h"
#include "tests/support/run_program.h"
#include "tests/support/sanitized.h"
#include "tests/support/temp_dir.h"

using namespace hybrid::test;

namespace {

/// With each part of the split model as the one that is named. In a sanitizer's build, where all
/// take a quarter of an hour, one of each layout.
std::vector<GoldenModel> models() {
  std::vector<GoldenModel> all = golden_models();
  if (kIsSanitized) {
    std::erase_if(all, [](const GoldenModel& m) {
      return m.name != "r1-q4_k-split-kv" && m.name != "lite-q3_k" && m.name != "lite-iq4_xs";
    });
  }
  for (const std::string part : {"2", "3"}) {
    all.push_back({"lite-q3_k", "lite-q3_k-0000" + part + "-of-00003", 3});
  }
  return all;
}

struct Evaluation {
  std::vector<float> logits;
  std::vector<int32_t> experts;
};

Evaluation evaluate(const std::string& file, const std::vector<std::string>& options,
                    const std::string& level = "scalar") {
  const TempDir dir;
  const std::string logits = (dir / "logits").string(), experts = (dir / "experts").string();
  std::vector<std::string> words{"eval",
                                 "-m",
                                 golden("models/" + file + ".gguf").string(),
                                 "--tokens",
                                 golden_token_text(),
                                 "--logits-out",
                                 logits,
                                 "--experts-out",
                                 experts,
                                 "--isa",
                                 level};
  words.insert(words.end(), options.begin(), options.end());
  const ProgramResult result = run_program(words);
  INFO(result.err);
  REQUIRE(result.exit_code == 0);
  return {read_array<float>(logits), read_array<int32_t>(experts)};
}

void check_exact(const GoldenModel& model, const std::string& suffix,
                 const std::vector<std::string>& options) {
  const std::string reference = "models/" + model.name + suffix;
  std::vector<std::string> words = options;
  words.insert(words.end(), {"-ctk", "f32"});
  const Evaluation found = evaluate(model.file, words);
  CHECK(relative_error(found.logits, read_array<float>(golden(reference + ".logits.f32"))) < 1e-5);
  CHECK(found.experts == read_array<int32_t>(golden(reference + ".experts.i32")));
}

/// The share of (layer, token) whose sets of experts are not the same.
double share_of_flips(const std::vector<int32_t>& a, const std::vector<int32_t>& b, size_t n_used) {
  REQUIRE(a.size() == b.size());
  const auto set_at = [&](const std::vector<int32_t>& ids, size_t i) {
    const auto* first = ids.data() + i;
    return std::set<int32_t>(first, first + n_used);
  };
  double n_flips = 0;
  for (size_t i = 0; i < a.size(); i += n_used) n_flips += set_at(a, i) != set_at(b, i);
  return n_flips * static_cast<double>(n_used) / static_cast<double>(a.size());
}

/// How a fast level is run, and how far its logits may be from the scalar level's.
struct Path {
  std::string level;
  std::vector<std::string> options;
  double max_divergence;
};

const Path kPaths[] = {
    {"avx2", {}, 1.5e-4},
    {"avx512_vnni", {}, 1.5e-4},
    {"amx", {}, 5e-5},
    {"amx", {"-ub", "1"}, 1.5e-4},
};
constexpr double kMaxFlips = 0.02;       // of all golden files together
constexpr double kMaxFlipsOfOne = 0.03;  // v2-q4_k, whose routed experts count 16-fold: 4 of 192

/// Returns the share of flips.
double check_path(const GoldenModel& model, const Path& path) {
  const TempDir dir;
  std::vector<std::string> options{"-ctk", "f32"};
  options.insert(options.end(), path.options.begin(), path.options.end());
  const Evaluation fast = evaluate(model.file, options, path.level);
  const Evaluation own = evaluate(model.file, options);
  const std::string chosen(reinterpret_cast<const char*>(fast.experts.data()),
                           fast.experts.size() * sizeof(int32_t));
  options.insert(options.end(), {"--experts-in", dir.write("chosen", chosen).string()});
  const Evaluation replayed = evaluate(model.file, options);
  REQUIRE(fast.logits.size() == replayed.logits.size());
  const double divergence = mean_divergence(fast.logits, replayed.logits, kGoldenTokens);
  const double flips = share_of_flips(fast.experts, own.experts, model.n_used);
  print_accuracy("{:25} {:11} {:6} mean KL {:.2e}  flips {:.2f} %", model.file, path.level,
                 path.options.empty() ? "" : "-ub 1", divergence, 100 * flips);
  CHECK(divergence <= path.max_divergence);
  CHECK(divergence > 0);  // it was another computation
  CHECK(flips <= kMaxFlipsOfOne);
  return flips;
}

}  // namespace

TEST_CASE("f32 cache: logits within 1e-5, the same experts, in every MLA mode") {
  HYBRID_NEEDS_GOLDEN();
  const std::vector<std::vector<std::string>> variants = {{"-mla", "0", "-ctv", "f32"},
                                                          {"-mla", "1", "-fa", "0", "-amb", "0.1"},
                                                          {"-mla", "2", "-fmoe", "0"},
                                                          {"-mla", "3"}};
  for (const GoldenModel& model : models()) {
    for (const auto& options : variants) {
      CAPTURE(model.file);
      CAPTURE(options[1]);
      check_exact(model, "", options);
    }
  }
}

TEST_CASE("groups switched off: the ungrouped references") {
  HYBRID_NEEDS_GOLDEN();
  for (const std::string name : {"r1-q4_k", "r1-q4_k-split-kv"}) {
    for (const std::string mla : {"2", "3"}) {
      check_exact({name, name, 4}, ".ungrouped", {"--expert-groups", "off", "-mla", mla});
    }
  }
}

TEST_CASE("f16 cache with the reference's experts: logits within 1e-3") {
  HYBRID_NEEDS_GOLDEN();
  for (const GoldenModel& model : models()) {
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

TEST_CASE("fast levels: logits near the scalar level's with the same experts, few flips") {
  HYBRID_NEEDS_GOLDEN();
  if (kIsSanitized) {
    MESSAGE("skipped: too slow in a sanitizer build");
    return;
  }
  for (const Path& path : kPaths) {
    if (!hybrid::missing_for(*hybrid::find_simd_level(path.level)).empty()) continue;
    double flips = 0;
    for (const GoldenModel& model : models()) {
      CAPTURE(path.level);
      CAPTURE(path.options.size());
      CAPTURE(model.file);
      flips += check_path(model, path);
    }
    CHECK(flips / static_cast<double>(models().size()) <= kMaxFlips);
  }
}
