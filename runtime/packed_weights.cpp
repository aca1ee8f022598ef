#include "runtime/packed_weights.h"

#include <algorithm>
#include <numeric>

#include "base/error.h"
#include "base/rounding.h"
#include "base/units.h"
#include "numa/memory_info.h"

namespace hybrid {
namespace {

bool is_packable(const Weight& w) { return !w.empty() && w.type() != DType::f32; }

void add(std::vector<Weight*>& all, std::initializer_list<Weight*> weights) {
  for (Weight* w : weights) {
    if (is_packable(*w)) all.push_back(w);
  }
}

/// The part of [0, n) that is done in round `round` of n_rounds.
IndexRange part_of(uint64_t n, uint64_t round, uint64_t n_rounds) {
  return {n * round / n_rounds, n * (round + 1) / n_rounds};
}

void pack_piece(const PanelLayout::Piece& piece) {
  pack_panels(*piece.weight, piece.begin, piece.end, piece.to,
              const_cast<int8_t*>(piece.weight->exponents) + piece.begin);
}

}  // namespace

std::vector<Weight*> packable_weights(ModelWeights& weights, const TensorSet& kept) {
  std::vector<Weight*> all;
  for (LayerWeights& w : weights.layers) {
    add(all, {&w.q, &w.q_a, &w.q_b, &w.kv_a, &w.attn_output});
    add(all, {&w.dense.gate, &w.dense.up, &w.dense.down});
    for (ExpertPart& part : w.experts) {
      ExpertWeights& e = part.w;
      add(all, {&e.gate, &e.up, &e.down});
      // The up rows of a merged tensor begin in the middle of a panel otherwise.
      if (!e.gate_up.empty() && e.gate_up.n_rows() / 2 % kPanelRows == 0) add(all, {&e.gate_up});
    }
    add(all, {&w.shared.gate, &w.shared.up, &w.shared.down});
  }
  add(all, {&weights.output});
  std::erase_if(all, [&](const Weight* w) { return kept.contains(w->source); });
  return all;
}

std::vector<const Weight*> packable_weights(const ModelWeights& weights, const TensorSet& kept) {
  const std::vector<Weight*> all = packable_weights(const_cast<ModelWeights&>(weights), kept);
  return {all.begin(), all.end()};
}

void PackedWeights::take(const std::vector<Weight*>& all, int n_threads) {
  layout_.emplace(all, nodes_);
  const std::vector<uint64_t> sizes = layout_->slice_bytes();
  const uint64_t panels = layout_->n_panels();
  const uint64_t bytes = std::accumulate(sizes.begin(), sizes.end(), panels);
  const uint64_t available = available_memory_bytes();
  if (bytes > available) {
    fail(
        "not enough memory: the packed weights need {}, available are {}; with -rtr 0 the program "
        "runs from the mapped file, slower",
        format_bytes(bytes), format_bytes(available));
  }
  arena_ = NodeArena(nodes_ != nullptr ? node_shares(*nodes_, sizes)
                                       : std::vector<NodeShare>{{.n_bytes = sizes[0]}},
                     kPackedWeightsName);
  // Threads of each node take its pages, before the kernel would kill for one that is not there.
  if (nodes_ != nullptr && nodes_->is_bound) {
    arena_.populate(static_cast<int>(divide_up(static_cast<uint64_t>(n_threads), sizes.size())));
  }
  exponents_.resize(panels);
  layout_->place(arena_, exponents_.data());
}

void PackedWeights::fill(Workers& workers, const LoadProgress& progress) {
  const std::vector<std::vector<PanelLayout::Piece>> pieces = layout_->pieces();
  const uint64_t n_all = std::accumulate(
      pieces.begin(), pieces.end(), uint64_t{0},
      [](uint64_t n, const std::vector<PanelLayout::Piece>& slice) { return n + slice.size(); });
  // In rounds of about 256 MB, with a word about progress between them.
  constexpr uint64_t kPiecesPerRound = 128;
  const uint64_t n_rounds = divide_up(n_all, kPiecesPerRound);
  LoadStep step{LoadActivity::pack, 0, arena_.n_bytes()};
  std::vector<IndexRange> ranges(pieces.size());
  for (uint64_t round = 0; round < n_rounds; ++round) {
    for (size_t s = 0; s < pieces.size(); ++s) {
      ranges[s] = part_of(pieces[s].size(), round, n_rounds);
      for (uint64_t i = ranges[s].begin; i < ranges[s].end; ++i) {
        step.n_done += pieces[s][i].n_bytes();
      }
    }
    const auto body = [&](uint64_t slice, uint64_t begin, uint64_t end) {
      for (uint64_t i = begin; i < end; ++i) pack_piece(pieces[slice][i]);
    };
    if (pieces.size() > 1) {
      workers.parallel_slices(ranges, 1, body);
    } else {
      workers.parallel_for(ranges[0].end - ranges[0].begin, 1, [&](uint64_t begin, uint64_t end) {
        body(0, ranges[0].begin + begin, ranges[0].begin + end);
      });
    }
    step.finished = round + 1 == n_rounds;
    if (progress) progress(step);
  }
}

void PackedWeights::pack(ModelWeights& weights, const TensorSet& kept, Workers& workers,
                         const LoadProgress& progress) {
  const std::vector<Weight*> all = packable_weights(weights, kept);
  if (all.empty()) return;
  take(all, workers.n_threads());
  fill(workers, progress);
}

void PackedWeights::load(const GgufFile& model, const std::vector<Weight*>& all,
                         bool is_whole_model, Workers& workers, const LoadProgress& progress,
                         std::vector<std::string>& notes) {
  if (all.empty()) return;
  if (!is_whole_model) {
    take(all, workers.n_threads());
    fill(workers, progress);
    const auto is_there = [](const std::filesystem::path& path) {
      std::error_code ignored;
      return std::filesystem::exists(path, ignored);
    };
    const auto paths = panel_cache_paths(model.parts().front().path);
    if (std::any_of(paths.begin(), paths.end(), is_there)) {
      notes.push_back(
          "the cache of packed weights is not used: it holds all weights, and some are on DISK or "
          "on a device");
    }
    return;
  }
  take(all, workers.n_threads());
  const PanelMemory memory = this->memory();
  const std::filesystem::path& source = model.parts().front().path;
  std::vector<std::string> reasons;
  for (const std::filesystem::path& path : panel_cache_paths(source)) {
    const PanelCacheStatus status =
        read_panel_cache(path, model, {all.begin(), all.end()}, memory, workers, progress);
    if (status.state == PanelCacheStatus::State::valid) return;
    if (status.state == PanelCacheStatus::State::absent) continue;
    reasons.push_back(fmt::format("{} is not used: {}; `hybrid-run repack -m {}` writes it anew",
                                  printable(path.string(), 4096), status.reason,
                                  printable(source.string(), 4096)));
  }
  fill(workers, progress);
  notes.insert(notes.end(), reasons.begin(), reasons.end());
}

}  // namespace hybrid
