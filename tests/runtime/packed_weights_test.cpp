// Packing at load loses nothing and changes nothing but speed.

#include "runtime/packed_weights.h"

#include <doctest/doctest.h>

#include <algorithm>
#include <cstring>
#include <string>
#include <vector>

#include "runtime/sequence.h"
#include "tests/support/golden.h"
#include "tests/support/simd_levels.h"
#include "tests/support/temp_dir.h"
#include "tests/support/tiny_model.h"

using namespace hybrid;
using namespace hybrid::test;

namespace {

const char* const kGoldenModels[] = {"lite-f16",  "lite-q8_0",    "lite-q4_k",
                                     "lite-q2_k", "lite-iq4_xs",  "r1-q4_k",
                                     "v2-q4_k",   "heads16-q4_k", "lite-q3_k-00001-of-00003"};

/// A model's weights where a test can pack them.
struct Loaded {
  GgufFile file;
  ModelConfig config;
  ModelWeights weights;

  explicit Loaded(const std::filesystem::path& path)
      : file(GgufFile::open(path)),
        config(read_model_config(file, ExpertGroups::automatic)),
        weights(bind_weights(file, config)) {}
};

/// All its matrices unpack to the bytes of the file.
void check_unpacks(const Weight& w) {
  REQUIRE(w.packed());
  CHECK(reinterpret_cast<uintptr_t>(w.panels) % 64 == 0);
  const uint64_t size = panel_bytes(w.type(), w.n_cols());
  std::vector<std::byte> rows(kPanelRows * w.rows.row_bytes());
  for (uint64_t p = 0; p < packed_panels(w); ++p) {
    const uint64_t matrix = p / w.n_panels(), first = p % w.n_panels() * kPanelRows;
    const uint64_t n = std::min(kPanelRows, w.n_rows() - first);
    unpack_panel(w.type(), w.panels + p * size, n, w.n_cols(), rows.data());
    REQUIRE(std::memcmp(rows.data(), w.rows.row(matrix * w.n_rows() + first),
                        n * w.rows.row_bytes()) == 0);
  }
}

void check_packs(const std::filesystem::path& path, int n_threads) {
  Loaded model(path);
  const std::vector<Weight*> all = packable_weights(model.weights);
  uint64_t n_bytes = 0, n_before = 0, n_last = 0, n_calls = 0;
  for (const Weight* w : all) n_bytes += packed_bytes(*w);
  PackedWeights packed;
  CHECK(packed.n_bytes() == 0);
  Workers workers(n_threads);
  packed.pack(model.weights, {}, workers, [&](const LoadStep& step) {
    CHECK(step.n_all == n_bytes);
    CHECK(step.n_done > n_before);
    n_before = n_last = step.n_done;
    ++n_calls;
  });
  CHECK(n_last == n_bytes);
  CHECK(n_calls > 0);
  CHECK(packed.n_bytes() > n_bytes);
  for (const Weight* w : all) check_unpacks(*w);
}

std::vector<TokenId> some_tokens(uint32_t n, uint32_t n_vocab) {
  std::vector<TokenId> tokens(n);
  for (uint32_t i = 0; i < n; ++i) tokens[i] = static_cast<TokenId>((i * 37 + 5) % n_vocab);
  return tokens;
}

std::vector<float> logits_of(const Model& model, uint32_t n_tokens, uint32_t n_ubatch) {
  ExecutionOptions execution;
  execution.n_ubatch = n_ubatch;
  execution.n_threads = execution.n_threads_batch = 2;
  Sequence sequence(model, n_tokens, execution);
  const std::vector<TokenId> tokens = some_tokens(n_tokens, model.config().n_vocab);
  std::vector<float> logits(uint64_t{n_tokens} * model.config().n_vocab);
  Sequence::AppendArgs args;
  args.tokens = tokens;
  args.n_logit_rows = n_tokens;
  args.logits = logits.data();
  REQUIRE(sequence.append(args));
  return logits;
}

/// The level in force, prefill and single tokens.
void check_same_logits(const std::filesystem::path& path) {
  Model packed(path, ExpertGroups::automatic);
  const Model mapped(path, ExpertGroups::automatic);
  Workers workers(2);
  packed.pack(workers, nullptr);
  REQUIRE(packed.is_packed());
  CHECK_FALSE(mapped.is_packed());
  CHECK(logits_of(packed, 40, 512) == logits_of(mapped, 40, 512));
  CHECK(logits_of(packed, 6, 1) == logits_of(mapped, 6, 1));
}

}  // namespace

TEST_CASE("every matrix but F32 ones is packed, and unpacks to the file's bytes") {
  const TempDir dir;
  for (const bool merged : {false, true}) {
    const auto path =
        dir.write("tiny.gguf",
                  tiny_model({.q_lora = 24, .merged_gate_up = merged, .quantised = true}).bytes());
    for (const int n_threads : {1, 3}) check_packs(path, n_threads);
  }
}

TEST_CASE("golden models: every packed matrix unpacks to the file's bytes") {
  HYBRID_NEEDS_GOLDEN();
  for (const std::string name : kGoldenModels) {
    CAPTURE(name);
    check_packs(golden("models/" + name + ".gguf"), 2);
  }
}

TEST_CASE("what is packed: by count, and F32 never") {
  const TempDir dir;
  Loaded floats(dir.write("f32.gguf", tiny_model().bytes()));
  ModelWeights& none = floats.weights;
  CHECK(packable_weights(none).empty());
  PackedWeights nothing;
  Workers workers(1);
  bool was_told = false;
  nothing.pack(none, {}, workers, [&](const LoadStep&) { was_told = true; });
  CHECK_FALSE(was_told);

  // q, kv_a, attn_output in 3 layers; 3 of the dense net; routed and shared 3 each in 2 layers;
  // output.
  const auto count = [&](const TinyModelOptions& options) {
    Loaded model(dir.write("q.gguf", tiny_model(options).bytes()));
    return packable_weights(model.weights).size();
  };
  CHECK(count({.quantised = true}) == 3 * 3 + 3 + 2 * 6 + 1);
  CHECK(count({.q_lora = 24, .quantised = true}) == 3 * 4 + 3 + 2 * 6 + 1);
  CHECK(count({.merged_gate_up = true, .quantised = true}) == 3 * 3 + 3 + 2 * 5 + 1);
}

TEST_CASE("packed or from the mapped file: logits have the same bits") {
  HYBRID_AT_EACH_SIMD_LEVEL();
  const TempDir dir;
  for (const TinyModelOptions& options :
       {TinyModelOptions{.quantised = true},
        TinyModelOptions{.q_lora = 24, .merged_gate_up = true, .quantised = true}}) {
    check_same_logits(dir.write("tiny.gguf", tiny_model(options).bytes()));
  }
}

TEST_CASE("golden models, packed or from the mapped file: logits have the same bits") {
  HYBRID_NEEDS_GOLDEN();
  HYBRID_AT_EACH_SIMD_LEVEL();
  for (const std::string name : kGoldenModels) {
    CAPTURE(name);
    check_same_logits(golden("models/" + name + ".gguf"));
  }
}

TEST_CASE("merged and separate gate and up are one model when packed, too") {
  HYBRID_AT_EACH_SIMD_LEVEL();
  const TempDir dir;
  Workers workers(2);
  std::vector<float> logits[2];
  for (const bool merged : {false, true}) {
    Model model(
        dir.write("tiny.gguf", tiny_model({.merged_gate_up = merged, .quantised = true}).bytes()),
        ExpertGroups::automatic);
    model.pack(workers, nullptr);
    logits[merged] = logits_of(model, 20, 512);
  }
  CHECK(logits[0] == logits[1]);
}
