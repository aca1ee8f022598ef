#include <cmath>

#include <nlohmann/json.hpp>

#include "base/error.h"
#include "base/utf8.h"
#include "runtime/inspect_report.h"
#include "runtime/plan_facts.h"
#include "runtime/plan_report.h"
#include "tensor/simd_level.h"

namespace hybrid {
namespace {

using Json = nlohmann::ordered_json;

std::string valid_utf8(const std::string& text) {
  return find_invalid_utf8(text) == std::string::npos ? text : printable(text, text.size());
}

uint64_t transposed_bytes(const KvCache::Shape& shape) {
  KvCache::Shape rows = shape;
  rows.transposed = false;
  return shape.n_bytes() - rows.n_bytes();
}

Json device_json(const PlacementPlan& plan, uint32_t d) {
  const PlanDevice& device = plan.machine.devices[d];
  const DeviceLoad& load = plan.loads[d];
  const bool is_cpu = d == 0;
  const WeightBytes w = is_cpu ? cpu_weights(plan) : WeightBytes{};
  Json out = {{"name", text_of(device.name)},
              {"kind", name_of(device.name.kind)},
              {"simulated", device.name.kind == DeviceKind::sim},
              {"label", valid_utf8(device.label)},
              {"capacity_bytes", device.capacity_bytes},
              {"total_bytes", device.total_bytes},
              {"budget_bytes", device.budget_bytes},
              {"weights_bytes", load.weight_bytes + w.mapped},
              {"kv_bytes", load.cache_bytes},
              {"activation_bytes", plan.fixed[d].activations},
              {"context_bytes", plan.fixed[d].context},
              {"staging_bytes", 0},
              {"free_bytes", free_bytes(plan, d)}};
  if (!is_cpu) return out;
  const SequencePlan& s = plan.run.sequence;
  out["weights"] = {{"panels_bytes", w.panels},
                    {"decode_bytes", w.decode},
                    {"floats_bytes", w.floats},
                    {"mapped_bytes", w.mapped}};
  out["activations"] = {{"buffer_bytes", s.buffer_bytes},
                        {"thread_bytes", s.thread_bytes + plan.run.spot_thread_bytes},
                        {"n_threads", s.n_threads},
                        {"output_bytes", plan.run.output_bytes}};
  return out;
}

Json disk_json(const PlacementPlan& plan) {
  return {{"name", text_of({DeviceKind::disk})},
          {"kind", name_of(DeviceKind::disk)},
          {"simulated", false},
          {"label", "the mapped file"},
          {"capacity_bytes", plan.disk_bytes},
          {"total_bytes", plan.disk_bytes},
          {"budget_bytes", plan.disk_bytes},
          {"weights_bytes", plan.disk_bytes},
          {"kv_bytes", 0},
          {"activation_bytes", 0},
          {"context_bytes", 0},
          {"staging_bytes", 0},
          {"free_bytes", 0}};
}

Json attention_json(const SequencePlan& s) {
  const AttentionOptions& o = s.attention.options();
  const ScoreSteps steps = last_score_steps(s);
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
          {"scores_steps", n_last_score_steps(s)},
          {"unabsorbed_bytes", s.attention.unabsorbed_bytes()},
          {"unabsorbed_heads_per_step", makes_keys ? block.n_heads : 0},
          {"unabsorbed_block_positions", block.n_positions},
          {"thread_bytes", s.attention.thread_bytes()},
          {"crossover", crossover}};
}

Json rules_json(const PlacementPlan& plan) {
  Json rules = Json::array();
  for (uint32_t r = 0; r < plan.rules.size(); ++r) {
    const PlacementRule& rule = plan.rules[r];
    rules.push_back({{"pattern", valid_utf8(rule.pattern)},
                     {"device", text_of(rule.device)},
                     {"experts", rule.experts ? Json(rule.experts->text()) : Json()},
                     {"origin", valid_utf8(rule.origin)},
                     {"matched", plan.input.n_matched[r]},
                     {"decided", plan.input.n_decided[r]}});
  }
  return rules;
}

/// "PATTERN=DEVICE", the whole pattern.
std::string rule_text(const PlacementRule& rule) {
  return fmt::format("{}={}{}", valid_utf8(rule.pattern), text_of(rule.device),
                     rule.experts ? " experts " + rule.experts->text() : "");
}

Json place_json(const PlacementPlan& plan, uint32_t tensor, const TensorPlace& place) {
  return {{"device", device_text(plan, place)},
          {"node", nullptr},
          {"layout", layout_name(plan, tensor, place.device)},
          {"rule", place.rule ? Json(rule_text(plan.rules[*place.rule])) : Json()}};
}

Json tensors_json(const PlacementPlan& plan) {
  Json tensors = Json::array();
  const auto places = tensor_places(plan);
  for (uint32_t i = 0; i < plan.run.tensors.size(); ++i) {
    const GgufTensorInfo& info = plan.run.tensors[i].tensor->info;
    Json out = {{"name", info.name},
                {"type", name_of(info.type)},
                {"shape", std::vector<uint64_t>(info.ne.begin(), info.ne.begin() + info.n_dims)},
                {"bytes", info.n_bytes},
                {"role", name_of(plan.input.inventory[i].role)}};
    if (places[i].empty()) {
      out.update({{"device", nullptr}, {"node", nullptr}, {"layout", "unused"}, {"rule", nullptr}});
    } else {
      out.update(place_json(plan, i, places[i].front()));
    }
    if (places[i].size() > 1) {
      for (const TensorPlace& place : places[i]) {
        Json part = place_json(plan, i, place);
        part["experts"] = place.experts->text();
        out["parts"].push_back(part);
      }
    }
    tensors.push_back(out);
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

Json rate_json(double rate) { return rate > 0 ? Json(rate) : Json(); }

/// Seconds; null where a rate is not known.
Json lanes_json(const PlacementPlan& plan, const LaneTimes& times) {
  const auto number = [](double x) { return std::isfinite(x) ? Json(x) : Json(); };
  Json devices = Json::array();
  for (size_t d = 0; d < plan.devices.size(); ++d) {
    devices.push_back({{"name", text_of(plan.devices[d].name)},
                       {"busy_s", number(times.busy_seconds[d])},
                       {"link_s", number(times.link_seconds[d])}});
  }
  return {{"seconds", number(times.seconds)}, {"devices", devices}};
}

Json contexts_json(const PlacementPlan& plan) {
  Json contexts = Json::array();
  for (const uint32_t n_past : shown_positions(plan.run.sequence.n_ctx)) {
    contexts.push_back({{"n_past", n_past},
                        {"pp_tps", rate_json(prefill_rate(plan, n_past))},
                        {"tg_tps", rate_json(decode_rate(plan, n_past))}});
  }
  return contexts;
}

}  // namespace

Json plan_json(const ModelHeaders& model, const PlacementPlan& plan, const PlanContext& context) {
  const ExecutionOptions& e = plan.run.settings.execution;
  Json devices = Json::array();
  for (uint32_t d = 0; d < plan.devices.size(); ++d) devices.push_back(device_json(plan, d));
  if (plan.disk_bytes > 0) devices.push_back(disk_json(plan));
  Json settings = Json::array();
  for (const PlanSetting& s : context.settings) {
    settings.push_back(
        {{"name", s.name}, {"value", valid_utf8(s.value)}, {"source", valid_utf8(s.source)}});
  }
  return {{"model", model_json(model)},
          {"machine", plan.machine.is_described() ? Json(valid_utf8(plan.machine.name)) : Json()},
          {"context", plan.run.sequence.n_ctx},
          {"largest_context", context.largest_context},
          {"n_batch", e.n_batch},
          {"n_ubatch", plan.run.sequence.n_ubatch},
          {"n_threads", e.n_threads},
          {"n_threads_batch", e.n_threads_batch},
          {"isa", name_of(simd_level())},
          {"settings", settings},
          {"devices", devices},
          {"attention", attention_json(plan.run.sequence)},
          {"fits", plan.fits()},
          {"why_not", why_not(model, plan)},
          {"warnings", plan_warnings(model, plan)},
          {"predicted",
           {{"pp_tps", rate_json(prefill_rate(plan))},
            {"tg_tps", rate_json(decode_rate(plan))},
            {"contexts", contexts_json(plan)},
            {"lanes",
             {{"token", lanes_json(plan, token_lanes(plan))},
              {"prefill", lanes_json(plan, prefill_lanes(plan))}}},
            {"basis", basis_text(plan)}}},
          {"rules", rules_json(plan)},
          {"tensors", tensors_json(plan)}};
}

}  // namespace hybrid
