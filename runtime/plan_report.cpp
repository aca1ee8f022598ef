#include "runtime/plan_report.h"

#include <algorithm>
#include <map>

#include "base/error.h"
#include "base/units.h"
#include "base/utf8.h"
#include "runtime/inspect_report.h"
#include "runtime/text_table.h"
#include "tensor/simd_level.h"

namespace hybrid {
namespace {

using Json = nlohmann::ordered_json;

constexpr const char* kNoRates =
    "no rates are stored for this machine, and `plan` measures none; `bench` measures";

std::string plural(uint64_t n, const char* word) {
  return fmt::format("{} {}{}", n, word, n == 1 ? "" : "s");
}

/// The steps of a whole micro-batch at the end of the context; none with flash.
ScoreSteps last_steps(const SequencePlan& s) {
  const AttentionOptions& o = s.attention.options();
  if (o.flash) return {};
  return score_steps(s.attention.shape().n_heads, s.n_ubatch, s.n_ctx, o.max_scratch_bytes);
}

uint64_t n_steps(const SequencePlan& s) {
  const ScoreSteps steps = last_steps(s);
  return steps.n_tokens == 0 ? 0 : steps.n_steps(s.attention.shape().n_heads, s.n_ubatch);
}

uint64_t transposed_bytes(const KvCache::Shape& shape) {
  KvCache::Shape rows = shape;
  rows.transposed = false;
  return shape.n_bytes() - rows.n_bytes();
}

/// Behind how many cached positions the crossover is shown.
std::vector<uint32_t> shown_positions(uint32_t n_ctx) {
  std::vector<uint32_t> all{0, n_ctx / 4, n_ctx / 2, n_ctx};
  all.erase(std::unique(all.begin(), all.end()), all.end());
  return all;
}

uint64_t free_bytes(const RunPlan& plan, const MachineMemory& memory) {
  const uint64_t n = plan.needed_bytes() + plan.weights.mapped;
  return memory.available_bytes - std::min(memory.available_bytes, n);
}

/// Tensors whose data the files end before.
uint64_t n_without_data(const GgufFile& file) {
  return static_cast<uint64_t>(
      std::count_if(file.tensors().begin(), file.tensors().end(), [&](const GgufTensor& t) {
        return t.info.offset + t.info.n_bytes > file.parts()[t.part].n_bytes;
      }));
}

// ---- text

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

std::string memory_text(const RunPlan& plan, const MachineMemory& memory) {
  const SequencePlan& s = plan.sequence;
  TextTable table("<><");
  const auto add = [&](const char* name, uint64_t n_bytes, std::string remark = "") {
    if (n_bytes > 0) table.add({name, format_bytes(n_bytes), std::move(remark)});
  };
  add("weights, packed", plan.weights.panels);
  add("attention weights of single tokens", plan.weights.decode);
  add("norms and biases", plan.weights.floats);
  add("KV cache", s.cache_bytes,
      fmt::format("{} per token", format_bytes(s.cache_bytes / s.n_ctx)));
  add("micro-batch", s.buffer_bytes,
      fmt::format("{} of it for attention", format_bytes(s.attention.n_bytes())));
  add("threads", plan.sequence.n_threads * (s.thread_bytes + plan.spot_thread_bytes),
      fmt::format("up to {} each", format_bytes(s.thread_bytes + plan.spot_thread_bytes)));
  add("logits, sampling", plan.output_bytes);
  table.add({"needed", format_bytes(plan.needed_bytes()), ""});
  table.add({"available now", format_bytes(memory.available_bytes),
             fmt::format("of {}", format_bytes(memory.total_bytes))});
  add("weights, mapped from the file", plan.weights.mapped,
      "as far as there is room; the system reads the rest again");
  return "\nmemory (CPU)\n" + table.str();
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
  if (const ScoreSteps steps = last_steps(s); steps.n_tokens > 0) {
    out += fmt::format("  K*Q: {}; at the end of the context {} and {} at a time, {}\n",
                       format_bytes(scores_bytes(s.attention.sizes(), o)),
                       plural(steps.n_heads, "head"), plural(steps.n_tokens, "token"),
                       plural(n_steps(s), "step"));
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

std::string tensors_text(const RunPlan& plan) {
  struct Kind {
    std::string name;
    DType type;
    TensorLayout layout;
    uint64_t n_tensors = 0, n_bytes = 0;
  };
  std::vector<Kind> kinds;
  std::map<std::tuple<std::string, DType, TensorLayout>, size_t> index;
  for (const PlannedTensor& planned : plan.tensors) {
    const GgufTensorInfo& info = planned.tensor->info;
    const std::string name = kind_of(info.name);
    const auto [at, is_new] =
        index.emplace(std::tuple(name, info.type, planned.layout), kinds.size());
    if (is_new) kinds.push_back({name, info.type, planned.layout});
    kinds[at->second].n_tensors += 1;
    kinds[at->second].n_bytes += info.n_bytes;
  }
  TextTable table("<>>><<");
  table.add({"tensors", "number", "type", "in the file", "device", "layout"});
  for (const Kind& kind : kinds) {
    const bool is_used = kind.layout != TensorLayout::unused;
    table.add({printable(kind.name), std::to_string(kind.n_tensors),
               std::string(name_of(kind.type)), format_bytes(kind.n_bytes), is_used ? "CPU" : "-",
               std::string(name_of(kind.layout))});
  }
  return "\n" + table.str();
}

std::string verdict_text(const ModelHeaders& model, const RunPlan& plan,
                         const MachineMemory& memory) {
  const std::string why_not = plan.why_not(memory.available_bytes);
  std::string out = why_not.empty() ? "\nfits: true\n" : "\nfits: false: " + why_not + "\n";
  out += fmt::format("predicted: unknown: {}\n", kNoRates);
  for (const std::string& warning : plan_warnings(model, plan, memory)) {
    out += "warning: " + warning + "\n";
  }
  return out;
}

// ---- JSON

std::string valid_utf8(const std::string& text) {
  return find_invalid_utf8(text) == std::string::npos ? text : printable(text, text.size());
}

Json device_json(const RunPlan& plan, const MachineMemory& memory) {
  const SequencePlan& s = plan.sequence;
  const WeightBytes& w = plan.weights;
  return {{"name", "CPU"},
          {"kind", "cpu"},
          {"simulated", false},
          {"capacity_bytes", memory.available_bytes},
          {"total_bytes", memory.total_bytes},
          {"weights_bytes", w.all()},
          {"kv_bytes", s.cache_bytes},
          {"activation_bytes", plan.activation_bytes()},
          {"staging_bytes", 0},
          {"free_bytes", free_bytes(plan, memory)},
          {"weights",
           {{"panels_bytes", w.panels},
            {"decode_bytes", w.decode},
            {"floats_bytes", w.floats},
            {"mapped_bytes", w.mapped}}},
          {"activations",
           {{"buffer_bytes", s.buffer_bytes},
            {"thread_bytes", s.thread_bytes + plan.spot_thread_bytes},
            {"n_threads", s.n_threads},
            {"output_bytes", plan.output_bytes}}}};
}

Json attention_json(const SequencePlan& s) {
  const AttentionOptions& o = s.attention.options();
  const ScoreSteps steps = last_steps(s);
  const KeyBlock::Shape& block = s.attention.unabsorbed_block();
  const bool makes_keys = block.n_positions > 0;
  Json crossover = Json::array();
  for (const uint32_t n_past : shown_positions(s.n_ctx)) {
    const uint32_t n = s.attention.min_unabsorbed_tokens(n_past);
    crossover.push_back({{"n_past", n_past}, {"n_tokens", n > 0 ? Json(n) : Json()}});
  }
  return {{"mla", static_cast<int>(o.mla)},
          {"fa", o.flash ? 1 : 0},
          {"amb_bytes", o.max_scratch_bytes},
          {"ctk", cache_type_name(o.key_type)},
          {"ctv", cache_type_name(s.cache.values_in_keys() ? o.key_type : o.value_type)},
          {"cache_row_bytes", s.cache.key.n_bytes() + s.cache.value.n_bytes()},
          {"n_cache_heads", s.cache.n_heads},
          {"cache_bytes", s.cache_bytes},
          {"transposed_bytes", transposed_bytes(s.cache)},
          {"scratch_bytes", s.attention.n_bytes()},
          {"scores_bytes", scores_bytes(s.attention.sizes(), o)},
          {"scores_heads_per_step", steps.n_heads},
          {"scores_tokens_per_step", steps.n_tokens},
          {"scores_steps", n_steps(s)},
          {"unabsorbed_bytes", s.attention.unabsorbed_bytes()},
          {"unabsorbed_heads_per_step", makes_keys ? block.n_heads : 0},
          {"unabsorbed_block_positions", block.n_positions},
          {"thread_bytes", s.attention.thread_bytes()},
          {"crossover", crossover}};
}

Json tensors_json(const RunPlan& plan) {
  Json tensors = Json::array();
  for (const PlannedTensor& planned : plan.tensors) {
    const GgufTensorInfo& info = planned.tensor->info;
    const bool is_used = planned.layout != TensorLayout::unused;
    tensors.push_back(
        {{"name", info.name},
         {"type", name_of(info.type)},
         {"shape", std::vector<uint64_t>(info.ne.begin(), info.ne.begin() + info.n_dims)},
         {"bytes", info.n_bytes},
         {"device", is_used ? Json("CPU") : Json()},
         {"node", nullptr},
         {"layout", name_of(planned.layout)},
         {"rule", nullptr}});
  }
  return tensors;
}

Json model_json(const ModelHeaders& model) {
  const ModelConfig& c = model.config;
  return {{"name", valid_utf8(c.name)},
          {"architecture", c.architecture},
          {"path", valid_utf8(model.file.parts().front().path.string())},
          {"n_layers", c.n_layers},
          {"n_params", n_params(model.file)},
          {"file_bytes", model.file.total_bytes()},
          {"n_ctx_train", c.n_ctx_train},
          {"notes", c.notes}};
}

}  // namespace

std::vector<std::string> plan_warnings(const ModelHeaders& model, const RunPlan& plan,
                                       const MachineMemory& memory) {
  std::vector<std::string> all;
  if (plan.sequence.n_ctx > model.config.n_ctx_train) {
    all.push_back(fmt::format("the context of {} exceeds the {} tokens the model was trained for",
                              plan.sequence.n_ctx, model.config.n_ctx_train));
  }
  const uint64_t needed = plan.needed_bytes();
  if (needed <= memory.available_bytes && plan.weights.mapped > memory.available_bytes - needed) {
    all.push_back(fmt::format(
        "{} of mapped weights do not stay in memory beside the rest: parts of the file are read "
        "again and again",
        format_bytes(plan.weights.mapped)));
  }
  if (const uint64_t n = n_without_data(model.file); n > 0) {
    all.push_back(
        fmt::format("the file ends before the data of {} tensors; `run` needs all of it", n));
  }
  return all;
}

std::string plan_text(const ModelHeaders& model, const RunPlan& plan, const MachineMemory& memory) {
  return head_text(model, plan) + memory_text(plan, memory) + attention_text(plan.sequence) +
         tensors_text(plan) + verdict_text(model, plan, memory);
}

Json plan_json(const ModelHeaders& model, const RunPlan& plan, const MachineMemory& memory) {
  const ExecutionOptions& e = plan.settings.execution;
  const std::string why_not = plan.why_not(memory.available_bytes);
  Json out = {{"model", model_json(model)},
              {"context", plan.sequence.n_ctx},
              {"n_batch", e.n_batch},
              {"n_ubatch", plan.sequence.n_ubatch},
              {"n_threads", e.n_threads},
              {"n_threads_batch", e.n_threads_batch},
              {"isa", name_of(simd_level())},
              {"devices", Json::array({device_json(plan, memory)})},
              {"attention", attention_json(plan.sequence)},
              {"fits", why_not.empty()},
              {"why_not", why_not},
              {"warnings", plan_warnings(model, plan, memory)},
              {"predicted", {{"pp_tps", nullptr}, {"tg_tps", nullptr}, {"basis", kNoRates}}},
              {"rules", Json::array()}};
  out["tensors"] = tensors_json(plan);
  return out;
}

}  // namespace hybrid
