#include "runtime/bench.h"

#include <algorithm>
#include <charconv>
#include <map>
#include <nlohmann/json.hpp>
#include <tuple>

#include "base/error.h"
#include "base/text.h"
#include "base/units.h"
#include "numa/bandwidth.h"
#include "numa/memory_info.h"
#include "runtime/bench_prediction.h"
#include "runtime/bench_report.h"
#include "runtime/commands/command.h"
#include "runtime/inspect_report.h"
#include "runtime/measure_rates.h"
#include "runtime/stored_rates.h"
#include "runtime/version.h"
#include "tensor/simd_level.h"

namespace hybrid::commands {
namespace {

struct Axis {
  std::string_view option;
  std::string_view key;  // in the rows
};

/// The settings that are varied; the last one changes from row to row.
constexpr Axis kAxes[] = {
    {"isa", "isa"},
    {"mla", "mla"},
    {"flash-attn", "fa"},
    {"attn-max-batch", "amb"},
    {"cache-type-k", "ctk"},
    {"batch-size", "n_batch"},
    {"ubatch-size", "n_ubatch"},
    {"threads", "n_threads"},
};

constexpr uint32_t kMaxTokens = 1 << 30;

std::optional<uint32_t> parse_count(const std::string& text) {
  uint32_t n = 0;
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), n);
  const bool is_number = error == std::errc{} && end == text.data() + text.size();
  return is_number && n >= 1 && n <= kMaxTokens ? std::optional(n) : std::nullopt;
}

/// "4096,64": decode of 64 tokens behind 4096.
BenchTest parse_prompt_gen(const std::string& text) {
  const std::vector<std::string> parts = split(text, ',');
  const auto n_depth = parse_count(parts.front()), n_gen = parse_count(parts.back());
  if (parts.size() != 2 || !n_depth || !n_gen) {
    fail_usage("-gp: expected two numbers from 1 to {}, as in 4096,64, found '{}'", kMaxTokens,
               printable(text));
  }
  return {.n_gen = *n_gen, .n_depth = *n_depth};
}

std::vector<BenchTest> tests_of(const Options& options) {
  std::vector<BenchTest> tests;
  for (const std::string& n : options.get_list("n-prompt")) {
    tests.push_back({.n_prompt = static_cast<uint32_t>(std::stoul(n))});
  }
  for (const std::string& n : options.get_list("n-gen")) {
    tests.push_back({.n_gen = static_cast<uint32_t>(std::stoul(n))});
  }
  std::erase_if(tests, [](const BenchTest& test) { return test.n_timed() == 0; });
  for (const std::string& pair : options.get_list("prompt-gen")) {
    tests.push_back(parse_prompt_gen(pair));
  }
  if (tests.empty()) fail_usage("there is nothing to measure; give -p, -n or -gp");
  return tests;
}

/// Every combination of the lists, each with one value per option.
std::vector<Options> combinations_of(const Options& options) {
  std::vector<Options> all{options};
  for (const Axis& axis : kAxes) {
    if (!options.is_set(axis.option)) continue;
    std::vector<Options> next;
    for (const Options& combination : all) {
      for (const std::string& value : options.get_list(axis.option)) {
        next.push_back(combination.with(axis.option, value));
      }
    }
    all = std::move(next);
  }
  return all;
}

/// The columns of the table: what the user chose.
std::vector<std::string> shown_settings(const Options& options) {
  std::vector<std::string> keys;
  for (const Axis& axis : kAxes) {
    const bool is_always_shown = axis.option == "isa" || axis.option == "threads";
    if (options.is_set(axis.option) && !is_always_shown) keys.emplace_back(axis.key);
  }
  return keys;
}

/// Sets the kernels' level, too, where the combination names one.
ExecutionOptions execution_of(const Options& combination) {
  return engine_options(combination).execution;
}

uint32_t largest_context(const std::vector<BenchTest>& tests) {
  uint32_t n_ctx = 0;
  for (const BenchTest& test : tests) n_ctx = std::max(n_ctx, test.n_ctx());
  return n_ctx;
}

/// What the largest test of each combination needs beside the weights as they will be: what does
/// not fit is told before anything is loaded or measured.
void check_memory(const Engine& engine, const std::vector<Options>& combinations,
                  const std::vector<BenchTest>& tests) {
  const Model& model = engine.model();
  const uint32_t n_ctx = largest_context(tests);
  for (const Options& combination : combinations) {
    if (engine.placement()) break;  // devices refuse what they have no room for
    const RunSettings settings{n_ctx, execution_of(combination), engine.options().pack,
                               engine.options().prepare_decode, engine.kept()};
    const RunPlan plan = plan_run(model.file(), model.config(), model.weights(), settings);
    const std::string reason = plan.why_not(engine.usable_bytes());
    if (!reason.empty()) throw Error(reason);
  }
  if (n_ctx > model.config().n_ctx_train) {
    log_info(fmt::format("warning: {} tokens exceed the {} tokens the model was trained for", n_ctx,
                         model.config().n_ctx_train));
  }
}

double measure_peak(const NodeUse& nodes, int n_threads) {
  const std::unique_ptr<Workers> made = make_workers(&nodes, n_threads);
  Workers& workers = *made;
  const ScopedPin pin = workers.pin_caller();
  const ReadBandwidth found =
      measure_read_bandwidth(workers, bandwidth_buffer_bytes(available_memory_bytes()));
  log_info(fmt::format("memory: {:.1f} GB/s read by {} (best of {} passes over {})", found.gb_per_s,
                       plural(static_cast<uint64_t>(n_threads), "thread"), found.n_passes,
                       format_bytes(found.buffer_bytes)));
  return found.gb_per_s;
}

/// Rates of the kernels that combinations run, each number of threads and level for itself. Rounds
/// are measured before and after tests, so that both see the same minutes.
class RateMeasurements {
 public:
  RateMeasurements(const Engine& engine, double peak_gb_per_s)
      : engine_(engine),
        headers_(engine.options().model, engine.options().expert_groups),
        bandwidth_bytes_per_s_(peak_gb_per_s * 1e9) {}

  /// Another round of what a combination runs, at the level in force, unless there were enough.
  void measure(const RunSettings& settings) {
    const ExecutionOptions& e = settings.execution;
    Kind& kind = kinds_[key_of(settings)];
    if (kind.rounds.size() == kMostRounds) return;
    const std::unique_ptr<Workers> workers = make_workers(e.nodes.get(), e.n_threads);
    const ScopedPin pin = workers->pin_caller();
    const RateRequest request = rates_needed(engine_.model().config(), engine_.model().weights(),
                                             e.attention.key_type, settings.pack, engine_.kept());
    kind.rounds.push_back(measure_rates(request, effort(), *workers, &stop_flag()));
    if (stop_flag()) throw Interrupted{};
    kind.rates = {.key = rates_key(e.n_threads),
                  .bandwidth_bytes_per_s = bandwidth_bytes_per_s_,
                  .measured = time_now(),
                  .rates = typical_rates(kind.rounds)};
    for (MeasuredRate& r : kind.rates.rates) r.measured = kind.rates.measured;
  }

  /// By the rounds so far; 0 where none was measured: of prefill with threads of its own none is.
  double predict(const RunSettings& settings, const BenchTest& test) const {
    const auto found = kinds_.find(key_of(settings));
    const ExecutionOptions& e = settings.execution;
    if (found == kinds_.end()) return 0;
    if (test.n_prompt > 0 && e.n_threads_batch != e.n_threads) return 0;
    const StoredRates& rates = found->second.rates;
    return predicted_tps(headers_, settings, engine_.rules(),
                         machine_with_rates(rates.bandwidth_bytes_per_s, rates.rates), test);
  }

  /// Keeps them for `plan`.
  void store() const {
    for (const auto& [key, kind] : kinds_) {
      for (const MeasuredRate& r : kind.rates.rates) log_detail(rates_json({r})[0].dump());
      store(kind.rates);
    }
  }

 private:
  using Key = std::tuple<SimdLevel, int, DType, bool>;
  struct Kind {
    std::vector<std::vector<MeasuredRate>> rounds;
    StoredRates rates;
  };
  static constexpr size_t kMostRounds = 7;

  static Key key_of(const RunSettings& settings) {
    const ExecutionOptions& e = settings.execution;
    return {simd_level(), e.n_threads, e.attention.key_type, settings.pack};
  }

  bool is_small() const { return tensor_bytes(headers_.file) < kLeastBytes; }

  RateEffort effort() const {
    if (is_small()) return {.buffer_bytes = kLeastBytes / 4, .seconds_of_each = 0.01};
    return {.buffer_bytes = bandwidth_buffer_bytes(available_memory_bytes())};
  }

  void store(const StoredRates& rates) const {
    if (is_small()) {
      return log_info(fmt::format(
          "rates: measured with shapes of a small model, they are not kept for `plan` (from {} on)",
          format_bytes(kLeastBytes)));
    }
    try {
      const std::filesystem::path path = store_rates(rates);
      log_info(fmt::format("rates: {} kept for `plan` in {}", rates.rates.size(),
                           printable(path.string(), 4096)));
    } catch (const Error& error) {
      log_info(fmt::format("rates: not kept for `plan`: {}", error.what()));
    }
  }

  static constexpr uint64_t kLeastBytes = uint64_t{256} << 20;

  const Engine& engine_;
  ModelHeaders headers_;
  double bandwidth_bytes_per_s_;
  std::map<Key, Kind> kinds_;
};

void log_start(const Options& options, const Engine& engine, size_t n_rows) {
  const ModelConfig& config = engine.model().config();
  log_info(fmt::format("hybrid-run {}: {}, {} layers, {}; rows to measure: {}", version(),
                       config.name, config.n_layers,
                       format_bytes(engine.model().file().total_bytes()), n_rows));
  for (const std::string& note : config.notes) log_info(note);
  log_devices(engine);
  log_nodes(options, engine);
}

/// "cpu", "cpu+sim0 (simulated)"
std::string device_names(const Model& model) {
  std::string names = "cpu";
  for (const auto& device : model.devices()) names += "+" + device->device().title();
  return names;
}

/// The threads of a test, as they were asked for and as there are.
void set_row_threads(const Options& combination, const ExecutionOptions& execution,
                     const BenchTest& test, BenchRow& row) {
  const bool is_prefill = test.n_prompt > 0;
  auto asked = is_prefill ? combination.find_integer("threads-batch") : std::nullopt;
  if (!asked) asked = combination.find_integer("threads");
  row.n_threads_used = is_prefill ? execution.n_threads_batch : execution.n_threads;
  row.n_threads = static_cast<int>(asked.value_or(row.n_threads_used));
}

/// The row of a combination, without threads, test and result.
BenchRow row_of(const Model& model, const Options& combination, const ExecutionOptions& execution) {
  BenchRow row;
  row.model = model.config().name;
  row.size_bytes = tensor_bytes(model.file());
  row.n_params = n_params(model.file());
  row.device = device_names(model);
  row.isa = name_of(simd_level());
  row.n_batch = execution.n_batch;
  row.n_ubatch = std::min(execution.n_ubatch, execution.n_batch);
  row.mla = std::stoi(combination.get("mla"));
  row.fa = combination.get_toggle("flash-attn") ? 1 : 0;
  row.amb = combination.get_number("attn-max-batch");
  row.rtr = combination.get_toggle("run-time-repack") ? 1 : 0;
  row.fmoe = combination.get_toggle("fused-moe") ? 1 : 0;
  row.ctk = combination.get("cache-type-k");
  return row;
}

BenchResult measure(const Model& model, const ExecutionOptions& execution, const BenchTest& test,
                    int64_t n_repetitions) {
  BenchParams params;
  params.n_repetitions = static_cast<uint32_t>(n_repetitions);
  params.stop = &stop_flag();
  params.on_run = [&](double tps) { log_detail(fmt::format("{}: {:.2f} t/s", test.name(), tps)); };
  auto result = run_bench_test(model, execution, test, params);
  if (!result) throw Interrupted{};
  return std::move(*result);
}

}  // namespace

void bench(const Options& options) {
  catch_signals();
  const std::vector<BenchTest> tests = tests_of(options);
  const std::vector<Options> combinations = combinations_of(options);
  int n_most_threads = 1;
  bool pack = false, prepare_decode = false;  // for any of them
  for (const Options& combination : combinations) {
    const EngineOptions engine = engine_options(combination);
    n_most_threads =
        std::max({n_most_threads, engine.execution.n_threads, engine.execution.n_threads_batch});
    pack |= engine.pack;
    prepare_decode |= engine.prepare_decode;
  }
  TraceFile trace(options);
  EngineOptions setup = engine_options(combinations.front());
  setup.pack = pack;
  setup.prepare_decode = prepare_decode;
  Engine engine(setup);
  const Model& model = engine.model();
  engine.place(largest_context(tests));
  check_memory(engine, combinations, tests);
  engine.prepare();
  log_start(combinations.front(), engine, tests.size() * combinations.size());
  const NodeUse& nodes = *setup.execution.nodes;
  n_most_threads = std::max(n_most_threads, plan_workers(nodes.plan, std::nullopt).n_threads());
  const double peak_gb_per_s = measure_peak(nodes, n_most_threads);

  RateMeasurements rates(engine, peak_gb_per_s);

  BenchReport report(*find_bench_format(options.get("output")), shown_settings(options));
  for (const Options& combination : combinations) {
    ExecutionOptions execution = execution_of(combination);
    execution.trace = trace.trace();
    BenchRow row = row_of(model, combination, execution);
    if (&combination != &combinations.front()) log_thread_notes(combination);
    row.peak_gb_per_s = peak_gb_per_s;
    const RunSettings settings = run_settings(combination);
    rates.measure(settings);
    for (const BenchTest& test : tests) {
      row.test = test;
      set_row_threads(combination, execution, test, row);
      row.result = measure(model, execution, test, options.get_integer("repetitions"));
      rates.measure(settings);
      // Nobody has measured the devices' rates.
      row.predicted_tps = engine.placement() ? 0 : rates.predict(settings, test);
      print(report.lines(row));
      flush_stdout();
    }
  }
  rates.store();
  trace.write();
}

}  // namespace hybrid::commands
