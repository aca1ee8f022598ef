#include "base/error.h"
#include "base/units.h"
#include "numa/cpu_set.h"
#include "runtime/commands/command.h"
#include "runtime/panel_cache.h"

namespace hybrid::commands {
namespace {

namespace fs = std::filesystem;

std::string shown(const fs::path& path) { return printable(path.string(), 4096); }

Workers make_workers(const Options& options) {
  const auto threads = options.find_integer("threads");
  return Workers(threads ? static_cast<int>(*threads) : n_allowed_cores());
}

void check_packable(const Model& model) {
  if (!packable_weights(model.weights()).empty()) return;
  fail("{}: the model has no weights that are packed (all are F32): it needs no cache",
       model.file().metadata().source());
}

void write(const Options& options) {
  Model model(options.get("model"), ExpertGroups::automatic);
  check_packable(model);
  Workers workers = make_workers(options);
  print(shown(model.write_cache(workers, load_progress(options))) + "\n");
}

/// Every place is checked that the program would look at, and one valid cache is what it needs.
void check(const Options& options) {
  const Model model(options.get("model"), ExpertGroups::automatic);
  check_packable(model);
  Workers workers = make_workers(options);
  std::string reasons;
  for (const fs::path& path : panel_cache_paths(model.file().parts().front().path)) {
    const PanelCacheStatus status = check_panel_cache(
        path, model.file(), packable_weights(model.weights()), workers, load_progress(options));
    if (status.state == PanelCacheStatus::State::valid) {
      print(shown(path) + ": valid\n");
      return;
    }
    if (status.state == PanelCacheStatus::State::absent) continue;
    reasons += fmt::format("{}: {}; ", shown(path), status.reason);
  }
  fail("{}`hybrid-run repack -m {}` writes {}",
       reasons.empty() ? "the model has no cache; " : reasons, shown(options.get("model")),
       reasons.empty() ? "one" : "it anew");
}

void remove(const Options& options) {
  const fs::path model = options.get("model");
  const std::vector<fs::path> removed = remove_panel_caches(model);
  std::error_code ignored;
  if (removed.empty() && !fs::exists(model, ignored)) {
    fail("{}: there is no such model, and no cache of it", shown(model));
  }
  for (const fs::path& path : removed) print("removed " + shown(path) + "\n");
  if (removed.empty()) log_info("the model has no cache; nothing was removed");
}

}  // namespace

void repack(const Options& options) {
  catch_signals();
  const bool checks = options.get_toggle("check"), removes = options.get_toggle("remove");
  if (checks && removes) fail_usage("give --check or --remove, not both");
  if (checks) {
    check(options);
  } else if (removes) {
    remove(options);
  } else {
    write(options);
  }
}

}  // namespace hybrid::commands
