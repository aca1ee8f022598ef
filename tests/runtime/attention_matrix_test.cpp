// Every combination of attention's options over the golden models, in-process: the scalar level
// against float64 logits, the fast levels against the scalar one. Experts are the reference's, so
// that what is compared is arithmetic alone.
//
// HYBRID_FULL_MATRIX=1 in the environment takes all combinations on all models, minutes of work.
// Without it one model gets all that differ, and the others enough for every pair of values to
// meet.

#include <doctest/doctest.h>

#include <algorithm>
#include <array>
#include <cmath>
#include <cstdlib>
#include <iterator>
#include <map>
#include <sstream>
#include <tuple>
#include <vector>

#include "runtime/model.h"
#include "runtime/sequence.h"
#include "tests/support/accuracy.h"
#include "tests/support/golden_models.h"
#include "tests/support/sanitized.h"
#include "tests/support/simd_levels.h"

using namespace hybrid;
using namespace hybrid::test;

namespace {

constexpr MlaMode kModes[] = {MlaMode::standard, MlaMode::absorbed_transposed, MlaMode::absorbed,
                              MlaMode::unabsorbed_prefill};
constexpr DType kCacheTypes[] = {DType::f32, DType::f16, DType::q8_0};
constexpr uint32_t kMicroBatches[] = {1, 7, kGoldenTokens};

/// What max_scratch_bytes is made of: so many steps of heads, or pieces of one head's queries.
struct Limit {
  uint32_t n_head_steps = 0;  // 0: no limit
  uint32_t n_pieces = 1;

  uint64_t n_bytes(uint32_t n_heads) const {
    if (n_head_steps == 0) return 0;
    const uint64_t row = score_row_bytes(kGoldenTokens);
    const uint32_t n_tokens = (kGoldenTokens + n_pieces - 1) / n_pieces;
    const uint32_t n_at_once = n_pieces > 1 ? 1 : (n_heads + n_head_steps - 1) / n_head_steps;
    return row * n_tokens * n_at_once;
  }
};
constexpr Limit kLimits[] = {{}, {2}, {3}, {6}, {16, 7}};

struct Combination {
  MlaMode mla = MlaMode::standard;
  bool flash = true;
  DType key_type = DType::f32, value_type = DType::f32;
  uint32_t n_ubatch = kGoldenTokens;
  Limit limit = {};
};

std::string text_of(const Combination& c) {
  return fmt::format("-mla {} -fa {:d} -ctk {} -ctv {} -ub {} -amb: {} x {}",
                     static_cast<int>(c.mla), c.flash, name_of(c.key_type), name_of(c.value_type),
                     c.n_ubatch, c.limit.n_head_steps, c.limit.n_pieces);
}

std::vector<Combination> all_combinations() {
  std::vector<Combination> all;
  for (const MlaMode mla : kModes) {
    for (const bool flash : {false, true}) {
      for (const DType type : kCacheTypes) {
        for (const uint32_t n_ubatch : kMicroBatches) {
          for (const Limit& limit : kLimits)
            all.push_back({mla, flash, type, type, n_ubatch, limit});
        }
      }
    }
  }
  // Values of a type of their own.
  for (const bool flash : {false, true}) {
    for (const DType keys : kCacheTypes) {
      for (const DType values : kCacheTypes) {
        if (keys != values) all.push_back({MlaMode::standard, flash, keys, values, 7, kLimits[1]});
      }
    }
  }
  return all;
}

/// False where the limit cannot make a difference: a single token's scores have room in all of them
/// but the smallest, and with flash only the keys that -mla 3 makes count.
bool limit_acts(const Combination& c) {
  if (c.limit.n_head_steps == 0) return true;
  if (c.flash && c.mla != MlaMode::unabsorbed_prefill) return false;
  return c.n_ubatch > 1 || c.limit.n_pieces > 1;
}

/// Combinations that have every pair of two options' values among them: always the one with most
/// pairs that are still missing.
std::vector<Combination> pairwise(const std::vector<Combination>& all) {
  const auto pairs_of = [](const Combination& c) {
    const std::array<uint32_t, 6> values{
        static_cast<uint32_t>(c.mla),        c.flash,    static_cast<uint32_t>(c.key_type),
        static_cast<uint32_t>(c.value_type), c.n_ubatch, c.limit.n_head_steps};
    std::vector<std::tuple<size_t, uint32_t, size_t, uint32_t>> pairs;
    for (size_t i = 0; i < values.size(); ++i) {
      for (size_t j = 0; j < i; ++j) pairs.emplace_back(i, values[i], j, values[j]);
    }
    return pairs;
  };
  std::map<std::tuple<size_t, uint32_t, size_t, uint32_t>, bool> met;
  for (const Combination& c : all) {
    for (const auto& pair : pairs_of(c)) met[pair] = false;
  }
  std::vector<Combination> chosen;
  while (true) {
    const Combination* best = nullptr;
    size_t most = 0;
    for (const Combination& c : all) {
      size_t n = 0;
      for (const auto& pair : pairs_of(c)) n += !met[pair];
      if (n > most) best = &c, most = n;
    }
    if (best == nullptr) return chosen;
    for (const auto& pair : pairs_of(*best)) met[pair] = true;
    chosen.push_back(*best);
  }
}

bool takes_all() { return std::getenv("HYBRID_FULL_MATRIX") != nullptr; }

/// Minutes there; test_attention runs the same code.
bool is_too_slow() {
  if (!kIsSanitized || takes_all()) return false;
  MESSAGE("skipped: too slow in a sanitizer build");
  return true;
}

std::vector<TokenId> tokens() {
  std::vector<TokenId> ids;
  std::istringstream text(golden_token_text());
  for (std::string id; std::getline(text, id, ',');) ids.push_back(std::stoi(id));
  REQUIRE(ids.size() == kGoldenTokens);
  return ids;
}

/// A golden model with its references, loaded once for all combinations.
class Subject {
 public:
  explicit Subject(const GoldenModel& golden_model)
      : model_(golden("models/" + golden_model.file + ".gguf"), ExpertGroups::automatic),
        tokens_(tokens()),
        choice_(model_.config().n_moe_layers(), kGoldenTokens, model_.config().moe.n_used),
        expected_(read_array<float>(golden("models/" + golden_model.name + ".logits.f32"))) {
    choice_.ids = read_array<int32_t>(golden("models/" + golden_model.name + ".experts.i32"));
    REQUIRE(choice_.ids.size() ==
            uint64_t{choice_.n_moe_layers} * kGoldenTokens * golden_model.n_used);
  }

  /// Weights as the fast levels want them.
  void prepare() {
    Workers workers(2);
    model_.prepare_decode(workers);
    model_.pack(workers, nullptr);
  }

  std::vector<float> logits(const Combination& c) const {
    ExecutionOptions options{.n_ubatch = c.n_ubatch, .n_threads = 2, .n_threads_batch = 2};
    options.attention = {c.mla, c.flash, c.limit.n_bytes(model_.config().mla.n_heads), c.key_type,
                         c.value_type};
    Sequence sequence(model_, kGoldenTokens, options);
    std::vector<float> logits(expected_.size());
    Sequence::AppendArgs args;
    args.tokens = tokens_;
    args.n_logit_rows = kGoldenTokens;
    args.logits = logits.data();
    args.replay = &choice_;
    REQUIRE(sequence.append(args));
    return logits;
  }

  const std::vector<float>& expected() const { return expected_; }

 private:
  Model model_;
  std::vector<TokenId> tokens_;
  ExpertChoice choice_;
  std::vector<float> expected_;
};

double max_error(DType type) {
  return type == DType::f32 ? 1e-5 : type == DType::f16 ? 1e-3 : 5e-3;
}

/// The worst of each (mode, flash, type).
using Worst = std::map<std::tuple<int, bool, std::string>, double>;

void print_worst(const std::string& title, const Worst& worst) {
  for (const auto& [key, value] : worst) {
    print_accuracy("{} -mla {} -fa {:d} {:5} {:.2e}", title, std::get<0>(key), std::get<1>(key),
                   std::get<2>(key), value);
  }
}

}  // namespace

TEST_CASE("every combination of attention's options gives the float64 logits") {
  if (is_too_slow()) return;
  HYBRID_NEEDS_GOLDEN();
  LevelScope level;
  level.set(SimdLevel::scalar);
  const std::vector<Combination> all = all_combinations(), some = pairwise(all);
  std::vector<Combination> different;
  std::copy_if(all.begin(), all.end(), std::back_inserter(different), limit_acts);
  Worst worst;
  for (const GoldenModel& golden_model : golden_models()) {
    const Subject subject(golden_model);
    for (const Combination& c : takes_all()                           ? all
                                : golden_model.name == "heads16-q4_k" ? different
                                                                      : some) {
      const double error = relative_error(subject.logits(c), subject.expected());
      INFO(golden_model.name, ' ', text_of(c));
      CHECK(error <= std::max(max_error(c.key_type), max_error(c.value_type)));
      if (c.key_type != c.value_type) continue;
      double& w = worst[{static_cast<int>(c.mla), c.flash, std::string(name_of(c.key_type))}];
      w = std::max(w, error);
    }
  }
  print_worst("error", worst);
}

namespace {

constexpr SimdLevel kFastLevels[] = {SimdLevel::avx2, SimdLevel::avx512_vnni, SimdLevel::amx};

/// Of the mean divergence from the scalar level with an f32 cache. What a rounded cache costs by
/// itself is not a level's fault, so none for q8_0.
double max_divergence(SimdLevel level, const Combination& c) {
  if (c.key_type == DType::q8_0) return INFINITY;
  return level == SimdLevel::amx && c.n_ubatch > 1 ? 5e-5 : 1.5e-4;
}

/// Modes, flash, types, and micro-batches; those without a bound only where all are asked for.
std::vector<Combination> fast_combinations() {
  std::vector<Combination> all;
  for (const Combination& c : all_combinations()) {
    const bool is_bounded = c.key_type != DType::q8_0 && c.n_ubatch != 7;
    if (c.limit.n_head_steps == 0 && (is_bounded || takes_all())) all.push_back(c);
  }
  return all;
}

}  // namespace

TEST_CASE("fast levels stay near the scalar level in every mode of attention") {
  if (is_too_slow()) return;
  HYBRID_NEEDS_GOLDEN();
  LevelScope scope;
  const std::vector<Combination> all = fast_combinations(), some = pairwise(all);
  std::map<SimdLevel, Worst> worst;
  for (const GoldenModel& golden_model : golden_models()) {
    Subject subject(golden_model);
    subject.prepare();
    scope.set(SimdLevel::scalar);
    const std::vector<float> expected = subject.logits({});
    for (const SimdLevel level : kFastLevels) {
      if (!scope.set(level)) continue;
      // v2-q4_k is the farthest: its routed experts count 16-fold.
      const bool full = takes_all() || golden_model.name == "v2-q4_k";
      for (const Combination& c : full ? all : some) {
        const double divergence = mean_divergence(subject.logits(c), expected, kGoldenTokens);
        INFO(golden_model.name, ' ', name_of(level), ' ', text_of(c));
        CHECK(divergence <= max_divergence(level, c));
        CHECK(divergence > 0);  // it was another computation
        double& w = worst[level][{static_cast<int>(c.mla), c.flash,
                                  fmt::format("{} -ub {}", name_of(c.key_type), c.n_ubatch)}];
        w = std::max(w, divergence);
      }
    }
  }
  for (const auto& [level, w] : worst) print_worst(std::string(name_of(level)), w);
}
