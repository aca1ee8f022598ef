// A model whose weights are cut over memory nodes: the bytes of the file, and the bits of a model
// that is not cut, on any number of slices and threads, packed or from its cache.

#include <doctest/doctest.h>

#include <cstring>
#include <filesystem>
#include <vector>

#include "runtime/sequence.h"
#include "tests/support/cut_weight.h"
#include "tests/support/golden.h"
#include "tests/support/simd_levels.h"
#include "tests/support/temp_dir.h"
#include "tests/support/tiny_model.h"

using namespace hybrid;
using namespace hybrid::test;

namespace {

constexpr size_t kSliceCounts[] = {2, 3, 8};

std::shared_ptr<const NodeUse> slices(size_t n) {
  return std::make_shared<const NodeUse>(NodeUse{sliced_plan(n), "nothing"});
}

std::vector<float> logits_of(const Model& model, const ExecutionOptions& execution,
                             uint32_t n_tokens) {
  Sequence sequence(model, n_tokens, execution);
  std::vector<TokenId> tokens(n_tokens);
  for (uint32_t i = 0; i < n_tokens; ++i) {
    tokens[i] = static_cast<TokenId>((i * 37 + 5) % model.config().n_vocab);
  }
  std::vector<float> logits(uint64_t{n_tokens} * model.config().n_vocab);
  REQUIRE(sequence.append({.tokens = tokens, .n_logit_rows = n_tokens, .logits = logits.data()}));
  const Workers::SliceCounts counts = sequence.slice_counts();
  const bool has_slices = execution.nodes != nullptr && execution.n_threads > 1;
  CHECK((counts.n_near > 0) == has_slices);
  return logits;
}

/// Prefill and single tokens.
std::vector<std::vector<float>> passes_of(const Model& model,
                                          const std::shared_ptr<const NodeUse>& nodes,
                                          int n_threads) {
  std::vector<std::vector<float>> passes;
  for (const uint32_t n_ubatch : {512u, 1u}) {
    passes.push_back(logits_of(model,
                               {.n_ubatch = n_ubatch,
                                .n_threads = n_threads,
                                .n_threads_batch = n_threads,
                                .nodes = nodes},
                               n_ubatch == 1 ? 5 : 24));
  }
  return passes;
}

void check_unpacks(const Weight& w) {
  REQUIRE(w.is_cut());
  std::vector<std::byte> rows(kPanelRows * w.rows.row_bytes());
  const uint64_t n_rows = w.n_rows() / w.n_parts;
  for (uint64_t i = 0; i < w.n_matrices() * w.n_parts; ++i) {
    const Weight part = w.slice(i / w.n_parts).part(i % w.n_parts * n_rows, n_rows);
    for (uint64_t p = 0; p < part.n_panels(); ++p) {
      const PanelMatrix panel = panels_of(part, p, p + 1);
      unpack_panel(w.type(), panel.data, panel.n_rows, w.n_cols(), rows.data());
      REQUIRE(std::memcmp(rows.data(), part.rows.row(p * kPanelRows),
                          panel.n_rows * w.rows.row_bytes()) == 0);
    }
  }
}

/// What was taken is what the plan says, from types and shapes alone.
void check_bytes(const Model& model, const NodePlan& plan) {
  const std::vector<const Weight*> all = packable_weights(model.weights());
  const std::vector<uint64_t> planned = packed_slice_bytes(all, &plan);
  const NodeArena::Report report = model.packed_report();
  REQUIRE(report.slices.size() == planned.size());
  uint64_t n_bytes = 0, n_expected = 0;
  for (size_t s = 0; s < planned.size(); ++s) {
    CHECK(report.slices[s].n_bytes == planned[s]);
    n_bytes += planned[s];
  }
  for (const Weight* w : all) n_expected += packed_bytes(*w);
  CHECK(n_bytes == n_expected);
  for (const Weight* w : all) check_unpacks(*w);
}

void check_model(const std::filesystem::path& path) {
  Model whole(path, ExpertGroups::automatic);
  Workers workers(2);
  whole.pack(workers, nullptr);
  const auto expected = passes_of(whole, nullptr, 1);
  for (const size_t n_slices : kSliceCounts) {
    CAPTURE(n_slices);
    const auto nodes = slices(n_slices);
    Model model(path, ExpertGroups::automatic);
    model.set_nodes(nodes);
    const auto own = make_workers(nodes.get(), 3);
    model.pack(*own, nullptr);
    check_bytes(model, nodes->plan);
    for (const int n_threads : {1, 2, 3}) {
      CAPTURE(n_threads);
      CHECK(passes_of(model, nodes, n_threads) == expected);
    }
  }
}

const TinyDims kDims{.embd = 160, .ff = 288, .experts = 4, .used = 2, .expert_ff = 96};

}  // namespace

TEST_CASE("cut over any number of slices, on any threads, logits have the same bits") {
  HYBRID_AT_EACH_SIMD_LEVEL();
  const TempDir dir;
  for (const bool merged : {false, true}) {
    CAPTURE(merged);
    check_model(dir.write(
        "m.gguf",
        tiny_model({.dims = kDims, .merged_gate_up = merged, .quantised = true}).bytes()));
  }
}

TEST_CASE("golden models, cut: the file's bytes, and the same bits") {
  HYBRID_NEEDS_GOLDEN();
  for (const std::string name : {"lite-q4_k", "r1-q4_k", "lite-q3_k-00001-of-00003"}) {
    CAPTURE(name);
    check_model(golden("models/" + name + ".gguf"));
  }
}

TEST_CASE("the cache of a model fills any number of slices") {
  const TempDir dir;
  const auto path = dir.write("m.gguf", tiny_model({.dims = kDims, .quantised = true}).bytes());
  Workers workers(2);
  Model whole(path, ExpertGroups::automatic);
  const std::filesystem::path cache = whole.write_cache(workers, nullptr);
  const auto expected = passes_of(whole, nullptr, 1);
  for (const size_t n_slices : kSliceCounts) {
    CAPTURE(n_slices);
    const auto nodes = slices(n_slices);
    Model model(path, ExpertGroups::automatic);
    model.set_nodes(nodes);
    const auto own = make_workers(nodes.get(), 3);
    LoadActivity last = LoadActivity::pack;
    model.load_packed(*own, [&](const LoadStep& step) { last = step.activity; });
    CHECK(last == LoadActivity::read_cache);
    CHECK(model.config().notes == whole.config().notes);
    check_bytes(model, nodes->plan);
    CHECK(passes_of(model, nodes, 2) == expected);
  }
}
