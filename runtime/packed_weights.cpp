#include "runtime/packed_weights.h"

#include <algorithm>

#include "base/error.h"
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

/// Panels that one task packs: about 2 MB of the file, so that mostly one thread fills a huge page.
uint64_t panels_per_task(const Weight& w) {
  const uint64_t panel = kPanelRows * w.rows.row_bytes();
  return std::max<uint64_t>(1, (uint64_t{2048} << 10) / panel);
}

/// Panels [begin, end) of a stack of matrices, counted through.
struct Task {
  const Weight* weight;
  uint64_t begin, end;
};

void run(const Task& task) {
  const Weight& w = *task.weight;
  // Both pointers are ours: Weight only promises others not to write.
  auto* panels = const_cast<std::byte*>(w.panels);
  auto* exponents = const_cast<int8_t*>(w.exponents);
  pack_panels(w, task.begin, task.end, panels + task.begin * panel_bytes(w.type(), w.n_cols()),
              exponents + task.begin);
}

std::vector<Task> tasks_of(const std::vector<Weight*>& all) {
  std::vector<Task> tasks;
  for (const Weight* w : all) {
    const uint64_t n = packed_panels(*w), step = panels_per_task(*w);
    for (uint64_t p = 0; p < n; p += step) tasks.push_back({w, p, std::min(n, p + step)});
  }
  return tasks;
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

void PackedWeights::take(const std::vector<Weight*>& all) {
  uint64_t bytes = 0, panels = 0;
  for (const Weight* w : all) {
    bytes += packed_bytes(*w);
    panels += packed_panels(*w);
  }
  const uint64_t available = available_memory_bytes();
  if (bytes + panels > available) {
    fail(
        "not enough memory: the packed weights need {}, available are {}; with -rtr 0 the program "
        "runs from the mapped file, slower",
        format_bytes(bytes + panels), format_bytes(available));
  }
  panels_ = HugeBuffer(bytes);
  exponents_.resize(panels);
  uint64_t at = 0, panel = 0;
  for (Weight* w : all) {
    w->panels = panels_.data() + at;
    w->exponents = exponents_.data() + panel;
    at += packed_bytes(*w);
    panel += packed_panels(*w);
  }
}

void PackedWeights::fill(const std::vector<Weight*>& all, Workers& workers,
                         const LoadProgress& progress) {
  const std::vector<Task> tasks = tasks_of(all);
  // In slices of about 256 MB, with a word about progress between them.
  constexpr uint64_t kTasksPerSlice = 128;
  LoadStep step{LoadActivity::pack, 0, panels_.n_bytes()};
  for (uint64_t first = 0; first < tasks.size(); first += kTasksPerSlice) {
    const uint64_t n = std::min<uint64_t>(kTasksPerSlice, tasks.size() - first);
    workers.parallel_for(n, 1, [&](uint64_t begin, uint64_t end) {
      for (uint64_t i = begin; i < end; ++i) run(tasks[first + i]);
    });
    for (uint64_t i = first; i < first + n; ++i) {
      step.n_done += (tasks[i].end - tasks[i].begin) *
                     panel_bytes(tasks[i].weight->type(), tasks[i].weight->n_cols());
    }
    step.finished = first + n == tasks.size();
    if (progress) progress(step);
  }
}

void PackedWeights::pack(ModelWeights& weights, const TensorSet& kept, Workers& workers,
                         const LoadProgress& progress) {
  const std::vector<Weight*> all = packable_weights(weights, kept);
  if (all.empty()) return;
  take(all);
  fill(all, workers, progress);
}

void PackedWeights::load(const GgufFile& model, const std::vector<Weight*>& all,
                         bool is_whole_model, Workers& workers, const LoadProgress& progress,
                         std::vector<std::string>& notes) {
  if (all.empty()) return;
  if (!is_whole_model) {
    take(all);
    fill(all, workers, progress);
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
  take(all);
  const std::filesystem::path& source = model.parts().front().path;
  std::vector<std::string> reasons;
  for (const std::filesystem::path& path : panel_cache_paths(source)) {
    const PanelCacheStatus status =
        read_panel_cache(path, model, {all.begin(), all.end()}, memory(), workers, progress);
    if (status.state == PanelCacheStatus::State::valid) return;
    if (status.state == PanelCacheStatus::State::absent) continue;
    reasons.push_back(fmt::format("{} is not used: {}; `hybrid-run repack -m {}` writes it anew",
                                  printable(path.string(), 4096), status.reason,
                                  printable(source.string(), 4096)));
  }
  fill(all, workers, progress);
  notes.insert(notes.end(), reasons.begin(), reasons.end());
}

}  // namespace hybrid
