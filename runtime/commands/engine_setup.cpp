#include <cmath>
#include <cstdlib>

#include "base/error.h"
#include "base/text.h"
#include "base/units.h"
#include "runtime/commands/command.h"
#include "runtime/cuda_devices.h"
#include "runtime/demo_model.h"
#include "runtime/devices.h"
#include "runtime/placed_parts.h"
#include "runtime/version.h"
#include "tensor/simd_level.h"

namespace hybrid::commands {

std::filesystem::path model_path(const Options& options) {
  const bool demo = options.command() == "run" && options.get_toggle("demo");
  if (!demo) return options.get("model");
  if (options.is_set("model")) fail_usage("--demo chooses the model; leave -m out");
  return demo_model_path();
}

namespace {

DType cache_type(std::string_view name) {
  for (const CacheType& t : kCacheTypes) {
    if (t.name == name) return t.type;
  }
  HYBRID_CHECK(!"a choice of the option that is no cache type");
  return DType::f16;
}

}  // namespace

AttentionOptions attention_options(const Options& options) {
  AttentionOptions attention;
  attention.mla = static_cast<MlaMode>(std::stoi(options.get("mla")));
  attention.flash = options.get_toggle("flash-attn");
  attention.max_scratch_bytes =
      static_cast<uint64_t>(options.get_number("attn-max-batch") * (1 << 20));
  if (attention.max_scratch_bytes == 0 && options.get_number("attn-max-batch") > 0) {
    fail_usage("-amb: {} MiB is less than a byte", options.get("attn-max-batch"));
  }
  attention.key_type = cache_type(options.get("cache-type-k"));
  attention.value_type = cache_type(options.get("cache-type-v"));
  if (options.is_set("cache-type-v") && attention.mla != MlaMode::standard &&
      attention.value_type != attention.key_type) {
    fail_usage(
        "-ctv {}: with -mla {} values are part of the cached keys; they have the type of -ctk, {}",
        options.get("cache-type-v"), options.get("mla"), options.get("cache-type-k"));
  }
  return attention;
}

ExpertGroups expert_groups(const Options& options) {
  const std::string groups = options.get("expert-groups");
  return groups == "on"    ? ExpertGroups::on
         : groups == "off" ? ExpertGroups::off
                           : ExpertGroups::automatic;
}

bool is_of_another_machine(const Options& options) {
  return options.command() == "plan" && options.is_set("machine");
}

RunSettings run_settings(const Options& options) {
  if (const auto isa = options.find("isa")) {
    const SimdLevel level = *find_simd_level(*isa);
    is_of_another_machine(options) ? assume_simd_level(level) : set_simd_level(level);
  }
  RunSettings settings;
  if (applies_to(*find_option("ctx-size"), options.command())) {  // others take what they need
    settings.n_ctx = static_cast<uint32_t>(options.find_integer("ctx-size").value_or(0));
  }
  settings.pack = options.get_toggle("run-time-repack") && simd_level() != SimdLevel::scalar;
  settings.prepare_decode = simd_level() != SimdLevel::scalar;
  ExecutionOptions& execution = settings.execution;
  execution.n_batch = static_cast<uint32_t>(options.get_integer("batch-size"));
  execution.n_ubatch = static_cast<uint32_t>(options.get_integer("ubatch-size"));
  if (options.is_set("ubatch-size") && execution.n_ubatch > execution.n_batch) {
    fail_usage("-ub {} is more than -b {}; raise -b, too", execution.n_ubatch, execution.n_batch);
  }
  set_threads(options, execution);
  execution.attention = attention_options(options);
  execution.fused_moe = options.get_toggle("fused-moe");
  return settings;
}

namespace {

/// "3,1"
std::vector<double> tensor_split(const std::string& text) {
  std::vector<double> shares;
  for (const std::string& word : split(text, ',')) {
    char* end = nullptr;
    const double share = std::strtod(word.c_str(), &end);
    if (word.empty() || *end != '\0' || !std::isfinite(share) || share < 0) {
      fail_usage("-ts: expected shares as in 3,1, found '{}'", printable(text));
    }
    shares.push_back(share);
  }
  return shares;
}

std::optional<uint32_t> find_count(const Options& options, std::string_view name) {
  const auto n = options.find_integer(name);
  return n ? std::optional(static_cast<uint32_t>(*n)) : std::nullopt;
}

}  // namespace

namespace {

std::vector<DeviceName> named_devices(const std::string& list) {
  try {
    return parse_devices(list);
  } catch (const Error& error) {
    fail_usage("{}", error.what());
  }
}

/// Told once: `bench` asks for each row.
std::vector<DeviceName> found_devices() {
  static const std::vector<DeviceName> found = [] {
    std::string reason;
    std::vector<DeviceName> all = find_cuda_devices(reason);
    if (!reason.empty()) log_detail(fmt::format("GPUs: {}", reason));
    return all;
  }();
  return found;
}

}  // namespace

PlacementRequest placement_request(const Options& options) {
  PlacementRequest request;
  const PlacementConfig placement = options.placement();
  for (const PlacementRule& rule : placement.rules) {
    (rule.origin == "-ot" ? request.rules : request.file_rules).push_back(rule);
  }
  request.budgets = placement.devices;
  const std::string devices = options.get("device");
  request.devices_are_found = devices == kAllDevices;
  if (!request.devices_are_found) {
    request.devices = named_devices(devices);
  } else if (!is_of_another_machine(options)) {
    request.devices = found_devices();
  }
  request.shorthands.cpu_moe = options.get_toggle("cpu-moe");
  request.shorthands.n_cpu_moe = find_count(options, "n-cpu-moe");
  request.shorthands.n_gpu_layers = find_count(options, "n-gpu-layers");
  if (const auto split = options.find("tensor-split")) {
    request.shorthands.tensor_split = tensor_split(*split);
  }
  return request;
}

EngineOptions engine_options(const Options& options, Trace* trace) {
  const RunSettings settings = run_settings(options);
  EngineOptions engine;
  engine.model = model_path(options);
  engine.n_ctx = settings.n_ctx;
  engine.expert_groups = expert_groups(options);
  engine.execution = settings.execution;
  engine.placement = placement_request(options);
  engine.execution.trace = trace;
  engine.execution.n_in_flight = engine.placement.devices.empty() ? 1 : 2;
  engine.pack = settings.pack;
  engine.prepare_decode = settings.prepare_decode;
  // What does not fit, or is not in the vocabulary, is told before minutes of loading.
  engine.prepare_now = false;
  engine.on_load = load_progress(options);
  return engine;
}

SamplingParams sampling_params(const Options& options) {
  SamplingParams params;
  params.seed = static_cast<uint64_t>(options.get_integer("seed"));
  params.temperature = static_cast<float>(options.get_number("temp"));
  params.top_k = static_cast<int32_t>(options.get_integer("top-k"));
  params.top_p = static_cast<float>(options.get_number("top-p"));
  params.min_p = static_cast<float>(options.get_number("min-p"));
  params.repeat_penalty = static_cast<float>(options.get_number("repeat-penalty"));
  return params;
}

namespace {

/// "f16", or "f16/q8_0" where values have a type of their own.
std::string cache_text(const AttentionOptions& a) {
  const std::string_view key = cache_type_name(a.key_type);
  if (a.mla != MlaMode::standard || a.key_type == a.value_type) return std::string(key);
  return fmt::format("{}/{}", key, cache_type_name(a.value_type));
}

}  // namespace

void log_devices(const Engine& engine) {
  if (!engine.device_note().empty()) {
    log_info(fmt::format("GPUs are not used: {}", engine.device_note()));
  }
  if (!engine.placement()) return;
  const PlacementPlan& plan = *engine.placement();
  const ModelConfig& config = engine.model().config();
  for (uint32_t d = 0; d < plan.devices.size(); ++d) {
    const std::string name = d == 0 ? "CPU" : engine.model().devices()[d - 1]->device().title();
    log_info(fmt::format("{}: {} ({} weights, {} cache, {} beside them)", name,
                         parts_text(plan.where, d, config.n_dense_lead, config.moe.n_shared > 0),
                         format_bytes(plan.loads[d].weight_bytes),
                         format_bytes(plan.loads[d].cache_bytes),
                         format_bytes(plan.loads[d].fixed_bytes)));
  }
}

void log_banner(const Options& options, const Engine& engine, const Sequence& sequence) {
  const ModelConfig& config = engine.model().config();
  const ExecutionOptions& execution = engine.options().execution;
  log_info(fmt::format(
      "hybrid-run {}: {}, {} layers, {}; context {}, {} cache, {} threads (prefill {}), {} "
      "kernels ({})",
      version(), config.name, config.n_layers, format_bytes(engine.model().file().total_bytes()),
      sequence.n_ctx(), cache_text(execution.attention), execution.n_threads,
      execution.n_threads_batch, name_of(simd_level()), simd_level_reason()));
  if (sequence.n_ctx() > config.n_ctx_train) {
    log_info(fmt::format("warning: the context exceeds the {} tokens the model was trained for",
                         config.n_ctx_train));
  }
  for (const std::string& note : config.notes) log_info(note);
  log_devices(engine);
  log_nodes(options, engine);
  log_detail(fmt::format("threads: {}", sequence.thread_placement()));
  const RunPlan plan = engine.plan(sequence.n_ctx());
  log_detail(fmt::format("weights: {} taken, {} mapped from the file",
                         format_bytes(plan.weights.taken()), format_bytes(plan.weights.mapped)));
  const SequencePlan& s = sequence.plan();
  log_detail(fmt::format(
      "memory: {} cache, {} micro-batch ({} of it scratch of attention), up to {} for each thread",
      format_bytes(s.cache_bytes), format_bytes(s.buffer_bytes),
      format_bytes(s.attention.n_bytes()), format_bytes(s.thread_bytes + plan.spot_thread_bytes)));
  for (const GgufFile::Part& part : engine.model().file().parts()) {
    log_detail(
        fmt::format("file: {}, {}", printable(part.path.string()), format_bytes(part.n_bytes)));
  }
  log_detail(fmt::format("tokenizer: {}, {} tokens", engine.tokenizer().pre_tokenizer(),
                         engine.tokenizer().n_vocab()));
}

}  // namespace hybrid::commands
