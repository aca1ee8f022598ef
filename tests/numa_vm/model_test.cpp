// A real model, loaded as `hybrid-run run` does: where the pages of its packed weights are, who
// works where, who reads what. The model is /demo.gguf.

#include <doctest/doctest.h>
#include <sched.h>

#include <algorithm>

#include "base/error.h"
#include "runtime/engine.h"
#include "tests/numa_vm/guest.h"

using namespace hybrid;
using namespace hybrid::test;

namespace {

struct Loaded {
  std::shared_ptr<const NodeUse> nodes =
      std::make_shared<const NodeUse>(use_nodes(NumaMode::automatic));
  Engine engine;

  Loaded() : engine(options()) {}

  EngineOptions options() const {
    const int n_threads = plan_workers(nodes->plan, std::nullopt).n_threads();
    EngineOptions options;
    options.model = "/demo.gguf";
    options.n_ctx = 64;
    options.execution.n_threads = options.execution.n_threads_batch = n_threads;
    options.execution.nodes = nodes;
    return options;
  }
};

/// Whole pages of these panels.
std::span<const std::byte> whole_pages(const std::byte* begin, uint64_t n_bytes) {
  constexpr uintptr_t kPage = 4096;
  const uintptr_t first = (reinterpret_cast<uintptr_t>(begin) + kPage - 1) / kPage * kPage;
  const uintptr_t end = (reinterpret_cast<uintptr_t>(begin) + n_bytes) / kPage * kPage;
  if (end <= first) return {};
  return {reinterpret_cast<const std::byte*>(first), end - first};
}

}  // namespace

TEST_CASE("model: the pages of each slice of each matrix are on the slice's node") {
  const Loaded loaded;
  const NodePlan& plan = loaded.nodes->plan;
  REQUIRE(plan.is_bound);
  std::vector<uint64_t> n_bytes(plan.slices.size());
  for (const Weight* w : packable_weights(loaded.engine.model().weights())) {
    const uint64_t size = panel_bytes(w->type(), w->n_cols());
    if (!w->is_cut()) {
      REQUIRE(plan.slices.size() == 1);
      const auto pages = whole_pages(w->panels, packed_bytes(*w));
      if (!pages.empty()) REQUIRE(is_on(pages, plan.slices[0].nodes.front()));
      n_bytes[0] += pages.size();
      continue;
    }
    for (uint64_t i = 0; i < w->n_matrices(); ++i) {
      const Weight matrix = w->slice(i);
      for (uint64_t s = 0; s < plan.slices.size(); ++s) {
        const IndexRange run = matrix.run(s);
        if (run.is_empty()) continue;
        const auto pages = whole_pages(matrix.runs[s].panels, (run.end - run.begin) * size);
        if (!pages.empty()) REQUIRE(is_on(pages, plan.slices[s].nodes.front()));
        n_bytes[s] += pages.size();
      }
    }
  }
  const auto [least, most] = std::minmax_element(n_bytes.begin(), n_bytes.end());
  CHECK(*least > 256 << 10);
  CHECK(*most - *least < *most / 3);
  CHECK(loaded.engine.model().packed_report().is_verified());
  for (const std::string& line :
       arena_lines(*loaded.nodes, loaded.engine.model().packed_report())) {
    MESSAGE(line);
  }
}

TEST_CASE("model: each node's threads do the work of its slices") {
  const Loaded loaded;
  Sequence sequence = loaded.engine.make_sequence();
  std::vector<float> logits(loaded.engine.model().config().n_vocab);
  const CpuList before = thread_affinity();
  Workers::SliceCounts last, best;
  // The caller does the part of a worker that the busy host kept from beginning in time; on
  // processors of its own it does not. So the best step of many counts.
  for (int i = 0; i < 40 && best.n_near <= 20 * best.n_far; ++i) {
    const std::vector<TokenId> tokens(i % 2 == 0 ? 1 : 2, 5 + i);
    REQUIRE(sequence.append({.tokens = tokens, .n_logit_rows = 1, .logits = logits.data()}));
    const Workers::SliceCounts now = sequence.slice_counts();
    const uint64_t n_near = now.n_near - last.n_near, n_far = now.n_far - last.n_far;
    if (i == 0 || n_near * best.n_far > best.n_near * n_far || n_far == 0) best = {n_near, n_far};
    last = now;
  }
  MESSAGE(last.n_near << " pieces by their slice's threads, " << last.n_far
                      << " by others; in the best step " << best.n_near << " and " << best.n_far);
  CHECK(best.n_near > 2 * best.n_far);
  CHECK(thread_affinity() == before);
}
