#include "runtime/tune.h"

#include <algorithm>
#include <chrono>
#include <cmath>
#include <nlohmann/json.hpp>

#include "base/error.h"
#include "base/text.h"
#include "base/units.h"
#include "runtime/bench.h"
#include "runtime/commands/command.h"
#include "runtime/saved_plan.h"
#include "runtime/stored_rates.h"
#include "runtime/svg_plot.h"
#include "runtime/text_table.h"
#include "runtime/version.h"

namespace hybrid::commands {
namespace {

constexpr uint32_t kDecodeTokens = 16, kWarmTokens = 2;
constexpr uint32_t kPromptTokens = 512, kWarmPrompt = 64;
constexpr uint32_t kMostPrompt = 2048;  // of micro-batches' comparison
constexpr uint32_t kMicroBatches[] = {256, 512, 1024, 2048};

double now() {
  using namespace std::chrono;
  return duration<double>(steady_clock::now().time_since_epoch()).count();
}

/// One setting and the speeds of its values.
struct Stage {
  std::string title, unit;  // "decode", "threads"
  std::vector<uint32_t> values;
  size_t usual = 0;
  std::optional<TuneSearch> search = {};
  std::string skipped = {};  // why there was no search

  uint32_t chosen() const { return values[search ? search->chosen : usual]; }
  double tps() const { return search ? search->candidates[search->chosen].typical() : 0; }
};

std::vector<uint32_t> values_of(const Options& options, std::string_view name) {
  std::vector<uint32_t> values;
  for (const std::string& word : options.get_list(name)) {
    const auto value = static_cast<uint32_t>(std::stoul(word));
    if (std::find(values.begin(), values.end(), value) == values.end()) values.push_back(value);
  }
  return values;
}

class Tuner {
 public:
  Tuner(const Options& options, Engine& engine)
      : options_(options), engine_(engine), execution_(engine.options().execution) {}

  void tune(double seconds) {
    decode_ = threads_stage("decode");
    search(decode_, {.seconds = seconds * 0.3}, {.n_gen = kDecodeTokens}, kWarmTokens,
           [&](uint32_t n) { execution_.n_threads = static_cast<int>(n); });
    prefill_ = threads_stage("prefill");
    search(prefill_, {.seconds = seconds * 0.35}, {.n_prompt = kPromptTokens}, kWarmPrompt,
           [&](uint32_t n) { execution_.n_threads_batch = static_cast<int>(n); });
    tune_micro_batch(seconds * 0.35);
  }

  std::string report() const {
    std::string out;
    for (const Stage* stage : {&decode_, &prefill_, &micro_batch_}) out += table_of(*stage) + "\n";
    return out + fmt::format("chosen: -t {} -tb {} -ub {}\n", decode_.chosen(), prefill_.chosen(),
                             micro_batch_.chosen());
  }

  std::string plot() const {
    std::vector<SvgPlot> plots;
    for (const Stage* stage : {&decode_, &prefill_, &micro_batch_}) {
      if (!stage->search) continue;
      SvgPlot plot{stage->title, stage->unit, "t/s", {}};
      for (size_t i = 0; i < stage->values.size(); ++i) {
        const TuneSearch::Candidate& c = stage->search->candidates[i];
        if (c.tps.empty()) continue;
        plot.points.push_back(
            {static_cast<double>(stage->values[i]), c.typical(), i == stage->search->chosen});
      }
      std::sort(plot.points.begin(), plot.points.end(),
                [](const SvgPoint& a, const SvgPoint& b) { return a.x < b.x; });
      plots.push_back(std::move(plot));
    }
    return svg_of(plots);
  }

  TunedSettings settings() const {
    TunedSettings s;
    s.key = tuned_key(options_, engine_.model().file());
    s.model_name = engine_.model().config().name;
    s.measured = time_now();
    s.n_threads = decode_.chosen();
    s.n_threads_batch = prefill_.chosen();
    s.n_ubatch = micro_batch_.chosen();
    s.decode_tps = decode_.tps();
    s.prefill_tps = prefill_.tps();
    return s;
  }

  /// A config with what was given, and what was found.
  std::string config() const {
    nlohmann::ordered_json out =
        given_options(options_, {"override-tensor", "config", "save", "plot", "seconds", "threads",
                                 "ubatch-size", "verbose", "log-json"});
    out["threads"] = decode_.chosen();
    out["threads-batch"] = prefill_.chosen();
    out["ubatch-size"] = micro_batch_.chosen();
    const nlohmann::ordered_json placement = config_json(options_.placement());
    for (const auto& [key, value] : placement.items()) out[key] = value;
    return out.dump(2) + "\n";
  }

 private:
  /// All numbers of threads that differ by what there are processors for; those of -t where given.
  Stage threads_stage(std::string title) const {
    const NodePlan& nodes = execution_.nodes->plan;
    int n_cores = 0, n_processors = 0;
    for (const NodeSlice& slice : nodes.slices) {
      n_cores += static_cast<int>(slice.cores.size());
      for (const CpuList& core : slice.cores) n_processors += static_cast<int>(core.size());
    }
    std::vector<int> counts;
    if (options_.is_set("threads")) {
      for (const uint32_t n : values_of(options_, "threads")) counts.push_back(static_cast<int>(n));
    } else {
      counts = thread_candidates(n_cores, n_processors, static_cast<int>(nodes.slices.size()));
    }
    Stage stage{std::move(title), "threads", {}};
    const auto add = [&](std::optional<int> asked) {
      const auto n = static_cast<uint32_t>(plan_workers(nodes, asked).n_threads());
      const auto found = std::find(stage.values.begin(), stage.values.end(), n);
      if (found == stage.values.end()) stage.values.push_back(n);
    };
    for (const int n : counts) add(n);
    const auto by_default = static_cast<uint32_t>(plan_workers(nodes, std::nullopt).n_threads());
    const auto usual = std::find(stage.values.begin(), stage.values.end(), by_default);
    stage.usual =
        usual == stage.values.end() ? 0 : static_cast<size_t>(usual - stage.values.begin());
    return stage;
  }

  /// Leaves the chosen value in force.
  template <class Apply>
  void search(Stage& stage, const TuneEffort& effort, const BenchTest& test, uint32_t n_warm,
              const Apply& apply) {
    stage.search = find_fastest(
        stage.values.size(), stage.usual, effort,
        [&](size_t i) {
          apply(stage.values[i]);
          const auto tps =
              sample_bench_test(engine_.model(), execution_, test, n_warm, &stop_flag());
          if (tps) {
            log_detail(fmt::format("{}, {} {}: {:.2f} t/s", stage.title, stage.values[i],
                                   stage.unit, *tps));
          }
          return tps;
        },
        now);
    if (!stage.search) throw Interrupted{};
    apply(stage.chosen());
    log_info(
        fmt::format("{}: {} {}, {:.2f} t/s", stage.title, stage.chosen(), stage.unit, stage.tps()));
  }

  void tune_micro_batch(double seconds) {
    Stage& stage = micro_batch_;
    const auto usual = static_cast<uint32_t>(execution_.n_ubatch);
    stage = {"prefill", "tokens a micro-batch", {usual}};
    if (engine_.placement()) {
      stage.skipped = "with devices the plan's memory depends on it: give -ub";
      return;
    }
    std::vector<uint32_t> wanted;
    if (options_.is_set("ubatch-size")) {
      wanted = values_of(options_, "ubatch-size");
    } else {
      wanted.assign(std::begin(kMicroBatches), std::end(kMicroBatches));
    }
    uint32_t n_prompt = kMostPrompt;
    for (const uint32_t n : wanted) {
      if (n > execution_.n_batch || n == usual) continue;
      if (fits(n)) stage.values.push_back(n);
    }
    // Two rounds of all, or of prompts that are shorter and candidates that fit into them.
    while (n_prompt > kPromptTokens &&
           2 * static_cast<double>(stage.values.size()) * n_prompt / prefill_.tps() > seconds) {
      n_prompt /= 2;
      std::erase_if(stage.values, [&](uint32_t n) { return n > n_prompt && n != usual; });
    }
    if (stage.values.size() < 2) {
      stage.skipped = "there is no other that fits into -b, memory and time (--seconds)";
      return;
    }
    stage.title = fmt::format("prefill of {} tokens", n_prompt);
    search(stage, {.seconds = seconds}, {.n_prompt = n_prompt}, kWarmPrompt,
           [&](uint32_t n) { execution_.n_ubatch = n; });
  }

  bool fits(uint32_t n_ubatch) const {
    ExecutionOptions execution = execution_;
    execution.n_ubatch = n_ubatch;
    const Model& model = engine_.model();
    const RunSettings settings{engine_.n_ctx(), execution, engine_.options().pack,
                               engine_.options().prepare_decode, engine_.kept()};
    const RunPlan plan = plan_run(model.file(), model.config(), model.weights(), settings);
    return plan.why_not(engine_.usable_bytes()).empty();
  }

  static std::string table_of(const Stage& stage) {
    std::string out = fmt::format("{}, {}\n", stage.title, stage.unit);
    if (!stage.search) return out + fmt::format("  {}: {}\n", stage.chosen(), stage.skipped);
    TextTable table(">>>><");
    table.add({stage.unit, "t/s", "of the best", "samples", ""});
    double best = 0;
    for (const auto& c : stage.search->candidates) best = std::max(best, c.typical());
    for (size_t i = 0; i < stage.values.size(); ++i) {
      const TuneSearch::Candidate& c = stage.search->candidates[i];
      std::string note = i == stage.search->chosen ? "chosen" : i == stage.usual ? "default" : "";
      if (c.tps.empty()) note = "no time was left for it";
      table.add({std::to_string(stage.values[i]), fmt::format("{:.2f}", c.typical()),
                 fmt::format("{:.0f} %", 100 * c.typical() / best), std::to_string(c.tps.size()),
                 note});
    }
    return out + table.str();
  }

  const Options& options_;
  Engine& engine_;
  ExecutionOptions execution_;
  Stage decode_, prefill_, micro_batch_;
};

/// A file that an option names, opened before the work: what cannot be written is known then.
class OptionalFile {
 public:
  OptionalFile(const Options& options, std::string_view name) {
    if (const auto path = options.find(name)) file_.emplace(*path);
  }
  void write(const std::string& text) {
    if (!file_) return;
    file_->write(text.data(), text.size());
    file_->close();
  }

 private:
  std::optional<OutputFile> file_;
};

void keep(const TunedSettings& settings) {
  try {
    log_info(fmt::format("kept for later runs of this model in {}",
                         printable(store_tuned(settings).string(), 4096)));
  } catch (const Error& error) {
    log_info(fmt::format("not kept for later runs: {}", error.what()));
  }
}

}  // namespace

void tune(const Options& options) {
  catch_signals();
  EngineOptions setup = engine_options(options);
  setup.n_ctx = kMostPrompt;
  Engine engine(setup);
  check_outputs(options, engine.model().file(), {"save", "plot"}, {"config"});
  OptionalFile plot(options, "plot"), config_file(options, "save");
  engine.place();
  engine.prepare();
  const ModelConfig& config = engine.model().config();
  log_info(fmt::format("hybrid-run {}: {}, {} layers, {}, {} kernels ({})", version(), config.name,
                       config.n_layers, format_bytes(engine.model().file().total_bytes()),
                       name_of(simd_level()), simd_level_reason()));
  for (const std::string& note : config.notes) log_info(note);
  log_devices(engine);
  log_nodes(options, engine);
  Tuner tuner(options, engine);
  tuner.tune(options.get_number("seconds"));
  keep(tuner.settings());
  plot.write(tuner.plot());
  config_file.write(tuner.config());
  print(tuner.report());  // last: a reader that went away ends the program
  flush_stdout();
}

}  // namespace hybrid::commands
