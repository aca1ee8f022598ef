// What `tune` found, behind the options of later runs.

#include <algorithm>
#include <array>
#include <system_error>

#include "base/error.h"
#include "base/text.h"
#include "numa/cpu_model.h"
#include "numa/cpu_set.h"
#include "runtime/commands/command.h"
#include "runtime/user_cache.h"
#include "tensor/simd_level.h"

namespace hybrid::commands {
namespace {

namespace fs = std::filesystem;

constexpr std::array<std::string_view, 6> kThreaded = {"run",        "chat",  "eval",
                                                       "perplexity", "bench", "plan"};
/// Another micro-batch is another order of sums: what is compared with other runs keeps the
/// default.
constexpr std::array<std::string_view, 4> kBatched = {"run", "chat", "bench", "plan"};

template <size_t n>
bool is_one_of(const std::array<std::string_view, n>& names, std::string_view name) {
  return std::find(names.begin(), names.end(), name) != names.end();
}

/// Opening a model's headers takes milliseconds, which most users need not wait for.
bool anything_was_tuned() {
  std::error_code error;
  for (fs::directory_iterator it(user_cache_folder(), error), end; !error && it != end;
       it.increment(error)) {
    if (it->path().filename().string().starts_with("tuned-")) return true;
  }
  return false;
}

bool wants_threads(const Options& options) {
  return is_one_of(kThreaded, options.command()) && !options.is_set("threads") &&
         !options.is_set("threads-batch");
}

bool wants_micro_batch(const Options& options) {
  return is_one_of(kBatched, options.command()) && !options.is_set("ubatch-size");
}

/// Nothing where the model cannot be opened: the command will say why.
Cached<TunedSettings> find_tuned_for(const Options& options) {
  if (!options.is_set("model") && !(options.command() == "run" && options.get_toggle("demo"))) {
    return {};
  }
  try {
    return find_tuned(
        tuned_key(options, GgufFile::open(model_path(options), {.data_required = false})));
  } catch (const Error&) {
    return {};
  }
}

/// `plan` logs nothing: it shows where each setting is from.
void log_tuned(const Options& options, const std::string& message) {
  if (applies_to(*find_option("verbose"), options.command())) log_info(message);
}

}  // namespace

TunedKey tuned_key(const Options& options, const GgufFile& model) {
  const NodePlan& nodes = nodes_of(options)->plan;
  int n_processors = 0;
  for (const NodeSlice& slice : nodes.slices) {
    for (const CpuList& core : slice.cores) n_processors += static_cast<int>(core.size());
  }
  std::vector<std::string> devices;
  for (const DeviceName device : placement_request(options).devices) {
    devices.push_back(text_of(device));
  }
  TunedKey key;
  key.cpu = printable(cpu_model_name());
  key.n_processors = static_cast<uint32_t>(within_quota(n_processors, nodes.cpu_quota));
  key.n_nodes = static_cast<uint32_t>(nodes.slices.size());
  key.numa = name_of(nodes.mode);
  key.devices = join(devices, ",");
  key.isa = options.find("isa").value_or(std::string(name_of(simd_level())));
  key.model = tensors_hash(model);
  return key;
}

Options with_tuned(const Options& options) {
  const bool threads = wants_threads(options), micro_batch = wants_micro_batch(options);
  if (!(threads || micro_batch) || is_of_another_machine(options) || !anything_was_tuned()) {
    return options;
  }
  const Cached<TunedSettings> found = find_tuned_for(options);
  if (!found.notice.empty()) log_tuned(options, found.notice);
  if (!found.value) return options;
  const TunedSettings& s = *found.value;
  const std::string path = printable(tuned_path(s.key.model).string(), 4096);
  Options tuned = options;
  tuned.set_tuned_path(path);
  std::string text;
  const auto set = [&](std::string_view name, uint32_t value) {
    const OptionSpec& spec = *find_option(name);
    tuned.set(spec, std::to_string(value), display_name(spec), ValueSource::tuned);
    text += fmt::format(" {} {}", display_name(spec), value);
  };
  if (threads) {
    set("threads", s.n_threads);
    set("threads-batch", s.n_threads_batch);
  }
  if (micro_batch && s.n_ubatch <= options.get_integer("batch-size")) {
    set("ubatch-size", s.n_ubatch);
  }
  log_tuned(options, fmt::format("tuned{} ({}, of {})", text, path, s.measured));
  return tuned;
}

}  // namespace hybrid::commands
