#include <algorithm>
#include <cmath>
#include <map>

#include "base/error.h"
#include "base/text.h"
#include "base/units.h"
#include "runtime/inspect_report.h"
#include "runtime/plan_facts.h"
#include "runtime/plan_report.h"
#include "runtime/text_table.h"
#include "tensor/simd_level.h"

namespace hybrid {
namespace {

std::string head_text(const ModelHeaders& model, const RunPlan& plan) {
  const ModelConfig& c = model.config;
  const ExecutionOptions& e = plan.settings.execution;
  const size_t n_files = model.file.parts().size();
  std::string out = fmt::format(
      "{}: {}, {} layers, {:.2f} billion parameters, {} in {}\n"
      "context {}, micro-batch {}, {} (prefill {}), {} kernels\n",
      printable(c.name), c.architecture, c.n_layers,
      static_cast<double>(n_params(model.file)) * 1e-9, format_bytes(tensor_bytes(model.file)),
      plural(n_files, "file"), plan.sequence.n_ctx, plan.sequence.n_ubatch,
      plural(static_cast<uint64_t>(e.n_threads), "thread"), e.n_threads_batch,
      name_of(simd_level()));
  for (const std::string& note : c.notes) out += note + "\n";
  return out;
}

/// One line: "settings: ctx-size 4096 (command line), mla 3 (config a.json)".
std::string settings_text(const std::vector<PlanSetting>& settings) {
  std::string out;
  for (const PlanSetting& s : settings) {
    out += fmt::format("{}{} {} ({})", out.empty() ? "settings: " : ", ", s.name,
                       printable(s.value), s.source);
  }
  return out.empty() ? out : out + "\n";
}

std::string cpu_text(const PlacementPlan& plan) {
  const SequencePlan& s = plan.run.sequence;
  const WeightBytes w = cpu_weights(plan);
  const PlanDevice& cpu = plan.machine.devices.front();
  const uint64_t n_cache = plan.loads.front().cache_bytes;
  TextTable table("<><");
  const auto add = [&](const char* name, uint64_t n_bytes, std::string remark = "") {
    if (n_bytes > 0) table.add({name, format_bytes(n_bytes), std::move(remark)});
  };
  add("weights, packed", w.panels);
  add("attention weights of single tokens", w.decode);
  add("norms and biases", w.floats);
  add("KV cache", n_cache, fmt::format("{} per token", format_bytes(n_cache / s.n_ctx)));
  add("micro-batch", s.buffer_bytes,
      fmt::format("{} of it for attention", format_bytes(s.attention.n_bytes())));
  add("threads", s.n_threads * (s.thread_bytes + plan.run.spot_thread_bytes),
      fmt::format("up to {} each", format_bytes(s.thread_bytes + plan.run.spot_thread_bytes)));
  add("logits, sampling", plan.run.output_bytes);
  table.add({"needed", format_bytes(plan.loads.front().n_bytes()), ""});
  if (plan.machine.is_described()) {
    table.add({"may be used", format_bytes(cpu.budget_bytes), ""});
  } else {
    table.add({"available now", format_bytes(cpu.capacity_bytes),
               fmt::format("of {}", format_bytes(cpu.total_bytes))});
  }
  add("weights, mapped from the file", w.mapped,
      "as far as there is room; the system reads the rest again");
  add("weights on DISK, by rules", plan.disk_bytes, "the same");
  return "\nmemory (CPU)\n" + table.str();
}

/// "CUDA0", or "CUDA0-CUDA11"
std::string range_text(const std::vector<uint32_t>& group, const PlacementPlan& plan) {
  const std::string first = text_of(plan.devices[group.front()].name);
  return group.size() == 1 ? first : first + "-" + text_of(plan.devices[group.back()].name);
}

/// The GPUs, those next to each other that hold the same as one line.
std::string gpus_text(const PlacementPlan& plan) {
  if (plan.devices.size() == 1) return {};
  std::vector<std::vector<uint32_t>> groups;
  for (uint32_t d = 1; d < plan.devices.size(); ++d) {
    const auto same = [&](uint32_t other) {
      return plan.loads[d].weight_bytes == plan.loads[other].weight_bytes &&
             plan.fit.used_bytes[d] == plan.fit.used_bytes[other] &&
             plan.devices[d].budget_bytes == plan.devices[other].budget_bytes &&
             plan.machine.devices[d].label == plan.machine.devices[other].label;
    };
    if (d > 1 && same(d - 1)) {
      groups.back().push_back(d);
    } else {
      groups.push_back({d});
    }
  }
  TextTable table("<>>>>>><");
  table.add({"memory (GPU)", "weights", "KV cache", "micro-batch", "context, margin", "needed",
             "may be used", ""});
  for (const auto& group : groups) {
    const uint32_t d = group.front();
    const DeviceLoad& load = plan.loads[d];
    table.add({range_text(group, plan), format_bytes(load.weight_bytes),
               format_bytes(load.cache_bytes), format_bytes(plan.fixed[d].activations),
               format_bytes(plan.fixed[d].context), format_bytes(load.n_bytes()),
               format_bytes(plan.devices[d].budget_bytes),
               printable(plan.machine.devices[d].label)});
  }
  return "\n" + table.str();
}

/// "0-2, 5"
std::string numbers_text(const std::vector<uint32_t>& numbers) {
  std::string out;
  for (size_t i = 0; i < numbers.size();) {
    size_t end = i + 1;
    while (end < numbers.size() && numbers[end] == numbers[end - 1] + 1) ++end;
    out += fmt::format("{}{}{}", out.empty() ? "" : ", ", numbers[i],
                       end - i > 1 ? fmt::format("-{}", numbers[end - 1]) : "");
    i = end;
  }
  return out;
}

/// Which layers each device computes, and whose experts it holds.
std::string layers_text(const PlacementPlan& plan) {
  if (plan.devices.size() == 1) return {};
  TextTable table("<<<");
  table.add({"layers", "at home", "routed experts"});
  const Placement& placement = plan.fit.placement;
  const uint32_t n_layers = plan.input.model.n_layers;
  for (uint32_t d = 0; d < plan.devices.size(); ++d) {
    std::vector<uint32_t> homes, experts;
    for (uint32_t layer = 0; layer < n_layers; ++layer) {
      if (placement.home[layer] == d) homes.push_back(layer);
    }
    for (uint32_t i = 0; i < placement.device_of.size(); ++i) {
      const PlacementUnit& unit = plan.input.model.units[plan.input.model.pieces[i].unit];
      if (unit.kind != UnitKind::routed || placement.device_of[i] != d) continue;
      if (experts.empty() || experts.back() != unit.layer) experts.push_back(unit.layer);
    }
    std::sort(experts.begin(), experts.end());
    experts.erase(std::unique(experts.begin(), experts.end()), experts.end());
    std::string home = numbers_text(homes);
    if (placement.home[n_layers] == d) home += home.empty() ? "output" : ", output";
    if (home.empty() && experts.empty()) continue;
    table.add({text_of(plan.devices[d].name), home.empty() ? "-" : home,
               experts.empty() ? "-" : numbers_text(experts)});
  }
  return "\n" + table.str();
}

std::string rules_text(const PlacementPlan& plan) {
  if (plan.rules.empty()) return {};
  TextTable table("<<>><");
  table.add({"rules, the first match decides", "device", "matches", "decides", "from"});
  for (uint32_t r = 0; r < plan.rules.size(); ++r) {
    const PlacementRule& rule = plan.rules[r];
    table.add({printable(rule.pattern) + (rule.experts ? " experts " + rule.experts->text() : ""),
               text_of(rule.device), std::to_string(plan.input.n_matched[r]),
               std::to_string(plan.input.n_decided[r]), printable(rule.origin)});
  }
  return "\n" + table.str();
}

std::string attention_text(const SequencePlan& s) {
  const AttentionOptions& o = s.attention.options();
  const KvCache::Shape& cache = s.cache;
  std::string out = fmt::format(
      "\nattention: -mla {} -fa {} -amb {} -ctk {}{}\n  cache: {} x {} B for a token and layer{}\n",
      static_cast<int>(o.mla), o.flash ? 1 : 0,
      o.max_scratch_bytes == 0 ? "0 (no limit)" : format_bytes(o.max_scratch_bytes),
      cache_type_name(o.key_type),
      cache.values_in_keys() ? "" : fmt::format(" -ctv {}", cache_type_name(o.value_type)),
      plural(cache.n_heads, "head"), cache.key.n_bytes() + cache.value.n_bytes(),
      cache.transposed ? ", and the latents once more, transposed" : "");
  if (const ScoreSteps steps = last_score_steps(s); steps.n_tokens > 0) {
    out += fmt::format("  K*Q: {}; at the end of the context {} and {} at a time, {}\n",
                       format_bytes(scores_bytes(s.attention.sizes(), o)),
                       plural(steps.n_heads, "head"), plural(steps.n_tokens, "token"),
                       plural(n_last_score_steps(s), "step"));
  }
  if (const KeyBlock::Shape& block = s.attention.unabsorbed_block(); block.n_positions > 0) {
    out += fmt::format("  un-absorbed: {} for {} and {} positions at a time; from",
                       format_bytes(s.attention.unabsorbed_bytes()), plural(block.n_heads, "head"),
                       block.n_positions);
    for (const uint32_t n_past : shown_positions(s.n_ctx)) {
      const uint32_t n = s.attention.min_unabsorbed_tokens(n_past);
      out += fmt::format("{} {} behind {}", n_past > 0 ? "," : "",
                         n > 0 ? plural(n, "token") : "no number of tokens", n_past);
    }
    out += "\n";
  }
  return out;
}

/// "blk.*.attn_q.weight": layers have tensors of the same names.
std::string kind_of(const std::string& name) {
  if (!name.starts_with("blk.")) return name;
  const size_t end = name.find_first_not_of("0123456789", 4);
  return end == 4 || end == std::string::npos ? name : "blk.*" + name.substr(end);
}

/// "CPU", "CUDA0-CUDA3", "57 CPU, 1 CUDA0"
std::string devices_text(const std::map<uint32_t, uint64_t>& n_on, const PlacementPlan& plan) {
  const auto name = [&](uint32_t d) { return text_of(plan.devices[d].name); };
  if (n_on.empty()) return "-";
  if (n_on.size() == 1) return name(n_on.begin()->first);
  if (n_on.size() > 2) return name(n_on.begin()->first) + "-" + name(n_on.rbegin()->first);
  std::string text;
  for (const auto& [d, n] : n_on) {
    text += fmt::format("{}{} {}", text.empty() ? "" : ", ", n, name(d));
  }
  return text;
}

std::string tensors_text(const PlacementPlan& plan) {
  struct Kind {
    std::string name;
    DType type;
    TensorLayout layout;
    uint64_t n_tensors = 0, n_bytes = 0;
    std::map<uint32_t, uint64_t> n_on = {};
    uint64_t n_on_disk = 0;
  };
  const auto places = tensor_places(plan);
  std::vector<Kind> kinds;
  std::map<std::tuple<std::string, DType, TensorLayout>, size_t> index;
  for (size_t i = 0; i < plan.run.tensors.size(); ++i) {
    const PlannedTensor& planned = plan.run.tensors[i];
    const GgufTensorInfo& info = planned.tensor->info;
    const bool is_small = planned.layout == TensorLayout::floats;
    const std::string name = is_small ? "norms, biases" : kind_of(info.name);
    const auto [at, is_new] =
        index.emplace(std::tuple(name, info.type, planned.layout), kinds.size());
    if (is_new) kinds.push_back({name, info.type, planned.layout});
    Kind& kind = kinds[at->second];
    kind.n_tensors += 1;
    kind.n_bytes += info.n_bytes;
    for (const TensorPlace& place : places[i]) {
      ++(place.on_disk ? kind.n_on_disk : kind.n_on[place.device]);
    }
  }
  TextTable table("<>>><<");
  table.add({"tensors", "number", "type", "in the file", "device", "layout"});
  for (const Kind& kind : kinds) {
    std::string devices = devices_text(kind.n_on, plan);
    if (kind.n_on_disk > 0)
      devices = kind.n_on.empty() ? "DISK" : devices + fmt::format(", {} DISK", kind.n_on_disk);
    const bool is_on_gpu = !kind.n_on.empty() && kind.n_on.rbegin()->first != 0;
    const bool is_on_cpu = kind.n_on.empty() || kind.n_on.begin()->first == 0;
    std::string layout = is_on_cpu ? std::string(name_of(kind.layout)) : "";
    if (is_on_gpu) {
      const std::string_view there = accelerator_layout(plan, kind.layout);
      if (layout != there) layout += fmt::format("{}{}", layout.empty() ? "" : ", ", there);
    }
    table.add({printable(kind.name), std::to_string(kind.n_tensors),
               std::string(name_of(kind.type)), format_bytes(kind.n_bytes), devices, layout});
  }
  return "\n" + table.str();
}

std::string rate_text(double rate) {
  return rate > 0 ? fmt::format("{:.{}f}", rate, rate < 100 ? 1 : 0) : "unknown";
}

/// How long each processor works, and which of it the others hide.
std::string lanes_text(const PlacementPlan& plan) {
  if (plan.devices.size() == 1 || !plan.fits()) return {};
  std::vector<std::string> head{"predicted, ms"};
  for (const PlacementDevice& d : plan.devices) {
    head.push_back(text_of(d.name));
    if (d.name.is_accelerator()) head.push_back("its link");
  }
  head.emplace_back("all");
  TextTable table("<" + std::string(head.size() - 1, '>'));
  table.add(head);
  const auto add = [&](std::string what, const LaneTimes& times) {
    const auto text = [](double seconds) {
      return std::isfinite(seconds) ? fmt::format("{:.2f}", seconds * 1e3) : "unknown";
    };
    std::vector<std::string> row{std::move(what)};
    for (size_t d = 0; d < plan.devices.size(); ++d) {
      row.push_back(text(times.busy_seconds[d]));
      if (plan.devices[d].name.is_accelerator()) row.push_back(text(times.link_seconds[d]));
    }
    row.push_back(text(times.seconds));
    table.add(row);
  };
  add("a token", token_lanes(plan));
  add(plan.run.sequence.n_in_pass == 1 ? "a micro-batch" : "these micro-batches",
      prefill_lanes(plan));
  return "\n" + table.str();
}

std::string predicted_text(const PlacementPlan& plan) {
  TextTable table("<>>");
  const uint32_t n = plan.run.sequence.n_in_pass;
  table.add({"predicted, t/s", "decode",
             n == 1 ? "prefill of a micro-batch" : fmt::format("prefill of {} micro-batches", n)});
  for (const uint32_t n_past : shown_positions(plan.run.sequence.n_ctx)) {
    table.add({fmt::format("behind {}", plural(n_past, "token")),
               rate_text(decode_rate(plan, n_past)), rate_text(prefill_rate(plan, n_past))});
  }
  return "\n" + table.str() + basis_text(plan) + "\n" + lanes_text(plan);
}

std::string verdict_text(const ModelHeaders& model, const PlacementPlan& plan,
                         uint32_t largest_context) {
  const std::string reason = why_not(model, plan);
  std::string out = reason.empty() ? "\nfits: true\n" : "\nfits: false: " + reason + "\n";
  if (largest_context > 0) {
    out += fmt::format("largest context that fits: {}{}\n", largest_context,
                       largest_context + kContextStep > model.config.n_ctx_train
                           ? ", all that the model was trained for"
                           : "");
  } else if (plan.refusal.empty() && plan.not_possible.empty()) {
    out += "no context fits\n";  // else it is not for want of room
  }
  out += predicted_text(plan);
  for (const std::string& warning : plan_warnings(model, plan)) {
    out += "warning: " + warning + "\n";
  }
  return out;
}

}  // namespace

std::string plan_text(const ModelHeaders& model, const PlacementPlan& plan,
                      const PlanContext& context) {
  return head_text(model, plan.run) + settings_text(context.settings) + cpu_text(plan) +
         gpus_text(plan) + layers_text(plan) + rules_text(plan) +
         attention_text(plan.run.sequence) + tensors_text(plan) +
         verdict_text(model, plan, context.largest_context);
}

}  // namespace hybrid
